"""Checkpoints by name: a named size, a checkpoint folder or a Hugging Face Hub id."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from m3et_ros.data.checkpoints.m3et import Checkpoint, M3ETCheckpoint, load_checkpoint, random_checkpoint
from m3et_ros.data.frame import Labels
from m3et_ros.data.kitchen.labels import corpus, kitchen_labels
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.actions.frame_token import frame_width
from m3et_ros.models.actions.mambavl import MambaVL, MambaVLConfig
from m3et_ros.models.m3et.config import M3ETConfig
from m3et_ros.models.m3et.sizes import SIZES

LOG = logging.getLogger(__name__)
SHIPPED = Path(__file__).resolve().parents[1] / 'weights'


def open_checkpoint(name: str, *, seed: int = 0) -> Checkpoint:
    """Open the checkpoint called `name`.

    A named size is loaded from the weights shipped with the package, or else built with random weights; the log and the
    model_id say so. Only a Hub id uses the network.

    Args:
        name: a key of `models.m3et.sizes.SIZES`, a folder, or 'owner/name' on the Hub.
        seed: seed of random weights.

    Raises:
        InputError: the folder is missing or damaged.
    """
    if name not in SIZES:
        on_hub = name.count('/') == 1 and name[0] not in './~' and not Path(name).exists()
        return M3ETCheckpoint.from_pretrained(name, download=True).checkpoint if on_hub else load_checkpoint(name)
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


def action_config(config: M3ETConfig, labels: Labels, **changes: Any) -> MambaVLConfig:
    """Return the config of the action head for a model and its labels, for continuous streams.

    Args:
        config: config of the model.
        labels: verbs and nouns.
        changes: fields that differ from the defaults here.
    """
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
