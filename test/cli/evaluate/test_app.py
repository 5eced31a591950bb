"""m3et evaluate on a real, small cache: the same bytes twice, thresholds, standard caches, and what is refused."""

import json
from dataclasses import replace

import cv2
import pytest

from m3et_ros.cli.main import main
from m3et_ros.data.checkpoints.m3et import save_checkpoint
from m3et_ros.data.kitchen.cache.generate import generate
from m3et_ros.evaluation import standard_caches
from m3et_ros.runtime.open_model import untrained

SMALL = {'size': 32, 'stride': 25, 'frames': 6, 'backend': 'raycast'}
VQA, DENSE = ('vqa', '--samples', 30), ('reconstruction', '--frames', 4)


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    """Ray-cast test kitchens."""
    pytest.importorskip('mujoco')
    return generate(tmp_path_factory.mktemp('caches'), seeds=range(20_003, 20_005), workers=0, progress=False, **SMALL)


def command(verb, *arguments, model='tiny'):
    return main(['evaluate', verb, '--model', str(model), *map(str, arguments)])


@pytest.mark.parametrize('what', [(*VQA, '--generate', '--blind', 'tiny'), DENSE], ids=lambda what: what[0])
def test_twice_the_same_bytes(cache, tmp_path, capsys, what):
    for name in 'ab':
        assert command(*what, '--data', cache, '--out', tmp_path / name) == 0
    told = capsys.readouterr()
    assert 'll results are in' in told.out
    assert '100 %' in told.err
    for name in ('metrics.json', 'per_sample.csv'):
        first, second = ((tmp_path / run / name).read_bytes() for run in 'ab')
        assert first == second and len(first) > 500, name
    (picture,) = (tmp_path / 'a' / 'pictures').iterdir()
    assert cv2.imread(str(picture)).size > 10_000


def test_the_document_says_what_was_measured_and_how(cache, tmp_path, capsys):
    assert command(*VQA, '--data', cache, '--out', tmp_path, '--without', 'depth', '--clean', '--json') == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == {'schema': 1} | json.loads((tmp_path / 'metrics.json').read_text())
    made, metrics = shown['made_by'], shown['metrics']
    assert made['command'] == f'm3et evaluate vqa --model tiny --data {cache} --samples 30 --clean --without depth'
    assert made['settings']['shown'] == ['rgb'] and made['settings']['noise'] is None
    assert made['cache']['name'] == cache.name and made['model']['id'] == 'tiny-random-0'
    assert metrics['subsets']['all']['samples'] == 30 and 0 < metrics['subsets']['all']['majority'] < 1
    assert {*metrics['subsets'], *metrics['left_out']} == {'all', 'seen', 'held_out', 'textures'}
    rows = (tmp_path / 'per_sample.csv').read_text().splitlines()
    assert len(rows) == 1 + 30 * len(metrics['subsets'])


def test_cross_attention_of_the_decoders_can_be_switched_off_to_compare(cache, tmp_path, capsys):
    whole = {}
    for flag in ('--cross-attention', '--no-cross-attention'):
        assert command(*DENSE, '--data', cache, '--out', tmp_path / flag, flag, '--json') == 0
        found = json.loads(capsys.readouterr().out)
        assert found['made_by']['settings']['cross_attention'] == (flag == '--cross-attention')
        whole[flag] = found['metrics']['hidden']['psnr_hidden_db']['value']
    assert len(set(whole.values())) == 2


def test_below_the_threshold_is_exit_code_two(cache, tmp_path, capsys):
    assert command(*VQA, '--data', cache, '--out', tmp_path, '--at-least', 1) == 2
    assert 'below 1.0' in capsys.readouterr().err and (tmp_path / 'metrics.json').exists()
    assert command(*VQA, '--data', cache, '--out', tmp_path, '--at-least', 0) == 0


def test_a_standard_cache_is_made_when_it_is_asked_for(monkeypatch, tmp_path, capsys):
    pytest.importorskip('mujoco')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(standard_caches, 'STANDARD', {'test': SMALL | {'first': 20_003, 'last': 20_004}})
    said = []
    for _ in range(2):
        assert command(*DENSE, '--data', 'test', '--workers', 0, '--out', tmp_path / 'out') == 0
        said.append(capsys.readouterr().err)
    assert 'is rendered' in said[0] and 'is rendered' not in said[1]


@pytest.fixture(scope='module')
def foreign(tmp_path_factory):
    """A checkpoint with answers of its own."""
    made, folder = untrained('tiny', 0), tmp_path_factory.mktemp('foreign')
    labels = replace(made.labels, answers=tuple(f'answer {i}' for i in range(len(made.labels.answers))))
    save_checkpoint(folder, replace(made, labels=labels, heads={}), card='')
    return folder


@pytest.mark.parametrize('verb', [VQA, DENSE], ids=lambda verb: verb[0])
@pytest.mark.parametrize(
    ('data', 'options', 'words'),
    [
        ('none', {}, ['none', 'not a cache']),
        ('empty', {}, ['empty', 'no finished shard']),
        ('cache', {'model': 'foreign'}, ['tiny', 'other answers']),
        ('cache', {'model': 'kitchen'}, ['112', '32', '--size 112']),
        ('cache', {'model': 'nowhere'}, ['nowhere', 'folder']),
        ('cache', {'device': 'warp'}, ["'warp'", 'cannot be used']),
        ('cache', {'out': 'file'}, ['file', '--out']),
    ],
)
def test_what_cannot_be_done_is_one_sentence(cache, foreign, tmp_path, capsys, caplog, verb, data, options, words):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'empty' / 'recipe.json').write_bytes((cache / 'recipe.json').read_bytes())
    (tmp_path / 'file').write_text('no folder')
    model = {'foreign': foreign}.get(options.get('model'), options.get('model', 'tiny'))
    folder = cache if data == 'cache' else tmp_path / data
    more = ('--device', options['device']) if 'device' in options else ()
    assert command(*verb, '--data', folder, '--out', tmp_path / options.get('out', 'out'), *more, model=model) == 1
    shown = capsys.readouterr()
    told = [line for line in shown.err.splitlines() if 'random ones' not in line]
    assert not shown.out and len(told) == 1
    assert all(word in told[0] for word in words), told
    assert 'M3ET_TRACEBACK' not in told[0]


def test_wrong_options_name_the_help(capsys):
    assert main(['evaluate', 'vqa', '--without', 'text']) == 2
    assert 'm3et evaluate vqa --help' in capsys.readouterr().err
