"""Tiny folders laid out as ML-Mamba's and EMMA's authors released theirs, after `m3et convert weights`."""

import json
from pathlib import Path

import torch
from released_folder import write_tokenizer
from released_names import mamba_tensors
from safetensors.torch import save_file
from transformers import (
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    MambaConfig,
    MambaForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from m3et_ros.models.vlm.language_model import LanguageConfig

MAMBA2 = LanguageConfig(d=32, schedule='MM', N=8, P=8, vocabulary=336)
DINO = Dinov2WithRegistersConfig(
    hidden_size=12, num_hidden_layers=3, num_attention_heads=2, image_size=56, patch_size=14, mlp_ratio=2
)
SIGLIP = SiglipVisionConfig(
    hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, image_size=384, patch_size=14
)


def projector(inputs: int, d: int = 32) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the MLP."""
    widths = {0: (4 * inputs, inputs), 2: (d, 4 * inputs), 4: (d, d)}
    weights = {f'projector.projector.{index}.weight': shape for index, shape in widths.items()}
    return weights | {f'projector.projector.{index}.bias': shape[:1] for index, shape in widths.items()}


def ml_mamba_tensors() -> dict[str, torch.Tensor]:
    """Random tensors under the names of ML-Mamba: scans of width 32, 2 layers."""
    torch.manual_seed(0)
    d, inner, heads, wide = 32, 64, 8, 64 + 2 * 8
    shapes: dict[str, tuple[int, ...]] = {'mlp.0.weight': (d, 28), 'mlp.0.bias': (d,)} | projector(d)
    shapes |= {f'bidirectional_mamba.norm_f.{kind}': (d,) for kind in ('weight', 'bias')}
    for layer in range(2):
        mixer = {'in_proj.weight': (inner + wide + heads, d), 'norm.weight': (inner,), 'out_proj.weight': (d, inner)}
        for end in ('', '_b'):
            mixer |= {f'conv1d{end}.weight': (wide, 1, 4), f'conv1d{end}.bias': (wide,)}
            mixer |= {f'{name}{end}': (heads,) for name in ('dt_bias', 'A_log', 'D')}
        rest = {'norm.weight': (d,), 'norm.bias': (d,)}
        rest |= {f'mlp.w{index}.{kind}': (d, d) if kind == 'weight' else (d,) for index in (1, 2, 3) for kind in KINDS}
        rest |= {f'mixer.{name}': shape for name, shape in mixer.items()}
        shapes |= {f'bidirectional_mamba.layers.{layer}.{name}': shape for name, shape in rest.items()}
    language = {f'llm_backbone.{name}': 0.2 * value for name, value in mamba_tensors(MAMBA2).items()}
    return {name: 0.2 * torch.randn(shape) for name, shape in shapes.items()} | language


KINDS = ('weight', 'bias')


def emma_tensors() -> dict[str, torch.Tensor]:
    """A Mamba-1 of transformers under the names of EMMA, and a random projector."""
    torch.manual_seed(0)
    mamba = MambaForCausalLM(MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=336)).state_dict()
    language = {
        f'llm_backbone.llm.{name.replace("embeddings", "embedding")}': value.clone() for name, value in mamba.items()
    }
    return language | {name: 0.2 * torch.randn(shape) for name, shape in projector(28).items()}


def cobra_folder(folder: Path, tensors: dict[str, torch.Tensor], backbone: str) -> Path:
    """Write the folder with both image encoders."""
    folder.mkdir(parents=True)
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, folder / 'model.safetensors')
    run = {
        'arch_specifier': 'no-align+fused-gelu-mlp',
        'image_resize_strategy': 'resize-naive',
        'llm_backbone_id': backbone,
        'vision_backbone_id': 'dinosiglip-vit-so-384px',
    }
    (folder / 'config.json').write_text(json.dumps({'model': run, 'seed': 7}))
    write_tokenizer(folder)
    encoder_folders(folder)
    return folder


def encoder_folders(folder: Path) -> str:
    """Write both image encoders into a folder, and return them as --vision takes them."""
    torch.manual_seed(1)
    Dinov2WithRegistersModel(DINO).save_pretrained(folder / 'dinov2')
    SiglipVisionModel(SIGLIP).save_pretrained(folder / 'siglip')
    return f'{folder / "dinov2"},{folder / "siglip"}'
