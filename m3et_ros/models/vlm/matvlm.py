"""MaTVLM (2503.13440; docs/papers.md 6): a trained Transformer some of whose attention layers become Mamba-2.

Without softmax, attention is o_t = sum_s (q_t . k_s) v_s, and the state-space dual of Mamba-2 is
y_t = sum_s (C_t . B_s) exp(sum_r dt_r A) dt_s x_s. Hence a mixer is seeded from the attention that it replaces:

    W_V -> x, W_K -> B, W_Q -> C, W_O -> out; gate, step sizes, decays, convolution and norm start fresh

Norms and MLPs are the teacher's. Only the mixers and the connector are trained, by distillation (training.distil).

    features (B, n, 1152) -> Linear, GELU, Linear -> [visual tokens | words] -> layers -> logits (B, T, V)

Letters of a schedule: T attention, S attention-shaped Mamba-2 in the same block, y = x + Mamba2(LN x) + MLP(LN x).
The teacher is a visual language model with a Phi stack, or an all-Transformer M3ET. A student of the first kind shares
the teacher's frozen tensors, so that two models of 3 B parameters fit where one does.

Symbols: B batch, n visual tokens (729 as published), T word pieces, V vocabulary, d = 2560 width.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from m3et_ros.layers.attention import TransformerBlock
from m3et_ros.layers.causal import CausalAttention
from m3et_ros.layers.mamba import AttentionMamba2
from m3et_ros.models.m3et.model import M3ET
from m3et_ros.models.vlm.connectors import ConnectorConfig
from m3et_ros.models.vlm.language_model import PHI2, TINY_PHI, LanguageConfig, LanguageModel
from m3et_ros.models.vlm.model import VisualLanguageConfig, VisualLanguageModel

RELEASED_EIGHTH = (0, 6, 12, 18)
"""Layers of 32 that the released 12.5 % model replaces; none in the last quarter."""


SPREADS = ('even', 'first', 'middle', 'last')


def spread(layers: int, share: float, kind: str = 'even') -> tuple[int, ...]:
    """Return the indices of round(share * layers) layers: 0, 4, .. 28 for an even 1/4 of 32.

    Args:
        layers: number of layers.
        share: share of them that is replaced, above 0, at most 1.
        kind: 'even', evenly spaced from the first one (published), or side by side: the 'first' ones, those in the
            'middle', or the 'last'.

    Raises:
        ValueError: share is out of range, or rounds to no layer; an unknown kind.
    """
    if kind not in SPREADS:
        raise ValueError(f'spread is {kind!r}; give one of {", ".join(SPREADS)}')
    if not 0 < share <= 1:
        raise ValueError(f'share is {share!r}; give a number above 0, at most 1, for example 1/4')
    count = round(share * layers)
    if not count:
        raise ValueError(f'share is {share!r}, which is less than half a layer of {layers}; give at least {1 / layers}')
    if kind == 'even':
        return tuple(index * layers // count for index in range(count))
    start = {'first': 0, 'middle': (layers - count) // 2, 'last': layers - count}[kind]
    return tuple(range(start, start + count))


class MaTVLM(VisualLanguageModel):
    """A visual language model of Phi blocks, some or none of them with Mamba-2 in place of attention.

    Raises:
        ValueError: a language layer of another kind.
    """

    def __init__(self, config: VisualLanguageConfig):
        if 'M' in config.language.schedule:
            raise ValueError(f'schedule is {config.language.schedule!r}; MaTVLM has T and S layers only')
        super().__init__(config)

    @classmethod
    def from_teacher(cls, teacher: VisualLanguageModel, indices: Sequence[int], *, seed: int = 0) -> 'MaTVLM':
        """Build a student: a copy of the connector, the teacher's frozen language tensors, and seeded mixers.

        Only mixers and connector require gradients.

        Args:
            teacher: teacher with a stack of Phi blocks.
            indices: indices of the attention layers that are replaced.
            seed: seed of the parameters of a mixer that attention has no counterpart for.

        Raises:
            ValueError: an index that is not of an attention layer.
        """
        config = replace(teacher.config, language=replaced(teacher.config.language, indices))
        with torch.device('meta'):
            student = cls(config)
        student.connector = copy.deepcopy(teacher.connector).requires_grad_(True)
        student.language = hybrid_language(teacher.language, indices, seed=seed)
        return student


def replaced(config: LanguageConfig, indices: Sequence[int]) -> LanguageConfig:
    """Return the config with S layers at `indices`.

    Raises:
        ValueError: an index that is not of an attention layer.
    """
    return replace(config, schedule=_replaced_schedule(config.schedule, indices))


def hybrid_language(teacher: LanguageModel, indices: Sequence[int], *, seed: int = 0) -> LanguageModel:
    """Build a language model that shares the teacher's tensors; only its seeded mixers require gradients.

    Args:
        teacher: language model of Phi blocks.
        indices: indices of the attention layers that are replaced.
        seed: seed of the parameters of a mixer that attention has no counterpart for.

    Raises:
        ValueError: an index that is not of an attention layer.
    """
    config = replaced(teacher.config, indices)
    with torch.device('meta'):
        student = LanguageModel(config)
    mixers = _seeded_mixers(teacher.layers, indices, seed, d_conv=config.d_conv, chunk=config.chunk)
    for index, mixer in mixers.items():
        student.layers[index].mixer = mixer
    frozen = {
        name: value
        for name, value in teacher.state_dict().items()
        if not any(name.startswith(f'layers.{index}.mixer.') for index in indices)
    }
    student.load_state_dict(frozen, strict=False, assign=True)
    freeze_all_but_mixers(student)
    return student


def hybrid_m3et(teacher: M3ET, indices: Sequence[int], *, seed: int = 0) -> M3ET:
    """Build an M3ET with a copy of the teacher's weights, and seeded mixers that alone require gradients.

    Every second mixer scans backward where the config alternates directions.

    Args:
        teacher: M3ET with Transformer layers.
        indices: indices of the Transformer layers whose attention is replaced.
        seed: seed of the parameters of a mixer that attention has no counterpart for.

    Raises:
        ValueError: an index that is not of a Transformer layer.
    """
    config = replace(teacher.config, schedule=_replaced_schedule(teacher.config.schedule, indices))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = M3ET(config)
    weights = {}
    for name, value in teacher.state_dict().items():
        if name.startswith('encoder.layers.') and int(name.split('.')[2]) in indices:
            if '.attention.' in name:
                continue
            name = name.replace('.norm1.', '.norm.')
        weights[name] = value
    student.load_state_dict(weights, strict=False)
    student.to(next(teacher.parameters()).device)
    for index, mixer in _seeded_mixers(teacher.encoder.layers, indices, seed).items():
        student.encoder.layers[index].mixer = mixer
    freeze_all_but_mixers(student)
    return student


def freeze_all_but_mixers(model: nn.Module) -> None:
    """Require gradients of attention-shaped mixers alone."""
    model.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, AttentionMamba2):
            module.requires_grad_(True)


def seeded(layer: nn.Module, **options: int) -> AttentionMamba2:
    """Return a mixer seeded from the attention of a Phi or a Transformer block, on its device and in its dtype.

    Args:
        layer: the block.
        options: d_conv and chunk of AttentionMamba2.
    """
    if isinstance(layer, TransformerBlock):
        q, k, v = layer.attention.qkv.weight.chunk(3)
        out, heads, kv_heads = layer.attention.proj.weight, layer.attention.heads, layer.attention.heads
    else:
        attention = layer.mixer
        assert isinstance(attention, CausalAttention)
        q, k, v, out = (part.weight for part in (attention.q_proj, attention.k_proj, attention.v_proj, attention.dense))
        heads, kv_heads = attention.heads, attention.kv_heads
    mixer = AttentionMamba2(d=len(out), heads=heads, kv_heads=kv_heads, **options)
    return mixer.to(device=out.device, dtype=out.dtype).seed(q=q, k=k, v=v, out=out)


def _seeded_mixers(
    layers: nn.ModuleList, indices: Sequence[int], seed: int, **options: int
) -> dict[int, AttentionMamba2]:
    """Return seeded mixers by the index of their layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {index: seeded(layers[index], **options) for index in indices}


def _replaced_schedule(schedule: str, indices: Sequence[int]) -> str:
    """Return the schedule with S at `indices`."""
    for index in indices:
        found = schedule[index] if 0 <= index < len(schedule) else 'missing'
        if found != 'T':
            raise ValueError(f'layer {index} is {found}; give indices of attention layers (T) of {schedule}')
    return ''.join('S' if index in indices else letter for index, letter in enumerate(schedule))


# TinyLLaVA-Phi-2-SigLIP-3.1B and the published hybrids.
TEACHER = VisualLanguageConfig(ConnectorConfig(kind='short', d_vision=1152, d=2560, rows=27, cols=27), PHI2)
PUBLISHED = {
    share: replace(TEACHER, language=replaced(PHI2, indices))
    for share, indices in (('1/8', RELEASED_EIGHTH), ('1/4', spread(32, 1 / 4)), ('1/2', spread(32, 1 / 2)))
}
TINY_TEACHER = VisualLanguageConfig(ConnectorConfig(kind='short'), TINY_PHI)
