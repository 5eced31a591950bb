"""Published weights under our names: Mamba-1, Mamba-2 and Phi of transformers and state-spaces, TinyLLaVA and MaTVLM.

The caller reads the tensors by name (data.checkpoints.released: safetensors). RULES translates their names; a tensor
without a counterpart here is ignored if IGNORED names it, and refused otherwise.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from m3et_ros.models.vlm.connectors import ConnectorConfig
from m3et_ros.models.vlm.language_model import LanguageConfig
from m3et_ros.models.vlm.model import VisualLanguageConfig
from m3et_ros.models.vlm.siglip import SiglipConfig

Tensors = Mapping[str, Tensor]

LAYER = r'model\.layers\.(\d+)\.'
RULES = tuple(
    (re.compile(pattern), ours)
    for pattern, ours in (
        # Mamba-1 and 2: 'embeddings' in transformers, 'embedding' in state-spaces.
        (r'backbone\.embeddings?\.weight', 'embedding.weight'),
        (r'backbone\.layers\.(\d+)\.(norm|mixer)\.(.+)', r'layers.\1.\2.\3'),
        (r'backbone\.norm_f\.weight', 'norm.weight'),
        # Phi, and MaTVLM, whose replaced layers have mamba in place of self_attn.
        (r'model\.embed_tokens\.weight', 'embedding.weight'),
        (LAYER + r'input_layernorm\.(weight|bias)', r'layers.\1.norm.\2'),
        (LAYER + r'(?:self_attn|mamba)\.(.+)', r'layers.\1.mixer.\2'),
        (LAYER + r'mlp\.(fc[12]\.(?:weight|bias))', r'layers.\1.\2'),
        (r'model\.final_layernorm\.(weight|bias)', r'norm.\1'),
        (r'lm_head\.weight', 'head.weight'),
        (r'lm_head\.bias', 'head_bias'),
    )
)
WRAPPED = re.compile(r'language_model\.(.+)')
CONNECTOR = re.compile(r'connector\._connector\.(\d+\.(?:weight|bias))')
IGNORED = re.compile(r'(?:.*\.)?rotary_emb\.inv_freq|vision_tower\..+')
"""Tables that are computed here, and the image encoder, which is not part of these models."""

# Defaults of transformers, whose config.json stores only the values that differ.
MAMBA2_DEFAULTS = {
    'num_heads': 128,
    'head_dim': 64,
    'vocab_size': 32768,
    'hidden_size': 4096,
    'state_size': 128,
    'num_hidden_layers': 64,
    'expand': 2,
    'conv_kernel': 4,
    'n_groups': 8,
    'chunk_size': 256,
    'tie_word_embeddings': False,
}
MAMBA1_DEFAULTS = {
    'vocab_size': 50280,
    'hidden_size': 768,
    'state_size': 16,
    'num_hidden_layers': 32,
    'expand': 2,
    'conv_kernel': 4,
    'time_step_rank': 'auto',
    'tie_word_embeddings': True,
}
PHI_DEFAULTS = {
    'vocab_size': 51200,
    'hidden_size': 2048,
    'intermediate_size': 8192,
    'num_hidden_layers': 24,
    'num_attention_heads': 32,
    'num_key_value_heads': 0,
    'resid_pdrop': 0.0,
    'layer_norm_eps': 1e-5,
    'partial_rotary_factor': 0.5,
    'rope_theta': 10000.0,
}


def language_tensors(tensors: Tensors, config: LanguageConfig) -> dict[str, Tensor]:
    """Rename the tensors of a language model to those of LanguageModel.

    Args:
        tensors: state dict of transformers' MambaForCausalLM, Mamba2ForCausalLM or PhiForCausalLM, or of state-spaces'.
        config: config of the model to be filled.

    Raises:
        ValueError: an unknown name, two names for one tensor, or an untied head for a tied config.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if IGNORED.fullmatch(name):
            continue
        ours = _rename(name)
        if ours in renamed:
            raise ValueError(f'the checkpoint has two tensors for {ours}, the second of them {name}; give one')
        renamed[ours] = tensor
    head = renamed.get('head.weight')
    if config.tied and head is not None:
        table = renamed.get('embedding.weight')
        if table is not None and table is not head and (table.shape != head.shape or not bool((table == head).all())):
            raise ValueError(
                'the checkpoint has a tensor lm_head.weight that differs from its word table, and the '
                'config ties them; give a config with tied = False'
            )
        del renamed['head.weight']
    return renamed


