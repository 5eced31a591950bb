"""Questions of a training batch, encoded in groups of similar length.

Half of the tokens of a batch of questions are pads: most questions have nine word pieces, the longest eighteen. The
questions of each view are sorted by length and cut into groups, and each group is only as long as its longest question.

Symbols: B views, Q questions of each, T tokens of the longest question, G groups.
"""

from collections.abc import Sequence
from itertools import combinations, pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from m3et_ros.layers.attention import HeadAttention
from m3et_ros.models.m3et.adapters import check_pads_last
from m3et_ros.models.m3et.encoding import TEXT, Encoded, ImageEncoding
from m3et_ros.models.m3et.model import M3ET

GROUPS = 3
"""Most groups: a fourth would save less than its own calls cost."""


def encode_questions(
    model: M3ET,
    images: ImageEncoding,
    text: Tensor,
    text_mask: Tensor,
    *,
    head_attentions: list[HeadAttention] | None = None,
) -> Encoded:
    """Encode questions as M3ET.encode_text does, in less time; outputs of pads are 0.

    Args:
        model: encodes them.
        images: encoding of B views.
        text: word pieces (B * Q, T) int64, pads at the end, the questions of the first view first.
        text_mask: (B * Q, T) bool, False for pads, which stand behind the words.
        head_attentions: as in encode_text.

    Returns:
        The words and the global tokens of all questions, in the order of `text`.

    Raises:
        ValueError: pads stand before words, which would be cut off.
    """
    if model.config.images_hear:  # every question has its own images, so there is nothing to share
        return model.encode_text(images, text, text_mask, head_attentions=head_attentions)
    check_pads_last(text_mask)
    lengths = text_mask.sum(1).view(len(images.source), -1)
    order = lengths.argsort(stable=True, dim=1)
    longest = lengths.gather(1, order).amax(0).tolist()
    starts = torch.arange(len(order), device=text.device)[:, None] * lengths.shape[1]
    rows, parts, attentions = [], [], []
    for start, end in _cuts(longest):
        chosen = (starts + order[:, start:end]).flatten()
        size = max(longest[end - 1], 1)  # a view without a question still has a row
        attended: list[HeadAttention] | None = None if head_attentions is None else []
        parts.append(model.encode_text(images, text[chosen, :size], text_mask[chosen, :size], head_attentions=attended))
        rows.append(chosen)
        attentions.append(attended or [])
    places = torch.cat(rows).argsort()
    if head_attentions is not None:
        for layer in zip(*attentions, strict=True):
            q = _joined([one.q for one in layer], places, text.shape[1] + 1)
            head_attentions.append(HeadAttention(q, layer[0].k, layer[0].mask))
    return _merged(parts, places, text_mask)


def _cuts(longest: Sequence[int]) -> list[tuple[int, int]]:
    """Cut ranks 0..Q - 1, whose longest questions are given in rising order, into the groups with the fewest tokens."""
    count = len(longest)
    cuts = [
        [0, *inner, count] for groups in range(min(GROUPS, count)) for inner in combinations(range(1, count), groups)
    ]
    # One more for the global token.
    best = min(cuts, key=lambda ends: sum((b - a) * (longest[b - 1] + 1) for a, b in pairwise(ends)))
    return list(pairwise(best))


def _joined(parts: Sequence[Tensor], places: Tensor, length: int, value: float = 0, *, at_end: bool = False) -> Tensor:
    """Fill parts (rows, n, ...) up to a length, in front or at the end, and put their rows in order."""
    filled = []
    for part in parts:
        missing = length - part.shape[1]
        sides = (0, missing) if at_end else (missing, 0)
        filled.append(F.pad(part, (0, 0) * (part.dim() - 2) + sides, value=value))
    return torch.cat(filled)[places]


def _merged(parts: Sequence[Encoded], places: Tensor, text_mask: Tensor) -> Encoded:
    """Join the encodings of groups; `places` are the rows of the joined groups in the order of the questions."""
    length = text_mask.shape[1]

    def words(values: Sequence[Tensor]) -> Tensor:
        return _joined(values, places, length, at_end=True)

    def sequence(values: Sequence[Tensor], value: float = 0) -> Tensor:
        return _joined(values, places, length + 1, value)

    def rows(values: Sequence[Tensor | None]) -> Tensor | None:
        found = [value for value in values if value is not None]
        return torch.cat(found)[places] if found else None

    return Encoded(
        [sequence(stage) for stage in zip(*(part.stages for part in parts), strict=True)],
        sequence([part.source for part in parts], TEXT),
        sequence([part.valid for part in parts if part.valid is not None]),
        {name: words([part.tokens[name] for part in parts]) for name in parts[0].tokens},
        {name: words([part.visible[name] for part in parts]) for name in parts[0].visible},
        sequence([part.position_ids for part in parts]),
        text_mask,
        rows([part.places for part in parts]),
        rows([part.look for part in parts]),
    )
