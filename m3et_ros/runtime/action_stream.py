"""The live action stream: MambaVL's recurrent state over the frames, read by questions about now and next.

The question selects one of the two, as MambaVL's guide (docs/papers.md 3): it asks for the verb, then
for the noun given each verb. An instruction replaces the questions about what comes next. The state is updated at the
frame rate that the head was trained with, at any rate of the camera; frames in between are read from a copy of the
state, so that the answer is as new as the frame.

Symbols: V verbs, M nouns.
"""

import logging
import time

import torch

from m3et_ros.data.action_questions import (
    LAST,
    LAST_GIVEN,
    NEXT,
    NEXT_GIVEN,
    NOW,
    NOW_GIVEN,
    noun_question,
    spoken_noun,
    spoken_verb,
)
from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.frame import Labels
from m3et_ros.models.actions.frame_token import patch_tokens
from m3et_ros.models.actions.mambavl import MambaVL
from m3et_ros.models.m3et.encoding import ImageEncoding
from m3et_ros.runtime.frame_rate import FrameRate
from m3et_ros.runtime.frame_tokens import FrameTokens
from m3et_ros.runtime.results import Actions, Ranked

LOG = logging.getLogger(__name__)

WARN_EVERY_S = 10.0
LONGEST_GAP_S = 5.0
"""After a longer gap between two frames, or a step back in time, the stream begins anew."""


def ranked_actions(verbs: torch.Tensor, nouns: torch.Tensor, labels: Labels, top_k: int, share: float = 1.0) -> Actions:
    """Rank verbs, nouns and pairs; a pair scores softmax(verb) * softmax(noun) (docs/papers.md 7.7), times `share`.

    Labels of verbs and nouns are keys, those of pairs are words: 'turn-on', 'board:chopping', 'cut chopping board'.

    Args:
        verbs: logits (V,).
        nouns: logits (M,), or (V, M) of the noun given each verb.
        labels: names and published ids.
        top_k: longest length of each list.
        share: probability that there is an action at all, by which every score is multiplied.
    """
    p_verb = share * verbs.float().softmax(-1)
    p_pair = p_verb[:, None] * nouns.float().softmax(-1)
    p_noun = p_pair.sum(0)
    verb_ids = labels.verb_ids or range(len(labels.verbs))
    noun_ids = labels.noun_ids or range(len(labels.nouns))

    def best(scores: torch.Tensor) -> list[tuple[int, float]]:
        found = scores.topk(min(top_k, scores.numel()))
        return list(zip(found.indices.tolist(), found.values.tolist(), strict=True))

    pairs = [(*divmod(i, len(p_noun)), score) for i, score in best(p_pair.flatten())]
    return Actions(
        tuple(Ranked(verb_ids[i], labels.verbs[i], score) for i, score in best(p_verb)),
        tuple(Ranked(noun_ids[i], labels.nouns[i], score) for i, score in best(p_noun)),
        tuple(
            Ranked(
                verb_ids[v] * 1000 + noun_ids[n],
                f'{spoken_verb(labels.verbs[v])} {spoken_noun(labels.nouns[n])}',
                score,
            )
            for v, n, score in pairs
        ),
    )


def stream_break(last_ns: int | None, stamp_ns: int) -> str:
    """Return the reason why a stream cannot continue with a frame: 'stream_back', 'stream_gap', or '' where it can.

    Args:
        last_ns: time of exposure of the frame before, in nanoseconds; None for none.
        stamp_ns: time of exposure of the frame.
    """
    if last_ns is None or 0 <= stamp_ns - last_ns <= LONGEST_GAP_S * 1e9:
        return ''
    return 'stream_back' if stamp_ns < last_ns else 'stream_gap'


