"""m3et train: every option of every verb where it arrives."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from m3et_ros.cli.main import main
from m3et_ros.cli.train.actions import HeadOptions
from m3et_ros.cli.train.app import NoiseName, SourceChoice, open_sources_of
from m3et_ros.cli.train.common import BudgetOptions, SessionOptions
from m3et_ros.cli.train.history import HistoryOptions
from m3et_ros.cli.train.memory import MemoryBudget, memory_recipe
from m3et_ros.cli.train.start import StartOptions
from m3et_ros.data.kitchen.cache.recipe import CacheRecipe
from m3et_ros.data.kitchen.questions.balance import TEMPERED
from m3et_ros.data.kitchen.sim.vocabulary import CLASSES
from m3et_ros.data.noise import Noise, noise_of
from m3et_ros.data.questions.taught import Taught
from m3et_ros.runtime.open_model import open_checkpoint
from m3et_ros.training.actions import Act
from m3et_ros.training.m3et import STAGES


@pytest.fixture(autouse=True)
def unchanged_environment(monkeypatch):
    """The verbs choose how threads wait; nothing of it may stay behind."""
    monkeypatch.setattr(os, 'environ', os.environ.copy())


SESSION = ('--minutes', 1.5, '--seed', 9, '--bf16', '--resume')
BUDGET = ('--samples', 64, '--batch', 8, '--lr', 0.002)


def check_session(session, **expected):
    assert {name: getattr(session, name) for name in expected} == expected
    assert session.stop() is False and callable(session.report)


@pytest.mark.parametrize(('stage', 'questions'), [('pretrain', 0), ('vqa', 5)])
def test_every_option_of_a_stage_arrives(border, reach, every_option, stage, questions):
    opened = border('m3et_ros.cli.train.app.open_start', open_checkpoint('tiny'))
    sources = border('m3et_ros.cli.train.app.open_sources_of', 'sources')
    border('m3et_ros.cli.train.app.taught_by', Taught({}))
    given = border('m3et_ros.cli.train.app.with_candidates', open_checkpoint('tiny'))
    ran = border('m3et_ros.training.m3et.run', last=True)
    line = ['train', stage, '--data', 'one', '--data', 'nyu:two', '--bag', 'three', '--out', 'runs/x', '--every', 3]
    line += [
        '--model',
        'tiny',
        '--set',
        'gate=false',
        '--from',
        'start',
        '--tokenizer',
        'vocab.txt',
        *BUDGET,
        '--optimiser',
        'muon',
    ]
    line += ['--questions', 5, '--noise', 'wide', '--tempered', *SESSION, '--workers', 2]
    line += ['--average', 0.75, '--milestone-minutes', 2.5]
    own = {'pretrain': ['--visible', 0.5, '--alpha', 2, '--subsets'], 'vqa': ['--answers', 'words.txt']}[stage]
    fields = {'pretrain': {'visible': 0.5, 'alpha': 2.0, 'subsets': True}, 'vqa': {}}[stage]
    reach(*line, *own)
    start = StartOptions(model='tiny', changes=['gate=false'], start='start', vocabulary=Path('vocab.txt'))
    assert opened == [{'start': start, 'seed': 9}]
    (call,) = sources
    assert call['choice'] == SourceChoice(
        data=['one', 'nyu:two'], bag=[Path('three')], every=3, questions=5, noise=NoiseName('wide'), tempered=True
    )
    assert (call['cache'], call['questions'], call['seed']) == (Path('runs/x/bags'), questions, 9)
    (call,) = ran
    assert call['recipe'] == STAGES[stage](samples=64, batch=8, lr=0.002, optimiser='muon', average=0.75, **fields)
    assert [one['file'] for one in given] == ([Path('words.txt')] if stage == 'vqa' else [])
    assert (call['data'], call['folder'], call['seed']) == ('sources', Path('runs/x'), 9)
    check_session(call['session'], minutes=1.5, workers=2, bf16=True, resume=True, milestone_minutes=2.5)
    every_option([*line, *own], ['--json', '--visible-tokens'])


def test_a_number_of_visible_tokens_takes_the_place_of_the_share(border, reach, capsys):
    border('m3et_ros.cli.train.app.open_start', open_checkpoint('tiny'))
    border('m3et_ros.cli.train.app.open_sources_of', 'sources')
    ran = border('m3et_ros.training.m3et.run', last=True)
    reach('train', 'pretrain', '--data', 'one', '--out', 'x', '--visible-tokens', 98)
    assert ran[0]['recipe'] == STAGES['pretrain'](tokens=98)
    assert main(['train', 'pretrain', '--data', 'one', '--out', 'x', '--visible-tokens', '9', '--visible', '0.2']) == 1
    assert 'exclude each other' in capsys.readouterr().err


def test_without_options_a_recipe_has_its_own_values(border, reach):
    border('m3et_ros.cli.train.app.open_start', open_checkpoint('tiny'))
    border('m3et_ros.cli.train.app.open_sources_of', 'sources')
    ran = border('m3et_ros.training.m3et.run', last=True)
    reach('train', 'pretrain', '--data', 'one', '--out', 'x')
    assert ran[0]['recipe'] == STAGES['pretrain']()
    check_session(ran[0]['session'], minutes=None, milestone_minutes=None, workers=0, bf16=False, resume=False)


def test_sources_frames_and_noise_arrive(border, tmp_path):
    (tmp_path / 'one').mkdir()
    (tmp_path / 'one/recipe.json').write_text(json.dumps(asdict(CacheRecipe(0, 2))))
    opened = border('m3et_ros.data.datasets.sources.open_sources', 'sources')
    checkpoint = open_checkpoint('tiny')
    choice = SourceChoice(data=['one'], bag=[Path('two')], every=3)
    assert open_sources_of(choice, checkpoint, Path('bags'), questions=5, seed=9) == 'sources'
    call = next(iter(opened))
    names, options = list(call.values())[:2]
    assert names == ['one', 'bag:two'] and call['questions'] is True
    assert (options.classes, options.size) == (checkpoint.labels.classes, checkpoint.model.config.image_size)
    assert (options.cache, options.every, options.seed) == (Path('bags'), 3, 9)
    assert options.metric == (checkpoint.model.config.depth_norm == 'fixed')
    kitchens = border('m3et_ros.data.kitchen.cache.dataset.KitchenSamples', type('Samples', (), {'split': 'train'})())
    call['kitchen']([tmp_path / 'one'])
    assert [kitchens[0][name] for name in ('questions', 'each', 'noise', 'seed')] == [True, 5, Noise(), 9]
    assert kitchens[0]['temper'] is None
    wide = replace(choice, noise=NoiseName('wide'), tempered=True)
    open_sources_of(wide, checkpoint, Path('bags'), questions=0, seed=9)
    opened[1]['kitchen']([tmp_path / 'one'])
    assert [kitchens[1][name] for name in ('questions', 'each')] == [False, 1] and opened[1]['questions'] is False
    assert kitchens[1]['noise'] == noise_of('wide', CLASSES) != Noise() and kitchens[1]['temper'] is None
    open_sources_of(wide, checkpoint, Path('bags'), questions=5, seed=9)
    opened[2]['kitchen']([tmp_path / 'one'])
    assert kitchens[2]['temper'] == TEMPERED


HEAD = ('--from', 'tiny', '--tokens', 'frames', '--length', 24, '--disjoint', '--form', 'paper')


def test_every_option_of_actions_arrives(border, reach, every_option):
    prepared = border('m3et_ros.cli.train.actions.prepare_head', ('windows', 'head'))
    trained = border('m3et_ros.training.actions.train_head', last=True)
    line = ['train', 'actions', '--data', 'one', '--data', 'two', '--out', 'runs/x', *HEAD, *BUDGET, *SESSION]
    reach(*line)
    (call,) = prepared
    assert (call['checkpoint'].model_id, call['data']) == ('tiny-random-0', [Path('one'), Path('two')])
    assert call['folder'] == Path('frames')
    assert call['options'] == HeadOptions(start='tiny', tokens=Path('frames'), length=24, shared=False, form='paper')
    assert call['session'] == SessionOptions(minutes=1.5, seed=9, bf16=True, resume=True)
    (call,) = trained
    assert call['recipe'] == Act(samples=64, batch=8, lr=0.002) and call['seed'] == 9
    assert (call['head'], call['data'], call['folder']) == ('head', 'windows', Path('runs/x'))
    check_session(call['session'], minutes=1.5, resume=True)
    labels = border('m3et_ros.cli.train.actions.train_on_labels')
    history = ['train', 'actions', '--epic', 'e', '--history', '--members', 2, '--held-out', 7, '--out', 'runs/x']
    history += ['--held-out-people', 3]
    history += [*BUDGET, *SESSION, '--json']
    assert main([*map(str, history)]) == 0
    assert labels == [
        {
            'options': HistoryOptions(epic=Path('e'), history=True, members=2, held_out=7, held_out_people=3),
            'out': Path('runs/x'),
            'budget': BudgetOptions(samples=64, batch=8, lr=0.002),
            'session': SessionOptions(minutes=1.5, seed=9, bf16=True, resume=True),
            'command': 'm3et train actions --out runs/x --epic e --history --members 2 --held-out 7 '
            '--held-out-people 3 --samples 64 --batch 8 --lr 0.002 --minutes 1.5 --seed 9 --bf16 --resume --json',
            'as_json': True,
        }
    ]
    clips = ['--features', '--frames', '--fps', '--task', '--clip', '--questions', '--mixup']  # test_clips.py
    clips += ['--qa', '--augmented']
    every_option(line, history, clips)


def test_encoded_frames_are_below_the_run_by_default(border, reach):
    prepared = border('m3et_ros.cli.train.actions.prepare_head', last=True)
    reach('train', 'actions', '--data', 'one', '--out', 'runs/x', '--from', 'tiny')
    assert prepared[0]['folder'] == Path('runs/x/tokens')


@pytest.mark.parametrize(('shared', 'form'), [('--shared', 'paper'), ('--disjoint', 'stream')])
def test_rate_form_and_precision_arrive_at_the_head(border, reach, shared, form):
    border('m3et_ros.cli.train.actions.check_training_split')
    border('m3et_ros.data.kitchen.cache.episodes.frame_rate', 2.5)
    border('m3et_ros.runtime.open_model.open_checkpoint', open_checkpoint('tiny'))
    config = border('m3et_ros.runtime.open_model.action_config', 'config')
    encoded = border('m3et_ros.data.features.episodes.encode_episodes', last=True)
    reach('train', 'actions', '--data', 'one', '--out', 'runs/x', '--from', 'tiny', shared, '--bf16', '--form', form)
    assert (config[0]['rate_hz'], config[0]['shared_A']) == (2.5, shared == '--shared')
    assert config[0]['paper'] == encoded[0]['whole'] == (form == 'paper')
    assert encoded[0]['bf16'] is True and Path('runs/x/tokens') in encoded[0].values()


def test_every_option_of_memory_arrives(border, reach, every_option):
    checked = border('m3et_ros.cli.train.memory.check_training_split')
    trained = border('m3et_ros.training.memory.run.train_memory', last=True)
    line = ['train', 'memory', '--data', 'one', '--data', 'two', '--out', 'runs/x', '--from', 'tiny', '--frames', 48]
    line += ['--episodes', 24, '--asked', 12, '--batch', 6, '--questions', 5, '--minutes', 1.5, '--seed', 9, '--bf16']
    reach(*line)
    assert [*checked[0].values()] == [[Path('one'), Path('two')]]
    (call,) = trained
    assert call['checkpoint'].model_id == 'tiny-random-0' and call['seed'] == 9
    assert (call['folders'], call['out']) == ([Path('one'), Path('two')], Path('runs/x'))
    recipe = call['recipe']
    steps = (recipe.see, recipe.tell, recipe.remember)
    assert [(one.samples, one.batch) for one in steps] == [(48, 6), (24, 6), (12, 6)] and recipe.each == 5
    check_session(call['session'], minutes=1.5, bf16=True, resume=True)
    every_option(line, ['--json'])


def test_sizes_of_the_memory_that_are_not_given_stay_those_of_the_recipes():
    before, after = memory_recipe(MemoryBudget()), memory_recipe(MemoryBudget(episodes=4096))
    assert after.tell.samples == 4096 and (after.see, after.remember) == (before.see, before.remember)
