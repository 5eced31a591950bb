"""Random tensors under the names and shapes of released checkpoints, for tests of several files."""

import torch

from m3et_ros.models.vlm.language_model import LanguageConfig


def mamba_tensors(config: LanguageConfig) -> dict[str, torch.Tensor]:
    """Random tensors under the names of state-spaces' Mamba-2 checkpoints."""
    d, inner, heads = config.d, config.expand * config.d, config.expand * config.d // config.P
    wide = inner + 2 * config.G * config.N
    shapes = {'backbone.embedding.weight': (config.vocabulary, d), 'backbone.norm_f.weight': (d,)}
    for layer in range(len(config.schedule)):
        shapes |= {
            f'backbone.layers.{layer}.{name}': shape
            for name, shape in {
                'norm.weight': (d,),
                'mixer.dt_bias': (heads,),
                'mixer.A_log': (heads,),
                'mixer.D': (heads,),
                'mixer.in_proj.weight': (inner + wide + heads, d),
                'mixer.conv1d.weight': (wide, 1, config.d_conv),
                'mixer.conv1d.bias': (wide,),
                'mixer.norm.weight': (inner,),
                'mixer.out_proj.weight': (d, inner),
            }.items()
        }
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    return tensors | {'lm_head.weight': tensors['backbone.embedding.weight']}


def matvlm_tensors(config: LanguageConfig, d_vision: int) -> dict[str, torch.Tensor]:
    """Random tensors under the names of MaTVLM checkpoints (TinyLLaVA with mamba in some layers)."""
    d, hidden, heads = config.d, config.hidden, config.heads
    attention = {
        f'self_attn.{part}.{kind}': (d, d) if kind == 'weight' else (d,)
        for part in ('q_proj', 'k_proj', 'v_proj', 'dense')
        for kind in ('weight', 'bias')
    }
    mamba = {
        'mamba.in_proj.weight': (4 * d + heads, d),
        'mamba.conv1d.weight': (3 * d, 1, 4),
        'mamba.conv1d.bias': (3 * d,),
        'mamba.dt_bias': (heads,),
        'mamba.A_log': (heads,),
        'mamba.D': (heads,),
        'mamba.norm.weight': (d,),
        'mamba.out_proj.weight': (d, d),
    }
    rest = {
        'input_layernorm.weight': (d,),
        'input_layernorm.bias': (d,),
        'mlp.fc1.weight': (hidden, d),
        'mlp.fc1.bias': (hidden,),
        'mlp.fc2.weight': (d, hidden),
        'mlp.fc2.bias': (d,),
    }
    shapes = {
        'model.embed_tokens.weight': (config.vocabulary, d),
        'model.final_layernorm.weight': (d,),
        'model.final_layernorm.bias': (d,),
        'lm_head.weight': (config.vocabulary, d),
        'lm_head.bias': (config.vocabulary,),
    }
    for place, letter in enumerate(config.schedule):
        shapes |= {
            f'model.layers.{place}.{name}': shape
            for name, shape in (rest | (mamba if letter == 'S' else attention)).items()
        }
    shapes = {f'language_model.{name}': shape for name, shape in shapes.items()}
    shapes |= {
        'connector._connector.0.weight': (d, d_vision),
        'connector._connector.0.bias': (d,),
        'connector._connector.2.weight': (d, d),
        'connector._connector.2.bias': (d,),
        'vision_tower._vision_tower.vision_model.embeddings.patch_embedding.weight': (8, 3, 2, 2),
    }
    return {name: torch.randn(shape, device='meta' if d > 1000 else 'cpu') for name, shape in shapes.items()}
