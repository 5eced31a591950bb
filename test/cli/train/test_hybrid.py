"""m3et train hybrid on real, small kitchens: a checkpoint with replaced layers, options where they arrive, refusals."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from m3et_ros.cli.main import main
from m3et_ros.data.checkpoints.m3et import load_checkpoint
from m3et_ros.data.kitchen.cache.generate import generate
from m3et_ros.runtime.open_model import open_checkpoint
from m3et_ros.training.hybrid import Imitate


@pytest.fixture(autouse=True)
def unchanged_environment(monkeypatch):
    """The verb chooses how threads wait; nothing of it may stay behind."""
    monkeypatch.setattr(os, 'environ', os.environ.copy())


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    pytest.importorskip('mujoco')
    root = tmp_path_factory.mktemp('caches')
    return generate(root, seeds=range(3), size=32, stride=25, frames=6, backend='raycast', workers=0, progress=False)


def test_a_stopped_run_is_continued_and_its_checkpoint_differs_in_the_replaced_layers_alone(cache, tmp_path, capsys):
    line = ['train', 'hybrid', '--data', cache, '--from', 'tiny', '--out', tmp_path / 'run', '--samples', 4]
    line += ['--batch', 2, '--questions', 2, '--share', 0.4]
    assert main([*map(str, line), '--minutes', '0']) == 0
    assert 'with --resume continues it' in capsys.readouterr().out
    assert main([*map(str, line), '--resume', '--json']) == 0
    told = json.loads(capsys.readouterr().out)
    made, teacher = load_checkpoint(tmp_path / 'run/checkpoint'), open_checkpoint('tiny')
    assert told['model_id'] == made.model_id and told['step'] == 2 and set(told['losses']) == {'layer', 'prob'}
    assert (teacher.model.config.schedule, made.model.config.schedule) == ('TMTMTM', 'SMTMTM')
    before = teacher.model.state_dict()
    kept = [name for name in before if not name.startswith('encoder.layers.0.')]
    assert all(torch.equal(before[name], made.model.state_dict()[name]) for name in kept)
    card = (tmp_path / 'run/checkpoint/README.md').read_text()
    assert 'Layers SMTMTM' in card and 'm3et train hybrid' in card and 'Not measured.' in card


def test_every_option_arrives(border, reach, every_option):
    teacher = border('m3et_ros.runtime.open_model.open_checkpoint', open_checkpoint('tiny'))
    border('m3et_ros.cli.train.hybrid.check_training_split')
    samples = border('m3et_ros.data.kitchen.cache.dataset.KitchenSamples', SimpleNamespace())
    ran = border('m3et_ros.training.hybrid.imitate', last=True)
    line = ['train', 'hybrid', '--data', 'one', '--data', 'two', '--from', 'start', '--out', 'runs/x', '--share', 0.25]
    line += ['--spread', 'first', '--samples', 64, '--batch', 8, '--lr', 0.002, '--questions', 5]
    line += ['--minutes', 1.5, '--seed', 9, '--bf16', '--resume']
    reach(*line)
    assert 'start' in teacher[0].values() and [Path('one'), Path('two')] in samples[0].values()
    assert [samples[0][name] for name in ('questions', 'each', 'seed')] == [True, 5, 9]
    (call,) = ran
    assert call['recipe'] == Imitate(samples=64, batch=8, lr=0.002)
    assert [call[name] for name in ('folder', 'share', 'kind', 'seed')] == [Path('runs/x'), 0.25, 'first', 9]
    session = call['session']
    assert (session.minutes, session.bf16, session.resume, session.stop()) == (1.5, True, True, False)
    every_option(line, ['--json'])


def test_a_share_of_nothing_is_refused(cache, tmp_path, capsys):
    line = ['train', 'hybrid', '--data', cache, '--from', 'tiny', '--out', tmp_path, '--share', 0]
    assert main([*map(str, line)]) == 1
    assert 'share is 0' in capsys.readouterr().err
