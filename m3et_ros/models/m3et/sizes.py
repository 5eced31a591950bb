"""Named sizes of M3ET, and the function that builds one."""

from dataclasses import replace
from typing import Any

import torch

from m3et_ros.models.m3et.config import M3ETConfig
from m3et_ros.models.m3et.model import M3ET

BASE = M3ETConfig(name='base')
BASE_SSD = replace(BASE, name='base_ssd', mixer='mamba2', mixer_options={'N': 64, 'P': 64})
# MultiMAE as released has 97,917,072 parameters, so -66.63 % leaves at most 32,674,926 for the same work: the three
# image adapters, the encoder and the three image decoders. The widest model with heads of 64 and 32 channels, a gate
# twice as wide as the decoder and the Mamba-2 of base_ssd below that line has d = 704 and d' = 192: 32,495,592.
COMPACT = replace(BASE_SSD, name='compact', d=704, heads=11, d_decoder=192, decoder_heads=6, d_gate=384)
# 112 pixels as 14 x 14 patches: as many tokens, 196, as at 224 pixels and patch 16, but a small thing of a kitchen
# fills a patch instead of a corner of one. Each Mamba layer comes before a Transformer block, so that attention
# compares what a scan has gathered. The inner width of Mamba is d, because T has the MLP. Classes and answers are the
# kitchen's.
KITCHEN = M3ETConfig(
    name='kitchen',
    image_size=112,
    patch=8,
    d=192,
    adapter_width=32,
    schedule='MTMT',
    stages=2,
    heads=3,
    mixer='mamba2',
    mixer_options={'N': 64, 'P': 64, 'expand': 1},
    d_decoder=80,
    decoder_heads=4,
    d_gate=48,
    vocabulary=512,
    classes=47,
    class_width=16,
    answers=353,
    depth_norm='fixed',
    depth_mean=1.7,
    depth_std=0.8,
)
# Four times the pixels of KITCHEN for as many tokens: a stem of convolutions reads them, depth says where it was
# measured, and label maps have twice the side. 'not in view' is one more answer.
# Decoders ask with what the encoder made of a place, as MultiMAE's do: it costs nothing (docs/performance.md).
# Words read out where they attend, and answers add up parts, of which the colours are read from what is attended to.
KITCHEN2 = replace(
    KITCHEN,
    name='kitchen2',
    image_size=224,
    patch=16,
    stem='conv',
    adapter_width=16,
    depth_validity=True,
    answers=354,
    places=True,
    answer_parts=152,
    look_parts=11,
    decoder_queries='encoded',
    context_positions=True,
    cross_mlp=True,
)
# Fields that make decoders MultiMAE's, except that W_q and W_k, W_v project apart (docs/papers.md 2.3 step 8).
MULTIMAE_DECODERS: dict[str, Any] = {
    'decoder_blocks': 2,
    'decoder_queries': 'encoded',
    'context_positions': True,
    'cross_mlp': True,
    'semantic_bias': False,
    'gate': False,
}
# The baseline of KITCHEN: MultiMAE's 12 Transformer blocks and its decoders at the same width, for the same tasks.
# Adapters, heads, data and steps are equal.
KITCHEN_TWIN = replace(KITCHEN, name='kitchen_twin', schedule='T' * 12, **MULTIMAE_DECODERS)
TINY = M3ETConfig(
    name='tiny',
    image_size=32,
    d=32,
    heads=2,
    mixer='mamba2',
    mixer_options={'N': 8, 'P': 16, 'chunk': 8},
    d_decoder=16,
    decoder_heads=2,
    d_gate=32,
    vocabulary=64,
    text_length=12,
    classes=5,
    class_width=8,
    answers=6,
)

SIZES: dict[str, M3ETConfig] = {
    config.name: config for config in (BASE, BASE_SSD, COMPACT, KITCHEN, KITCHEN2, KITCHEN_TWIN, TINY)
}


def build(name_or_config: str | M3ETConfig, *, seed: int = 0, **overrides) -> M3ET:
    """Build a model with random weights that depend on the seed alone; the global generator does not change.

    Args:
        name_or_config: a name of SIZES, or a config.
        seed: seed of the weights.
        overrides: fields of the config to replace.

    Raises:
        ValueError: the name is unknown, or a field is out of range.
    """
    config = name_or_config
    if isinstance(config, str):
        if config not in SIZES:
            raise ValueError(f'model size {config!r} is unknown; give one of {", ".join(SIZES)}')
        config = SIZES[config]
    config = replace(config, **overrides)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return M3ET(config)
