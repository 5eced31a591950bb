"""m3et features on made-up pictures: files of features, and pictures at another rate are refused."""

import csv
import json

import numpy as np
import pytest
from epic_folder import COLUMNS, write
from epic_pictures import make_pictures, write_videomae

from m3et_ros.cli.main import main

OPTIONS = ('--rate', 2, '--span', 1, '--batch', 3, '--missing', 0, '--device', 'cpu')
AUGMENT = ('--randaugment', 3)


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    root = make_pictures(tmp_path_factory.mktemp('epic'))
    write_videomae(root / 'videomae')
    return root


def features(root, out, *options):
    line = ('features', '--epic', root / 'annotations', '--frames', root / 'pictures', '--backbone', root / 'videomae')
    return main([*map(str, (*line, '--out', out, *options))])


def test_every_video_of_both_splits_gets_its_features(world, tmp_path, capsys):
    assert features(world, tmp_path, *OPTIONS, '--json') == 0
    document = json.loads(capsys.readouterr().out)
    assert (document['videos'], document['width'], document['rate_hz'], document['span_s']) == (4, 32, 2.0, 1.0)
    files = sorted(path.name for path in tmp_path.glob('*.npy'))
    assert files == ['P01_01.npy', 'P01_02.npy', 'P02_01.npy', 'P03_01.npy']
    table = np.load(tmp_path / 'P03_01.npy')
    assert table.shape == (8, 32) and np.isfinite(table).all() and abs(table[0] - table[7]).max() > 1e-3


def test_one_split_alone(world, tmp_path, capsys):
    assert features(world, tmp_path, *OPTIONS, '--split', 'validation', *AUGMENT) == 0
    assert json.loads((tmp_path / 'features.json').read_text())['randaugment'] == 3
    assert [path.name for path in tmp_path.glob('*.npy')] == ['P03_01.npy']
    assert '1 videos in' in capsys.readouterr().out


def test_frame_numbers_of_another_rate_are_refused(world, tmp_path, capsys):
    """Half of the pictures are there, so their number alone says nothing, and the annotations count 60 a second."""
    with (world / 'annotations/EPIC_100_validation.csv').open() as file:
        rows = [row | {'start_frame': 600} for row in csv.DictReader(file)]
    video, own = world / 'pictures/P03/rgb_frames/P03_01', tmp_path / 'pictures/P03/rgb_frames/P03_01'
    own.mkdir(parents=True)
    for path in sorted(video.iterdir())[:100]:
        (own / path.name).symlink_to(path)
    split = write(tmp_path / 'other.csv', COLUMNS, rows)
    line = (*OPTIONS, '--split', split, '--frames', tmp_path / 'pictures')
    assert features(world, tmp_path / 'out', *line) == 1
    assert 'pictures a second, and the official ones of P03_01 are 50' in capsys.readouterr().err
    assert features(world, tmp_path / 'out', *line, '--fps', 25) == 0
    assert np.load(tmp_path / 'out/P03_01.npy').shape == (8, 32)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (('--rate', 0), 'rate_hz is 0'),
        (('--backbone', 'nowhere'), 'no folder nowhere'),
        (('--frames', 'nowhere'), 'nowhere'),
    ],
    ids=['rate', 'backbone', 'frames'],
)
def test_what_cannot_be_done_is_one_sentence(world, tmp_path, capsys, options, words):
    assert features(world, tmp_path, *options) == 1
    assert words in capsys.readouterr().err


def test_every_option_is_tested(every_option):
    every_option(
        ['features', '--epic', '--frames', '--backbone', '--out', *OPTIONS, *AUGMENT, '--split', '--fps', '--json']
    )
