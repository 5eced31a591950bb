"""Clips of features: the rows that are observed, their questions, and the folder that names its rate."""

import json

import numpy as np
import pytest

from m3et_ros.data.epic.annotations import Segment
from m3et_ros.data.epic.class_lists import Video
from m3et_ros.data.epic.clips import Clips, CollateClips, open_features, read_index
from m3et_ros.data.epic.frames import ObservedClip
from m3et_ros.data.errors import InputError
from m3et_ros.data.tokenizer import Tokenizer

SEGMENTS = [Segment('P01_01_0', 'P01_01', 'P01', 8, 10, 3, 5), Segment('P01_01_1', 'P01_01', 'P01', 2, 3, 1, 2)]
QUESTIONS = {'P01_01_0': ('which thing', 'what is done'), 'P01_01_1': ('which', 'what')}


@pytest.fixture
def folder(tmp_path):
    """Features that are the time of their row, at two a second."""
    np.save(tmp_path / 'P01_01.npy', np.arange(40, dtype=np.float32)[:, None] / 2)
    (tmp_path / 'features.json').write_text(json.dumps({'backbone': 'x', 'rate_hz': 2.0}))
    return open_features(tmp_path, None, {})


@pytest.mark.parametrize(
    ('observation', 'times'),
    [
        (ObservedClip('recognition', 3), [[8, 9, 10], [2, 2.5, 3]]),
        (ObservedClip('anticipation', 3), [[2, 4.5, 7], [0, 0, 1]]),
        (ObservedClip('anticipation', 2, length_s=1, gap_s=0.5), [[6.5, 7.5], [0.5, 1.5]]),
    ],
    ids=['recognition', 'anticipation', 'another gap'],
)
def test_the_rows_are_those_of_the_action_or_before_it(folder, observation, times):
    data = Clips(SEGMENTS, folder, QUESTIONS, observation)
    assert [clip.features[:, 0].tolist() for clip in (data[0], data[1])] == times
    assert data[1].label == (1, 2) and data[1].key == 'P01_01_1' and len(data) == 2


def test_a_clip_is_drawn_from_all_folders_anew_in_every_epoch(folder, tmp_path):
    (tmp_path / 'more').mkdir()
    np.save(tmp_path / 'more/P01_01.npy', np.arange(100, 140, dtype=np.float32)[:, None] / 2)
    more = open_features(tmp_path / 'more', 2.0, {})
    data = Clips(SEGMENTS, folder, QUESTIONS, ObservedClip('recognition', 3), augmented=[more], seed=1)

    def drawn():
        found = []
        for epoch in range(40):
            data.epoch = epoch
            found.append(float(data[0].features[0, 0]))
        return found

    assert set(drawn()) == {8.0, 58.0} and drawn() == drawn() and 10 < drawn().count(8.0) < 30


def test_tensors_of_a_batch(folder):
    data = Clips(SEGMENTS, folder, QUESTIONS, ObservedClip('recognition', 3))
    tokenizer = Tokenizer.train([text for pair in QUESTIONS.values() for text in pair], vocabulary=64)
    tensors, keys = CollateClips(tokenizer)([data[0], data[1]])
    assert tensors['video'].shape == (2, 3, 1) and tensors['label'].tolist() == [[3, 5], [1, 2]]
    assert tokenizer.decode(tensors['noun_ids'][0].tolist()) == 'which thing'
    assert tokenizer.decode(tensors['verb_ids'][1].tolist()) == 'what'
    assert tensors['noun_mask'].sum(1).tolist() == [4, 3] and keys == ['P01_01_0', 'P01_01_1']


def test_the_rate_is_given_written_or_official(tmp_path, folder):
    assert folder.fps == 2.0 and open_features(tmp_path, 5.0, {}).fps == 5.0
    (tmp_path / 'features.json').write_text('{"backbone": "x"}')
    with pytest.raises(InputError, match='names no rate'):
        read_index(tmp_path)
    (tmp_path / 'features.json').unlink()
    assert read_index(tmp_path) == {}
    assert open_features(tmp_path, None, {'P01_01': Video(20, 50)}).fps is None
    with pytest.raises(ValueError, match='fps is -1'):
        open_features(tmp_path, -1, {})


@pytest.mark.parametrize(
    ('fields', 'words'),
    [({'task': 'guess'}, "task is 'guess'"), ({'frames': 0}, 'frames is 0'), ({'gap_s': -1}, 'gap_s is -1')],
    ids=['task', 'frames', 'gap'],
)
def test_an_observation_out_of_range_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        ObservedClip(**fields)
