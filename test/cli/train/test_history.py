"""m3et train actions --epic DIR --history on made-up annotations."""

import json

import pytest
from epic_folder import make_folder

from m3et_ros.cli.main import main
from m3et_ros.data.checkpoints.history import load_history

SMALL = ('--samples', 24, '--batch', 4, '--members', 1, '--held-out', 3)


@pytest.fixture(scope='module')
def annotations(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp('epic'), videos=10, segments=16)


def command(*arguments):
    return main(list(map(str, arguments)))


@pytest.fixture(scope='module')
def trained(annotations, tmp_path_factory):
    out = tmp_path_factory.mktemp('runs') / 'history'
    return out, command('train', 'actions', '--epic', annotations, '--history', '--out', out, *SMALL)


def test_training_leaves_a_checkpoint_with_its_card(trained):
    out, code = trained
    assert code == 0
    checkpoint = load_history(out / 'checkpoint')
    assert len(checkpoint.learnt) == 7 and len(checkpoint.held_out) == 3
    card = (out / 'checkpoint/README.md').read_text()
    for words in ('no pixels', '--held-out 3', 'videos learnt from: 7; held out: 3', 'samples 24', 'CC BY-NC 4.0'):
        assert words in card, words


def test_a_training_that_never_meets_some_participants(annotations, tmp_path):
    options = ('--epic', annotations, '--history', '--out', tmp_path / 'run', *SMALL, '--held-out-people', 1)
    assert command('train', 'actions', *options) == 0
    checkpoint = load_history(tmp_path / 'run/checkpoint')
    people = [{video[:3] for video in videos} for videos in (checkpoint.learnt, checkpoint.held_out)]
    assert [len(own) for own in people] == [3, 1] and not people[0] & people[1]
    assert set(checkpoint.participants) == people[0]


def test_a_training_in_two_sessions(annotations, tmp_path, capsys):
    options = ('train', 'actions', '--epic', annotations, '--history', '--out', tmp_path / 'run', *SMALL)
    assert command(*options, '--minutes', 0) == 0
    assert 'with --resume continues it' in capsys.readouterr().out
    assert command(*options, '--resume', '--json') == 0
    done = json.loads(capsys.readouterr().out)
    assert done['members'] == 1 and set(done['corrections']) == {'verb', 'noun', 'action'}


@pytest.mark.parametrize(
    'arguments, said',
    [
        (('--epic', 'X', '--out', 'o'), 'Give --epic DIR with --history'),
        (('--history', '--out', 'o'), 'Give --epic DIR with --history'),
        (('--epic', 'X', '--history', '--data', 'd', '--out', 'o'), 'without --data'),
        (('--epic', 'nowhere', '--history', '--out', 'o'), 'nowhere/EPIC_100_verb_classes.csv cannot be read'),
        (('--epic', 'X', '--history', '--out', 'o'), 'too few to hold out 80'),
        (('--epic', 'X', '--history', '--out', 'o', '--lr', 5), 'lr is 5'),
    ],
)
def test_training_refuses_in_one_sentence(annotations, capsys, arguments, said):
    assert command('train', 'actions', *(annotations if word == 'X' else word for word in arguments)) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert said in told and told.startswith('m3et: ')
