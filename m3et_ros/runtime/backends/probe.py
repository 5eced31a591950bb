"""The fixed input on which models and runtimes are checked."""

import numpy as np

from m3et_ros.data.frame import Frame


def probe_frame(height: int = 48, width: int = 64) -> Frame:
    """Return a fixed picture with depth: colour ramps, an edge in the depth, and a hole that fills a quarter of it."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    rgb = np.stack([4 * x % 256, 5 * y % 256, (x + y) * 2 % 256], -1).astype(np.uint8)
    depth = (1 + x / width + (y > height / 2)).astype(np.float32)
    depth[: height // 2, : width // 2] = np.nan
    return Frame(rgb, depth)
