"""The self-test that a model passes before it serves: checked kernels, and finite outputs on a fixed input."""

import math
from collections.abc import Iterator

import numpy as np

from m3et_ros.data.errors import InputError
from m3et_ros.ops.dispatch import KernelChoice, describe
from m3et_ros.runtime.backends.graphs import DENSE
from m3et_ros.runtime.backends.probe import probe_frame
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.results import Ranked

QUESTION = 'What is on the table?'


def self_test(engine: Engine) -> list[KernelChoice]:
    """Check the kernels and every kind of output on the probe frame; returns the kernels in use.

    The action stream and the episode memory begin anew.

    Raises:
        InputError: an output is not finite, so the weights cannot be trusted.
    """
    kernels = describe(engine.device)
    broken = next((name for name, finite in _checks(engine) if not finite), None)
    if broken is not None:
        raise InputError(
            'model_not_finite',
            f'The model {engine.model_id} gives values that are not finite on the self-test picture ({broken}); its '
            'weights are damaged or the precision is too low: use float32 or another checkpoint.',
        )
    return kernels


def _checks(engine: Engine) -> Iterator[tuple[str, bool]]:
    """Yield each kind of output and whether it is finite."""
    view, model = engine.encode(probe_frame()), engine.checkpoint.model
    yield 'encoder', view.encoded is not None and bool(view.encoded.context.isfinite().all())
    tasks = [task for task in DENSE if task in engine.config.tasks]
    for task, decoded in engine.decode(view, tasks).items():
        yield task, bool(decoded.isfinite().all())
    if engine.trained and len(tasks) == len(DENSE):
        depth = engine.reconstruct(view, mask=False, fill='always').depth
        yield 'depth in metres', depth is not None and bool(np.isfinite(depth).any())
    if model.answer_head is not None:
        yield 'answers', _finite(engine.classify(QUESTION, [view], top_k=1))
    actions = engine.anticipate(view, horizon_s=1.0, top_k=1)
    engine.reset_actions()
    if actions is not None:
        yield 'actions', all(_finite((*found.verbs, *found.nouns)) for found in (actions.now, actions.next))
    if engine.episode_memory is not None:
        engine.episode_memory.observe(view)
        answers = engine.episode_memory.answer(QUESTION, 1)
        engine.episode_memory.reset()
        yield 'memory', _finite(answers)


def _finite(ranked: tuple[Ranked, ...]) -> bool:
    return all(math.isfinite(one.score) for one in ranked)
