"""ML-Mamba, EMMA and Cobra as released, under our names: one code base, whose checkpoints hold no sizes.

    llm_backbone.[llm.]backbone...          the language model, Mamba-1 or Mamba-2
    mlp.0                                   Linear before the scans                            (ML-Mamba)
    bidirectional_mamba.layers.i.mixer      scan of the image; its second direction ends in _b (ML-Mamba)
    bidirectional_mamba.layers.i.norm, mlp  SwiGLU behind it                                   (ML-Mamba)
    projector.projector.0, 2, 4             the MLP

The image encoders, DINOv2 and SigLIP, are not part of a checkpoint. EMMA's training head is not needed and is left out.
Sizes come from the shapes of the tensors; both language models have one group of heads.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from m3et_ros.models.vlm.connectors import ConnectorConfig
from m3et_ros.models.vlm.import_weights import language_tensors
from m3et_ros.models.vlm.language_model import LanguageConfig
from m3et_ros.models.vlm.model import VisualLanguageConfig

LANGUAGE = re.compile(r'llm_backbone\.(?:llm\.)?(.+)')
SCAN = r'bidirectional_mamba\.layers\.(\d+)\.'
RULES = tuple(
    (re.compile(pattern), ours)
    for pattern, ours in (
        (r'mlp\.0\.(weight|bias)', r'connector.input.\1'),
        (SCAN + r'mixer\.(conv1d|dt_bias|A_log|D)_b((?:\.weight|\.bias)?)', r'connector.layers.\1.mixer.others.0.\2\3'),
        (SCAN + r'((?:mixer|norm|mlp)\..+)', r'connector.layers.\1.\2'),
        (r'bidirectional_mamba\.norm_f\.(weight|bias)', r'connector.norm.\1'),
        (r'projector\.projector\.(\d\.(?:weight|bias))', r'connector.projector.\1'),
    )
)
IGNORED = re.compile(
    r'vision_backbone\..+|(?:dec_block|enc2dec|norm_[1-4]|dec_norm|dec_pred|patch_embed)\..+|base_dec|dec_pos_embed'
)
"""Image encoders, and EMMA's training head."""


def is_ml_mamba(names: list[str]) -> bool:
    """Return True for the names of an ML-Mamba with its scan connector, False for those of EMMA or Cobra."""
    return any(name.startswith('bidirectional_mamba.') for name in names)


def cobra_tensors(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], VisualLanguageConfig]:
    """Return the tensors of a checkpoint under the names of VisualLanguageModel, and the config that fits them.

    Args:
        tensors: by released names, whose first part may be 'model'.

    Raises:
        ValueError: a name without a place here, or tensors without which no sizes are known.
    """
    language: dict[str, Tensor] = {}
    renamed: dict[str, Tensor] = {}
    for whole, tensor in tensors.items():
        name = whole.removeprefix('model.')
        if IGNORED.fullmatch(name):
            continue
        if match := LANGUAGE.fullmatch(name):
            language[match[1]] = tensor
        else:
            renamed[_rename(name)] = tensor
    try:
        config = VisualLanguageConfig(_connector_config(renamed), _language_config(language))
    except (KeyError, IndexError) as error:
        raise ValueError(f'the checkpoint has no tensor for {error.args[0]}; give a complete checkpoint') from None
    return renamed | {f'language.{n}': t for n, t in language_tensors(language, config.language).items()}, config


def _rename(name: str) -> str:
    for pattern, ours in RULES:
        if match := pattern.fullmatch(name):
            return match.expand(ours)
    raise ValueError(f'the checkpoint has a tensor {name}, which ML-Mamba and EMMA have no place for; remove it')


def _language_config(tensors: Mapping[str, Tensor]) -> LanguageConfig:
    table, head = tensors['backbone.embedding.weight'], tensors.get('lm_head.weight')
    tied = head is None or (head.shape == table.shape and bool((head == table).all()))
    first = 'backbone.layers.0.mixer.x_proj.weight' in tensors
    return LanguageConfig(
        name='cobra',
        vocabulary=table.shape[0],
        d=table.shape[1],
        schedule=('O' if first else 'M') * _layers(tensors, r'backbone\.layers\.(\d+)\..+'),
        tied=tied,
        **(_mamba1_sizes if first else _mamba2_sizes)(tensors, 'backbone.layers.0.mixer.'),
    )


def _connector_config(tensors: Mapping[str, Tensor]) -> ConnectorConfig:
    """Return the config of a connector; the grid of a released model is 27 x 27."""
    grid: dict[str, Any] = {'rows': 27, 'cols': 27}
    if 'connector.input.weight' not in tensors:
        first, last = tensors['connector.projector.0.weight'], tensors['connector.projector.4.weight']
        return ConnectorConfig(kind='mlp', d_vision=first.shape[1], d=last.shape[0], **grid)
    d, d_vision = tensors['connector.input.weight'].shape
    return ConnectorConfig(
        kind='advanced',
        d_vision=d_vision,
        d=d,
        layers=_layers(tensors, r'connector\.layers\.(\d+)\..+'),
        # The released code gives its two layers the rates 0 and 0 (docs/papers.md 4).
        drop_path=0.0,
        **_mamba2_sizes(tensors, 'connector.layers.0.mixer.'),
        **grid,
    )


def _layers(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """Return the number of layers whose names match a pattern with their index."""
    return 1 + max((int(match[1]) for name in tensors if (match := re.fullmatch(pattern, name))), default=-1)


def _mamba2_sizes(tensors: Mapping[str, Tensor], layer: str) -> dict[str, Any]:
    """Return the sizes of Mamba-2 in one group; `layer` begins the names of a mixer."""
    d, inner = tensors[f'{layer}out_proj.weight'].shape
    width, _, d_conv = tensors[f'{layer}conv1d.weight'].shape
    heads = tensors[f'{layer}A_log'].shape[0]
    return {'expand': inner // d, 'N': (width - inner) // 2, 'P': inner // heads, 'd_conv': d_conv, 'chunk': 256}


def _mamba1_sizes(tensors: Mapping[str, Tensor], layer: str) -> dict[str, Any]:
    """Return the sizes of Mamba-1; `layer` begins the names of a mixer."""
    d, inner = tensors[f'{layer}out_proj.weight'].shape
    d_conv, N = tensors[f'{layer}conv1d.weight'].shape[2], tensors[f'{layer}A_log'].shape[1]
    return {'expand': inner // d, 'N': N, 'd_conv': d_conv}
