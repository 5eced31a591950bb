"""The model on frames: encode once, then decode, answer and anticipate from what the encoder left behind.

Glossary: S side of the model's square image; T length of the text in tokens; n video tokens of a frame.
Everything here runs on one thread, the inference thread of whoever owns the engine.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from m3et_ros.data import preprocess
from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.models.m3et.encoding import Encoded, ImageEncoding, join_frames
from m3et_ros.models.vlm.variants import visual_tokens
from m3et_ros.runtime.action_stream import ActionStream
from m3et_ros.runtime.adaptive import TOKENS, Adaptive, Follower
from m3et_ros.runtime.backends.prepared import DTYPES, PLAN, Prepared, Serving, prepare
from m3et_ros.runtime.batching import Step
from m3et_ros.runtime.kernels import use_built
from m3et_ros.runtime.memory import EpisodeMemory
from m3et_ros.runtime.results import Anticipation, Ranked, Reconstruction
from m3et_ros.runtime.shared_model import Shared

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class View:
    """A frame as the model sees it."""

    frame: Frame
    # Standardised image tensors of batch 1, without text.
    inputs: dict[str, torch.Tensor]
    # How standardised depth returns to metres; None when it cannot.
    scale: preprocess.DepthScale | None
    # What the encoder keeps of the images, for any question; None in a view kept for later.
    sight: ImageEncoding | None = field(default=None, repr=False)
    # Encoder outputs, with the frame's instruction as its text; None in a view kept for later.
    encoded: Encoded | None = field(default=None, repr=False)
    # Seconds of preprocessing and encoding.
    latency_s: float = 0.0
    # Share of the image tokens that was encoded for this frame; the others are older (runtime.adaptive).
    share: float = 1.0

    def kept(self) -> 'View':
        """The view without its encoder outputs and off the device, small enough to remember."""
        inputs = {name: tensor.cpu() for name, tensor in self.inputs.items()}
        return replace(self, sight=None, encoded=None, inputs=inputs)


class Engine:
    """One checkpoint on one device."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = 'cpu',
        precision: str = 'float32',
        tokens: str = 'full',
        adaptive: Adaptive | None = None,
        shared: Shared | None = None,
    ):
        """Place the checkpoint.

        Args:
            checkpoint: model, tokenizer, labels and heads.
            device: 'auto' (CUDA when there is one), or a torch device.
            precision: 'float32' or 'bfloat16'; scans keep their state in float32 either way.
            tokens: 'full' or 'adaptive': of frames of a stream all patches are encoded, or those that changed.
            adaptive: what counts as changed; None takes the defaults.
            shared: with whom the checkpoint's model is shared; None = with nobody.

        Raises:
            InputError: there is no such device.
            ValueError: tokens is neither.
        """
        if tokens not in TOKENS:
            raise ValueError(f'tokens is {tokens!r}; give {" or ".join(TOKENS)}')
        self.checkpoint = checkpoint
        self.config = checkpoint.model.config
        self.labels = checkpoint.labels
        self.model_id = checkpoint.model_id
        self.trained = checkpoint.trained
        self.dtype = DTYPES[precision]
        # Which runtime serves, and why.
        self.serving = Serving('torch', 'nothing else was asked for')
        # Graphs on the device for which they were built, and how to build them where the device is not there yet.
        self._graphs: Prepared | None = None
        self._wanted: tuple[str, Callable[[], None]] | None = None
        use_built()
        self._model, self._shared = checkpoint.model.eval(), shared
        # What is held of the frames of a stream; None where each is encoded whole.
        self._follower = Follower(self._model, adaptive) if tokens == 'adaptive' else None
        self._actions = ActionStream(checkpoint) if 'mambavl' in checkpoint.heads else None
        # What is remembered of the episode; None where the checkpoint has no head for it.
        self.memory = EpisodeMemory(checkpoint) if 'episode' in checkpoint.heads else None
        self.to(device)

    def to(self, device: str) -> None:
        """Move weights to a device; 'auto' is CUDA when there is one.

        Raises:
            InputError: there is no such device.
        """
        if device == 'auto':
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
        try:
            self.device = torch.device(device)
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                'device',
                f'The device {device!r} cannot be used ({reason}); give auto, cpu, cuda or '
                'cuda:N, and see m3et doctor.',
            ) from error
        if self._shared is None:
            self._model.to(device=self.device, dtype=self.dtype)
        else:
            self.device = self._shared.place(self, self.device, self.dtype)
        self.reset_sight()
        if self._actions:
            self._actions.to(self.device)
        if self.memory:
            self.memory.to(self.device)
        if self._wanted is not None and self._wanted[0] == self.device.type:
            self._wanted[1]()

    def prepare(
        self,
        runtime: str,
        *,
        precision: str = 'float32',
        device: str = 'cpu',
        plan: Sequence[Sequence[str]] = PLAN,
        tell: Callable[[str], None] = LOG.info,
    ) -> Serving:
        """Let a runtime serve: now on the CPU, when the model gets there on CUDA.

        Args:
            runtime: one of backends.RUNTIMES.
            precision: 'float32' or 'bfloat16': inside the graphs, or of all of the model where torch serves.
            device: where the model is to run, as `to` takes it.
            plan: sets of image modalities that frames will have.
            tell: gets lines of progress.

        Returns:
            Which runtime serves and why; also in `serving`.

        Raises:
            ValueError: the engine was built in bfloat16, so that the weights to compare with are gone.
        """
        if self.dtype != torch.float32:
            raise ValueError('this engine has rounded its weights; build it in float32 and give prepare the precision')
        if self._shared is not None and runtime != 'torch':
            tell(f'Engines that share {self.model_id} run it by torch, not by {runtime}.')
            runtime = 'torch'
        target = 'cuda' if device.startswith('cuda') or (device == 'auto' and torch.cuda.is_available()) else 'cpu'

        def build() -> None:
            self._wanted = None
            self._graphs, self.serving = prepare(
                self._model, runtime, precision=precision, device=target, plan=plan, tell=tell
            )
            # Graphs take and give float32 whatever they calculate in; so does what torch adds to them.
            if self._graphs is None:
                self.dtype = DTYPES[precision]
                self.to(str(self.device))
            elif self._follower is not None:
                LOG.warning(
                    'Every frame is encoded whole: adaptive tokens need shapes that change, and those of %s '
                    'are fixed; set runtime to torch, or tokens to full.',
                    self.serving.name,
                )

        self._wanted = target, build
        if target == self.device.type:
            build()
        return self.serving

    @property
    def _runner(self):
        """What sees, listens and decodes: graphs where they were built for this device, else the model."""
        graphs = self._graphs
        return graphs if graphs is not None and graphs.device == self.device.type else self._model

    @property
    def tokens(self) -> str:
        """What is encoded of the frames of a stream on this device: 'full' or 'adaptive'."""
        return 'full' if self._follower is None or self._runner is not self._model else 'adaptive'

    def encode(self, frame: Frame, *, stream: bool = False) -> View:
        """Encode a frame together with its instruction.

        Args:
            frame: to be encoded.
            stream: whether it follows the last such frame of the same camera, so that what did not change since may
                be left as it was, where tokens are adaptive.
        """
        start = time.perf_counter()
        inputs, scale = preprocess.image_inputs(frame, self.config)
        inputs = {name: tensor.to(self.device, self.dtype) for name, tensor in inputs.items()}
        with self._inference():
            text = self._text(frame.instruction)
            if stream and self.tokens == 'adaptive':
                sight, share = self._follower.encode(inputs, frame)
                encoded = self._runner.add_text(sight, **text)
            else:
                (sight, encoded), share = self._do(_look, inputs, text), 1.0
        return View(frame, inputs, scale, sight, encoded, time.perf_counter() - start, share)

    def reconstruct(self, view: View, *, depth: bool = True, mask: bool = True, fill: bool = True) -> Reconstruction:
        """Dense outputs at the camera's resolution; `fill` lets holes in the depth take the prediction."""
        shape = view.frame.rgb.shape[:2]
        with self._inference():
            # Without a scale or a wish to fill there is nothing to decode: the measured depth is all that is known.
            decode_depth = depth and fill and view.scale is not None
            tasks = ('depth',) * decode_depth + ('semseg',) * mask
            found = dict(zip(tasks, self._do(_decode, view.encoded, tasks) if tasks else ()))
        predicted, measured = found.get('depth'), view.frame.depth
        return Reconstruction(
            preprocess.depth_output(predicted, view.scale, measured, shape, decode_depth) if depth else None,
            preprocess.mask_output(found['semseg'], self.config.image_size, shape) if mask else None,
        )

    def reconstruct_rgb(self, view: View):
        """What the encoder understood of the colours: (S, S, 3) uint8."""
        with self._inference():
            return preprocess.rgb_output(self._runner.decode(view.encoded, 'rgb'))

    def classify(self, question: str, views: Sequence[View], *, top_k: int) -> tuple[Ranked, ...]:
        """The best candidate answers to a question about one view, or about several (docs/papers.md 2.5, EQA)."""
        with self._inference():
            scores = self._model.answer_logits(self._encode_question(question, views)).float().softmax(-1)[0]
        best = scores.topk(min(top_k, scores.numel()))
        answers = self.labels.answers
        return tuple(Ranked(i, answers[i], s) for s, i in zip(best.values.tolist(), best.indices.tolist()))

    def write(self, question: str, views: Sequence[View], *, max_tokens: int) -> Iterator[tuple[str, float]]:
        """Answer by the text decoder: (text so far, probability of its newest token), a token at a time."""
        with self._inference():
            encoded = self._encode_question(question, views)
        tokens: list[int] = []
        steps = self._model.generate(encoded, bos=self._tokenizer.cls, eos=self._tokenizer.sep, max_tokens=max_tokens)
        while True:
            # Inference mode is entered for each step: between steps the caller's code runs.
            with self._inference():
                step = next(steps, None)
            if step is None:
                return
            ids, probability = step
            tokens.append(int(ids[0]))
            yield self._tokenizer.decode(tokens), float(probability[0])

    def anticipate(self, view: View, *, horizon_s: float, top_k: int) -> Anticipation | None:
        """Feed the view to the action stream and read it; None when the checkpoint has no action head."""
        if self._actions is None:
            return None
        start = time.perf_counter()
        with self._inference():
            broken = self._actions.update(view.sight, view.frame.stamp_ns)
            now, following = self._actions.read(view.frame.instruction, top_k)
        return Anticipation(now, following, horizon_s, view.latency_s + time.perf_counter() - start, broken)

    def action_token(self, view: View) -> torch.Tensor:
        """What the action stream takes of a view: (1, 1, frame_width) float32.

        Raises:
            ValueError: the checkpoint has no action head.
        """
        if self._actions is None:
            raise ValueError(f'{self.model_id} has no action head; train one with m3et train actions')
        with self._inference():
            return self._actions.token(self._sight(view)).float()

    def remember(self, view: View) -> None:
        """Let the memory of the episode take in a view, where there is one and the view is due."""
        if self.memory is not None:
            self.memory.update(view.sight, view.inputs, view.frame.stamp_ns)

    def recall(self, question: str, *, top_k: int) -> tuple[Ranked, ...]:
        """The best answers from the memory of the episode.

        Raises:
            ValueError: the checkpoint has no head for it.
        """
        if self.memory is None:
            raise ValueError(f'{self.model_id} has no memory; ask about frames')
        return self.memory.ask(question, top_k)

    def visual_tokens(self, view: View, rows: int, cols: int) -> torch.Tensor:
        """What is seen of a view as a grid of visual tokens (1, rows * cols, d_vision) float32 (models.talk)."""
        with self._inference():
            return visual_tokens(self._sight(view), self.config, rows=rows, cols=cols).float()

    def reset_sight(self) -> None:
        """Encode the next frame of the stream whole."""
        if self._follower is not None:
            self._follower.reset()

    def reset_actions(self) -> None:
        """Forget the actions seen so far."""
        if self._actions:
            self._actions.reset()

    @property
    def _tokenizer(self):
        return self.checkpoint.tokenizer

    def _encode_question(self, question: str, views: Sequence[View]) -> Encoded:
        """Let views be followed by a question; several become one context."""
        # Under adaptive tokens too: if the instruction had its every frame encoded whole, nothing would be saved.
        if len(views) == 1 and views[0].encoded is not None and question == views[0].frame.instruction:
            return views[0].encoded
        text = self._text(question)
        encoded = [self._runner.add_text(self._sight(view), **text) for view in views]
        return encoded[0] if len(encoded) == 1 else join_frames(encoded)

    def _sight(self, view: View) -> ImageEncoding:
        """What was seen of a view; a remembered one, and one of which not all patches are new, is looked at again."""
        if view.sight is not None and view.share == 1:
            return view.sight
        if view.sight is not None:
            return self._follower.whole(view.sight, view.inputs)
        return self._runner.encode_images({name: tensor.to(self.device) for name, tensor in view.inputs.items()})

    def _text(self, text: str) -> dict[str, torch.Tensor]:
        """Text inputs (1, T); none when nothing is said, since a missing modality has no tokens."""
        if not text:
            return {}
        ids, mask = self._tokenizer.encode([text], self.config.text_length)
        return {'text': ids.to(self.device), 'text_mask': mask.to(self.device)}

    def _do(self, step: Step, *args: Any) -> Any:
        """step(runner, *args), where a model is shared perhaps in one batch with what others ask for."""
        together = self._shared is not None and self._shared.batcher
        return together.do(step, *args) if together else step(self._runner, *args)

    @contextmanager
    def _inference(self):
        with torch.inference_mode():
            yield


def _look(runner: Any, images: dict[str, torch.Tensor], text: dict[str, torch.Tensor]) -> tuple[ImageEncoding, Encoded]:
    sight = runner.encode_images(images)
    return sight, runner.add_text(sight, **text)


def _decode(runner: Any, encoded: Encoded, tasks: tuple[str, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(runner.decode(encoded, task) for task in tasks)
