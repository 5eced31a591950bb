"""Write metrics.json and per_sample.csv, the same bytes for the same evaluation, and describe what it depends on.

A name of a file that is not UTF-8 is written with escapes, which JSON readers undo.
"""

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
from m3et_ros.data.bags.reader import is_recording
from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.recipe import CacheRecipe

METRICS, PER_SAMPLE, PICTURES = 'metrics.json', 'per_sample.csv', 'pictures'
FORMULA = frozenset('=+-@\t\r\n')


def made_by(command: str, checkpoint: Checkpoint, recipe: CacheRecipe, **settings: Any) -> dict[str, Any]:
    """Describe everything that an evaluation depends on, without times and without the output folder.

    Args:
        command: command line that repeats the evaluation.
        checkpoint: evaluated checkpoint, on its device.
        recipe: recipe of the cache.
        **settings: settings of the evaluation, JSON values.
    """
    model = {
        'id': checkpoint.model_id,
        'trained': checkpoint.trained,
        'weights_sha256': weights_digest(checkpoint.model),
    }
    return on_cache(command, recipe, model, environment(next(checkpoint.model.parameters()).device), settings)


def on_cache(
    command: str,
    recipe: CacheRecipe,
    model: Mapping[str, Any],
    environment: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Describe an evaluation of any model on a cache; the arguments are JSON values, see made_by."""
    return {
        'command': command,
        'settings': settings,
        'cache': {'name': recipe.name, **asdict(recipe)},
        'model': model,
        'environment': environment,
    }


def environment(device: torch.device) -> dict[str, Any]:
    """Return the versions and the machine, as far as they may change a result on a device."""
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
    """Return the SHA-256 over names and float32 values of all weights in the order of names.

    The digest does not depend on the file format of the weights.
    """
    digest = hashlib.sha256()
    for name, values in sorted(model.state_dict().items()):
        digest.update(name.encode() + b'\0')
        digest.update(values.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def bag_files(bag: Path) -> dict[str, str]:
    """Return file name to SHA-256 of the files of a bag.

    Args:
        bag: rosbag2 folder, .mcap or .db3 file.

    Raises:
        InputError: 'bag_missing' where a file cannot be read.
    """
    files = [bag]
    if bag.is_dir():
        files = sorted(path for path in bag.iterdir() if is_recording(path) or path.name == 'metadata.yaml')
    digests = {}
    for path in files:
        try:
            with path.open('rb') as file:
                digests[path.name] = hashlib.file_digest(file, 'sha256').hexdigest()
        except OSError as error:
            raise InputError(
                'bag_missing', f'{path} cannot be read ({error.strerror}); give a rosbag2 folder, .mcap or .db3 file'
            ) from error
    return digests


def write_metrics(folder: Path, document: Mapping[str, Any]) -> None:
    """Write metrics.json with sorted keys.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (folder / METRICS).write_text(text + '\n', encoding='utf-8', errors='backslashreplace')


def write_samples(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write per_sample.csv; columns that a row lacks stay empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with (folder / PER_SAMPLE).open('w', newline='', encoding='utf-8', errors='backslashreplace') as file:
        writer = csv.DictWriter(file, columns, lineterminator='\n')
        writer.writeheader()
        writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in rows)


def csv_cell(value: Any) -> Any:
    """Return a value for a CSV file that a spreadsheet will not take for a formula.

    A text that begins with one of = + - @ or a control character gets an apostrophe in front, which spreadsheets hide.
    """
    return f"'{value}" if isinstance(value, str) and value and value[0] in FORMULA else value
