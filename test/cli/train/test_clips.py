"""m3et train actions and m3et evaluate epic on clips of made-up pictures with the official classes."""

import csv
import json

import pytest
from epic_pictures import make_pictures, write_videomae

from m3et_ros.cli.main import main
from m3et_ros.data.checkpoints.video import load_video

SMALL = ('--batch', 2, '--clip', 3, '--held-out', 1)


def command(*words):
    return main([*map(str, words)])


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Annotations, pictures, features of a VideoMAE, and questions of a file."""
    root = make_pictures(tmp_path_factory.mktemp('epic'))
    line = ('--frames', root / 'pictures', '--backbone', write_videomae(root / 'videomae'), '--rate', 2, '--span', 1)
    assert command('features', '--epic', root / 'annotations', *line, '--out', root / 'features') == 0
    asked = {}
    for file in ('train', 'validation'):
        with (root / f'annotations/EPIC_100_{file}.csv').open() as table:
            asked |= {
                row['narration_id']: {'noun': 'What is <mask>?', 'verb': 'What now?'} for row in csv.DictReader(table)
            }
    (root / 'questions.json').write_text(json.dumps(asked))
    return root


def train(world, out, *options):
    return command('train', 'actions', '--epic', world / 'annotations', '--out', out, *SMALL, *options)


def evaluate(world, run, out, *options):
    line = ('evaluate', 'epic', '--epic', world / 'annotations', '--model', run / 'checkpoint', '--out', out)
    return command(*line, *options)


def test_anticipation_from_features_to_the_challenge(world, tmp_path, capsys):
    run = tmp_path / 'run'
    options = ('--features', world / 'features', '--task', 'anticipation', '--samples', 8, '--mixup', 0.5)
    assert train(world, run, *options, '--json') == 0
    assert json.loads(capsys.readouterr().out)['losses'].keys() == {'verb', 'noun'}
    made = load_video(run / 'checkpoint')
    assert (made.config.verbs, made.config.nouns, made.config.d_in) == (97, 300, 32)
    assert (made.observation.task, made.observation.frames, made.observation.gap_s) == ('anticipation', 3, 1.0)
    assert made.features['backbone'].startswith('videomae') and len(made.learnt) == 2 and len(made.held_out) == 1
    card = (run / 'checkpoint/README.md').read_text()
    assert 'mixup 0.5' in card and '1 held' not in card and 'learnt from: 2; held out: 1' in card
    for name in 'ab':
        assert evaluate(world, run, tmp_path / name, '--features', world / 'features', '--split', 'validation') == 0
    assert 'Next action from 3 rows of features up to 1 s before the action; 2 segments' in capsys.readouterr().out
    for name in ('metrics.json', 'per_sample.csv', 'challenge.json'):
        assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes()
    metrics = json.loads((tmp_path / 'a/metrics.json').read_text())['metrics']
    assert metrics['unseen_participants'] == ['P03'] and metrics['questions'] == 'made'
    with (tmp_path / 'a/per_sample.csv').open() as file:
        hits = [int(row['action_rank_plain']) < 1 for row in csv.DictReader(file)]
    assert metrics['scores']['plain']['all']['action']['top1']['value'] == sum(hits) / 2
    challenge = json.loads((tmp_path / 'a/challenge.json').read_text())
    assert challenge['challenge'] == 'action_anticipation' and set(challenge['results']) == {'P03_01_0', 'P03_01_1'}


def test_answers_in_words_and_augmented_features(world, tmp_path, capsys):
    line = ('--frames', world / 'pictures', '--backbone', world / 'videomae', '--rate', 2, '--span', 1, '--randaugment')
    for seed in (1, 2):
        more = ('features', '--epic', world / 'annotations', '--split', 'train', *line, seed)
        assert command(*more, '--out', tmp_path / f'more{seed}') == 0
    both = ('--augmented', tmp_path / 'more1', '--augmented', tmp_path / 'more2')
    capsys.readouterr()
    options = ('--features', world / 'features', *both, '--qa', 0.5, '--samples', 8, '--json')
    assert train(world, tmp_path / 'run', *options) == 0
    assert json.loads(capsys.readouterr().out)['losses'].keys() == {'verb', 'noun', 'verb_words', 'noun_words'}
    assert 'qa 0.5' in (tmp_path / 'run/checkpoint/README.md').read_text()
    line = ('--features', world / 'features', '--split', 'validation')
    assert evaluate(world, tmp_path / 'run', tmp_path / 'out', *line) == 0
    capsys.readouterr()
    plain = ('--features', world / 'features', '--augmented', world / 'features')
    assert train(world, tmp_path / 'x', *plain, '--samples', 2) == 1
    assert 'holds features of unchanged pictures' in capsys.readouterr().err
    assert train(world, tmp_path / 'x', '--frames', world / 'pictures', *both, '--samples', 2) == 1
    assert 'Augmented features are added to others; give --features' in capsys.readouterr().err


def test_recognition_from_pictures_that_m3et_encodes(world, tmp_path, capsys):
    options = ('--frames', world / 'pictures', '--from', 'tiny', '--samples', 2)
    assert train(world, tmp_path / 'run', *options, '--disjoint') == 0
    assert 'clips, 1 of 1 steps' in capsys.readouterr().out
    made = load_video(tmp_path / 'run/checkpoint')
    assert made.features['backbone'] == 'tiny-random-0' and made.observation.task == 'recognition'
    assert made.features['width'] == made.config.d_in and not made.config.shared_A
    files = sorted(path.stem for path in (tmp_path / 'run/features').glob('*.npy'))
    assert files == sorted(made.learnt)
    assert evaluate(world, tmp_path / 'run', tmp_path / 'out', '--features', world / 'features') == 1
    assert 'holds other features' in capsys.readouterr().err
    (tmp_path / 'more').mkdir()
    for path in (world / 'features').glob('*.npy'):
        (tmp_path / 'more' / path.name).symlink_to(path)
    line = ('--features', tmp_path / 'more', '--fps', 2)
    assert evaluate(world, tmp_path / 'run', tmp_path / 'out', *line) == 1
    assert 'The features have 32 numbers and the model takes' in capsys.readouterr().err
    line = ('--epic', world / 'annotations', '--frames', world / 'pictures', '--split', 'validation')
    assert command('features', *line, '--backbone', 'tiny', '--out', tmp_path / 'tiny', '--device', 'cpu') == 0
    line = ('--features', tmp_path / 'tiny', '--split', 'validation')
    assert evaluate(world, tmp_path / 'run', tmp_path / 'out', *line) == 0


def test_questions_of_a_file_are_needed_in_both(world, tmp_path, capsys):
    asked = ('--questions', world / 'questions.json')
    features = ('--features', world / 'features', '--fps', 2)
    assert train(world, tmp_path / 'run', *features, *asked, '--samples', 2) == 0
    assert load_video(tmp_path / 'run/checkpoint').questions == 'file'
    assert evaluate(world, tmp_path / 'run', tmp_path / 'out', *features) == 1
    assert 'give --questions' in capsys.readouterr().err
    assert evaluate(world, tmp_path / 'run', tmp_path / 'out', *features, *asked, '--no-challenge') == 0
    assert 'Present action from 3 rows of features of the action' in capsys.readouterr().out
    assert not (tmp_path / 'out/challenge.json').exists()


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (('--features', 'x', '--frames', 'y'), 'one of the three'),
        (('--features', 'x', '--history'), 'one of the three'),
        (('--features', 'x', '--data', 'cache'), 'without --data'),
        (('--features', 'nowhere'), 'nowhere'),
        (('--features', 'nowhere', '--held-out', 3), '3 of 3 videos cannot be held out'),
        (('--features', 'nowhere', '--mixup', 101), 'mixup is 101'),
    ],
    ids=['two', 'history', 'kitchens', 'no folder', 'no video', 'mixup'],
)
def test_what_cannot_be_done_is_one_sentence(world, tmp_path, capsys, options, words):
    assert train(world, tmp_path / 'run', *options) == 1
    shown = capsys.readouterr().err
    assert words in shown.splitlines()[-1] and 'Traceback' not in shown


def test_clips_need_annotations(tmp_path, capsys):
    assert command('train', 'actions', '--features', 'x', '--out', tmp_path) == 1
    assert 'Give --epic DIR' in capsys.readouterr().err
