"""The checks a model passes before it may serve: kernels against the reference, and finite outputs on a fixed input."""

import logging

import numpy as np

from m3et_ros.data.errors import InputError
from m3et_ros.data.types import Frame
from m3et_ros.ops.dispatch import KernelChoice, describe
from m3et_ros.runtime.engine import Engine

LOG = logging.getLogger(__name__)


def golden_frame(height: int = 48, width: int = 64) -> Frame:
    """A fixed picture with depth: ramps, an edge and a hole."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    rgb = np.stack([4 * x % 256, 5 * y % 256, (x + y) * 2 % 256], -1).astype(np.uint8)
    depth = (1 + x / width + (y > height / 2)).astype(np.float32)
    depth[:4, :4] = np.nan
    return Frame(rgb, depth)


def self_test(engine: Engine) -> list[KernelChoice]:
    """Check kernels and one whole pass; the kernels in use.

    Raises:
        InputError: an output of the model is not finite, so its weights cannot be trusted.
    """
    kernels = describe(engine.device)
    view = engine.encode(golden_frame())
    result = engine.reconstruct(view)
    tokens = view.encoded.stages[-1]
    if not bool(tokens.isfinite().all()) or (engine.trained and not np.isfinite(result.depth).any()):
        raise InputError('model_not_finite', f'The model {engine.model_id} gives values that are not finite on the '
                         'self-test picture; its weights are damaged or the precision is too low: use float32 or '
                         'another checkpoint.')
    engine.reset_actions()
    return kernels
