"""m3et generate: a small real cache that is resumed, every option where it arrives, and what is refused."""

import json
from pathlib import Path

import pytest

from m3et_ros.cli.main import main
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples

SMALL = ('--size', '32', '--frames', '3', '--stride', '10', '--backend', 'raycast', '--workers', '0')


def test_a_cache_is_rendered_resumed_and_read(tmp_path, capsys):
    pytest.importorskip('mujoco')
    assert main(['generate', str(tmp_path), '--seeds', '20003:20005', *SMALL, '--json']) == 0
    made = json.loads(capsys.readouterr().out)
    assert made['frames'] > 0 and made['failed'] == {}
    assert len(KitchenSamples([made['path']], questions=False)) == made['frames']
    assert main(['generate', str(tmp_path), '--seeds', '20003:20005', *SMALL]) == 0
    assert f'{made["frames"]} images of kitchens 20003 to 20004' in capsys.readouterr().out


@pytest.mark.parametrize('seeds, words', [('12', 'as in 0:2000'), ('9:3', 'as in 0:2000'), ('9990:10020', 'split')])
def test_seeds_that_make_no_sense_are_refused(tmp_path, capsys, seeds, words):
    assert main(['generate', str(tmp_path), '--seeds', seeds, *SMALL]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(('json_flag', 'progress'), [((), True), (('--json',), False)])
def test_every_option_arrives(border, reach, every_option, json_flag, progress):
    made = border('m3et_ros.data.kitchen.cache.generate.generate', last=True)
    line = ['generate', 'caches', '--seeds', '3:7', '--size', 48, '--frames', 5, '--stride', 9, '--shadows']
    line += ['--workers', 2, '--backend', 'osmesa', '--version', 2, '--camera', 'other', *json_flag]
    reach(*line)
    root, *options = made[0].items()
    assert root[1] == Path('caches')
    assert dict(options) == {
        'seeds': range(3, 7),
        'size': 48,
        'frames': 5,
        'stride': 9,
        'shadows': True,
        'workers': 2,
        'backend': 'osmesa',
        'version': 2,
        'camera': 'other',
        'progress': progress,
    }
    every_option(line, ['--json'])
