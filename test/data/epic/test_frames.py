"""Clips from folders of pictures and features: what is seen ends a second before the action; gaps are counted."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from safetensors.numpy import save_file

from m3et_ros.data.epic.annotations import Segment
from m3et_ros.data.epic.class_lists import Video
from m3et_ros.data.epic.frames import Clip, FeatureFolder, FrameFolders, lacking, official_rate
from m3et_ros.data.errors import InputError

VIDEOS = {'P01_01': Video(4.0, 59.94)}
TEN = 10.0
"""Pictures a second of the folder `root`."""
ACTION = Segment('P01_01_3', 'P01_01', 'P01', 3.0, 3.5, 0, 0)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / 'P01/rgb_frames/P01_01'
    folder.mkdir(parents=True)
    for number in range(1, 41):
        cv2.imwrite(str(folder / f'frame_{number:010d}.jpg'), np.full((8, 8, 3), 5 * number, np.uint8))
    return tmp_path


def shades(pictures):
    """Numbers of the pictures, by their grey."""
    return [round(float(picture.mean()) / 5) for picture in pictures]


@pytest.mark.parametrize('fps, last', [(50.0, 950), (59.94, 1138), (30.0, 570)])
def test_the_same_time_is_found_at_every_rate(fps, last):
    found = Clip(frames=3, length_s=5).indices(Segment('a', 'v', 'P', 20.0, 21.0, 0, 0), fps)
    assert found[-1] == last and found[0] == int(14 * fps)


def test_a_clip_ends_a_second_before_the_action(root):
    pictures = FrameFolders(root, VIDEOS, fps=TEN).clip(ACTION, Clip(frames=5, length_s=2))
    assert pictures.shape == (5, 8, 8, 3) and pictures.dtype == np.uint8
    # Picture n is taken at (n - 1) / 10 s; the action starts at 3 s, so nothing after 2 s, picture 21, is seen.
    assert shades(pictures) == [1, 6, 11, 16, 21]


def test_moments_before_the_video_become_its_start(root):
    early = Segment('a', 'P01_01', 'P01', 0.5, 1.0, 0, 0)
    assert shades(FrameFolders(root, VIDEOS, fps=TEN).clip(early, Clip(frames=3))) == [1, 1, 1]


def test_gaps_are_refused_or_counted(root):
    for number in (1, 11, 12):
        (root / f'P01/rgb_frames/P01_01/frame_{number:010d}.jpg').unlink()
    with pytest.raises(InputError, match='lacks 3 of 40 pictures .first frame_0000000001.jpg.') as caught:
        FrameFolders(root, VIDEOS, fps=TEN).clip(ACTION)
    assert caught.value.reason == 'frame_gaps'
    folders = FrameFolders(root, VIDEOS, fps=TEN, missing=3)
    assert folders.notes == ()
    assert shades(folders.clip(ACTION, Clip(frames=5, length_s=2))) == [2, 6, 10, 16, 21]
    (note,) = folders.notes
    assert (note.kind, note.count) == ('frame_gaps', 3) and 'P01_01' in note.text


@pytest.mark.parametrize(
    ('recorded', 'official'),
    [(50.0, 50), (50.0000001, 50), (59.9400599, 60), (29.97, 60), (47.952, 60), (90.0, 60), (60.0, 60), (25.0, 60)],
)
def test_official_pictures_are_50_or_60_a_second(recorded, official):
    assert official_rate(Video(100, recorded)) == official


def official_folder(root, video, pictures):
    """Make a folder of so many empty files: paths are looked up, no picture is read."""
    folder = root / video[:3] / 'rgb_frames' / video
    folder.mkdir(parents=True)
    for number in range(1, pictures + 1):
        (folder / f'frame_{number:010d}.jpg').touch()
    return root


def pictures_of(folders, segment):
    return [int(path.stem.removeprefix('frame_')) for path in folders.paths(segment, Clip(frames=2, length_s=1))]


@pytest.mark.parametrize(('recorded', 'rate'), [(90.0, 60), (29.97, 60), (59.94, 60), (50.0, 50)])
def test_a_clip_shows_the_official_picture_one_second_before_the_action(tmp_path, recorded, rate):
    root = official_folder(tmp_path, 'P18_09', 12 * rate)
    videos = {'P18_09': Video(12.0, recorded)}
    # The frame number of the official file is that of the picture at the start of the action.
    action = Segment('P18_09_30', 'P18_09', 'P18', 10.0, 11.0, 0, 0, start_frame=10 * rate)
    folders = FrameFolders(root, videos)
    assert pictures_of(folders, action) == [8 * rate + 1, 9 * rate + 1] and folders.notes == ()
    assert pictures_of(FrameFolders(root, videos, fps=rate / 2), action) == [4 * rate + 1, 9 * rate // 2 + 1]


def test_a_file_that_counts_at_another_rate_beside_official_pictures_is_read(tmp_path):
    folders = FrameFolders(official_folder(tmp_path, 'P01_01', 240), VIDEOS)
    assert pictures_of(folders, replace(ACTION, start_frame=90)) == [61, 121] and folders.notes == ()


def test_pictures_at_another_rate_are_refused(tmp_path):
    thirty = FrameFolders(official_folder(tmp_path, 'P01_01', 120), VIDEOS)
    with pytest.raises(InputError, match='starts at 3 s and in picture 90, which are 30 .* 60 a second; give fps') as e:
        thirty.paths(replace(ACTION, start_frame=90))
    assert e.value.reason == 'picture_rate'
    many = FrameFolders(tmp_path, {'P01_01': Video(1.3, 90.0)})
    with pytest.raises(InputError, match='holds 120 pictures of 1.3 s, 92.31 a second, and the official ones are 60'):
        many.paths(ACTION)
    assert FrameFolders(tmp_path, {'P01_01': Video(2 / 1.019, 90.0)}).paths(ACTION)
    with pytest.raises(ValueError, match='fps is 0'):
        FrameFolders(tmp_path, VIDEOS, fps=0)


def test_folders_with_too_few_pictures_are_counted(tmp_path):
    folders = FrameFolders(official_folder(tmp_path, 'P01_01', 120), VIDEOS)
    assert pictures_of(folders, ACTION) == [61, 120]
    # 3.9 s is within a second of the time of the segment, so its number does not contradict.
    folders.paths(replace(ACTION, start_frame=234))
    (note,) = folders.notes
    assert (note.kind, note.count) == ('short_folder', 1) and 'P01_01' in note.text and 'give fps' in note.text


def test_missing_pictures_and_rates_are_named(root):
    with pytest.raises(InputError, match='P01_02'):
        FrameFolders(root, VIDEOS, fps=TEN).clip(Segment('a', 'P01_02', 'P01', 3, 4, 0, 0))
    with pytest.raises(InputError, match='lacks P01_01'):
        FrameFolders(root, {}).clip(ACTION)


def test_features_are_read_at_times(tmp_path):
    table = np.arange(24, dtype=np.float32).reshape(12, 2)
    np.save(tmp_path / 'P01_01.npy', table)
    save_file({'features': table + 100}, tmp_path / 'P01_02.safetensors')
    clip = Clip(frames=3, length_s=1)
    np.testing.assert_array_equal(FeatureFolder(tmp_path, fps=4).clip(ACTION, clip), table[[4, 6, 8]])
    other = Segment('a', 'P01_02', 'P01', 9.0, 9.5, 0, 0)
    np.testing.assert_array_equal(FeatureFolder(tmp_path, fps=4).clip(other, clip), table[[11] * 3] + 100)
    # At the rate of the official pictures, 60 a second, all moments lie behind the 12 rows.
    np.testing.assert_array_equal(
        FeatureFolder(tmp_path, videos={'P01_01': Video(4, 29.97)}).clip(ACTION, clip), table[[11] * 3]
    )
    assert lacking(['P01_03', 'P01_01'], tmp_path) == ['P01_03']


@pytest.mark.parametrize(
    'table, said',
    [
        (np.zeros(3, np.float32), r'float32 \(3,\)'),
        (np.zeros((0, 4), np.float32), r'\(0, 4\)'),
        (np.array([[object()]]), 'cannot be read'),
        (np.full((4, 2), np.nan, np.float32), 'not all finite'),
    ],
)
def test_damaged_features_are_refused(tmp_path, table, said):
    np.save(tmp_path / 'P01_01.npy', table, allow_pickle=True)
    with pytest.raises(InputError, match=said):
        FeatureFolder(tmp_path, fps=4).clip(ACTION)


def test_missing_features_are_named(tmp_path):
    with pytest.raises(InputError, match='P01_01.npy'):
        FeatureFolder(tmp_path, fps=4).clip(ACTION)
    with pytest.raises(ValueError, match='fps is None'):
        FeatureFolder(tmp_path)


@pytest.mark.parametrize('field, value', [('frames', 0), ('frames', True), ('length_s', -1.0), ('gap_s', float('nan'))])
def test_clips_out_of_range_are_refused(field, value):
    with pytest.raises(ValueError, match=f'{field} is'):
        Clip(**{field: value})


def test_a_moment_on_a_picture_is_that_picture_however_it_is_rounded():
    """1.14 s - 1 s at 50 pictures a second is 6.999999999999995 in floating point."""
    assert Clip(frames=1).indices(Segment('a', 'v', 'P', 1.14, 2.0, 0, 0), 50.0).tolist() == [7]


def test_a_clip_of_one_picture_is_the_last_one():
    assert Clip(frames=1, length_s=0, gap_s=0).times(ACTION).tolist() == [3.0]


@pytest.mark.parametrize(('field', 'value'), [('frames', 1), ('frames', 100_000), ('length_s', 0), ('gap_s', 0)])
def test_the_edges_of_a_clip_are_accepted(field, value):
    assert getattr(Clip(**{field: value}), field) == value
    with pytest.raises(ValueError, match='frames is 100001'):
        Clip(frames=100_001)


def test_as_many_pictures_as_allowed_may_be_missing(root):
    (root / 'P01/rgb_frames/P01_01/frame_0000000005.jpg').unlink()
    assert len(FrameFolders(root, VIDEOS, fps=TEN, missing=1).clip(ACTION)) == 16
    with pytest.raises(InputError, match='lacks 1 of 40 pictures .* and 0 may be missing'):
        FrameFolders(root, VIDEOS, missing=0).clip(ACTION)
    with pytest.raises(ValueError, match='missing is -1'):
        FrameFolders(root, VIDEOS, missing=-1)
