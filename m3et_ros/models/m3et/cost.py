"""Parameters by part and multiply-accumulates by formula (docs/papers.md, sections 1 and 2.2).

Counted are projections, attention products, convolutions, scans (3 * d_in * N a token) and adapters; norms,
activations and softmax are left out. `tokens` are visible tokens without the global one; adapters and decoder queries
work on all tokens whatever is visible.
"""

import re

import torch
from torch import nn

from m3et_ros.models.m3et.config import IMAGE_MODALITIES, M3ETConfig
from m3et_ros.models.m3et.model import M3ET

PARTS = {
    'encoder layers': r'encoder\.layers\.',
    'final norm': r'encoder\.norm\.',
    'rgb adapter': r'adapters\.rgb\.',
    'depth adapter': r'adapters\.depth\.',
    'semseg adapter': r'adapters\.semseg\.',
    'word table': r'adapters\.text\.table\.',
    'text positions': r'adapters\.text\.positions$',
    'type embeddings': r'types$',
    'global token': r'global_embedding$',
    'decoder q, k, v': r'decoders\.\w+\.attention\.w_[qkv]\.',
    'decoder o': r'decoders\.\w+\.attention\.w_o\.',
    'decoder input norms': r'decoders\.\w+\.attention\.norm_',
    'decoder blocks': r'decoders\.\w+\.blocks\.',
    'decoder output norms': r'decoders\.\w+\.norm\.',
    'mask tokens': r'decoders\.\w+\.mask_token$',
    'semantic bias': r'decoders\.\w+\.attention\.beta$',
    'semantic gate': r'gate\.',
    'rgb output': r'decoders\.rgb\.output\.',
    'depth output': r'decoders\.depth\.output\.',
    'semseg output': r'decoders\.semseg\.output\.',
    'text output': r'decoders\.text\.output\.',
    'text output bias': r'text_bias$',
    'answer head': r'answer_head\.',
}
MULTIMAE_PARAMETERS = 97_917_072
"""MultiMAE-B as released: 133 classes, decoders for rgb, depth, semseg and standardised rgb (docs/papers.md, section 1)."""


def parameters(model: nn.Module) -> dict[str, int]:
    """Return trainable numbers by part of an M3ET, parts that it lacks left out; the values sum to the total.

    Raises:
        ValueError: a parameter belongs to no part.
    """
    counts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = next((part for part, pattern in PARTS.items() if re.match(pattern, name)), None)
        if part is None:
            raise ValueError(f'parameter {name} belongs to no part of the ledger; add a pattern to PARTS')
        counts[part] = counts.get(part, 0) + parameter.numel()
    return {part: counts[part] for part in PARTS if part in counts}


def parameters_of(config: M3ETConfig) -> dict[str, int]:
    """Return parameters(model) of a config without spending memory on weights."""
    with torch.device('meta'):
        return parameters(M3ET(config))


def mac_parts(
    config: M3ETConfig, tokens: int, *, modalities: tuple[str, ...] | None = None, tasks: tuple[str, ...] | None = None
) -> dict[str, int]:
    """Return multiply-accumulates of one sample by part: adapters, encoder, decoders, gate, answers.

    Args:
        config: the model.
        tokens: visible tokens, the global one not counted.
        modalities: adapters at work; None takes the image modalities of the config.
        tasks: decoders at work; None takes the image tasks of the config.
    """
    images = set(IMAGE_MODALITIES)
    modalities = tuple(m for m in config.modalities if m in images) if modalities is None else modalities
    tasks = tuple(t for t in config.tasks if t in images) if tasks is None else tasks
    length, values = tokens + 1, _patch_values(config)
    layers = sum(
        {'T': _transformer(length, config.d), 'M': length * _mixer(config), 'S': length * _replaced(config)}[letter]
        for letter in config.schedule
    )
    gated = config.gate and config.cross_attention
    return {
        'adapters': sum(_adapter(config, m, values['adapter'][m]) for m in modalities if m in images),
        'encoder': layers,
        'decoders': sum(_decoder(config, length, values['decoder'][task], config.token_count(task)) for task in tasks),
        'gate': sum(_gate(config, config.token_count(task)) for task in tasks) if gated else 0,
        'answers': 2 * config.d * (config.d + config.answers) if config.answers else 0,
    }


