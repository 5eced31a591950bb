"""MaTVLM: some of a trained Transformer's attention layers become Mamba-2, seeded from what they replace (docs/papers.md 6).

Symbols: B batch, n visual tokens (729 as published), T word pieces, d = 2560, layers 0 .. L - 1; letters of a schedule:
    T attention, S attention-shaped Mamba-2 in the same block: y = x + Mamba2(LN x) + MLP(LN x)
    features (B, n, 1152) -> Linear, GELU, Linear -> [visual tokens | words] -> layers -> logits (B, T, V)
    W_V -> x, W_K -> B, W_Q -> C, W_O -> out; norms and MLPs are the teacher's; all but mixers and connector is frozen
Two kinds of teacher: a visual language model with a Phi stack, and an all-Transformer M3ET; losses: training.distil.
A student of the first kind holds the teacher's frozen tensors themselves, no copies: two 3 B models fit where one does.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import nn

from m3et_ros.layers.attention import TransformerBlock
from m3et_ros.layers.mamba import AttentionMamba2
from m3et_ros.models.m3et.model import M3ET
from m3et_ros.models.vlm.connectors import ConnectorConfig
from m3et_ros.models.vlm.language_model import PHI2, TINY_PHI, LanguageConfig, LanguageModel
from m3et_ros.models.vlm.model import VisualLanguageConfig, VisualLanguageModel

RELEASED_EIGHTH = (0, 6, 12, 18)
"""Layers of 32 that the released 12.5 % model replaces; it stops short of the last quarter."""


def spread(layers: int, share: float) -> tuple[int, ...]:
    """Indices of round(share * layers) layers, evenly from the first: 0, 4, .. 28 for a quarter of 32.

    Raises:
        ValueError: a share that is not above 0 and at most 1, or one that comes to no layer.
    """
    if not 0 < share <= 1:
        raise ValueError(f'share is {share!r}; give a number above 0, at most 1, for example 1/4')
    count = round(share * layers)
    if not count:
        raise ValueError(f'share is {share!r}, which is less than half a layer of {layers}; give at least {1 / layers}')
    return tuple(place * layers // count for place in range(count))


class MaTVLM(VisualLanguageModel):
    """A visual language model with Phi's blocks, some or none of them with Mamba-2 for attention.

    Raises:
        ValueError: a language layer of another kind.
    """

    def __init__(self, config: VisualLanguageConfig):
        if 'M' in config.language.schedule:
            raise ValueError(f'schedule is {config.language.schedule!r}; MaTVLM is made of T and S layers only')
        super().__init__(config)

    @classmethod
    def from_teacher(cls, teacher: VisualLanguageModel, places: Sequence[int], *, seed: int = 0) -> 'MaTVLM':
        """Make a student: a connector of its own, the teacher's frozen language tensors, seeded mixers at `places`.

        Only mixers and connector want gradients; `seed` sets what attention has no counterpart of.

        Raises:
            ValueError: a place that is not an attention layer.
        """
        config = replace(teacher.config, language=replaced(teacher.config.language, places))
        with torch.device('meta'):
            student = cls(config)
        student.connector = copy.deepcopy(teacher.connector).requires_grad_(True)
        student.language = hybrid_language(teacher.language, places, seed=seed)
        return student


def replaced(config: LanguageConfig, places: Sequence[int]) -> LanguageConfig:
    """The config with S layers at `places`.

    Raises:
        ValueError: a place that is not an attention layer.
    """
    return replace(config, schedule=_letters(config.schedule, places))


def hybrid_language(teacher: LanguageModel, places: Sequence[int], *, seed: int = 0) -> LanguageModel:
    """A language model with the teacher's tensors and seeded mixers at `places`, the only ones that want gradients.

    Raises:
        ValueError: a place that is not an attention layer.
    """
    config = replaced(teacher.config, places)
    with torch.device('meta'):
        student = LanguageModel(config)
    for place, mixer in _mixers(teacher.layers, places, seed, d_conv=config.d_conv, chunk=config.chunk):
        student.layers[place].mixer = mixer
    frozen = {
        name: value
        for name, value in teacher.state_dict().items()
        if not any(name.startswith(f'layers.{place}.mixer.') for place in places)
    }
    student.load_state_dict(frozen, strict=False, assign=True)
    return freeze(student)


def hybrid_m3et(teacher: M3ET, places: Sequence[int], *, seed: int = 0) -> M3ET:
    """An M3ET with the teacher's weights, copied, and seeded mixers in the place of attention at `places`.

    Every second mixer scans backward where the config alternates directions. Only mixers want gradients.

    Raises:
        ValueError: a place that is not a Transformer layer.
    """
    config = replace(teacher.config, schedule=_letters(teacher.config.schedule, places))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = M3ET(config)
    weights = {}
    for name, value in teacher.state_dict().items():
        place = int(name.split('.')[2]) if name.startswith('encoder.layers.') else None
        if place in places:
            if '.attention.' in name:
                continue
            name = name.replace('.norm1.', '.norm.')
        weights[name] = value
    student.load_state_dict(weights, strict=False)
    student.to(next(teacher.parameters()).device)
    for place, mixer in _mixers(teacher.encoder.layers, places, seed):
        student.encoder.layers[place].mixer = mixer
    return freeze(student)


def freeze(model: nn.Module) -> nn.Module:
    """Let only the attention-shaped mixers of a model, and its connector if it has one, want gradients."""
    model.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, AttentionMamba2):
            module.requires_grad_(True)
    if isinstance(model, VisualLanguageModel):
        model.connector.requires_grad_(True)
    return model


def seeded(layer: nn.Module, **options: int) -> AttentionMamba2:
    """A mixer seeded from the attention of a causal or a Transformer block, on its device and in its dtype.

    Args:
        layer: the block.
        options: d_conv and chunk of AttentionMamba2.
    """
    if isinstance(layer, TransformerBlock):
        q, k, v = layer.attention.qkv.weight.chunk(3)
        out, heads, kv_heads = layer.attention.proj.weight, layer.attention.heads, None
    else:
        attention = layer.mixer
        q, k, v, out = (part.weight for part in (attention.q_proj, attention.k_proj, attention.v_proj, attention.dense))
        heads, kv_heads = attention.heads, attention.kv_heads
    mixer = AttentionMamba2(d=len(out), heads=heads, kv_heads=kv_heads, **options)
    return mixer.to(device=out.device, dtype=out.dtype).seed(q=q, k=k, v=v, out=out)


def _mixers(
    layers: nn.ModuleList, places: Sequence[int], seed: int, **options: int
) -> Iterator[tuple[int, AttentionMamba2]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = [(place, seeded(layers[place], **options)) for place in places]
    yield from made


def _letters(schedule: str, places: Sequence[int]) -> str:
    for place in places:
        if not 0 <= place < len(schedule) or schedule[place] != 'T':
            found = schedule[place] if 0 <= place < len(schedule) else 'not there'
            raise ValueError(f'layer {place} is {found}; give indices of attention layers (T) of {schedule}')
    return ''.join('S' if place in places else letter for place, letter in enumerate(schedule))


# TinyLLaVA-Phi-2-SigLIP-3.1B and what is made of it.
TEACHER = VisualLanguageConfig(ConnectorConfig(kind='short', d_vision=1152, d=2560, rows=27, cols=27), PHI2)
PUBLISHED = {
    share: replace(TEACHER, language=replaced(PHI2, places))
    for share, places in (('1/8', RELEASED_EIGHTH), ('1/4', spread(32, 1 / 4)), ('1/2', spread(32, 1 / 2)))
}
TINY_TEACHER = VisualLanguageConfig(ConnectorConfig(kind='short'), TINY_PHI)
