"""The live action stream: MambaVL's recurrent state over the frames, read by questions about now and next.

Which of the two is meant is told by the question, MambaVL's guide (papers.md 3); an instruction replaces the generic
question about what comes next.
"""

import torch
from torch.nn import functional as F

from m3et_ros.data.checkpoint import Checkpoint
from m3et_ros.models.config import MODALITIES
from m3et_ros.models.encoded import Encoded
from m3et_ros.runtime.results import Actions, Ranked

NOW = ('Which object is the person using now?', 'What is the person doing now?')
NEXT = ('Which object will be used next?', 'What will be done next?')

REGIONS = 3
"""The colour patches of a frame are pooled to REGIONS x REGIONS video tokens, so that a frame costs ten steps."""


def video_tokens(encoded: Encoded) -> torch.Tensor:
    """Video tokens (1, REGIONS^2 + 1, d) of a frame: pooled colour patches in raster order, the global token last."""
    patches = encoded.context[encoded.source == MODALITIES.index('rgb')]
    side = int(len(patches) ** 0.5)
    grid = patches.reshape(1, side, side, -1).permute(0, 3, 1, 2).float()
    pooled = F.adaptive_avg_pool2d(grid, REGIONS).flatten(2).transpose(1, 2)
    return torch.cat([pooled, encoded.context[:, -1:].float()], 1)


def ranked_actions(verbs: torch.Tensor, nouns: torch.Tensor, labels, top_k: int) -> Actions:
    """The best verbs, nouns and pairs; a pair scores softmax(verb) * softmax(noun) (papers.md 7.7).

    Args:
        verbs: logits (V,).
        nouns: logits (M,).
        labels: names and published ids.
        top_k: length of each list.
    """
    p_verb, p_noun = verbs.float().softmax(-1), nouns.float().softmax(-1)
    verb_ids = labels.verb_ids or range(len(labels.verbs))
    noun_ids = labels.noun_ids or range(len(labels.nouns))

    def best(scores):
        found = scores.topk(min(top_k, scores.numel()))
        return list(zip(found.indices.tolist(), found.values.tolist()))

    pairs = best((p_verb[:, None] * p_noun[None]).flatten())
    return Actions(
        tuple(Ranked(verb_ids[i], labels.verbs[i], s) for i, s in best(p_verb)),
        tuple(Ranked(noun_ids[i], labels.nouns[i], s) for i, s in best(p_noun)),
        tuple(Ranked(verb_ids[i // len(p_noun)] * 1000 + noun_ids[i % len(p_noun)],
                     f'{labels.verbs[i // len(p_noun)]} {labels.nouns[i % len(p_noun)]}', s) for i, s in pairs))


class ActionStream:
    """State of the video stream of one camera; constant size."""

    def __init__(self, checkpoint: Checkpoint):
        self._head = checkpoint.heads['mambavl'].eval()
        self._tokenizer = checkpoint.tokenizer
        self._labels = checkpoint.labels
        self._length = checkpoint.model.config.text_length
        self.to(torch.device('cpu'))

    def to(self, device: torch.device) -> None:
        """Move to a device; the stream begins anew."""
        self._head.to(device)
        self._device = device
        self.reset()

    def reset(self) -> None:
        """Begin a new stream."""
        self._state = self._head.init_stream(1)

    def update(self, tokens: torch.Tensor) -> None:
        """Take in the video tokens (1, n, d) of the next frame."""
        self._state = self._head.update(self._state, tokens.float())

    def read(self, instruction: str, top_k: int) -> tuple[Actions, Actions]:
        """What is being done, and what comes next."""
        return self._ask(NOW, top_k), self._ask((instruction, instruction) if instruction else NEXT, top_k)

    def _ask(self, questions: tuple[str, str], top_k: int) -> Actions:
        ids, mask = self._tokenizer.encode(questions, self._length)
        ids, mask = ids.to(self._device), mask.to(self._device)
        verbs, nouns = self._head.read(self._state, ids[:1], ids[1:], mask[:1], mask[1:])
        return ranked_actions(verbs[0], nouns[0], self._labels, top_k)