class ActionStream:
    """The state of one camera's video stream; constant size.

    Args:
        checkpoint: has an action head.
        tokens: makes the token of a frame, and follows the device of the stream; None = by the checkpoint's model.
    """

    def __init__(self, checkpoint: Checkpoint, tokens: FrameTokens | None = None):
        head = checkpoint.heads['mambavl'].eval()
        assert isinstance(head, MambaVL)
        self._head, self._tokens = head, tokens or FrameTokens(checkpoint)
        self._tokenizer = checkpoint.tokenizer
        self._labels = checkpoint.labels
        self._length = checkpoint.model.config.text_length
        self._rate = FrameRate(head.config.rate_hz)
        self._next_warning = float('-inf')
        self.to(torch.device('cpu'))

    def to(self, device: torch.device) -> None:
        """Move to a device; the stream begins anew."""
        self._head.to(device)
        self._device = device
        self._tokens.to(device)
        with torch.inference_mode():
            self._now = self._question_chain(NOW[1], NOW_GIVEN)
            self._next = self._question_chain(NEXT[1], NEXT_GIVEN)
            self._last = self._question_chain(LAST[1], LAST_GIVEN)
        self.reset()

    def reset(self) -> None:
        """Begin a new stream."""
        self._state = self._newest = self._head.init_stream(1)
        self._last_ns: int | None = None
        self._rate.reset()

    def update(self, image_encoding: ImageEncoding, stamp_ns: int, *, unread: bool = False) -> str:
        """Update the stream by the next frame.

        Args:
            image_encoding: encoding of the frame.
            stamp_ns: its time of exposure in nanoseconds.
            unread: nobody reads the stream after this frame, so that one between two that are due costs nothing.

        Returns:
            Why the stream began anew with this frame: 'stream_back', 'stream_gap', or '' where it continues.
        """
        why = stream_break(self._last_ns, stamp_ns)
        if why and self._last_ns is not None:
            step = (stamp_ns - self._last_ns) / 1e9
            # Every break is counted by the caller; the log gets one line in WARN_EVERY_S.
            if time.monotonic() >= self._next_warning:
                self._next_warning = time.monotonic() + WARN_EVERY_S
                LOG.warning(
                    'The action stream begins anew: the clock of the frames went %s by %.1f s.',
                    'back' if step < 0 else 'on',
                    abs(step),
                )
            self.reset()
        self._last_ns = stamp_ns
        due = self._rate.due(stamp_ns)
        if due or not unread:
            self._newest = self._head.update(self._state, self.token(image_encoding))
        if due:
            self._state = self._newest
            self._rate.take(stamp_ns)
        return why

    def token(self, image_encoding: ImageEncoding) -> torch.Tensor:
        """Return the head's input of a frame, (1, 1, frame_width) float32, or all its patches, (1, 1, n * d)."""
        if self._head.config.patches > 1:
            return patch_tokens(image_encoding)
        return self._tokens.read(image_encoding)

    def read(self, instruction: str, top_k: int) -> tuple[Actions, Actions]:
        """Return the present and the next actions.

        Scores of the present are multiplied by the probability that anything is being done, if the head predicts it.
        """
        features = self._head.stream_features(self._newest)
        active = 1.0
        if self._head.busy_head is not None:
            active = float(self._head.activity_logits(features).sigmoid())
        if instruction:
            ids, mask = self._encode_questions((instruction,))
            following = self._head.classify(features, ids, ids, mask, mask)
        else:
            following = self._head.chain(features, *self._next)
            if self._head.follows is not None:
                following = self._head.anticipate(self._head.chain(features, *self._last), following)
        verbs, nouns = self._head.chain(features, *self._now)
        now = ranked_actions(verbs[0], nouns[0], self._labels, top_k, active)
        verbs, nouns = following
        return now, ranked_actions(verbs[0], nouns[0], self._labels, top_k)

    def _question_chain(self, verb_question: str, noun_form: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the features of the question about the verb, and of those about the noun given each verb."""
        nouns = tuple(noun_question(noun_form, verb) for verb in self._labels.verbs)
        verb, noun = self._encode_questions((verb_question,)), self._encode_questions(nouns)
        return self._head.question_features(*verb), self._head.question_features(*noun)

    def _encode_questions(self, questions: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids and mask of questions, cut to the longest of them."""
        ids, mask = self._tokenizer.encode(questions, self._length)
        longest = int(mask.sum(1).max())
        return ids[:, :longest].to(self._device), mask[:, :longest].to(self._device)
