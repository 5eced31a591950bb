"""The checks a model passes before it may serve: kernels against the reference, and finite outputs on a fixed input."""

import logging

import numpy as np

from m3et_ros.data.errors import InputError
from m3et_ros.ops.dispatch import KernelChoice, describe
from m3et_ros.runtime.backends.probe import golden_frame
from m3et_ros.runtime.engine import Engine

LOG = logging.getLogger(__name__)
__all__ = ['golden_frame', 'self_test']


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
        raise InputError(
            'model_not_finite',
            f'The model {engine.model_id} gives values that are not finite on the '
            'self-test picture; its weights are damaged or the precision is too low: use float32 or '
            'another checkpoint.',
        )
    engine.reset_actions()
    return kernels
