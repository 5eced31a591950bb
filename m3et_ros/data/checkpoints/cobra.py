"""Read ML-Mamba and EMMA as released, with the two image encoders beside them (docs/released.md).

DIR/config.json            of the authors' run: model.llm_backbone_id, model.vision_backbone_id, ...
DIR/model.safetensors      latest-checkpoint.pt after `m3et convert weights`; shards and their index serve as well
DIR/tokenizer.json         of GPT-NeoX, with tokenizer_config.json
DIR/dinov2, DIR/siglip     Dinov2WithRegistersModel and SiglipVisionModel as `transformers` saves them
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from m3et_ros.data.byte_pairs import BytePairs
from m3et_ros.data.checkpoints.image_encoders import ENCODERS, read_tower
from m3et_ros.data.checkpoints.released import CONFIG, read_json, read_tensors
from m3et_ros.data.errors import InputError
from m3et_ros.models.vlm.dino_siglip import DinoSiglipTower
from m3et_ros.models.vlm.generation import Sampling
from m3et_ros.models.vlm.import_cobra import cobra_tensors, is_ml_mamba
from m3et_ros.models.vlm.import_weights import fill
from m3et_ros.models.vlm.ml_mamba import MLMamba
from m3et_ros.models.vlm.model import VisualLanguageModel

VISION = 'dinosiglip-vit-so-384px'


@dataclass(frozen=True)
class ReleasedCobra:
    """An ML-Mamba or EMMA as released, and all that is needed to ask it; models are in eval mode."""

    # 'ml_mamba' or 'emma'.
    variant: str
    model: VisualLanguageModel
    # Both image encoders.
    tower: DinoSiglipTower
    tokenizer: BytePairs
    # The stop token.
    sampling: Sampling
    # True where the language model was trained on chats with <|user|> and <|assistant|>.
    chat: bool
    # The variant followed by the name of the folder.
    model_id: str


def is_cobra(folder: str | Path) -> bool:
    """Return True if a folder holds an ML-Mamba or EMMA as released.

    Raises:
        InputError: model_config, its config.json is damaged.
    """
    path = Path(folder) / CONFIG
    return path.is_file() and 'llm_backbone_id' in _run(read_json(path))


def load_cobra(folder: str | Path) -> ReleasedCobra:
    """Read an ML-Mamba or EMMA, in the data type of its word table.

    Raises:
        InputError: model_missing (a folder, a file or `transformers`), model_truncated, model_config, model_tensor (the
            first missing, extra or misshapen tensor), tokenizer.
    """
    folder = Path(folder)
    run = _run(read_json(folder / CONFIG))
    if run.get('vision_backbone_id') != VISION or run.get('image_resize_strategy') != 'resize-naive':
        raise InputError(
            'model_config',
            f'{folder / CONFIG} has the vision {str(run.get("vision_backbone_id"))[:60]!r} and the resizing '
            f'{str(run.get("image_resize_strategy"))[:60]!r}; give a model with {VISION} and resize-naive.',
        )
    tokenizer = BytePairs.load(folder)
    if tokenizer.end is None:
        raise InputError('tokenizer', f'The tokenizer of {folder} names no eos_token; add its tokenizer_config.json.')
    tensors = read_tensors(folder)
    try:
        renamed, config = cobra_tensors(tensors)
        scans = is_ml_mamba(list(tensors))
        with torch.device('meta'):
            model = MLMamba(config) if scans else VisualLanguageModel(config)
        dtype = renamed['language.embedding.weight'].dtype
        fill(model, {name: value.to(dtype) for name, value in renamed.items()})
    except (ValueError, TypeError, ArithmeticError) as error:
        raise InputError('model_tensor', f'The model is refused: {error}.') from error
    variant = 'ml_mamba' if scans else 'emma'
    name = re.sub(r'[^A-Za-z0-9_.+-]', '_', folder.resolve().name)[:100]
    return ReleasedCobra(
        variant,
        model.eval(),
        _tower(folder, config.connector.d_vision, config.connector.rows).to(dtype),
        tokenizer,
        Sampling(stop=(tokenizer.end,)),
        scans or str(run['llm_backbone_id']).endswith('zephyr'),
        f'{variant}@{name}',
    )


def _run(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of the authors' config.json that describes the model; empty where there is none."""
    found = values.get('model')
    return found if isinstance(found, Mapping) else {}


def _tower(folder: Path, d_vision: int, side: int) -> DinoSiglipTower:
    dinov2, siglip = (folder / name for name in ENCODERS)
    tower = read_tower(dinov2, siglip)
    found = tower.dino.config.hidden_size + tower.siglip.config.hidden_size
    if found != d_vision or tower.side != side:
        raise InputError(
            'model_config',
            f'The image encoders of {folder} give {tower.side} x {tower.side} tokens of {found} values and the model '
            f'reads {side} x {side} of {d_vision}; give the encoders that it was trained on.',
        )
    return tower
