"""Images that hear the words of a question: config.images_hear.

By default images do not depend on words, so that one encoding of a frame serves every question. MultiMAE, from which
M3ET descends, has one sequence in which all tokens attend to each other. Here the words come before the images for this
purpose: they are encoded alone, and in every T layer the images attend to them besides each other. Scans of images do
not change. The words after the images then attend to what the images made of the question. So a question costs the
encoder's pass over the images once more, without their stem.

Symbols: B samples, Q questions per sample, I image tokens, W words with pads, d width.
"""

from dataclasses import replace

from torch import Tensor

from m3et_ros.layers.hybrid import HybridStack
from m3et_ros.layers.kv_cache import AttentionState
from m3et_ros.models.m3et.config import MODALITIES
from m3et_ros.models.m3et.encoding import ImageEncoding, repeated, returned


def heard(
    images: ImageEncoding, words: Tensor, valid: Tensor | None, encoder: HybridStack, *, encoded_queries: bool
) -> ImageEncoding:
    """Encode images again, once for each question about them, while they attend to its words.

    Args:
        images: encoding of B samples with `embedded`.
        words: embedded words with their positions, (B * Q, W, d), those of the first sample first, pads in front.
        valid: (B * Q, W) bool, False for pads; None = there are none.
        encoder: the model's encoder.
        encoded_queries: the decoders' queries are the encoder's outputs.

    Returns:
        The encoding of B * Q samples, without `embedded`.
    """
    each = len(words) // max(1, len(images.source))
    rows = {
        name: repeated(value, each)
        for name in ('embedded', 'source', 'valid', 'position_ids', 'places', 'colours')
        if (value := getattr(images, name)) is not None
    }
    tokens, visible = ({m: repeated(t, each) for m, t in of.items()} for of in (images.tokens, images.visible))
    _, of_words = encoder(words, mask=valid, return_states=True)
    before = [state if isinstance(state, AttentionState) else None for state in of_words]
    stages, states = encoder(rows.pop('embedded'), mask=rows.get('valid'), states=before, return_states=True)
    if encoded_queries:
        n, ids = next(iter(tokens.values())).shape[1], rows['position_ids']
        for number, m in enumerate(tokens):
            ids = ids + (rows['source'] == MODALITIES.index(m)) * number * n
        tokens = dict(zip(tokens, returned(ids, stages[-1], len(tokens) * n).chunk(len(tokens), 1), strict=True))
    states = [_without_words(state, words.shape[1]) if isinstance(state, AttentionState) else state for state in states]
    return replace(images, stages=stages, states=states, tokens=tokens, visible=visible, embedded=None, **rows)


def _without_words(state: AttentionState, count: int) -> AttentionState:
    """Return the keys and values of the images, which come after those of `count` words."""
    mask = None if state.mask is None else state.mask[:, count:]
    return AttentionState(state.k[:, :, count:], state.v[:, :, count:], mask)