def macs(config: M3ETConfig, tokens: int) -> float:
    """Return multiply-accumulates of one masked image reconstruction with all image decoders.

    These are the figures of docs/papers.md 2.2 (4.57, 7.33 and 22.86 G for base at 98, 176 and 588 tokens), which leave
    the semantic gate out; mac_parts gives its share, which does not depend on the visible tokens.
    """
    parts = mac_parts(config, tokens)
    return float(parts['adapters'] + parts['encoder'] + parts['decoders'])


def multimae_macs(tokens: int) -> float:
    """Return multiply-accumulates of MultiMAE-B at 224 pixels with its four decoders (docs/papers.md, section 1)."""
    d, width, n, length = 768, 256, 196, tokens + 1
    adapters = n * d * (3 * 16**2 + 16**2 + 64 * 4**2)
    total = adapters + 12 * _transformer(length, d)
    for outputs in (768, 256, 133 * 16, 768):
        cross = 2 * n * width**2 + 2 * length * width**2 + 2 * n * length * width
        mlp = 8 * n * width**2
        total += length * d * width + cross + mlp + 2 * _transformer(n, width) + n * width * outputs
    return float(total)


def _patch_values(config: M3ETConfig) -> dict[str, dict[str, int]]:
    """Return numbers in and out per image patch, and out per text token."""
    pixels, cells = config.patch**2, config.semseg_patch**2
    return {
        'adapter': {'rgb': 3 * pixels, 'depth': pixels, 'semseg': config.class_width * cells},
        'decoder': {
            'rgb': 3 * pixels,
            'depth': pixels,
            'semseg': config.classes * cells,
            'text': config.d + config.d * config.vocabulary // config.d_decoder,
        },
    }


def _adapter(config: M3ETConfig, modality: str, values: int) -> int:
    """Return multiply-accumulates of an image adapter; the deep one has two steps (adapters.DeepImageAdapter)."""
    width = {'rgb': config.adapter_width, 'depth': config.adapter_width // 2}.get(modality, 0)
    return config.image_tokens * (values * width + 16 * width * config.d if width else values * config.d)


def _transformer(length: int, d: int) -> int:
    return 12 * length * d**2 + 2 * length**2 * d


def _mixer(config: M3ETConfig) -> int:
    """Return multiply-accumulates of a Mamba layer per token."""
    options, d, inner = config.mixer_options, config.d, config.d_inner
    conv = options.get('d_conv', 4)
    if config.mixer == 'mamba1':
        N, rank = options.get('N', 16), options.get('dt_rank', -(-d // 16))
        return 3 * d * inner + conv * inner + inner * (2 * rank + 2 * N) + 3 * inner * N
    N, heads, groups = options.get('N', 128), inner // options.get('P', 64), options.get('G', 1)
    width = inner + 2 * groups * N
    return d * (inner + width + heads) + conv * width + 3 * inner * N + inner * d


def _replaced(config: M3ETConfig) -> int:
    """Return multiply-accumulates per token of a block with attention-shaped Mamba-2 for attention."""
    d, heads = config.d, config.heads
    return d * (4 * d + heads) + 4 * 3 * d + 3 * d * (d // heads) + d**2 + 8 * d**2


def _decoder(config: M3ETConfig, length: int, outputs: int, n: int) -> int:
    d, width = config.d, config.d_decoder
    cross = length * 2 * d * width + 2 * n * length * width + n * width**2 if config.cross_attention else 0
    return n * d * width + cross + config.decoder_blocks * _transformer(n, width) + n * width * outputs


def _gate(config: M3ETConfig, n: int) -> int:
    """Return multiply-accumulates of the gate for n queries; the text's half of W1 is multiplied once."""
    return (n + 1) * config.d * config.d_gate + n * config.d_gate * config.d_decoder
