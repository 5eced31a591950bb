"""ML-Mamba, EMMA and MaTVLM at kitchen scale, with the outputs of M3ET's encoder or another's as visual tokens.

    ml_mamba  Mamba-2 layers behind a connector that scans the image            (docs/papers.md 4)
    emma      Mamba-2 layers behind an MLP, aligned with the pixels in training (docs/papers.md 5)
    matvlm    Phi blocks, some of them with Mamba-2 in place of attention       (docs/papers.md 6)

Symbols: B batch, Q texts per image, g side of M3ET's patch grid, n = rows * cols visual tokens, T word pieces,
    V vocabulary, d_vision = 2 d of M3ET: colour and depth of a patch side by side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from m3et_ros.layers.causal import repeated
from m3et_ros.models.config_checks import check_choice
from m3et_ros.models.m3et.config import M3ETConfig
from m3et_ros.models.m3et.encoding import ImageEncoding
from m3et_ros.models.vlm.connectors import ConnectorConfig
from m3et_ros.models.vlm.emma import EMMA, EMMAConfig
from m3et_ros.models.vlm.emma_alignment import AlignmentConfig
from m3et_ros.models.vlm.language_model import LanguageConfig
from m3et_ros.models.vlm.matvlm import MaTVLM, replaced, spread
from m3et_ros.models.vlm.ml_mamba import MLMamba
from m3et_ros.models.vlm.model import VisualLanguageConfig, VisualLanguageModel, VisualOutput

VARIANTS: dict[str, type[VisualLanguageModel]] = {'ml_mamba': MLMamba, 'emma': EMMA, 'matvlm': MaTVLM}
VISION_MODALITIES = ('rgb', 'depth')
"""Modalities whose tokens are concatenated to a visual token; a missing one is all zeros."""

MIXERS = {'mamba2': ('M', 32), 'mamba1': ('O', 16)}
"""Letter of the layers of a Mamba language model, and states of a channel."""

SIDE, TAPS = 9, 4
"""Visual tokens along a side, a multiple of 3 for EMMA; and the number of language layers that EMMA reads."""

PIXELS = 12
"""Side in pixels of the patch that EMMA's head predicts for each visual token; images are scaled to fit."""


