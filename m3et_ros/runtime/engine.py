"""The model on frames: encode once, then decode, answer and anticipate from the encoder's outputs.

Symbols: S side of the model's square image; T length of the text in tokens; n visual tokens of a frame.
Everything here runs on one thread, the inference thread of the engine's owner.
"""

import logging
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from m3et_ros.data import preprocess
from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.frame import Frame
from m3et_ros.models.m3et.encoding import Encoded, ImageEncoding, join_frames
from m3et_ros.models.m3et.model import M3ET
from m3et_ros.models.vlm.variants import visual_tokens
from m3et_ros.runtime.action_stream import ActionStream
from m3et_ros.runtime.adaptive import Adaptive, StreamEncoder
from m3et_ros.runtime.backends import automatic, waits_for_openvino
from m3et_ros.runtime.backends.background import BackgroundBuild
from m3et_ros.runtime.backends.prepared import DTYPES, MODALITY_SETS, Prepared, Serving, check_precision, prepare
from m3et_ros.runtime.batching import Step
from m3et_ros.runtime.depth_completion import DepthCompletion
from m3et_ros.runtime.devices import device_of
from m3et_ros.runtime.frame_tokens import FrameTokens, guides_shape
from m3et_ros.runtime.fused_scans import use_fused
from m3et_ros.runtime.kernels import use_built
from m3et_ros.runtime.limits import TOKENS
from m3et_ros.runtime.memory import EpisodeMemory
from m3et_ros.runtime.results import Anticipation, Ranked, Reconstruction
from m3et_ros.runtime.shared_model import BuiltT, SharedModel
from m3et_ros.runtime.texts import texts
from m3et_ros.runtime.view import View

LOG = logging.getLogger(__name__)
SHARED = ('torch', 'openvino')
"""Runtimes whose graphs several threads may run; the others write to buffers that one thread reads."""


