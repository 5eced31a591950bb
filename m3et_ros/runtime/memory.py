"""Memories of an episode: the interface that a session uses, and the learnt memory of an episode head.

    EpisodeMemory   the state of a checkpoint's episode head (models.episode); every due frame updates it
    FrameMemory     a sample of frames for models without that head (frame_comb.py)

A session chooses one of them when it is built; the other costs nothing. Both have constant size, however long the
episode is.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.class_names import QuestionEncoder
from m3et_ros.data.errors import InputError
from m3et_ros.data.files import check_regular, write_atomically
from m3et_ros.models.episode.model import EpisodeHead, EpisodeState
from m3et_ros.models.episode.percepts import patch_features
from m3et_ros.models.m3et.encoding import ImageEncoding
from m3et_ros.runtime.frame_rate import FrameRate
from m3et_ros.runtime.frame_tokens import FrameTokens
from m3et_ros.runtime.results import Ranked
from m3et_ros.runtime.tensor_trees import leaves, rebuilt
from m3et_ros.runtime.view import View

MAX_STAMP_NS = (2**31 - 1) * 10**9 + 10**9 - 1
"""Largest time that a ROS message holds, in nanoseconds."""
MAX_FRAMES = 2**31 - 1
"""Largest number of frames that an answer can report."""


class Memory(Protocol):
    """A session's memory of the frames of an episode."""

    @property
    def frames(self) -> int:
        """Return the number of frames that an answer about the episode rests on."""

    @property
    def first_ns(self) -> int:
        """Return the stamp of the oldest of these frames in nanoseconds; 0 without any."""

    @property
    def last_ns(self) -> int:
        """Return the stamp of the newest of these frames in nanoseconds; 0 without any."""

    @property
    def bytes(self) -> int:
        """Return the size of the memory."""

    def due(self, stamp_ns: int) -> bool:
        """Return whether `observe` would use a frame of this stamp."""

    def observe(self, view: View) -> bool:
        """Update the memory by the next view; returns whether the view was used."""

    def views(self, newest: View) -> list[View]:
        """Return the views that a question about the episode rests on, oldest first.

        Args:
            newest: the session's newest view.
        """

    def answer(self, question: str, top_k: int) -> tuple[Ranked, ...] | None:
        """Return the best answers to a question about the episode; None where M3ET answers from `views` instead."""

    def reset(self) -> None:
        """Begin a new episode."""

    def save(self, path: Path) -> None:
        """Write the memory to a file.

        Raises:
            InputError: it cannot be written, or this memory is not made to be saved.
        """

    def restore(self, path: Path) -> None:
        """Continue from a saved memory.

        Raises:
            InputError: the file cannot be used, or this memory is not made to be saved.
        """