def visual_language_tensors(tensors: Tensors, config: LanguageConfig) -> dict[str, Tensor]:
    """Rename the tensors of a TinyLLaVA or MaTVLM checkpoint to those of MaTVLM.

    Raises:
        ValueError: as language_tensors.
    """
    renamed, language = {}, {}
    for name, tensor in tensors.items():
        if IGNORED.fullmatch(name):
            continue
        if match := CONNECTOR.fullmatch(name):
            renamed[f'connector.projector.{match[1]}'] = tensor
        elif match := WRAPPED.fullmatch(name):
            language[match[1]] = tensor
        else:
            raise ValueError(
                f'the checkpoint has a tensor {name}, which this model has no place for; remove it or '
                'check that the checkpoint is of this model'
            )
    return renamed | {f'language.{name}': tensor for name, tensor in language_tensors(language, config).items()}


def schedule_of(names: list[str]) -> str:
    """Return the schedule of a checkpoint by the names of its tensors: M for mixer, T for self_attn, S for mamba.

    Raises:
        ValueError: no layers, a layer without a mixer, or one with two.
    """
    found: dict[int, set[str]] = {}
    for name in names:
        match = re.search(r'layers\.(\d+)\.(mixer|self_attn|mamba)\.', name)
        if match and not IGNORED.fullmatch(name):
            found.setdefault(int(match[1]), set()).add({'mixer': 'M', 'self_attn': 'T', 'mamba': 'S'}[match[2]])
    for index in range(max(found, default=0) + 1):
        count = len(found.get(index, ()))
        if count != 1:
            raise ValueError(
                f'layer {index} of the checkpoint has {count} mixers; give a checkpoint whose layers have one each'
            )
    return ''.join(found[index].pop() for index in range(len(found)))


def fill(model: nn.Module, tensors: Tensors) -> nn.Module:
    """Load tensors under our names into a model, and return it.

    A model keeps its device and dtype; a model on the meta device takes over the tensors themselves.

    Raises:
        ValueError: a tensor is missing, extra or of another shape; the message names the first.
    """
    wanted = model.state_dict()
    for name, value in wanted.items():
        if name not in tensors:
            raise ValueError(f'the checkpoint has no tensor for {name}; give a complete checkpoint of this model')
        if tensors[name].shape != value.shape:
            raise ValueError(
                f'the checkpoint has {name} as {tuple(tensors[name].shape)} and the config asks for '
                f'{tuple(value.shape)}; give the config that the checkpoint was made with'
            )
    extra = sorted(set(tensors) - set(wanted))
    if extra:
        raise ValueError(
            f'the checkpoint has a tensor for {extra[0]}, which the config does not describe; give the '
            'config that the checkpoint was made with'
        )
    # Assigned parameters are new objects and lose the mark of those that must not decay.
    undecayed = [name for name, values in model.named_parameters() if getattr(values, '_no_weight_decay', False)]
    model.load_state_dict(tensors, assign=any(value.is_meta for value in wanted.values()))
    for name in undecayed:
        setattr(model.get_parameter(name), '_no_weight_decay', True)  # noqa: B010 - Parameter declares no such attribute
    return model


def config_from(values: Mapping[str, Any], *, name: str) -> LanguageConfig:
    """Return the config of a language model from the config.json of transformers (mamba, mamba2, phi) or state-spaces.

    Args:
        values: values of config.json.
        name: name of the model.

    Raises:
        ValueError: another kind of model, a switch that this package lacks, or a missing key.
    """
    try:
        if values.get('model_type') == 'mamba2':
            return _transformers_mamba2(MAMBA2_DEFAULTS | dict(values), name)
        if values.get('model_type') == 'mamba':
            return _transformers_mamba1(MAMBA1_DEFAULTS | dict(values), name)
        if values.get('model_type') == 'phi':
            return _transformers_phi(PHI_DEFAULTS | dict(values), name)
        if 'ssm_cfg' in values:
            return _state_spaces(values, name)
    except KeyError as error:
        raise ValueError(f'the config has no {error.args[0]}; give the whole config.json of the model') from None
    raise ValueError(f'model_type is {values.get("model_type")!r}; give a config of mamba, mamba2, phi or state-spaces')


def visual_config_from(values: Mapping[str, Any], names: list[str], *, name: str) -> VisualLanguageConfig:
    """Return the config of TinyLLaVA or MaTVLM; the names of its tensors show which layers are replaced.

    Args:
        values: values of config.json.
        names: names of the tensors.
        name: name of the model.

    Raises:
        ValueError: another kind of connector or language model, or a missing key.
    """
    _refuse(values, {'connector_type': 'mlp2x_gelu'})
    vision, text = SiglipConfig.from_released(values), values.get('text_config')
    if not isinstance(text, Mapping):
        raise ValueError('the config has no text_config; give the whole config.json of the model')
    side = vision.image_size // vision.patch_size
    language = replace(
        config_from({'model_type': 'phi'} | dict(text), name=name),
        schedule=schedule_of([found for found in names if WRAPPED.fullmatch(found)]),
    )
    connector = ConnectorConfig(kind='short', d_vision=vision.hidden_size, d=language.d, rows=side, cols=side)
    return VisualLanguageConfig(connector, language)