class Engine:
    """One checkpoint on one device.

    Attributes:
        episode_memory: the learnt memory of the episode; None where the checkpoint has no head for it.
        depth_completion: the filling of holes in the depth of the stream.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = 'cpu',
        precision: str = 'float32',
        tokens: str = 'full',
        adaptive: Adaptive | None = None,
        shared: SharedModel | None = None,
    ):
        """Place the checkpoint.

        Args:
            checkpoint: model, tokenizer, labels and heads.
            device: 'auto' (CUDA when there is one), or a torch device.
            precision: 'float32' or 'bfloat16'; scans keep their state in float32 either way.
            tokens: 'full' encodes all patches of a stream's frames, 'adaptive' those that changed.
            adaptive: when a patch has changed; None takes the defaults.
            shared: the model that several engines share; None = this engine alone uses it.

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
        self._serving = Serving('torch', 'nothing else was asked for')
        self._graphs: Prepared | None = None
        # Graphs that are made while torch serves.
        self._build: BackgroundBuild | None = None
        # A device type, and how to build graphs once the model is there.
        self._pending_build: tuple[str, Callable[[], None]] | None = None
        use_built()
        use_fused()
        self._model, self._shared = checkpoint.model.eval(), shared
        self._stream = StreamEncoder(self.config, lambda: self._runner, adaptive) if tokens == 'adaptive' else None
        self._tokens = FrameTokens(checkpoint, lambda: self._runner)
        self._actions = ActionStream(checkpoint, self._tokens) if 'mambavl' in checkpoint.heads else None
        self.episode_memory = EpisodeMemory(checkpoint, self._tokens) if 'episode' in checkpoint.heads else None
        # Weights without a channel of validity take holes for a depth of their mean and err more, the larger the holes
        # are; from colours alone they fill real holes better (benchmarks/real_kitchen.py).
        self._fills_from_depth = self.config.depth_validity or 'rgb' not in self.config.modalities
        self.depth_completion = DepthCompletion(
            self._predict_depth, size=self.config.image_size, trained=self.trained, from_depth=self._fills_from_depth
        )
        self.to(device)

    def to(self, device: str) -> None:
        """Move weights to a device; 'auto' is CUDA when there is one.

        Raises:
            InputError: there is no such device.
        """
        self.device = device_of(device)
        if self._shared is None:
            self._model.to(device=self.device, dtype=self.dtype)
        else:
            self.device = self._shared.move(self, self.device, self.dtype)
        self.reset_stream()
        if self._actions is not None:
            self._actions.to(self.device)
        if self.episode_memory is not None:
            self.episode_memory.to(self.device)
        if self._pending_build is not None and self._pending_build[0] == self.device.type:
            self._pending_build[1]()

    def prepare(
        self,
        runtime: str,
        *,
        precision: str = 'float32',
        device: str = 'cpu',
        modality_sets: Sequence[Sequence[str]] = MODALITY_SETS,
        report: Callable[[str], None] = LOG.info,
    ) -> Serving:
        """Let a runtime serve: on a CPU from now on, on CUDA once the model is moved there.

        Args:
            runtime: one of backends.RUNTIMES; where 'auto' is OpenVINO, torch serves until `start_build` made graphs.
            precision: one of PRECISIONS: inside the graphs, or of the whole model where torch serves.
            device: where the model will run, as `to` takes it.
            modality_sets: sets of image modalities that frames will have.
            report: gets lines of progress.

        Returns:
            The runtime that serves, and why; also in `serving`.

        Raises:
            ValueError: the engine was built in bfloat16, so that the weights to compare with are gone.
            InputError: as check_precision.
        """
        check_precision(self._model, precision, runtime, self._stream is not None)
        if self.dtype != torch.float32:
            raise ValueError('this engine has rounded its weights; build it in float32 and give prepare the precision')
        guides = guides_shape(self.checkpoint)
        target = 'cuda' if device.startswith('cuda') or (device == 'auto' and torch.cuda.is_available()) else 'cpu'
        runtime = self._shareable(runtime, target, report)
        adaptive = self._stream is not None
        setting = runtime, precision, tuple(map(tuple, modality_sets)), guides, adaptive, target
        if runtime == 'auto' and waits_for_openvino(self._model, target):
            self._build = self._once(
                setting, lambda: BackgroundBuild(self._model, precision, modality_sets, report, guides, adaptive)
            )
            return self.serving

        graphs_of = partial(prepare, self._model, modality_sets=modality_sets, guides=guides, adaptive=adaptive)

        def build() -> None:
            self._pending_build = None
            self._graphs, self._serving = self._once(
                setting, lambda: graphs_of(runtime, precision=precision, device=target, report=report)
            )
            self._adopt(precision)

        self._pending_build = target, build
        if target == self.device.type:
            build()
        return self.serving

    @property
    def serving(self) -> Serving:
        """Return the runtime that serves, and why."""
        return self._serving if self._build is None else self._build.serving

    def start_build(self) -> None:
        """Start making the graphs that `prepare` left for later, if it did; the first frame after that uses them."""
        if self._build is not None:
            self._build.start()

    def close(self) -> None:
        """End the making of graphs, if there is any and no other engine waits for them; torch serves on."""
        if self._shared is not None:
            self._shared.leave(self)
        elif self._build is not None:
            self._build.close()

    def _adopt(self, precision: str) -> None:
        """Adapt to the graphs that were just built, or to torch where there are none."""
        # Graphs take and return float32 in any internal precision; so do the parts that torch adds to them.
        if self._graphs is None:
            self.dtype = DTYPES[precision]
            self.to(str(self.device))

    def _shareable(self, runtime: str, target: str, report: Callable[[str], None]) -> str:
        """Return the runtime, or torch where engines that share a model cannot run the graphs of that runtime."""
        name = automatic(target) if runtime == 'auto' else runtime
        if self._shared is None or name in SHARED:
            return runtime
        report(f'Engines that share {self.model_id} run it by torch, not by {name}.')
        return 'torch'

    def _once(self, setting: Hashable, build: Callable[[], BuiltT]) -> BuiltT:
        """Return what `build` returns, which engines that share the model have in common."""
        return build() if self._shared is None else self._shared.graphs(setting, build)

    @property
    def _runner(self) -> M3ET | Prepared:
        """The runner that encodes and decodes: graphs where they were built for this device, else the model."""
        graphs = self._graphs
        return graphs if graphs is not None and graphs.device == self.device.type else self._model

    @property
    def tokens(self) -> str:
        """Return which tokens of a stream's frames are encoded: 'full' or 'adaptive'."""
        return 'full' if self._stream is None else 'adaptive'

    def encode(self, frame: Frame, *, stream: bool = False) -> View:
        """Encode a frame together with its instruction.

        Args:
            frame: the frame to encode.
            stream: the frame follows the last such frame of the same camera, so that unchanged patches need not be
                encoded again where tokens are adaptive.
        """
        if self._build is not None and self._build.ready is not None:
            self._graphs, self._serving = self._build.ready
            self._build = None
        start = time.perf_counter()
        inputs, scale = preprocess.image_inputs(frame, self.config)
        inputs = {name: tensor.to(self.device, self.dtype) for name, tensor in inputs.items()}
        with torch.inference_mode():
            text = self._text_inputs(frame.instruction)
            if stream and self._stream is not None:
                image_encoding, share = self._stream.encode(inputs, frame)
                encoded = self._runner.add_text(image_encoding, *text)
            else:
                (image_encoding, encoded), share = self._run(encode_step, inputs, text), 1.0
        return View(frame, inputs, scale, image_encoding, encoded, time.perf_counter() - start, share)

    def decode(self, view: View, tasks: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return the raw predictions of dense tasks by name, as M3ET.decode gives them."""
        if not tasks:
            return {}
        with torch.inference_mode():
            return dict(zip(tasks, self._run(decode_step, view.encoded, tuple(tasks)), strict=True))

    def reconstruct(self, view: View, *, depth: bool = True, mask: bool = True, fill: str = 'auto') -> Reconstruction:
        """Return dense predictions at the camera's resolution.

        Args:
            view: a frame just encoded.
            depth: return depth.
            mask: return the segmentation.
            fill: way of filling holes in the depth, one of data.depth_fill.FILLS (DepthCompletion.complete).

        Raises:
            ValueError: `fill` is none of them.
        """
        depth_m = view.once(f'depth {fill}', lambda: self.depth_completion.complete(view, fill)) if depth else None
        ids = view.once('mask', lambda: self._mask(view)) if mask else None
        return Reconstruction(depth_m, ids)

    def _mask(self, view: View) -> np.ndarray:
        return preprocess.mask_output(self.class_logits(view), self.config.image_size, view.frame.rgb.shape[:2])

    def class_logits(self, view: View) -> torch.Tensor:
        """Return the logits of the segmentation of a frame just encoded, (1, C, s, s) float32 on the CPU."""
        # A copy, because graphs may write their next result into the same memory.
        return view.once('semseg', lambda: self.decode(view, ['semseg'])['semseg'].float().cpu().clone())

    def _predict_depth(self, view: View, measured: np.ndarray | None) -> np.ndarray | None:
        """Predict depth (S, S) in metres for DepthCompletion.

        Args:
            view: a frame just encoded.
            measured: (S, S) in metres with further pixels hidden, for weights that fill from depth; None for the
                view's own depth.
        """
        if view.scale is None or 'depth' not in self.config.tasks:
            return None
        inputs, encoded = dict(view.inputs), view.encoded
        if not self._fills_from_depth:
            inputs.pop('depth', None)
        elif measured is not None:
            holed = preprocess.depth_input(
                measured, self.config.image_size, view.scale, validity=self.config.depth_validity
            )
            inputs['depth'] = holed.to(self.device, self.dtype)
        with torch.inference_mode():
            if measured is not None or len(inputs) < len(view.inputs):
                _, encoded = self._run(encode_step, inputs, self._text_inputs(view.frame.instruction))
            (predicted,) = self._run(decode_step, encoded, ('depth',))
        metres = predicted[0, 0].float().cpu().numpy() * view.scale.std + view.scale.mean
        return metres.astype(np.float32) if np.isfinite(metres).all() else None

    def classify(self, question: str, views: Sequence[View], *, top_k: int) -> tuple[Ranked, ...]:
        """Return the best `top_k` candidate answers to a question about one view or several (docs/papers.md 2.5)."""
        with torch.inference_mode():
            scores = self._probabilities(self._encode_question(question, views), [question])[0]
        best = scores.topk(min(top_k, scores.numel()))
        answers = self.labels.answers
        return tuple(Ranked(i, answers[i], s) for s, i in zip(best.values.tolist(), best.indices.tolist(), strict=True))

    def answer_all(self, questions: Sequence[str], view: View) -> torch.Tensor:
        """Return the probabilities (Q, answers) float32 of all candidate answers to Q questions about one view."""
        ids, mask = self.checkpoint.tokenizer.encode(questions, self.config.text_length)
        longest = int(mask.sum(1).max())
        with torch.inference_mode():
            images = self._whole_encoding(view)
            encoded = self._model.encode_text(
                images, ids[:, :longest].to(self.device), mask[:, :longest].to(self.device)
            )
            return self._probabilities(encoded, questions)

    def pointing(self, question: str, view: View) -> np.ndarray | None:
        """Return the place that the first noun of a question attends to, (7,) float32 (models.m3et.readout).

        None for a model without such a read-out.
        """
        if not self.config.places:
            return None
        with torch.inference_mode():
            encoded = self._model.encode_text(self._whole_encoding(view), *self._text_inputs(question))
        return None if encoded.places is None else encoded.places[0, 0].float().cpu().numpy()

    def _probabilities(self, encoded: Encoded, questions: Sequence[str]) -> torch.Tensor:
        """Return the calibrated probabilities (Q, answers) float32 of the candidate answers."""
        logits, calibration = self._model.answer_logits(encoded).float(), self.labels.calibration
        bonuses = torch.from_numpy(calibration.bonuses(self.labels.answers, questions))
        return ((logits + bonuses.to(logits.device)) / calibration.temperature).softmax(-1)

    def write(self, question: str, views: Sequence[View], *, max_tokens: int) -> Iterator[tuple[str, float]]:
        """Answer by the text decoder, token by token: yields (text so far, probability of its newest token)."""
        with torch.inference_mode():
            encoded = self._encode_question(question, views)
        tokenizer = self.checkpoint.tokenizer
        steps = self._model.generate(encoded, bos=tokenizer.cls, eos=tokenizer.sep, max_tokens=max_tokens)
        yield from texts(steps, tokenizer.decode)

    def anticipate(self, view: View, *, horizon_s: float, top_k: int) -> Anticipation | None:
        """Update the action stream by the view and read it; None when the checkpoint has no action head."""
        if self._actions is None:
            return None
        start = time.perf_counter()
        with torch.inference_mode():
            broken = self._actions.update(self._held_encoding(view), view.frame.stamp_ns)
            now, following = self._actions.read(view.frame.instruction, top_k)
        return Anticipation(now, following, horizon_s, view.latency_s + time.perf_counter() - start, broken)

    def follow(self, view: View) -> str:
        """Update the action stream by a view after which nobody reads it, at the rate of its head.

        Returns:
            Why the stream began anew, as Anticipation.broken; '' without an action head, too.
        """
        if self._actions is None:
            return ''
        with torch.inference_mode():
            return self._actions.update(self._held_encoding(view), view.frame.stamp_ns, unread=True)

    def action_token(self, view: View) -> torch.Tensor:
        """Return the action head's input of a view as ActionStream.token does, float32.

        Raises:
            ValueError: the checkpoint has no action head.
        """
        if self._actions is None:
            raise ValueError(f'{self.model_id} has no action head; train one with m3et train actions')
        with torch.inference_mode():
            return self._actions.token(self._whole_encoding(view)).float()

    def visual_tokens(self, view: View, rows: int, cols: int) -> torch.Tensor:
        """Return the view as a grid of visual tokens (1, rows * cols, d_vision) float32 (models.vlm.variants)."""
        with torch.inference_mode():
            return visual_tokens(self._whole_encoding(view), self.config, rows=rows, cols=cols).float()

    def reset_stream(self) -> None:
        """Encode the next frame of the stream whole, and weigh the ways of filling holes anew."""
        self.depth_completion.reset()
        if self._stream is not None:
            self._stream.reset()

    def reset_actions(self) -> None:
        """Begin a new action stream."""
        if self._actions is not None:
            self._actions.reset()

    def _encode_question(self, question: str, views: Sequence[View]) -> Encoded:
        """Encode a question after views; several views become one context."""
        # Under adaptive tokens too: a standing instruction that had every frame encoded whole would save nothing.
        if len(views) == 1 and views[0].encoded is not None and question == views[0].frame.instruction:
            return views[0].encoded
        text = self._text_inputs(question)
        encoded = [self._runner.add_text(self._whole_encoding(view), *text) for view in views]
        return encoded[0] if len(encoded) == 1 else join_frames(encoded)

    def _held_encoding(self, view: View) -> ImageEncoding:
        if view.image_encoding is None:
            raise ValueError('the view is stored without its encoding; encode its frame again')
        return view.image_encoding

    def _whole_encoding(self, view: View) -> ImageEncoding:
        """Return the encoding of all patches; a stored view, and one with older patches, is encoded again."""
        if view.image_encoding is None:
            return self._runner.encode_images({name: tensor.to(self.device) for name, tensor in view.inputs.items()})
        if view.share == 1 or self._stream is None:
            return view.image_encoding
        return self._stream.complete(view.image_encoding, view.inputs)

    def _text_inputs(self, text: str) -> tuple[torch.Tensor, ...]:
        """Return ids and mask (1, T); nothing for an empty text, as a missing modality has no tokens.

        Pads cost as much as words. Only graphs and batches need them: both take texts of one length.
        """
        if not text:
            return ()
        ids, mask = self.checkpoint.tokenizer.encode([text], self.config.text_length)
        if self._runner is self._model and self._shared is None:
            words = int(mask.sum())
            ids, mask = ids[:, :words], mask[:, :words]
        return ids.to(self.device), mask.to(self.device)

    def _run(self, step: Step, *args: Any) -> Any:
        """Return step(runner, *args); in torch perhaps in one batch with the steps of other engines."""
        runner = self._runner
        # Graphs take one frame at a time.
        batcher = None if self._shared is None or runner is not self._model else self._shared.batcher
        return step(runner, *args) if batcher is None else batcher.run(step, *args)


def encode_step(
    runner: M3ET | Prepared, images: dict[str, torch.Tensor], text: tuple[torch.Tensor, ...]
) -> tuple[ImageEncoding, Encoded]:
    """Encode images, and images followed by text (ids and mask, or neither): a step that a Batcher can run."""
    image_encoding = runner.encode_images(images)
    return image_encoding, runner.add_text(image_encoding, *text)


def decode_step(runner: M3ET | Prepared, encoded: Encoded, tasks: tuple[str, ...]) -> tuple[torch.Tensor, ...]:
    """Decode dense tasks: a step that a Batcher can run."""
    return tuple(runner.decode(encoded, task) for task in tasks)