@dataclass(frozen=True)
class TalkConfig:
    """A variant and its sizes, as a checkpoint stores them; without EMMA's training head.

    Raises:
        ValueError: an unknown variant, or sizes that do not fit each other.
    """

    # One of VARIANTS.
    variant: str
    # Connector and language model.
    model: VisualLanguageConfig

    def __post_init__(self):
        check_choice(self, {'variant': tuple(VARIANTS)})

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON values."""
        return {
            'variant': self.variant,
            'connector': asdict(self.model.connector),
            'language': asdict(self.model.language),
            **({'system': list(self.model.system)} if self.model.system else {}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> 'TalkConfig':
        """Return the config of to_dict's values.

        Raises:
            ValueError: an unknown or missing key, or a value out of range; the message names it.
        """
        wanted = {'variant', 'connector', 'language'}
        if set(values) - {'system'} != wanted:
            odd = sorted((set(values) - {'system'}) ^ wanted)[0]
            raise ValueError(
                f'the config of a vision-language model has {", ".join(sorted(wanted))}; {odd!r} is missing or unknown'
            )
        parts = {
            name: _rebuilt(kind, values[name])
            for name, kind in (('connector', ConnectorConfig), ('language', LanguageConfig))
        }
        system = values.get('system', [])
        if not isinstance(system, list) or not all(type(piece) is int for piece in system):
            raise ValueError(f'system is {system!r}; give a list of ids of word pieces')
        return cls(values['variant'], VisualLanguageConfig(**parts, system=tuple(system)))

    def build(self) -> VisualLanguageModel:
        """Return the model with random weights, as used at inference."""
        if self.variant == 'emma':
            return EMMA(emma_config(self.model), training_head=False)
        return VARIANTS[self.variant](self.model)


def kitchen_config(
    variant: str,
    *,
    d_vision: int,
    vocabulary: int,
    d: int = 256,
    layers: int = 4,
    side: int = SIDE,
    connector: str | None = None,
    scan: str = 'bidirectional',
    drop_path: float = 0.1,
    mixer: str = 'mamba2',
    share: float = 0.0,
    system: Sequence[int] = (),
) -> TalkConfig:
    """Return sizes for the simulated kitchen.

    Args:
        variant: one of VARIANTS.
        d_vision: width of the visual tokens.
        vocabulary: word pieces.
        d: width of the language model, a multiple of 64.
        layers: number of layers of the language model.
        side: visual tokens along a side.
        connector: one of connectors.KINDS; None takes that of the paper.
        scan: scan of the connectors 'basic' and 'advanced'.
        drop_path: their drop_path, 0 to 0.9.
        mixer: layers of emma's language model, one of MIXERS: 'mamba1' is that of the first EMMA.
        share: share of matvlm's attention layers that are replaced; 0 is the teacher.
        system: ids of the system message in front of the visual tokens.

    Raises:
        ValueError: sizes that do not fit each other.
    """
    if mixer not in MIXERS:
        raise ValueError(f'mixer is {mixer!r}; give {" or ".join(MIXERS)}')
    if mixer == 'mamba1' and variant != 'emma':
        raise ValueError(f'mixer is {mixer!r} and the variant {variant}; only emma was published with Mamba-1')
    published = {'ml_mamba': 'advanced', 'emma': 'mlp', 'matvlm': 'short'}
    connector_config = ConnectorConfig(
        kind=connector or published.get(variant, 'mlp'),
        d_vision=d_vision,
        d=d,
        rows=side,
        cols=side,
        scan=scan,
        drop_path=drop_path,
        N=16,
        P=64,
    )
    language = _kitchen_language(variant, vocabulary=vocabulary, d=d, layers=layers, mixer=mixer, share=share)
    return TalkConfig(variant, VisualLanguageConfig(connector_config, language, tuple(system)))


def _kitchen_language(
    variant: str, *, vocabulary: int, d: int, layers: int, mixer: str, share: float
) -> LanguageConfig:
    if variant == 'matvlm':
        language = LanguageConfig(
            name='kitchen_phi',
            vocabulary=vocabulary,
            d=d,
            schedule='T' * layers,
            heads=d // 64,
            channels=32,
            hidden=4 * d,
            norm='layer',
        )
        return replaced(language, spread(layers, share)) if share else language
    letter, states = MIXERS[mixer]
    return LanguageConfig(name='kitchen_mamba', vocabulary=vocabulary, d=d, schedule=letter * layers, N=states, P=64)


def emma_config(
    model: VisualLanguageConfig,
    *,
    fusion: bool = True,
    target: str = 'pixels',
    released_order: bool = False,
    patch: int = PIXELS,
    d_patch: int | None = None,
) -> EMMAConfig:
    """Return the config of EMMA's training head for a model.

    Args:
        model: at inference.
        fusion: read the last TAPS layers; False reads the last layer alone.
        target: 'pixels', 'patch' embeddings of the image encoder, or 'deep', its outputs: the visual tokens.
        released_order: keys stay in raster order, as in the released code.
        patch: side in pixels of the patch of a visual token.
        d_patch: width of the patch embedding; None is that of M3ET, half the width of its visual tokens.

    Raises:
        ValueError: an unknown target, or a grid that the head cannot divide.
    """
    last = len(model.language.schedule)
    taps = tuple(range(max(0, last - TAPS), last)) if fusion else (last - 1,)
    connector = model.connector
    widths = {'patch': d_patch or connector.d_vision // len(VISION_MODALITIES), 'deep': connector.d_vision}
    segment = 27 if connector.tokens % 27 == 0 else 9
    return EMMAConfig(
        model,
        AlignmentConfig(
            rows=connector.rows,
            cols=connector.cols,
            d=connector.d,
            taps=taps,
            heads=max(1, connector.d // 64),
            segment=segment,
            target=target,
            d_target=widths.get(target, 3 * patch**2),
            patch=patch,
            released_order=released_order,
            N=16,
            P=min(64, 2 * connector.d),
        ),
    )


def vision_width(config: M3ETConfig) -> int:
    """Return the width of the visual tokens of an M3ET."""
    return len(VISION_MODALITIES) * config.d


def visual_tokens(image_encoding: ImageEncoding, config: M3ETConfig, *, rows: int, cols: int) -> Tensor:
    """Return visual tokens (B, rows * cols, d_vision) in raster order: M3ET's patches averaged over areas.

    Args:
        image_encoding: encoding of whole images.
        config: config of that M3ET.
        rows: number of rows of the grid of visual tokens.
        cols: number of columns of the grid of visual tokens.
    """
    last, parts = image_encoding.stages[-1], []
    counts = [tokens.shape[1] for tokens in image_encoding.tokens.values()]
    patches = dict(zip(image_encoding.tokens, last.split(counts, 1), strict=True))
    for name in VISION_MODALITIES:
        if name not in patches:
            parts.append(last.new_zeros(len(last), rows * cols, config.d))
            continue
        grid = patches[name].transpose(1, 2).unflatten(2, (config.grid, config.grid))
        parts.append(F.adaptive_avg_pool2d(grid, (rows, cols)).flatten(2).transpose(1, 2))
    return torch.cat(parts, 2)


def read_texts(
    model: VisualLanguageModel, features: Tensor, ids: Tensor, *, keep: tuple[int, ...] = ()
) -> VisualOutput:
    """Compute logits of Q texts after each image under teacher forcing; the image is encoded once.

    Args:
        model: any variant.
        features: visual tokens (B, n, d_vision).
        ids: word pieces (B * Q, T) int64, those of the first image first; pads come last.
        keep: indices of language layers whose outputs at the visual tokens are returned.

    Returns:
        Logits (B * Q, T, V), in which position t predicts word t + 1, and hidden outputs (B, n, d) by layer.
    """
    words = model.language.embed(ids)
    visual = model.connector(features).to(words.dtype)
    system = model.system_message(len(features))
    image = torch.cat([system, visual], 1)
    _, states, hidden = model.language.layers(image, return_states=True, keep=keep)
    each = len(ids) // max(1, len(features))
    x, _, _ = model.language.layers(words, states=[repeated(state, each) for state in states])
    return VisualOutput(model.language.logits(x), {index: h[:, system.shape[1] :] for index, h in hidden.items()})


def set_trainable(model: VisualLanguageModel, *, language: bool) -> VisualLanguageModel:
    """Require gradients of everything, of the language model only if `language`; returns the model."""
    model.requires_grad_(True)
    model.language.requires_grad_(language)
    return model


def _rebuilt(kind: type, values: Any) -> Any:
    """Return a config dataclass of its stored fields."""
    if not isinstance(values, Mapping):
        raise ValueError(f'{kind.__name__} is {values!r}; give its fields')
    unknown = sorted(set(values) - {f.name for f in fields(kind)})
    if unknown:
        raise ValueError(f'{kind.__name__} has no field {unknown[0]!r}')
    return kind(**values)
