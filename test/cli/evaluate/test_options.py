"""m3et evaluate actions, epic and talk: every option where it arrives."""

import os
from pathlib import Path

import pytest

from m3et_ros.cli.evaluate.actions import CacheOptions, SegmentOptions
from m3et_ros.cli.evaluate.common import CPUS, BagRun
from m3et_ros.cli.evaluate.epic import EpicOptions
from m3et_ros.cli.evaluate.talk import TalkSamples
from m3et_ros.cli.main import main
from m3et_ros.evaluation.tasks.actions_in_bags import ActionTask
from m3et_ros.evaluation.tasks.vqa import NOISE

TOP1 = {'chain': {'all': {'action': {'top1': {'value': 0.25}}}}}
DOCUMENT = {'metrics': {'recognition': TOP1}}
BAG_OPTIONS = (
    *('--segments', 'a.csv', '--segments', 'b.csv'),
    *('--camera', '/head'),
    *('--remap', '/x:=/y'),
    *('--workers', '5'),
    *('--threads', '2'),
    *('--device', 'cuda:1'),
)
COMMON = ('--model', 'tiny', '--out', 'results', '--train', 'kitchens', '--at-least', '0.25', '--json')


def test_every_option_of_actions_arrives(border, every_option):
    recordings = border('m3et_ros.cli.evaluate.actions.measure_recordings', DOCUMENT)
    caches = border('m3et_ros.cli.evaluate.actions.measure_caches', DOCUMENT)
    bags = ['evaluate', 'actions', 'one', 'two', *BAG_OPTIONS, *COMMON]
    assert main(bags) == 0
    assert recordings == [
        {
            'bags': [Path('one'), Path('two')],
            'run': BagRun(model='tiny', out=Path('results'), workers=5, threads=2, device='cuda:1'),
            'options': SegmentOptions(segments=[Path('a.csv'), Path('b.csv')], camera='/head', remaps=['/x:=/y']),
            'train': [Path('kitchens')],
        }
    ]
    kitchens = ['evaluate', 'actions', '--data', 'c', '--data', 'd', '--bf16', *COMMON]
    assert main(kitchens) == 0
    assert caches == [
        {
            'run': BagRun(model='tiny', out=Path('results')),
            'options': CacheOptions(data=[Path('c'), Path('d')], bf16=True),
            'train': [Path('kitchens')],
        }
    ]
    every_option(bags, kitchens)


@pytest.mark.parametrize(
    ('recognition', 'at_least', 'code'), [(TOP1, '0.25', 0), (TOP1, '0.26', 2), ({}, '0', 2), ({}, None, 0)]
)
def test_the_threshold_is_that_of_recognition(border, recognition, at_least, code):
    border('m3et_ros.cli.evaluate.actions.measure_caches', {'metrics': {'recognition': recognition}})
    line = ['evaluate', 'actions', '--model', 'tiny', '--out', 'x', '--data', 'd', '--json']
    assert main([*line, *(('--at-least', at_least) if at_least else ())]) == code


def test_options_of_recordings_arrive_at_the_jobs(border, reach, tmp_path):
    read = border('m3et_ros.evaluation.tasks.actions_in_bags.read_files', ['file'])
    baselines = border('m3et_ros.cli.evaluate.actions._references', 'baselines')
    runner = border('m3et_ros.evaluation.tasks.actions_in_bags.ActionJobRunner', last=True)
    line = ['evaluate', 'actions', 'one', *BAG_OPTIONS, '--model', 'tiny', '--out', tmp_path, '--train', 'k']
    reach(*line)
    task = ActionTask(camera='/head', remaps={'/x': '/y'}, threads=2)
    assert [*runner[0].values()] == ['tiny', 'cuda:1', task, tmp_path / 'parts']
    assert [*read[0].values()] == [[Path('a.csv'), Path('b.csv')]] and [*baselines[0].values()] == [[Path('k')]]


