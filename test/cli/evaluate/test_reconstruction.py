"""m3et evaluate reconstruction: every option where it arrives, and recordings in the place of a cache."""

import json
from pathlib import Path

import pytest

from m3et_ros.cli.evaluate.reconstruction import FrameOptions
from m3et_ros.cli.main import main
from m3et_ros.runtime.open_model import open_checkpoint

OPTIONS = ('--data', 'cache', '--frames', '7', '--no-cross-attention', '--seed', '9', '--batch', '6')
GIVEN = FrameOptions(data='cache', frames=7, cross_attention=False, seed=9, batch=6)


def line(out, *words):
    return ['evaluate', 'reconstruction', *words, '--model', 'tiny', '--out', str(out)]


def test_every_option_arrives_with_a_cache(border, reach, every_option, tmp_path):
    prepared = border('m3et_ros.cli.evaluate.reconstruction.prepare', (open_checkpoint('tiny'), Path('f'), 'recipe'))
    measured = border('m3et_ros.cli.evaluate.reconstruction.measure_kitchens', last=True)
    words = [*line(tmp_path), *OPTIONS, '--device', 'cuda:1', '--workers', '3', '--json']
    reach(*words)
    assert prepared == [{'model': 'tiny', 'data': 'cache', 'device': 'cuda:1', 'workers': 3}]
    assert {name: measured[0][name] for name in ('folder', 'recipe', 'out', 'options')} == {
        'folder': Path('f'),
        'recipe': 'recipe',
        'out': tmp_path,
        'options': GIVEN,
    }
    every_option(words)


def test_every_option_arrives_with_recordings(border, reach, tmp_path):
    opened = border('m3et_ros.cli.evaluate.reconstruction.open_model', open_checkpoint('tiny'))
    measured = border('m3et_ros.evaluation.tasks.reconstruction_in_bags.measure_bags', last=True)
    reach(*line(tmp_path, 'one', 'two'), *OPTIONS[2:], '--device', 'cuda:1')
    assert opened == [{'name': 'tiny', 'device': 'cuda:1'}]
    (call,) = measured
    assert (call['bags'], call['cache']) == ([Path('one'), Path('two')], tmp_path / 'frames')
    assert (call['frames'], call['seed'], call['batch']) == (7, 9, 6)
    assert call['checkpoint'].model is not open_checkpoint('tiny').model


@pytest.mark.parametrize(('flag', 'changed'), [('--cross-attention', False), ('--no-cross-attention', True)])
def test_decoders_lose_the_encoder_only_when_asked(border, reach, tmp_path, flag, changed):
    checkpoint = open_checkpoint('tiny')
    border('m3et_ros.cli.evaluate.reconstruction.open_model', checkpoint)
    cut = border('m3et_ros.evaluation.tasks.reconstruction.without_context', 'without')
    measured = border('m3et_ros.cli.evaluate.reconstruction.measure_recordings', last=True)
    reach(*line(tmp_path, 'one'), flag)
    assert (measured[0]['checkpoint'].model == 'without') == changed == bool(cut)


def test_frames_seed_and_batch_arrive_at_the_measurement(border, reach, tmp_path):
    border('m3et_ros.cli.evaluate.reconstruction.prepare', (open_checkpoint('tiny'), Path('f'), 'recipe'))
    border('m3et_ros.data.kitchen.cache.dataset.KitchenSamples', list(range(70)))
    measured = border('m3et_ros.evaluation.tasks.reconstruction.measure_frames', last=True)
    reach(*line(tmp_path), *OPTIONS)
    (call,) = measured
    assert (len(call['samples']), call['seed'], call['batch']) == (7, 9, 6) and list(call['pictures']) == [*range(7)]


def test_recordings_are_measured(tmp_path, capsys):
    pytest.importorskip('mujoco')
    bag = tmp_path / 'bag'
    assert main(['record', str(bag), '--frames', '6', '--width', '32', '--height', '32', '--backend', 'raycast']) == 0
    (tmp_path / 'bad.mcap').write_bytes(b'\x89MCAP0\r\n')
    capsys.readouterr()
    words = [*line(tmp_path / 'out', str(bag), str(tmp_path / 'bad.mcap')), '--frames', '3']
    assert main([*words, '--json']) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document == {'schema': 1} | json.loads((tmp_path / 'out' / 'metrics.json').read_text())
    assert document['made_by']['settings'] == {'seed': 0, 'frames': 3, 'batch': 32}
    assert document['made_by']['model']['id'] == 'tiny-random-0' and 'bad: ' in printed.err
    assert document['made_by']['command'].startswith(f'm3et evaluate reconstruction {bag} ')
    assert (tmp_path / 'out' / 'pictures' / 'frames.png').exists() and (tmp_path / 'out' / 'per_sample.csv').exists()
    assert main(words) == 0
    assert 'depth RMSE' in capsys.readouterr().out
