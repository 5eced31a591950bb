"""The live action stream: MambaVL's recurrent state over the frames, read by questions about now and next.

Which of the two is meant is told by the question, MambaVL's guide (docs/papers.md 3): the verb is asked for, then the noun
given each verb. An instruction replaces the questions about what comes next. The state takes in frames at the rate that
the head was trained with, whatever the camera's is; what is between two of them is read from a copy of the state, so
that the answer is as new as the frame.
"""

import logging

import torch

from m3et_ros.data.action_questions import LAST, LAST_GIVEN, NEXT, NEXT_GIVEN, NOW, NOW_GIVEN, given
from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.models.actions.frame_token import GUIDES, frame_token
from m3et_ros.models.m3et.encoding import ImageEncoding
from m3et_ros.runtime.frame_rate import FrameRate
from m3et_ros.runtime.results import Actions, Ranked

LOG = logging.getLogger(__name__)

LONGEST_GAP_S = 5.0
"""After a longer pause between two frames, or a step back in time, the stream begins anew."""


def ranked_actions(verbs: torch.Tensor, nouns: torch.Tensor, labels, top_k: int, share: float = 1.0) -> Actions:
    """The best verbs, nouns and pairs; a pair scores softmax(verb) * softmax(noun) (docs/papers.md 7.7), times `share`.

    Args:
        verbs: logits (V,).
        nouns: logits (M,), or (V, M) of the noun given each verb.
        labels: names and published ids.
        top_k: length of each list.
        share: probability that there is an action at all, by which every score is multiplied.
    """
    p_verb = share * verbs.float().softmax(-1)
    p_pair = p_verb[:, None] * nouns.float().softmax(-1)
    p_noun = p_pair.sum(0)
    verb_ids = labels.verb_ids or range(len(labels.verbs))
    noun_ids = labels.noun_ids or range(len(labels.nouns))

    def best(scores):
        found = scores.topk(min(top_k, scores.numel()))
        return list(zip(found.indices.tolist(), found.values.tolist()))

    pairs = best(p_pair.flatten())
    return Actions(
        tuple(Ranked(verb_ids[i], labels.verbs[i], s) for i, s in best(p_verb)),
        tuple(Ranked(noun_ids[i], labels.nouns[i], s) for i, s in best(p_noun)),
        tuple(
            Ranked(
                verb_ids[i // len(p_noun)] * 1000 + noun_ids[i % len(p_noun)],
                f'{labels.verbs[i // len(p_noun)]} {labels.nouns[i % len(p_noun)]}',
                s,
            )
            for i, s in pairs
        ),
    )


def broken(last_ns: int | None, stamp_ns: int) -> str:
    """Why a stream cannot go on with a frame: 'stream_back', 'stream_gap' or '' where it can.

    Args:
        last_ns: time of exposure of the frame before; None for none.
        stamp_ns: that of the frame.
    """
    if last_ns is None or 0 <= stamp_ns - last_ns <= LONGEST_GAP_S * 1e9:
        return ''
    return 'stream_back' if stamp_ns < last_ns else 'stream_gap'


class ActionStream:
    """State of the video stream of one camera; constant size."""

    def __init__(self, checkpoint: Checkpoint):
        self._model = checkpoint.model
        self._head = checkpoint.heads['mambavl'].eval()
        self._tokenizer = checkpoint.tokenizer
        self._labels = checkpoint.labels
        self._length = checkpoint.model.config.text_length
        self._pace = FrameRate(self._head.config.rate_hz)
        self.to(torch.device('cpu'))

    def to(self, device: torch.device) -> None:
        """Move to a device; the stream begins anew."""
        self._head.to(device)
        self._device = device
        self._guides = self._encoded(GUIDES)
        with torch.inference_mode():
            self._now, self._next, self._before = (
                self._chain(NOW_GIVEN, NOW[1]),
                self._chain(NEXT_GIVEN, NEXT[1]),
                self._chain(LAST_GIVEN, LAST[1]),
            )
        self.reset()

    def reset(self) -> None:
        """Begin a new stream."""
        self._state = self._newest = self._head.init_stream(1)
        self._last_ns: int | None = None
        self._pace.reset()

    def update(self, sight: ImageEncoding, stamp_ns: int) -> str:
        """Take in the next frame.

        Args:
            sight: what the model saw of it.
            stamp_ns: its time of exposure.

        Returns:
            Why the stream began anew with it, as it is counted: 'stream_back', 'stream_gap' or '' where it goes on.
        """
        why = broken(self._last_ns, stamp_ns)
        if why:
            step = (stamp_ns - self._last_ns) / 1e9
            LOG.warning(
                'The action stream begins anew: the clock of the frames went %s by %.1f s.',
                'back' if step < 0 else 'on',
                abs(step),
            )
            self.reset()
        self._newest = self._head.update(self._state, self.token(sight))
        self._last_ns = stamp_ns
        if self._pace.due(stamp_ns):
            self._state = self._newest
            self._pace.take(stamp_ns)
        return why

    def token(self, sight: ImageEncoding) -> torch.Tensor:
        """What the stream takes of a frame: (1, 1, frame_width) float32."""
        return frame_token(self._model, sight, *self._guides)

    def read(self, instruction: str, top_k: int) -> tuple[Actions, Actions]:
        """What is being done, and what comes next.

        Scores of now are less where little speaks for anything being done, if the head can tell that.
        """
        seen = self._head.seen(self._newest)
        busy = 1.0 if self._head.busy_head is None else float(self._head.busy(seen).sigmoid())
        if instruction:
            ids, mask = self._encoded((instruction,))
            told = self._head.classify(seen, ids, ids, mask, mask)
        else:
            told = self._head.chained(seen, *self._next)
            if self._head.follows is not None:
                told = self._head.foreseen(self._head.chained(seen, *self._before), told)
        return tuple(
            ranked_actions(verbs[0], nouns[0], self._labels, top_k, share)
            for (verbs, nouns), share in ((self._head.chained(seen, *self._now), busy), (told, 1.0))
        )

    def _chain(self, form: str, generic: str) -> tuple[torch.Tensor, torch.Tensor]:
        """The question about the verb and those about the noun given each verb, as the head hears them."""
        nouns = tuple(given(form, verb) for verb in self._labels.verbs)
        return self._head.heard(*self._encoded((generic,))), self._head.heard(*self._encoded(nouns))

    def _encoded(self, questions: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask of questions, without pads that none of them needs."""
        ids, mask = self._tokenizer.encode(questions, self._length)
        longest = int(mask.sum(1).max())
        return ids[:, :longest].to(self._device), mask[:, :longest].to(self._device)