def _rename(name: str) -> str:
    for pattern, ours in RULES:
        if match := pattern.fullmatch(name):
            return match.expand(ours)
    raise ValueError(
        f'the checkpoint has a tensor {name}, which this model has no place for; remove it or check that '
        'the checkpoint is of this model'
    )


def _refuse(values: Mapping[str, Any], switches: Mapping[str, Any]) -> None:
    """Refuse switches set to values that this package does not implement."""
    for key, wanted in switches.items():
        if values.get(key, wanted) != wanted:
            raise ValueError(f'{key} is {values[key]!r}; this package implements {wanted!r} only')


def _transformers_mamba2(values: Mapping[str, Any], name: str) -> LanguageConfig:
    _refuse(values, {'use_bias': False, 'use_conv_bias': True, 'hidden_act': 'silu', 'layer_norm_epsilon': 1e-5})
    low, high = values.get('time_step_limit') or (0.0, float('inf'))
    if isinstance(high, Mapping):  # transformers 5 writes infinity, which JSON lacks, as {'__float__': 'Infinity'}
        high = high.get('__float__', 0)
    if low != 0 or float(high) != float('inf'):
        raise ValueError(f'time_step_limit is {[low, high]}; this package implements no limits of the step size')
    return LanguageConfig(
        name=name,
        vocabulary=values['vocab_size'],
        d=values['hidden_size'],
        schedule='M' * values['num_hidden_layers'],
        expand=int(values['expand']),
        N=values['state_size'],
        P=values['head_dim'],
        G=values['n_groups'],
        d_conv=values['conv_kernel'],
        chunk=values['chunk_size'],
        tied=values['tie_word_embeddings'],
    )


def _transformers_mamba1(values: Mapping[str, Any], name: str) -> LanguageConfig:
    _refuse(values, {'use_bias': False, 'use_conv_bias': True, 'hidden_act': 'silu', 'layer_norm_epsilon': 1e-5})
    d, rank = values['hidden_size'], values['time_step_rank']
    if rank not in ('auto', math.ceil(d / 16)):
        raise ValueError(
            f'time_step_rank is {rank!r}; this package implements {math.ceil(d / 16)}, a 16th of the width'
        )
    return LanguageConfig(
        name=name,
        vocabulary=values['vocab_size'],
        d=d,
        schedule='O' * values['num_hidden_layers'],
        expand=int(values['expand']),
        N=values['state_size'],
        d_conv=values['conv_kernel'],
        tied=values['tie_word_embeddings'],
    )


def _transformers_phi(values: Mapping[str, Any], name: str) -> LanguageConfig:
    _refuse(
        values,
        {
            'qk_layernorm': False,
            'hidden_act': 'gelu_new',
            'tie_word_embeddings': False,
            'embd_pdrop': 0.0,
            'attention_dropout': 0.0,
        },
    )
    rope = values.get('rope_parameters') or {}
    _refuse(rope, {'rope_type': 'default'})
    share = rope.get('partial_rotary_factor', values['partial_rotary_factor'])
    d, heads = values['hidden_size'], values['num_attention_heads']
    return LanguageConfig(
        name=name,
        vocabulary=values['vocab_size'],
        d=d,
        schedule='T' * values['num_hidden_layers'],
        heads=heads,
        kv_heads=values['num_key_value_heads'] or 0,
        channels=int(d // heads * share),
        base=float(rope.get('rope_theta', values['rope_theta'])),
        hidden=values['intermediate_size'],
        dropout=values['resid_pdrop'],
        norm='layer',
        eps=values['layer_norm_eps'],
        tied=False,
        head_bias=True,
    )


def _state_spaces(values: Mapping[str, Any], name: str) -> LanguageConfig:
    options = values['ssm_cfg']
    first = options.get('layer', 'Mamba1') == 'Mamba1'
    known = {'rmsnorm': True, 'bias': False, 'conv_bias': True, 'D_has_hdim': False}
    _refuse(options, known | ({'dt_rank': 'auto'} if first else {'layer': 'Mamba2'}))
    _refuse(values, {'rms_norm': True, 'attn_layer_idx': [], 'd_intermediate': 0})
    # The authors' programs fill up to 8 unless the config says otherwise.
    multiple = values.get('pad_vocab_size_multiple', 8)
    return LanguageConfig(
        name=name,
        vocabulary=-(-values['vocab_size'] // multiple) * multiple,
        d=values['d_model'],
        schedule=('O' if first else 'M') * values['n_layer'],
        expand=options.get('expand', 2),
        N=options.get('d_state', 16 if first else 128),
        P=options.get('headdim', 64),
        G=options.get('ngroups', 1),
        d_conv=options.get('d_conv', 4),
        chunk=options.get('chunk_size', 256),
        tied=values.get('tie_embeddings', True),
    )
