"""Features of whole videos: a row for every moment, from the pictures just before it."""

from types import SimpleNamespace

import numpy as np
import pytest
from epic_pictures import make_pictures

from m3et_ros.data.epic.annotations import find_split, read_segments
from m3et_ros.data.epic.class_lists import read_classes, read_videos
from m3et_ros.data.epic.frames import FrameFolders
from m3et_ros.data.errors import InputError
from m3et_ros.runtime.open_model import untrained
from m3et_ros.training.video.features import FrameBackbone, Rows, extract


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Validation segments and a maker of readers of their pictures."""
    root = make_pictures(tmp_path_factory.mktemp('epic'))
    folder = root / 'annotations'
    segments = read_segments(find_split(folder, 'validation'), read_classes(folder)).segments
    return segments, lambda **options: FrameFolders(root / 'pictures', read_videos(folder), **options)


def brightness(frames):
    """A network whose features are the mean brightness of each picture; it counts its batches."""
    calls = []

    def encode(clips):
        calls.append(len(clips))
        return np.stack([clip.mean((1, 2, 3)) for clip in clips])

    return SimpleNamespace(model_id='bright', frames=frames, width=frames, encode=encode, calls=calls)


def test_a_row_ends_at_its_moment(world, tmp_path):
    segments, pictures = world
    network = brightness(3)
    index = extract(network, segments, pictures(), tmp_path, Rows(2, 1, 5))
    assert index == {'backbone': 'bright', 'frames': 3, 'width': 3, 'rate_hz': 2.0, 'span_s': 1.0}
    table = np.load(tmp_path / 'P03_01.npy')
    # Picture i, counted from 0, has brightness 40 + i; at 50 a second the row at 1.5 s shows pictures 25, 50 and 75.
    assert table.dtype == np.float16 and table.shape == (8, 3) and network.calls == [5, 3]
    np.testing.assert_allclose(table[3], [65, 90, 115], atol=1.5)
    np.testing.assert_allclose(table[0], [40, 40, 40], atol=1.5)


def test_a_second_run_goes_on_and_another_network_is_refused(world, tmp_path):
    segments, pictures = world
    extract(brightness(1), segments, pictures(), tmp_path, Rows(1, 0, 8))
    again = brightness(1)
    extract(again, segments, pictures(), tmp_path, Rows(1, 0, 8))
    assert again.calls == []
    with pytest.raises(InputError, match='another network or rate') as error:
        extract(brightness(1), segments, pictures(), tmp_path, Rows(2, 0, 8))
    assert error.value.reason == 'other_run'


def test_augmented_pictures_are_drawn_by_seed_video_and_row(world, tmp_path):
    segments, pictures = world
    tables = {}
    for name, seed in (('plain', None), ('one', 1), ('again', 1), ('two', 2)):
        index = extract(brightness(1), segments, pictures(), tmp_path / name, Rows(2, 0, 8), augment=seed)
        assert index.get('randaugment') == seed
        tables[name] = np.load(tmp_path / name / 'P03_01.npy')
    assert np.array_equal(tables['one'], tables['again'])
    assert not np.array_equal(tables['one'], tables['two']) and not np.array_equal(tables['one'], tables['plain'])
    with pytest.raises(InputError, match='another network or rate'):
        extract(brightness(1), segments, pictures(), tmp_path / 'one', Rows(2, 0, 8))


def test_m3et_encodes_single_pictures(world, tmp_path):
    segments, pictures = world
    network = FrameBackbone(untrained('tiny', 0))
    extract(network, segments, pictures(), tmp_path, Rows(1, 0, 8))
    table = np.load(tmp_path / 'P03_01.npy')
    assert table.shape == (4, network.width) and len(np.unique(table[:, 0])) > 1


@pytest.mark.parametrize(
    ('values', 'words'), [((0, 1, 1), 'rate_hz is 0'), ((1, -1, 1), 'span_s is -1'), ((1, 1, 0), 'batch is 0')]
)
def test_rows_out_of_range_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        Rows(*values)
