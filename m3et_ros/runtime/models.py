"""From the `model` parameter to a checkpoint: a named size, a checkpoint folder or a Hugging Face Hub id."""

import logging
from pathlib import Path

from m3et_ros.data.checkpoint import Checkpoint, M3ETCheckpoint, load_checkpoint, random_checkpoint
from m3et_ros.data.kitchen.labels import corpus, kitchen_labels
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.registry import SIZES

LOG = logging.getLogger(__name__)
SHIPPED = Path(__file__).resolve().parents[1] / 'weights'


def open_checkpoint(name: str, *, seed: int = 0) -> Checkpoint:
    """The checkpoint called `name`.

    A named size is loaded from the weights shipped with the package, else built with random weights, which the log and
    every model_id say. Only a Hub id reaches for the network.

    Args:
        name: a key of `models.registry.SIZES`, a folder, or 'owner/name' on the Hub.
        seed: of random weights.

    Raises:
        InputError: the folder is missing or damaged.
    """
    if name not in SIZES:
        return load_checkpoint(name)
    folder = SHIPPED / f'm3et_{name}'
    if folder.is_dir():
        return load_checkpoint(folder)
    checkpoint = untrained(name, seed)
    LOG.warning('No trained weights exist for %s: using random ones (%s), so answers and reconstructions mean nothing.',
                name, checkpoint.model_id)
    return checkpoint


def untrained(size: str, seed: int) -> Checkpoint:
    """A named size with random weights, the kitchen's labels and an action head."""
    labels = kitchen_labels()
    tokenizer = Tokenizer.train(corpus(), vocabulary=SIZES[size].vocabulary)
    checkpoint = random_checkpoint(size, tokenizer, labels, seed)
    return checkpoint
