"""A small place: a recording of a red thing on a grey wall, and simple networks that label it."""

from dataclasses import replace

import numpy as np

from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.frame import Frame
from m3et_ros.runtime.networks.detection import Detection
from m3et_ros.runtime.networks.segmentation import Segmented
from m3et_ros.runtime.open_model import untrained

START, STEP = 1_700_000_000_000_000_000, 100_000_000
K = np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]])
HEIGHT, WIDTH = 48, 64


def place_frame(i, depth=True):
    """A wall at 2 m whose pattern moves, and in two frames of three a red box at 1 m that moves to the right."""
    rng = np.random.default_rng(i)
    rgb = np.repeat(rng.integers(60, 200, (6, 8, 1), np.uint8), 3, 2).repeat(8, 0).repeat(8, 1)
    metres = np.full((HEIGHT, WIDTH), 2, np.float32)
    metres[:, :4] = np.nan
    if i % 3:
        left = 6 + i % 40
        rgb[20:34, left : left + 12] = (200, 10, 10)
        metres[20:34, left : left + 12] = 1
    return Frame(rgb, metres if depth else None, START + i * STEP, K=K)


def write_place(path, count=36, *, depth=True):
    with BagWriter(path) as bag:
        for i in range(count):
            bag.write_frame(place_frame(i, depth))
    return path


def tiny_student():
    """A tiny model with random weights and the kitchen's labels, which says of itself that it is trained."""
    return replace(untrained('tiny', 0), trained=True)


class RedDetector:
    """Finds the box of all red pixels and calls it a wine glass."""

    model_id = 'red@1'
    names = ('wine glass', 'bed', 'qz')

    def predict(self, rgb):
        red = (rgb[..., 0] > 190) & (rgb[..., 1] < 20)
        if not red.any():
            return []
        rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
        box = float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
        return [Detection('wine glass', 0.9, box)]


class RedSegmentation:
    """Calls red pixels a cushion and all others a wall."""

    model_id = 'regions@1'
    names = ('wall', 'cushion')

    def predict(self, rgb):
        red = (rgb[..., 0] > 190) & (rgb[..., 1] < 20)
        return Segmented(red.astype(np.uint16), np.full(red.shape, 0.8, np.float32))


class FlatDepth:
    """Says 3 m everywhere."""

    model_id, metric = 'flat@1', True

    def predict(self, rgb):
        return np.full(rgb.shape[:2], 3, np.float32)
