"""m3et evaluate vqa and eqa with a vision-language model in the place of M3ET, and the table over both."""

import json

import pytest
from tiny_vlms import vlm_folder

from m3et_ros.cli.main import main
from m3et_ros.data.kitchen.cache.generate import generate
from m3et_ros.evaluation.tasks.vlm import PROMPT
from m3et_ros.runtime.vlm.model import open_vlm

SMALL = ('--vqa', '--width', 32, '--height', 32, '--backend', 'raycast', '--fps', 2, '--frames', 20)
CACHE = {'size': 32, 'stride': 25, 'frames': 4, 'backend': 'raycast'}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return vlm_folder(tmp_path_factory.mktemp('vlm') / 'tiny')


@pytest.fixture(scope='module')
def kitchens(tmp_path_factory):
    pytest.importorskip('mujoco')
    folder = tmp_path_factory.mktemp('kitchens') / 'k'
    assert main([*map(str, ('record', folder, *SMALL, '--seed', 20_000, '--episodes', 1, '--questions', 6))]) == 0
    return folder


def evaluate(verb, *arguments):
    return main(['evaluate', verb, *map(str, arguments)])


def result(out):
    return json.loads((out / 'metrics.json').read_text())


def test_a_model_answers_kitchens_and_recordings_by_the_rules_of_m3et(folder, kitchens, tmp_path, capsys):
    vlm = ('--answerer', 'vlm', '--answerer-checkpoint', folder, '--device', 'cpu')
    bags = (kitchens, '--questions', kitchens / 'questions.json')
    cache = generate(tmp_path / 'caches', seeds=range(20_003, 20_004), workers=0, progress=False, **CACHE)
    assert evaluate('vqa', '--data', cache, '--samples', 8, *vlm, '--out', tmp_path / 'cache_vlm') == 0
    assert evaluate('vqa', '--data', cache, '--samples', 8, '--model', 'tiny', '--out', tmp_path / 'cache_m3et') == 0
    assert evaluate('vqa', *bags, *vlm, '--out', tmp_path / 'bag_vlm') == 0
    assert evaluate('eqa', *bags, *vlm, '--memory-frames', 3, '--out', tmp_path / 'eqa_vlm') == 0
    name = open_vlm(str(folder)).model_id
    for out in ('cache_vlm', 'bag_vlm', 'eqa_vlm'):
        made = result(tmp_path / out)['made_by']
        assert made['model']['id'] == name and made['settings']['prompt'] == PROMPT
        assert '--answerer vlm' in made['command']
    assert result(tmp_path / 'cache_vlm')['made_by']['settings']['shown'] == ['rgb']
    whole = result(tmp_path / 'cache_vlm')['metrics']['subsets']['all']
    assert whole['samples'] == 8 and 'written' not in whole
    capsys.readouterr()
    runs = [tmp_path / one for one in ('cache_vlm', 'cache_m3et', 'bag_vlm', 'eqa_vlm')]
    assert evaluate('table', *runs, '--out', tmp_path / 'table', '--json') == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown['schema'] == 1 and shown == json.loads((tmp_path / 'table' / 'models.json').read_text())
    lines = {(line['task'], line['model']): line for line in shown['lines']}
    task = f'kitchens {cache.name}'
    assert set(lines) == {
        (task, name),
        (task, 'tiny-random-0'),
        ('recordings, moment', name),
        ('recordings, episode', name),
    }
    assert lines[task, name]['set'] == lines[task, 'tiny-random-0']['set'] != lines['recordings, moment', name]['set']
    assert lines[task, name]['score'] == whole['accuracy']


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (('--answerer', 'vlm'), '--answerer vlm needs --answerer-checkpoint'),
        (('--answerer-checkpoint', 'x'), '--answerer-checkpoint is for --answerer vlm'),
        (('--answerer', 'vlm', '--answerer-checkpoint', 'x', '--model', 'tiny'), 'leave --model out'),
        (('--answerer', 'vlm', '--answerer-checkpoint', 'none'), 'There is no folder none'),
        (('--answerer', 'vlm', '--answerer-checkpoint', 'x', '--generate'), '--generate'),
        (('--answerer', 'vlm', '--answerer-checkpoint', 'x', '--without', 'depth'), '--without is for m3et'),
    ],
    ids=['no_checkpoint', 'm3et_with_checkpoint', 'two_models', 'no_folder', 'generate', 'without'],
)
def test_what_does_not_go_together_is_one_sentence(tmp_path, capsys, options, words):
    assert evaluate('vqa', '--data', tmp_path, '--out', tmp_path / 'out', *options) == 1
    assert words in capsys.readouterr().err


def test_a_bag_refuses_what_only_m3et_can_do(kitchens, folder, tmp_path, capsys):
    bags = (kitchens, '--questions', kitchens / 'questions.json', '--out', tmp_path / 'out')
    vlm = ('--answerer', 'vlm', '--answerer-checkpoint', folder)
    assert evaluate('eqa', *bags, *vlm, '--scope', 'blind') == 1
    assert 'leave out --scope blind' in capsys.readouterr().err
    assert evaluate('eqa', *bags, *vlm, '--ray', 'local') == 1
    assert '--ray is for m3et' in capsys.readouterr().err
