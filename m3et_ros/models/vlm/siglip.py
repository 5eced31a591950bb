"""SigLIP, the image encoder of the released MaTVLM, through `transformers` (docs/papers.md 6).

    pixels (B, 3, S, S) in -1..1 -> patches -> layers -> the output of one of the last layers -> (B, n, d_vision)

As released, the output before the last layer is read, without its first token: S = 384 gives 729 patches and n = 728.
SigLIP has no class token, so this drops the patch at the top left, and the connector was trained with that.

Symbols: B batch, S side of the image in pixels, p side of a patch, n visual tokens, d_vision their width.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from m3et_ros.models.config_checks import check_choice, check_divides, check_number, check_whole

STRATEGIES = ('patch', 'cls_patch')
TOWER = re.compile(r'vision_tower\._vision_tower\.(?:vision_model\.)?(.+)')
UNUSED = re.compile(r'head\..+|embeddings\.position_ids')
"""The pooling head, which no visual token comes from, and a table that is computed."""


@dataclass(frozen=True)
class SiglipConfig:
    """Sizes of a SigLIP image encoder and the tokens that are read; the defaults are those of its config.json.

    Raises:
        ValueError: a field is out of range; the message names field, value and range.
    """

    # Width d_vision.
    hidden_size: int = 768
    # Width inside the MLPs.
    intermediate_size: int = 3072
    # Layers.
    num_hidden_layers: int = 12
    # Heads; divides hidden_size.
    num_attention_heads: int = 12
    # Side S of the image in pixels.
    image_size: int = 224
    # Side p of a patch in pixels, at most S.
    patch_size: int = 16
    # Added to variances by every norm.
    layer_norm_eps: float = 1e-6
    # The output that is read: -2 is that before the last layer, 0 the patches themselves.
    layer: int = -2
    # 'patch' leaves the first token out, 'cls_patch' reads all.
    strategy: str = 'patch'

    def __post_init__(self):
        check_whole(
            self,
            {
                'hidden_size': (1, 65536),
                'intermediate_size': (1, 262_144),
                'num_hidden_layers': (1, 256),
                'num_attention_heads': (1, 1024),
                'image_size': (2, 4096),
            },
        )
        outputs = self.num_hidden_layers + 1
        check_whole(self, {'patch_size': (1, self.image_size), 'layer': (-outputs, outputs - 1)})
        check_number(self, {'layer_norm_eps': (1e-12, 0.1)})
        check_choice(self, {'strategy': STRATEGIES})
        check_divides(self, 'num_attention_heads', self.hidden_size, 'hidden_size')

    @classmethod
    def from_released(cls, values: Mapping[str, Any]) -> 'SiglipConfig':
        """Return the config of a TinyLLaVA or MaTVLM from its config.json.

        Raises:
            ValueError: another kind of encoder, a missing key, or a value out of range.
        """
        vision = values.get('vision_config')
        if not isinstance(vision, Mapping):
            raise ValueError('the config has no vision_config; give the whole config.json of the model')
        if vision.get('model_type', 'siglip_vision_model') != 'siglip_vision_model':
            raise ValueError(f'the image encoder is {vision["model_type"]!r}; give a model with siglip_vision_model')
        if vision.get('hidden_act', 'gelu_pytorch_tanh') != 'gelu_pytorch_tanh':
            raise ValueError(f'hidden_act is {vision["hidden_act"]!r}; give a SigLIP with gelu_pytorch_tanh')
        known = {f.name for f in fields(cls)} - {'layer', 'strategy'}
        return cls(
            **{name: vision[name] for name in known & set(vision)},
            layer=values.get('vision_feature_layer', -2),
            strategy=values.get('vision_feature_select_strategy', 'patch'),
        )


class SiglipTower(nn.Module):
    """The image encoder, built by `transformers`.

    Raises:
        ImportError: `transformers` is not installed.
    """

    def __init__(self, config: SiglipConfig):
        from transformers import SiglipVisionConfig, SiglipVisionModel

        super().__init__()
        self.config = config
        sizes = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in ('layer', 'strategy')}
        self.inner = SiglipVisionModel(SiglipVisionConfig(**sizes, vision_use_head=False))
        # A table that no checkpoint holds: it must have values where the model is built without any.
        places = torch.arange((config.image_size // config.patch_size) ** 2, device='cpu')
        self.inner.embeddings.register_buffer('position_ids', places[None], persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return visual tokens (B, n, d_vision) in raster order of images (B, 3, S, S) in -1..1."""
        found = self.inner(pixels, output_hidden_states=True).hidden_states[self.config.layer]
        return found[:, 1:] if self.config.strategy == 'patch' else found


def tower_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the image encoder in a TinyLLaVA or MaTVLM checkpoint to those of SiglipTower."""
    found = {match[1]: tensor for name, tensor in tensors.items() if (match := TOWER.fullmatch(name))}
    return {f'inner.{name}': tensor for name, tensor in found.items() if not UNUSED.fullmatch(name)}
