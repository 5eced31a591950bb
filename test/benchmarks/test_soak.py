"""The short form of the soak benchmark, and the arithmetic of growth and of lost and wrong answers."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from m3et_ros.data.checkpoints.m3et import save_checkpoint
from m3et_ros.runtime.open_model import untrained


def test_a_node_survives_a_short_soak(script, tmp_path):
    pytest.importorskip('mujoco')
    words = ['--minutes', 0.08, '--every-s', 0.1, '--question-s', 0.5, '--loops', 1, '--swaps', 2, '--kills', 1]
    save_checkpoint(tmp_path / 'other', untrained('tiny', 1), card='')
    words += ['--model', 'tiny', '--other', tmp_path / 'other']
    words += ['--results', tmp_path / 'soak.json', '--plot', tmp_path / 'soak.png']
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', ['soak.py', *map(str, words)])
        with pytest.raises(SystemExit) as end:
            script('soak').main()
    found = json.loads((tmp_path / 'soak.json').read_text())
    assert end.value.code == 0, found
    soak, loops, swaps = (found[part] for part in ('soak', 'loops', 'swaps'))
    assert soak['questions'] == soak['questions_answered'] > 1 and soak['frames_served'] > 0
    assert len(soak['samples']) > 15 and soak['growth_mib']['low'] <= soak['growth_mib']['high']
    assert soak['exit_code'] == loops['exit_code'] == swaps['exit_code'] == 0
    assert loops['loops'] == 1 and loops['failures'] == 0 and loops['good_answer_at_the_end']
    assert len(swaps['models']) == 2 and swaps['lost'] == 0 and swaps['wrong'] == swaps['refused'] == []
    assert swaps['questions'] > 2 and swaps['frames_hz'] > 0
    assert 0 < found['kills']['seconds_until_an_answer'][0] < 120 and not found['kills']['orphan']
    assert (tmp_path / 'soak.png').stat().st_size > 10_000


def test_growth_is_the_slope_with_an_interval(script):
    growth, seconds = script('soak').growth, list(range(0, 7200, 5))
    line = growth(seconds, [500 + 10 * s / 3600 for s in seconds])
    assert line['per_hour'] == pytest.approx(10) and line['low'] == pytest.approx(10, abs=0.01)
    assert line['percent_per_hour'] == pytest.approx(100 * 10 / 510, rel=1e-3)
    noise = np.random.default_rng(0).normal(500, 3, len(seconds))
    flat = growth(seconds, list(noise))
    assert flat['low'] < 0 < flat['high'] and flat['high'] - flat['low'] < 2
    assert flat['high'] - flat['per_hour'] == pytest.approx(flat['per_hour'] - flat['low'], abs=0.002)


def test_growth_is_student_s_interval_of_the_block_means(script):
    soak = script('soak')
    rest = np.array([1, -1] * (soak.BLOCKS // 2))  # one sample a block, one an hour
    hours = np.arange(soak.BLOCKS)
    found = soak.growth([h * 3600 for h in hours], list(100 + 2 * hours + rest))
    design = np.stack([np.ones(soak.BLOCKS), hours], 1)
    (_, slope), (square,), *_ = np.linalg.lstsq(design, 100 + 2 * hours + rest, rcond=None)
    half = 2.228 * np.sqrt(square / 10 / ((hours - hours.mean()) ** 2).sum())  # t of 10 degrees of freedom
    assert found['per_hour'] == pytest.approx(slope, abs=1e-3)
    assert found['high'] - found['per_hour'] == pytest.approx(half, rel=1e-2)


def test_answers_of_the_wrong_model_and_refusals_are_wrong_and_open_ones_are_counted(script):
    future = SimpleNamespace(done=lambda: True)
    client = SimpleNamespace(call_async=lambda request: future)
    robot = SimpleNamespace(
        name='/robot/model', node=SimpleNamespace(create_client=lambda *_: client), question=lambda: None
    )
    asking = script('soak').Asking(robot)
    asking.learn('one', 'yes')
    asking.learn('two', 'no')

    asking.go_on()
    for answer in (('one', 'yes'), ('two', 'no'), ('two', 'yes'), ('three', 'no'), ('', '', False, 'Busy.')):
        future.result = lambda a=answer: SimpleNamespace(
            success=len(a) == 2, message=a[-1], answer=SimpleNamespace(model_id=a[0], text=a[1])
        )
        asking.go_on()
    assert (asking.asked, asking.answered, asking.lost) == (6, 5, 1)
    assert asking.wrong == ['two: yes', 'three: no', ': Busy.']
