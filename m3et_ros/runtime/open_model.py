"""Checkpoints by name: a named size, a checkpoint folder, or hf:owner/name for the Hugging Face Hub."""

import difflib
import logging
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from m3et_ros.data.checkpoints import SHIPPED
from m3et_ros.data.checkpoints.image_encoders import ENCODERS, ImageEncoders, check_encoder_kind, read_encoders
from m3et_ros.data.checkpoints.m3et import Checkpoint, load_checkpoint, random_checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Labels
from m3et_ros.data.hub import HUB, HUB_ID, pull
from m3et_ros.data.kitchen.labels import corpus, kitchen_labels
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.actions.frame_token import frame_width
from m3et_ros.models.actions.mambavl import PAPER, MambaVL, MambaVLConfig
from m3et_ros.models.m3et.config import M3ETConfig
from m3et_ros.models.m3et.sizes import SIZES
from m3et_ros.runtime.model_folder import find_model

LOG = logging.getLogger(__name__)


def open_checkpoint(name: str, *, seed: int = 0) -> Checkpoint:
    """Open the checkpoint called `name`.

    A named size is loaded from the weights shipped with the package, or else built with random weights; the log and the
    model_id say so. Only hf:owner/name uses the network.

    Args:
        name: a key of `models.m3et.sizes.SIZES`, a folder, or 'hf:owner/name[@revision]' on the Hub.
        seed: seed of random weights.

    Raises:
        InputError: the folder is missing or damaged; as hub.pull.
    """
    if name.startswith(HUB):
        return load_checkpoint(pull(name))
    if name not in SIZES:
        # Path.exists raises where the system refuses a name, for example as too long.
        if not os.path.exists(name) and (folder := shipped(name)) is not None:
            return load_checkpoint(folder)
        if not os.path.exists(name):
            near = difflib.get_close_matches(name, SIZES, 1)
            hint = f'did you mean {near[0]}? Give a named size' if near else f'give one of {", ".join(SIZES)}'
            hub = f', or {HUB}{name} for the Hugging Face Hub' if HUB_ID.fullmatch(name) else ''
            raise InputError('model_missing', f'There is no model {name[:200]}; {hint}, or a checkpoint folder{hub}.')
        return load_checkpoint(name)
    folder = SHIPPED / f'm3et_{name}'
    if folder.is_dir():
        return load_checkpoint(folder)
    checkpoint = untrained(name, seed)
    LOG.warning(
        'No trained weights exist for %s: using random ones (%s), so answers and reconstructions mean nothing.',
        name,
        checkpoint.model_id,
    )
    return checkpoint


def open_encoders(names: str) -> ImageEncoders:
    """Open DINOv2 and SigLIP on the host.

    Args:
        names: two names with a comma between, DINOv2 with registers first; each is a folder as save_pretrained of
            transformers writes it, or 'hf:owner/name[@revision]'.

    Raises:
        InputError: model_config, there are not two names; as find_model and read_encoders.
    """
    both = [name.strip() for name in names.split(',')]
    if len(both) != len(ENCODERS):
        raise InputError(
            'model_config', f'{names[:200]!r} is no pair of image encoders; give DINOV2,SIGLIP with a comma between.'
        )
    folders = []
    for name, kind in zip(both, ENCODERS.values(), strict=True):
        found = find_model(name, partial(_check_encoder, kind), torch.float32)
        found.check_memory(torch.float32, torch.device('cpu'))
        folders.append(found.path)
    return read_encoders(*folders)


def _check_encoder(kind: str, name: str, config: dict[str, Any]) -> None:
    check_encoder_kind(name, config, kind)


def shipped(name: str) -> Path | None:
    """Return the folder of the shipped weights of that name, such as m3et_kitchen; None if none are."""
    folder = SHIPPED / name
    return folder if folder.parent == SHIPPED and name.startswith('m3et_') and os.path.isdir(folder) else None


def action_config(config: M3ETConfig, labels: Labels, *, paper: bool = False, **changes: Any) -> MambaVLConfig:
    """Return the config of the action head for a model and its labels.

    Args:
        config: config of the model.
        labels: verbs and nouns.
        paper: True for the published form (docs/papers.md 3), which reads all patches and is made for clips; False for
            ours, for continuous streams.
        changes: fields that differ from the defaults here.
    """
    if paper:
        changes = PAPER | {'d_in': config.d, 'patches': config.image_tokens, 'positions': config.text_length} | changes
    return replace(
        MambaVLConfig(
            d_in=frame_width(config),
            d=config.d,
            d_word=config.d,
            vocabulary=config.vocabulary,
            verbs=len(labels.verbs),
            nouns=len(labels.nouns),
            fade=8,
            hidden=2 * config.d,
            busy=config.d,
            rate_hz=2.5,
            follow=True,
        ),
        **changes,
    )


def untrained(size: str, seed: int) -> Checkpoint:
    """Return a checkpoint of a named size with random weights, the kitchen's labels and an action head."""
    labels, config = kitchen_labels(), SIZES[size]
    tokenizer = Tokenizer.train(corpus(), vocabulary=config.vocabulary)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        actions = MambaVL(action_config(config, labels))
    return random_checkpoint(size, tokenizer, labels, seed, heads={'mambavl': actions})
