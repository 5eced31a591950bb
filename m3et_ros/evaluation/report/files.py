"""What an evaluation leaves behind: metrics.json and per_sample.csv, the same bytes for the same evaluation."""

import csv
import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from m3et_ros import __version__
from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.kitchen.cache.recipe import CacheRecipe

METRICS, PER_SAMPLE, PICTURES = 'metrics.json', 'per_sample.csv', 'pictures'


def made_by(command: str, checkpoint: Checkpoint, recipe: CacheRecipe, **settings: Any) -> dict[str, Any]:
    """Everything an evaluation depends on, no time and no place of output among it.

    Args:
        command: the command line, or whatever makes it again.
        checkpoint: what was evaluated, on its device.
        recipe: of the cache.
        settings: of the evaluation, JSON values.
    """
    return {
        'command': command,
        'settings': settings,
        'cache': {'name': recipe.name, **asdict(recipe)},
        'model': {
            'id': checkpoint.model_id,
            'trained': checkpoint.trained,
            'weights_sha256': weights_digest(checkpoint.model),
        },
        'environment': environment(next(checkpoint.model.parameters()).device),
    }


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and machine, as far as they may change a result on a device."""
    name = torch.cuda.get_device_name(device) if device.type == 'cuda' else platform.machine()
    return {
        'm3et_ros': __version__,
        'python': platform.python_version(),
        'torch': torch.__version__,
        'numpy': np.__version__,
        'opencv': cv2.__version__,
        'system': platform.system(),
        'device': f'{device.type}, {name}',
        'threads': torch.get_num_threads(),
    }


def weights_digest(model: torch.nn.Module) -> str:
    """SHA-256 over names and float32 values of all weights, by name in order: whatever file they came from."""
    digest = hashlib.sha256()
    for name, values in sorted(model.state_dict().items()):
        digest.update(name.encode() + b'\0')
        digest.update(values.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_metrics(folder: Path, document: Mapping[str, Any]) -> None:
    """Write metrics.json, keys sorted."""
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (folder / METRICS).write_text(text + '\n', encoding='utf-8')


def write_samples(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write per_sample.csv; a row may lack columns of others, which stay empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with (folder / PER_SAMPLE).open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, columns, lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)
