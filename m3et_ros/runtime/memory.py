"""What the robot remembers of an episode: a state of constant size, or a constant number of frames of it.

EpisodeMemory is the state of a checkpoint's episode head (models.episode): every frame that is due updates it, and
questions read it. Without such a head there is a comb of frames: M3ET's own embodied question answering looks at F
frames sampled uniformly from the episode (docs/papers.md 2.5). Kept online that sample is a comb: every stride-th frame is
stored, and when the F + 1st arrives every second one is dropped and the stride doubles. An hour of frames costs what a
minute does, either way.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.class_names import Reading
from m3et_ros.data.errors import InputError
from m3et_ros.models.actions.frame_token import GUIDES, frame_token
from m3et_ros.models.episode.model import EpisodeState
from m3et_ros.models.episode.percepts import patch_features
from m3et_ros.models.m3et.encoding import ImageEncoding
from m3et_ros.runtime.frame_rate import FrameRate
from m3et_ros.runtime.results import Ranked


class EpisodeMemory:
    """The memory of one camera's episode.

    Attributes:
        frames: taken in so far.
        first_ns, last_ns: stamps of the first and the newest of them; 0 before.
    """

    def __init__(self, checkpoint: Checkpoint):
        self._model, self._model_id = checkpoint.model, checkpoint.model_id
        self._head = checkpoint.heads['episode'].eval()
        config = self._head.config
        self._reading = Reading(checkpoint.tokenizer, checkpoint.labels.classes, config.length)
        self._guides = checkpoint.tokenizer.encode(GUIDES, checkpoint.model.config.text_length)
        self._pace = FrameRate(config.rate_hz)
        self.reset()

    def to(self, device: torch.device) -> None:
        """Move to a device, what is remembered too."""
        self._head.to(device)
        self._state = _filled(self._state, iter([part.to(device) for part in _leaves(self._state)]))

    def reset(self) -> None:
        """Begin a new episode."""
        self._state: EpisodeState = self._head.init_state(1)
        self.frames = self.first_ns = self.last_ns = 0
        self._pace.reset()

    def due(self, stamp_ns: int) -> bool:
        """Whether a frame of this time would be taken in: the head's rate is kept, whatever the camera's is.

        After a step back in time the next frame is taken in, and what is remembered stays.
        """
        return not self.frames or stamp_ns < self.last_ns or self._pace.due(stamp_ns)

    @torch.inference_mode()
    def update(self, sight: ImageEncoding, inputs: Mapping[str, Tensor], stamp_ns: int) -> bool:
        """Take in the next frame, if it is due; says whether it was.

        Args:
            sight: what the model saw of it.
            inputs: what the model was shown, batch 1.
            stamp_ns: its time of exposure.

        Raises:
            ValueError: the frame has no colours.
        """
        if not self.due(stamp_ns):
            return False
        ids, mask = (part.to(sight.source.device) for part in self._guides)
        longest = int(mask.sum(1).max())
        token = frame_token(self._model, sight, ids[:, :longest], mask[:, :longest])
        patches = patch_features(self._model.config, sight, inputs)
        self._state = self._head.update(self._state, patches[:, None], token)
        if stamp_ns < self.last_ns:
            self._pace.reset()
        self._pace.take(stamp_ns)
        self.first_ns = self.first_ns if self.frames else stamp_ns
        self.frames, self.last_ns = self.frames + 1, stamp_ns
        return True

    @torch.inference_mode()
    def ask(self, question: str, top_k: int) -> tuple[Ranked, ...]:
        """The best of the head's answers to a question about everything so far."""
        ids, mask, named = (part[None].to(self._state.slots.device) for part in self._reading([question]))
        scores = self._head.read(self._state, ids, mask, named)[0][0, 0].float().softmax(-1)
        best = scores.topk(min(top_k, scores.numel()))
        answers = self._head.config.answers
        return tuple(Ranked(i, answers[i], s) for s, i in zip(best.values.tolist(), best.indices.tolist()))

    @torch.inference_mode()
    def category(self, question: str) -> str:
        """To which category a question belongs, as the head has it."""
        ids, mask, named = (part[None].to(self._state.slots.device) for part in self._reading([question]))
        best = self._head.read(self._state, ids, mask, named)[1][0, 0].argmax()
        return self._head.config.categories[int(best)]

    @property
    def bytes(self) -> int:
        """What is kept of the episode, in bytes."""
        return sum(part.numel() * part.element_size() for part in _leaves(self._state))

    def save(self, path: Path) -> None:
        """Write what is remembered to a safetensors file.

        Raises:
            InputError: it cannot be written; a file that was there stays.
        """
        parts = {str(i): part.cpu().contiguous() for i, part in enumerate(_leaves(self._state))}
        told = {
            'model': self._model_id,
            'frames': self.frames,
            'first_ns': self.first_ns,
            'last_ns': self.last_ns,
            'due_ns': self._pace.due_ns,
        }
        new = path.with_name(f'{path.name}.new')
        try:
            save_file(parts, new, metadata={'memory': json.dumps(told)})
            new.replace(path)
        except (OSError, SafetensorError) as error:
            new.unlink(missing_ok=True)
            raise InputError(
                'memory_unwritable',
                f'The memory cannot be written to {path} ({error}); give another place or make room.',
            ) from error

    def restore(self, path: Path) -> None:
        """Go on from what was saved.

        Raises:
            InputError: the file is missing, damaged, or of another model; what is remembered stays.
        """
        leaves = _leaves(self._state)
        try:
            with safe_open(path, framework='pt') as file:
                told = json.loads((file.metadata() or {})['memory'])
                parts = [file.get_tensor(str(i)) for i in range(len(leaves))]
            frames, first_ns, last_ns = (int(told[name]) for name in ('frames', 'first_ns', 'last_ns'))
            due_ns, model = float(told['due_ns']), told['model']
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise InputError(
                'memory_damaged',
                f'{path} holds no memory ({type(error).__name__}: {error}); give a file that was saved.',
            ) from error
        fits = all(new.shape == old.shape and new.dtype == old.dtype for new, old in zip(parts, leaves))
        if model != self._model_id or not fits:
            raise InputError(
                'memory_foreign',
                f'{path} is the memory of {model} and this is {self._model_id}; restore '
                'it with the model that it was saved with.',
            )
        device = self._state.slots.device
        self._state = _filled(self._state, iter([part.to(device) for part in parts]))
        self.frames, self.first_ns, self.last_ns, self._pace.due_ns = frames, first_ns, last_ns, due_ns


def _leaves(state: Any) -> list[Tensor]:
    """The tensors of nested tuples, in order."""
    return [state] if isinstance(state, Tensor) else [leaf for part in state for leaf in _leaves(part)]


def _filled(like: Any, leaves: Iterator[Tensor]) -> Any:
    """The same nested tuples with other tensors."""
    if isinstance(like, Tensor):
        return next(leaves)
    parts = [_filled(part, leaves) for part in like]
    return type(like)(*parts) if hasattr(like, '_fields') else tuple(parts)
