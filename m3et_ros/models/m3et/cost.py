"""Parameters by part, and multiply-accumulates by formula (docs/papers.md 1 and 2.2).

Multiply-accumulates are those of projections, attention products, convolutions, scans (3 * d_in * N per token) and
adapters; norms, activations and softmax are left out. `tokens` are visible tokens without the global one. Adapters and
decoder queries cost all tokens, visible or not.
"""

import re

import torch
from torch import nn

from m3et_ros.models.m3et.answers import PRODUCTS
from m3et_ros.models.m3et.config import IMAGE_MODALITIES, M3ETConfig
from m3et_ros.models.m3et.model import M3ET
from m3et_ros.models.m3et.readout import PLACE, SLOTS

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
    'unmeasured token': r'unmeasured$',
    'decoder q, k, v': r'decoders\.\w+\.attention\.w_[qkv]\.',
    'decoder o': r'decoders\.\w+\.attention\.w_o\.',
    'decoder input norms': r'decoders\.\w+\.attention\.norm_',
    'decoder context types': r'decoders\.\w+\.context_types$',
    'decoder cross MLPs': r'decoders\.\w+\.cross_mlp\.',
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
    'read-out': r'readout\.',
}
MULTIMAE_PARAMETERS = 97_917_072
"""MultiMAE-B as released: 133 classes, decoders for rgb, depth, semseg and standardised rgb (docs/papers.md 1)."""


