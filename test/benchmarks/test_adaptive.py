"""The benchmark of adaptive tokens on small ray-cast kitchens, and its streams."""

import json
import sys
from itertools import pairwise

import numpy as np
import pytest

from m3et_ros.runtime import backends


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


def test_runtimes_serve_the_same_frames_and_write_a_file_of_their_own(run, tmp_path, monkeypatch):
    """The graphs run in torch, as a build would take minutes."""

    class Plain:
        name, lowers, device = 'openvino', True, 'cpu'

        def build(self, name, module, inputs):
            return lambda *given: list(module(*given))

    monkeypatch.setattr(backends, 'missing', lambda name: '')
    monkeypatch.setattr(backends, 'make', lambda name, setting: Plain())
    (tmp_path / 'adaptive.json').write_text('{}')
    assert run('runtimes') == {}
    found = json.loads((tmp_path / 'adaptive_runtimes.json').read_text())
    (rows,) = found['cases'].values()
    assert list(rows['cpu_ms']) == ['torch, full', 'torch, adaptive', 'openvino, full', 'openvino, adaptive']
    assert found['rounds'] == 8 and all(ms > 0 for ms in rows['cpu_ms'].values())
    shares = found['notes']['Frames of openvino, adaptive by share of encoded tokens']
    counts = {share: int(count) for count, share in (part.split(' of ') for part in shares.split(', '))}
    assert set(counts) <= {'12%', '25%', '50%', '100%'} and len(counts) > 1 and sum(counts.values()) == 8
