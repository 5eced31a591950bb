"""A small cache of test kitchens, a small model with their labels, and a finished run of actions in recordings."""

import numpy as np
import pytest
from hypothesis import settings

from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.epic.annotations import NO_CLASS, Annotations, Segment
from m3et_ros.data.frame import Frame
from m3et_ros.data.progress import no_progress
from m3et_ros.evaluation.jobs import PARTS, run_jobs
from m3et_ros.evaluation.tasks.actions_in_bags import ActionJobRunner, ActionTask, match_segments
from m3et_ros.evaluation.tasks.actions_results import ActionResults
from m3et_ros.runtime.open_model import untrained

# No test has a deadline, because other processes share the machine.
settings.register_profile('no_clock', deadline=None)
settings.load_profile('no_clock')


@pytest.fixture(scope='session')
def cache(tmp_path_factory):
    """Three ray-cast test kitchens of 32 pixels, six frames each."""
    pytest.importorskip('mujoco')
    from m3et_ros.data.kitchen.cache.generate import generate

    return generate(
        tmp_path_factory.mktemp('caches'),
        seeds=range(20_003, 20_006),
        size=32,
        stride=25,
        frames=6,
        backend='raycast',
        workers=0,
        progress=False,
    )


@pytest.fixture
def tiny():
    """A new checkpoint of the smallest size with random weights for each test."""
    return untrained('tiny', 0)


@pytest.fixture(scope='session')
def action_shots():
    """The pictures of two bags of four seconds at ten frames a second."""
    rng = np.random.default_rng(0)
    return {name: [rng.integers(0, 255, (24, 32, 3), dtype=np.uint8) for _ in range(41)] for name in 'ab'}


@pytest.fixture(scope='session')
def action_run(tmp_path_factory, action_shots):
    """Folder, runner, segments, results and scores of these bags and of a third one that is damaged."""
    folder = tmp_path_factory.mktemp('bags')
    for name in 'abc':
        with BagWriter(folder / name) as bag:
            for at, shot in enumerate(action_shots.get(name, action_shots['a'][:1])):
                bag.write_frame(Frame(shot, None, 1_700_000_000 * 10**9 + at * 10**8))
    (folder / 'c' / 'c.mcap').write_bytes(b'no bag')
    runner = ActionJobRunner('tiny', 'cpu', ActionTask(), folder / PARTS)
    verbs, nouns = runner.engine.labels.verbs, runner.engine.labels.nouns
    # The first two are over at 1.0 and 3.3 s, the third before the first frame, the last after the bag.
    spans = ((0.5, 1.0), (2.5, 3.3), (0, 0), (9, 10))
    segments = tuple(
        Segment(f'{bag}_{n}', bag, 'P', *span, NO_CLASS, NO_CLASS, '<script>alert(1)</script>', verbs[n % 2], nouns[n])
        for bag in 'abc'
        for n, span in enumerate(spans)
    )
    asked = match_segments([folder / name for name in 'abc'], [Annotations(None, segments, ())], runner.engine.labels)
    results = run_jobs(runner, asked.jobs, 1, 'tiny', 'cpu', no_progress)
    return folder, runner, asked, results, ActionResults(runner.engine.checkpoint, asked, results, folder / PARTS)