def parameters(model: nn.Module) -> dict[str, int]:
    """Return the trainable parameters of an M3ET by part, without parts that it lacks; the values sum to the total.

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
    """Return parameters(model) of a config, without memory for weights."""
    with torch.device('meta'):
        return parameters(M3ET(config))


def mac_parts(
    config: M3ETConfig, tokens: int, *, modalities: tuple[str, ...] | None = None, tasks: tuple[str, ...] | None = None
) -> dict[str, int]:
    """Return the multiply-accumulates of one sample by part: adapters, encoder, decoders, gate, answers.

    Args:
        config: the model.
        tokens: visible tokens, without the global one.
        modalities: adapters in use; None = the image modalities of the config.
        tasks: decoders in use; None = the image tasks of the config.
    """
    if modalities is None:
        modalities = config.modalities
    if tasks is None:
        tasks = tuple(task for task in config.tasks if task in IMAGE_MODALITIES)
    length = tokens + 1
    layer = {'T': _transformer(length, config.d), 'M': length * _mixer(config), 'S': length * _replaced(config)}
    parts = {
        'adapters': sum(_adapter(config, m) for m in modalities if m in IMAGE_MODALITIES),
        'encoder': sum(layer[letter] for letter in config.schedule),
        'decoders': sum(_decoder(config, length, task) for task in tasks),
        'gate': 0,
        'answers': 0,
    }
    if config.gate and config.cross_attention:
        # The text's half of W1 is multiplied once, the other half once per query.
        queries = [config.token_count(task) for task in tasks]
        parts['gate'] = sum((n + 1) * config.d * config.d_gate + n * config.d_gate * config.d_decoder for n in queries)
    if config.answers:
        parts['answers'] = _answers(config, tokens)
    return parts


def macs(config: M3ETConfig, tokens: int) -> float:
    """Return the multiply-accumulates of one masked image reconstruction with all image decoders.

    These are the figures of docs/papers.md 2.2: 4.57, 7.33 and 22.86 G for base at 98, 176 and 588 tokens. They leave
    out the semantic gate, whose share in mac_parts does not depend on the visible tokens.
    """
    parts = mac_parts(config, tokens)
    return float(parts['adapters'] + parts['encoder'] + parts['decoders'])


def multimae_macs(tokens: int) -> float:
    """Return the multiply-accumulates of MultiMAE-B at 224 pixels with its four decoders (docs/papers.md 1)."""
    d, width, n, length = 768, 256, 196, tokens + 1
    adapters = n * d * (3 * 16**2 + 16**2 + 64 * 4**2)
    total = adapters + 12 * _transformer(length, d)
    for outputs in (768, 256, 133 * 16, 768):
        cross = 2 * n * width**2 + 2 * length * width**2 + 2 * n * length * width
        mlp = 8 * n * width**2
        total += length * d * width + cross + mlp + 2 * _transformer(n, width) + n * width * outputs
    return float(total)


def _adapter(config: M3ETConfig, modality: str) -> int:
    """Return the multiply-accumulates of an image adapter; the deep one has two steps (adapters.DeepImageAdapter)."""
    if modality == 'semseg':
        return config.image_tokens * config.class_width * config.semseg_patch**2 * config.d
    channels, width = config.image_channels[modality], config.adapter_width
    width = width if modality == 'rgb' else width // 2
    if config.stem == 'conv':
        return _conv_stem(config, channels, width)
    values = channels * config.patch**2
    if not width:
        return config.image_tokens * values * config.d
    return config.image_tokens * (values * width + 16 * width * config.d)


def _answers(config: M3ETConfig, tokens: int) -> int:
    """Return the multiply-accumulates of the answer head, and of the read-out for the global token alone."""
    d, parts, looks = config.d, config.answer_parts, config.look_parts
    if not config.places:
        return 2 * d * (d + config.answers)
    outputs = parts - looks if parts else config.answers
    numbers = (SLOTS + 1) * PLACE
    total = 2 * d * (d + numbers + PRODUCTS + outputs) + PRODUCTS * (d + numbers) + config.answers * parts
    total += config.schedule.count('T') * ((d + tokens) * d // config.heads + 6 * tokens + PLACE * d)
    if looks:
        total += 2 * tokens * d + d * (d + 2 * looks) + 2 * PLACE
    return total


def _conv_stem(config: M3ETConfig, channels: int, width: int) -> int:
    """Return the multiply-accumulates of a stem of convolutions (adapters.ConvStem)."""
    total, side = 0, config.image_size
    while side > config.grid:
        side //= 2
        total += side**2 * 9 * channels * width
        channels, width = width, 2 * width
    return total + config.image_tokens * channels * config.d


def _transformer(length: int, d: int) -> int:
    """Return the multiply-accumulates of a Transformer block."""
    return 12 * length * d**2 + 2 * length**2 * d


def _mixer(config: M3ETConfig) -> int:
    """Return the multiply-accumulates of a Mamba layer per token."""
    options, d, inner = config.mixer_options, config.d, config.d_inner
    conv = options.get('d_conv', 4)
    if config.mixer == 'mamba1':
        N, rank = options.get('N', 16), options.get('dt_rank', -(-d // 16))
        return 3 * d * inner + conv * inner + inner * (2 * rank + 2 * N) + 3 * inner * N
    N, heads, groups = options.get('N', 128), inner // options.get('P', 64), options.get('G', 1)
    width = inner + 2 * groups * N
    return d * (inner + width + heads) + conv * width + 3 * inner * N + inner * d


def _replaced(config: M3ETConfig) -> int:
    """Return the multiply-accumulates per token of a block with attention-shaped Mamba-2 in the place of attention."""
    d, heads = config.d, config.heads
    return d * (4 * d + heads) + 4 * 3 * d + 3 * d * (d // heads) + d**2 + 8 * d**2


def _decoder(config: M3ETConfig, length: int, task: str) -> int:
    """Return the multiply-accumulates of a decoder, for `length` tokens of the encoder."""
    d, width, n, pixels = config.d, config.d_decoder, config.token_count(task), config.patch**2
    outputs = {
        'rgb': 3 * pixels,
        'depth': pixels,
        'semseg': config.classes * config.semseg_patch**2,
        'text': d + d * config.vocabulary // width,
    }
    total = n * d * width + config.decoder_blocks * _transformer(n, width) + n * width * outputs[task]
    if config.cross_mlp:
        total += 8 * n * width**2
    if config.cross_attention:
        total += length * 2 * d * width + 2 * n * length * width + n * width**2
    return total
