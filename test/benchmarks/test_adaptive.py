"""The benchmark of adaptive tokens on small ray-cast kitchens, and its streams."""

import json
import sys
from itertools import pairwise

import numpy as np
import pytest


@pytest.fixture
def run(script, tmp_path, monkeypatch):
    """Run the script on one kitchen of 32 pixels; what it has written."""
    pytest.importorskip('mujoco')
    module, results = script('adaptive'), tmp_path / 'adaptive.json'
    monkeypatch.setattr(module, 'SIZES', ('tiny',))

    def run(*parts):
        monkeypatch.setattr(
            sys,
            'argv',
            [
                'adaptive.py',
                '--model',
                'tiny',
                '--kitchens',
                '1',
                '--seconds',
                '2',
                '--hz',
                '4',
                '--rounds',
                '1',
                '--thresholds',
                '0.1',
                '1',
                '--backend',
                'raycast',
                '--results',
                str(results),
                '--only',
                *parts,
            ],
        )
        module.main()
        return json.loads(results.read_text())

    return run


def test_all_sides_are_reported_and_parts_are_added(run):
    found = run('still')
    sides = found['still']['sides']
    assert list(sides) == ['full', '0.1', '1', 'asked whole'] and found['still']['frames'] == 8
    assert sides['full']['share'] == sides['full']['answers_as_full'] == sides['asked whole']['answers_as_full'] == 1
    assert 0 < sides['1']['share'] <= sides['0.1']['share'] < 1
    assert found['still']['questions'] == 24 and 0 <= sides['1']['accuracy'] <= 1
    assert all(sides[name][key] > 0 for name in ('full', '0.1') for key in ('depth_rmse_m', 'holes_rmse_m'))
    both = run('sizes')
    assert both['still'] == found['still'] and set(both['sizes']['tiny']['cpu_ms']) == {
        'see',
        'all',
        '0.75',
        '0.5',
        '0.25',
    }


def test_a_still_camera_sees_change_where_something_moves_and_grain_everywhere(script):
    pytest.importorskip('mujoco')
    looks = list(script('scenes').stream(20_003, 'still', seconds=1, hz=4, size=32, backend='raycast'))
    assert [look.cut for look in looks] == [True, False, False, False] and len(looks[3].questions) == 12
    assert np.median([np.abs(a.depth - b.depth) for a, b in pairwise(looks)]) == 0
    assert any((a.frame.rgb != b.frame.rgb).mean() > 0.3 for a, b in pairwise(looks))
    assert all(look.frame.depth.shape == (32, 32) and look.labels.shape == (8, 8) for look in looks)
