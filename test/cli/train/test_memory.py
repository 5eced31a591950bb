"""m3et train memory, on real, small episodes, and what it leaves."""

import json

import pytest

from m3et_ros.cli.main import main
from m3et_ros.data.checkpoints.m3et import load_checkpoint
from m3et_ros.data.kitchen.cache.generate import generate

SHORT = ('--frames', 16, '--episodes', 4, '--asked', 4, '--batch', 2, '--questions', 4)


@pytest.fixture(scope='module')
def caches(tmp_path_factory):
    """Ray-cast episodes of two frames a second."""
    pytest.importorskip('mujoco')
    root = tmp_path_factory.mktemp('caches')
    return [
        generate(
            root, seeds=seeds, size=32, stride=5, frames=40, backend='raycast', version=1, workers=0, progress=False
        )
        for seeds in (range(1, 4), range(20_003, 20_005))
    ]


def command(*words):
    return main(['train', 'memory', *map(str, words)])


def test_the_checkpoint_has_model_memory_and_other_heads(caches, tmp_path, capsys):
    assert command('--data', caches[0], '--from', 'tiny', '--out', tmp_path / 'run', *SHORT, '--json') == 0
    told = json.loads(capsys.readouterr().out)
    checkpoint = load_checkpoint(tmp_path / 'run/checkpoint')
    assert told['done'] and told['model_id'] == checkpoint.model_id and set(told['steps']) == {'eye', 'diary', 'reader'}
    assert set(checkpoint.heads) == {'mambavl', 'episode'}
    config = checkpoint.heads['episode'].config
    assert config.rate_hz == 2.0 and 'yes' in config.answers
    card = (tmp_path / 'run/checkpoint/README.md').read_text()
    assert 'train memory' in card and 'reader: 2 of 2 steps' in card and '--questions 4' in card
    assert command('--data', caches[0], '--from', 'tiny', '--out', tmp_path / 'run', *SHORT) == 0
    assert 'with a memory in' in capsys.readouterr().out


def test_a_run_that_was_stopped_is_continued(caches, tmp_path, capsys):
    words = ('--data', caches[0], '--from', 'tiny', '--out', tmp_path / 'run', *SHORT)
    assert command(*words, '--minutes', 0) == 0
    assert 'the same command continues it' in capsys.readouterr().out
    for _ in range(30):
        assert command(*words, '--minutes', 0) == 0
        if 'continues it' not in capsys.readouterr().out:
            break
    else:
        raise AssertionError('it never ended')
    assert command('--data', caches[0], '--from', 'tiny', '--out', tmp_path / 'other', *SHORT) == 0
    first, second = (
        load_checkpoint(tmp_path / name / 'checkpoint').heads['episode'].state_dict() for name in ('run', 'other')
    )
    assert all((first[name] == value).all() for name, value in second.items())


@pytest.mark.parametrize(
    ('which', 'words', 'sentence'),
    [
        (1, (), 'no training kitchens'),
        (0, ('--asked', 1, '--batch', 8), 'give at least one batch of 8'),
        ('none', (), 'none'),
    ],
)
def test_a_training_that_cannot_be_done_is_one_sentence(caches, tmp_path, capsys, which, words, sentence):
    data = caches[which] if isinstance(which, int) else tmp_path / which
    assert command('--data', data, '--from', 'tiny', '--out', tmp_path / 'out', *words) != 0
    said = capsys.readouterr().err
    assert sentence in said and 'Traceback' not in said