class EpisodeMemory:
    """The Memory of one camera's episode in the state of a checkpoint's episode head.

    Args:
        checkpoint: has an episode head.
        tokens: makes the token of a frame, and follows the device of the memory; None = by the checkpoint's model.

    Attributes:
        frames: used so far.
        first_ns, last_ns: stamps of the first and the newest of them in nanoseconds; 0 before.
    """

    def __init__(self, checkpoint: Checkpoint, tokens: FrameTokens | None = None):
        head = checkpoint.heads['episode'].eval()
        assert isinstance(head, EpisodeHead)
        self._config, self._model_id, self._head = checkpoint.model.config, checkpoint.model_id, head
        self._tokens = tokens or FrameTokens(checkpoint)
        # A model that was taught more classes keeps the head, which knows the first of them.
        classes = checkpoint.labels.classes[: len(head.config.classes)]
        self._encode_question = QuestionEncoder(checkpoint.tokenizer, classes, head.config.length)
        self._rate = FrameRate(head.config.rate_hz)
        self._state: EpisodeState
        self.reset()

    def to(self, device: torch.device) -> None:
        """Move head and state to a device."""
        self._head.to(device)
        self._tokens.to(device)
        self._state = rebuilt(self._state, (part.to(device) for part in leaves(self._state)))

    def reset(self) -> None:
        """Begin a new episode."""
        self._state = self._head.init_state(1)
        self.frames = self.first_ns = self.last_ns = 0
        self._rate.reset()

    def due(self, stamp_ns: int) -> bool:
        """Return whether a frame of this stamp would be used; the head's own frame rate decides.

        After a step back in time the next frame is due, and the memory stays.
        """
        return not self.frames or stamp_ns < self.last_ns or self._rate.due(stamp_ns)

    def observe(self, view: View) -> bool:
        """Update the state by a view that was just encoded, if it is due; returns whether it was.

        Raises:
            ValueError: the view has no encoding or no colours.
        """
        if view.image_encoding is None:
            raise ValueError('the view is stored without its encoding; encode its frame again')
        return self.update(view.image_encoding, view.inputs, view.frame.stamp_ns)

    @torch.inference_mode()
    def update(self, image_encoding: ImageEncoding, inputs: Mapping[str, Tensor], stamp_ns: int) -> bool:
        """Update the state by the next frame, if it is due; returns whether it was.

        Args:
            image_encoding: encoding of the frame, batch 1.
            inputs: image tensors of the frame, batch 1.
            stamp_ns: time of exposure in nanoseconds.

        Raises:
            ValueError: the frame has no colours.
        """
        if not self.due(stamp_ns):
            return False
        patches = patch_features(self._config, image_encoding, inputs)
        self._state = self._head.update(self._state, patches[:, None], self._tokens.read(image_encoding))
        if stamp_ns < self.last_ns:
            self._rate.reset()
        self._rate.take(stamp_ns)
        self.first_ns = self.first_ns if self.frames else stamp_ns
        self.frames, self.last_ns = self.frames + 1, stamp_ns
        return True

    def views(self, newest: View) -> list[View]:
        """Return the newest view alone; the earlier ones are in the state."""
        return [newest]

    @torch.inference_mode()
    def answer(self, question: str, top_k: int) -> tuple[Ranked, ...]:
        """Return the best `top_k` answers of the head to a question about the episode so far, best first."""
        ids, mask, named = (part[None].to(self._state.slots.device) for part in self._encode_question([question]))
        scores = self._head.read(self._state, ids, mask, named)[0][0, 0].float().softmax(-1)
        best = scores.topk(min(top_k, scores.numel()))
        answers = self._head.config.answers
        return tuple(Ranked(i, answers[i], s) for s, i in zip(best.values.tolist(), best.indices.tolist(), strict=True))

    @property
    def bytes(self) -> int:
        """Return the size of the state."""
        return sum(part.numel() * part.element_size() for part in leaves(self._state))

    def save(self, path: Path) -> None:
        """Write the memory to a safetensors file, which may replace another memory but no other file.

        Raises:
            InputError: the file cannot be written, or something else is there; it stays as it is.
        """
        _check_replaceable(path)
        tensors = {str(i): part.cpu().contiguous() for i, part in enumerate(leaves(self._state))}
        header = {
            'model': self._model_id,
            'frames': self.frames,
            'first_ns': self.first_ns,
            'last_ns': self.last_ns,
            'due_ns': self._rate.due_ns,
        }
        try:
            with write_atomically(path) as part:
                save_file(tensors, part, metadata={'memory': json.dumps(header)})
        except (OSError, SafetensorError) as error:
            raise InputError(
                'memory_unwritable',
                f'The memory cannot be written to {path} ({error}); give another place or make room.',
            ) from error

    def restore(self, path: Path) -> None:
        """Continue from a saved memory.

        Raises:
            InputError: the file is missing, damaged, or of another model; the present memory stays as it is.
        """
        held = list(leaves(self._state))
        check_regular(path, 'give a file that was saved')
        try:
            with safe_open(path, framework='pt') as file:
                header = json.loads((file.metadata() or {})['memory'])
                frames, first_ns, last_ns, due_ns = _checked_facts(header, self._rate.period_ns)
                model = str(header['model'])
                fits = model == self._model_id and all(
                    file.get_slice(str(i)).get_shape() == list(part.shape) for i, part in enumerate(held)
                )
                tensors = [file.get_tensor(str(i)) for i in range(len(held))] if fits else []
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise _damaged(path, f'{type(error).__name__}: {error}') from error
        if not fits or any(new.dtype != old.dtype for new, old in zip(tensors, held, strict=True)):
            raise InputError(
                'memory_foreign',
                f'{path} is the memory of {model} and this is {self._model_id}; restore it with the model that it was '
                'saved with.',
            )
        if not all(bool(part.isfinite().all()) for part in tensors if part.is_floating_point()):
            raise _damaged(path, 'its state is not finite')
        device = self._state.slots.device
        self._state = rebuilt(self._state, (part.to(device) for part in tensors))
        self.frames, self.first_ns, self.last_ns, self._rate.due_ns = frames, first_ns, last_ns, due_ns


def _checked_facts(header: Mapping[str, Any], period_ns: float) -> tuple[int, int, int, float]:
    """Return frames, first_ns, last_ns and due_ns of a saved memory.

    Args:
        header: the facts that it was saved with.
        period_ns: time between two frames in nanoseconds.

    Raises:
        KeyError, TypeError, ValueError: one is missing, of another type or out of range.
    """
    for name in ('frames', 'first_ns', 'last_ns'):
        if type(header[name]) is not int or not 0 <= header[name] <= MAX_STAMP_NS:
            raise ValueError(f'{name} is {str(header[name])[:40]}')
    due_ns = float(header['due_ns'])
    # A stamp of today is rounded to 256 ns as a float.
    if not 0 <= due_ns <= header['last_ns'] + 2 * period_ns + 1000:
        raise ValueError(f'due_ns is {due_ns}')
    if header['frames'] > MAX_FRAMES:
        raise ValueError(f'frames is {header["frames"]}')
    return header['frames'], header['first_ns'], header['last_ns'], due_ns


def _check_replaceable(path: Path) -> None:
    """Refuse to replace anything but a saved memory.

    Raises:
        InputError: not_a_file, memory_unwritable.
    """
    check_regular(path, 'give a new file or an older memory')
    if not os.path.exists(path):
        return
    try:
        with safe_open(path, framework='pt') as file:
            is_memory = 'memory' in (file.metadata() or {})
    except (OSError, SafetensorError):
        is_memory = False
    if not is_memory:
        raise InputError(
            'memory_unwritable', f'{path} is there and is no memory; give a new file or an older memory, or remove it.'
        )


def _damaged(path: Path, why: str) -> InputError:
    return InputError('memory_damaged', f'{path} holds no memory ({why}); give a file that was saved.')