def test_every_option_of_epic_arrives(border, every_option, monkeypatch, capsys):
    monkeypatch.setattr(os, 'environ', os.environ.copy())
    labels = border('m3et_ros.cli.evaluate.epic.measure_labels', {'metrics': {}})
    line = ['evaluate', 'epic', '--epic', 'folder', '--model', 'm', '--out', 'o', '--split', 'some.csv']
    line += ['--no-challenge', '--device', 'cuda:1', '--json']
    assert main(line) == 0
    assert labels == [
        {
            'labels': EpicOptions(folder=Path('folder'), split='some.csv', challenge=False),
            'model': 'm',
            'out': Path('o'),
            'device': 'cuda:1',
        }
    ]
    bags = border('m3et_ros.cli.evaluate.epic.measure_recordings', DOCUMENT)
    recordings = ['evaluate', 'epic', 'one', '--segments', 'a.csv', '--model', 'm', '--out', 'o', '--device', 'cuda:1']
    assert main([*recordings, '--json']) == 0
    assert bags == [
        {
            'bags': [Path('one')],
            'run': BagRun(model='m', out=Path('o'), device='cuda:1'),
            'options': SegmentOptions(segments=[Path('a.csv')]),
            'train': [],
        }
    ]
    clips = border('m3et_ros.cli.evaluate.epic.measure_clips', {'metrics': {}})
    more = ['--features', 'f', '--fps', '2', '--questions', 'q.json', '--json']
    of_clips = ['evaluate', 'epic', '--epic', 'folder', '--model', 'm', '--out', 'o', *more]
    assert main(of_clips) == 0
    assert clips[0]['labels'] == EpicOptions(
        folder=Path('folder'), features=Path('f'), fps=2.0, questions=Path('q.json')
    )
    every_option(line, recordings, of_clips)


@pytest.mark.parametrize('flag', [('--epic', 'x'), ('--split', 'held_out'), ('--challenge',), ('--no-challenge',)])
def test_options_about_labels_are_refused_with_recordings(capsys, flag):
    assert main(['evaluate', 'epic', 'one', '--segments', 'a.csv', '--model', 'm', '--out', 'o', *flag]) == 1
    name = flag[0].replace('--no-', '--')
    assert f'{name} is for labels without pixels, and recordings were given' in capsys.readouterr().err


def test_names_of_splits_have_no_folder():
    assert [EpicOptions(split=split).split_name for split in ('held_out', 'validation', '/a/b.csv')] == [
        'held_out',
        'validation',
        'b.csv',
    ]


def test_every_option_of_talk_arrives(border, reach, every_option, tmp_path):
    model = type('Model', (), {'check_encoder': lambda *_: None, 'encoders': None})()
    loaded = border('m3et_ros.runtime.answerer.open_talk', model)
    opened = border('m3et_ros.cli.evaluate.talk.open_cache', (Path('folder'), 'recipe'))
    border('m3et_ros.evaluation.standard_caches.check_fit')
    measured = border('m3et_ros.cli.evaluate.talk._measure', last=True)
    line = ['evaluate', 'talk', '--model', 'runs/talk', '--out', tmp_path / 'out', '--from', 'tiny', '--data', 'cache']
    line += ['--samples', 17, '--views', 3, '--clean', '--seed', 9, '--batch', 6]
    reach(*line)
    assert [*loaded[0].values()] == ['runs/talk'] and [*opened[0].values()] == ['cache', CPUS]
    (call,) = measured
    assert call['options'] == TalkSamples(data='cache', samples=17, views=3, noise=False, seed=9, batch=6)
    assert (call['folder'], call['out'], call['encoder'].model_id) == (
        Path('folder'),
        tmp_path / 'out',
        'tiny-random-0',
    )
    every_option(line, ['--json'])


@pytest.mark.parametrize(('flag', 'noise'), [('--noise', NOISE), ('--clean', None)])
def test_samples_views_noise_seed_and_batch_arrive_at_the_measurement(border, reach, tmp_path, flag, noise):
    model = type('Model', (), {'check_encoder': lambda *_: None, 'encoders': None})()
    border('m3et_ros.runtime.answerer.open_talk', model)
    border('m3et_ros.cli.evaluate.talk.open_cache', (Path('folder'), 'recipe'))
    border('m3et_ros.evaluation.standard_caches.check_fit')
    kitchens = border('m3et_ros.data.kitchen.cache.dataset.KitchenSamples', 'kitchens')
    described = border('m3et_ros.evaluation.tasks.talk.describe_views', [])
    border('m3et_ros.evaluation.files.write_samples')
    (tmp_path / 'per_sample.csv').write_text('')
    asked = border('m3et_ros.evaluation.tasks.talk.ask_talker', last=True)
    line = ['evaluate', 'talk', '--out', tmp_path, '--from', 'tiny', flag, '--samples', 17, '--views', 3]
    reach(*line, '--seed', 9, '--batch', 6)
    assert [kitchens[0][name] for name in ('noise', 'length', 'seed')] == [noise, 17, 9]
    assert (described[0]['views'], described[0]['batch'], asked[0]['batch']) == (3, 6, 6)
    assert (tmp_path / 'descriptions.csv').exists()
