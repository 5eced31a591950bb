"""A world small enough to hold in a test: squares on a ground, their depth, labels and one question each."""

import numpy as np
import pytest
import torch

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.frame import Labels
from m3et_ros.data.sample import Sample
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.m3et.sizes import build

ANSWERS = ('left', 'right', 'yes', 'no', 'one', 'two')
QUESTION = 'where is the square?'


def sample(i):
    rng = np.random.default_rng(i)
    rgb = np.full((32, 32, 3), 60, np.uint8)
    depth = np.repeat(np.linspace(2.5, 1.5, 32, dtype=np.float32)[:, None], 32, 1)
    labels = np.zeros((8, 8), np.uint8)
    left = bool(i % 2)
    x, y = (0 if left else 16) + 4 * int(rng.integers(3)), 4 * int(rng.integers(6))
    rgb[y : y + 8, x : x + 8] = rng.integers(150, 255, 3)
    depth[y : y + 8, x : x + 8] = 1.0
    labels[y // 4 : y // 4 + 2, x // 4 : x // 4 + 2] = 1
    seen = depth.copy()
    seen[:2] = np.nan
    return Sample(rgb, seen, labels, depth, QUESTION, {'left' if left else 'right': 1.0}, 'location', key=f'toy {i}')


@pytest.fixture(scope='session')
def toys():
    """Return 24 samples."""
    return [sample(i) for i in range(24)]


@pytest.fixture(scope='session')
def tokenizer():
    return Tokenizer.train([QUESTION, *ANSWERS], vocabulary=64)


@pytest.fixture(scope='session')
def answers():
    return ANSWERS


def toy_checkpoint(model, tokenizer, classes=()):
    """Return a checkpoint of a model with the toys' answers."""
    labels = Labels(tuple(classes), ((0, 0, 0),) * len(classes), ANSWERS, (), ())
    return Checkpoint(model, tokenizer, labels, 'tiny', trained=False)


@pytest.fixture
def checkpoint_of(tokenizer):
    """Build a checkpoint of a model, with the toys' answers and perhaps classes."""
    return lambda model, classes=(): toy_checkpoint(model, tokenizer, classes)


@pytest.fixture
def tiny():
    """Build the smallest model with heads for the toys."""
    return lambda **changes: build('tiny', **{'answers': len(ANSWERS), **changes})


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
