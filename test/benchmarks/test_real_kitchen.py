"""Hole filling on a small recording, and on the real kitchen if it is available."""

import json
import sys

import cv2
import numpy as np
import pytest
from shared_data import SHARED

from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame

REAL, VIEWS = SHARED / 'real_kitchen/bag', SHARED / 'real_rgbd'
WAYS = {'auto', 'model', 'smooth', 'nearest', 'telea', 'navier_stokes'}


def plane(width=96, height=72):
    """A slanting wall with a band of holes of the sensor's own."""
    depth = np.repeat(np.linspace(1, 3, width, dtype=np.float32)[None], height, 0)
    depth[:6] = np.nan
    return depth


@pytest.fixture
def run(script, monkeypatch, tmp_path):
    def measured(bag, *options):
        words = ['--out', tmp_path, '--results', tmp_path / 'found.json', '--model', 'tiny', bag, *options]
        monkeypatch.setattr(sys, 'argv', ['real_kitchen.py', *map(str, words)])
        script('real_kitchen').main()
        return json.loads((tmp_path / 'found.json').read_text())

    return measured


def write(path, count=4, depth=plane):
    with BagWriter(path) as bag:
        for i in range(count):
            bag.write_frame(Frame(np.full((72, 96, 3), 40 * i, np.uint8), depth and depth(), i * 100_000_000))
    return path


def test_a_recording_is_measured_and_drawn(run, tmp_path, capsys):
    found = run(write(tmp_path / 'bag'), '--every', 2)
    assert found['frames'] == 2 and found['recording']['name'] == 'bag' and found['model']['id'] == 'tiny-random-0'
    assert found['rmse_m'].keys() == {'0.015', '0.04', '0.08', '0.16'}
    for ways in found['rmse_m'].values():
        assert ways.keys() > WAYS
        for way in WAYS:
            assert 0 < ways[way]['value'] < 1
    shown = capsys.readouterr().out
    assert f'{found["rmse_m"]["0.04"]["telea"]["value"]:.3f}' in shown and 'navier stokes' in shown
    assert cv2.imread(str(tmp_path / 'real_kitchen.png')).std() > 10
    assert str(tmp_path) not in json.dumps(found)
    again = run(tmp_path / 'bag', '--every', 2)
    spent = [one.pop('cpu_ms') for one in (found, again)]
    assert all(value > 0 for costs in spent for value in costs.values()), spent
    assert again == found


def test_views_of_folders_are_measured_and_those_that_are_too_far_are_not(run, tmp_path):
    for number, name in enumerate(('rgb.png', 'rgb_7.jpg', 'rgb_8.png')):
        folder = tmp_path / 'views' / str(number)
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / name), np.full((72, 96, 3), 40, np.uint8))
        stored = np.nan_to_num(plane() * (1000 if number < 2 else 9000)).astype(np.uint16)
        cv2.imwrite(str(folder / ('raw_depth.png' if number == 0 else f'depth_{name[4]}.png')), stored)
    folders = sorted((tmp_path / 'views').iterdir())
    found = run(folders[0], *folders[1:])
    assert found['frames'] == 2 and found['recording']['name'] == '0, 1, 2'
    with pytest.raises(InputError, match='no view of colour and depth up to 9 m'):
        run(folders[2])


def test_a_recording_without_depth_is_refused(run, tmp_path):
    with pytest.raises(InputError, match='depth'):
        run(write(tmp_path / 'bag', depth=None))


@pytest.mark.skipif(not REAL.exists(), reason='the real kitchen is not at hand')
def test_what_a_robot_does_by_default_is_no_worse_than_inpainting_in_the_real_kitchen(run, tmp_path):
    found = run(REAL, '--every', 50, '--pictures', 1, '--model', 'kitchen')
    assert found['frames'] == 3 and 0.05 < found['rmse_m']['0.08']['telea']['value'] < 0.4
    for ways in found['rmse_m'].values():
        assert ways['auto']['value'] <= ways['navier_stokes']['value']
    assert not list(tmp_path.glob('**/*.mcap'))


@pytest.mark.skipif(not VIEWS.exists(), reason='the real views are not at hand')
def test_what_a_robot_does_by_default_is_no_worse_than_inpainting_on_real_views(run):
    folders = [path for path in sorted(VIEWS.iterdir()) if path.is_dir()]
    for ways in run(*folders, '--pictures', 1, '--model', 'kitchen')['rmse_m'].values():
        assert ways['auto']['value'] <= ways['navier_stokes']['value']
