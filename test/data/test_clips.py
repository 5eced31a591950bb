"""Videos, pictures and webcams as sources of images; the clips are real files."""

import os

import cv2
import numpy as np
import pytest
from clip_files import rotate_by_metadata, set_steps, write_clip

from m3et_ros.data.clips import Pictures, VideoFile, Webcam, open_source, read_upright
from m3et_ros.data.errors import InputError


def shots_of(source):
    shots = list(source.shots())
    source.close()
    return shots


@pytest.mark.parametrize('fps', [5.0, 10.0, 29.97], ids=['slow', 'ten', 'broadcast'])
def test_images_of_a_video_are_apart_as_its_container_says(tmp_path, fps):
    video = VideoFile(write_clip(tmp_path / 'clip.mp4', fps=fps))
    shots = shots_of(video)
    assert [shot.time_s for shot in shots] == pytest.approx([number / fps for number in range(6)], abs=1e-3)
    assert video.period_s == pytest.approx(1 / fps, abs=1e-3) and video.problems == [] and not video.live


def test_a_variable_rate_is_kept(tmp_path):
    clip = write_clip(tmp_path / 'clip.mp4', fps=10)
    set_steps(clip, [0.5, 0.5, 2.5, 0.5, 1.0, 1.0])
    assert [shot.time_s for shot in shots_of(VideoFile(clip))] == pytest.approx(
        [0, 0.05, 0.1, 0.35, 0.4, 0.5], abs=1e-3
    )


def test_colours_are_in_the_order_red_green_blue(tmp_path):
    shots = shots_of(VideoFile(write_clip(tmp_path / 'clip.mp4')))
    assert shots[0].rgb.shape == (48, 64, 3) and shots[0].rgb.dtype == np.uint8
    for number, shot in enumerate(shots):
        assert np.abs(shot.rgb[40, 50].astype(int) - (200, 0, 20 * number)).max() < 12


def test_a_clip_that_a_phone_turned_is_upright(tmp_path):
    clip = write_clip(tmp_path / 'clip.mp4')
    rotate_by_metadata(clip)
    rgb = shots_of(VideoFile(clip))[0].rgb
    assert rgb.shape == (64, 48, 3)
    # Turned clockwise, the upper left corner is the upper right one.
    assert rgb[8, 40].min() > 200 and rgb[8, 8].min() < 60


def test_timestamps_that_do_not_grow_are_named_and_images_follow_each_other_evenly(tmp_path):
    video = VideoFile(write_clip(tmp_path / 'clip.mp4', fps=10))
    video._at_s = lambda: 0.0
    assert [shot.time_s for shot in shots_of(video)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert len(video.problems) == 1 and 'do not grow' in video.problems[0]


def test_a_clip_that_is_cut_off_says_how_much_is_left(tmp_path):
    path = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    for _ in range(40):
        writer.write(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    video = VideoFile(path)
    count = len(shots_of(video))
    assert 0 < count < 36
    assert video.problems == [f'{path} ends after {count} of about 40 images: it is cut off or damaged']


def test_what_is_no_video_is_refused(tmp_path):
    with pytest.raises(InputError, match=r'none.mp4 does not exist; give a video file') as refused:
        VideoFile(tmp_path / 'none.mp4')
    assert refused.value.reason == 'data_missing'
    with pytest.raises(InputError, match='is a folder and no regular file'):
        VideoFile(tmp_path)
    text = tmp_path / 'text.mp4'
    text.write_text('no video')
    empty = tmp_path / 'empty.mp4'
    cv2.VideoWriter(str(empty), cv2.VideoWriter_fourcc(*'mp4v'), 10, (64, 48)).release()
    cut = write_clip(tmp_path / 'cut.mp4')
    cut.write_bytes(cut.read_bytes()[:-300])
    for path in (text, empty, cut):
        with pytest.raises(InputError, match='cannot be read as a video') as refused:
            VideoFile(path)
        assert refused.value.reason == 'clip'


def test_a_picture_is_no_sequence_of_pictures(tmp_path):
    """OpenCV would take frame1.png for the first of frame1.png, frame2.png, ..."""
    for number in (1, 2, 3):
        cv2.imwrite(str(tmp_path / f'frame{number}.png'), np.zeros((48, 64, 3), np.uint8))
    assert len(shots_of(VideoFile(tmp_path / 'frame1.png'))) == 1


def write_pictures(folder, sizes):
    for number, (height, width) in sizes.items():
        image = np.zeros((height, width, 3), np.uint8)
        image[:] = (number, 0, 200)
        cv2.imwrite(str(folder / f'frame{number}.png'), image)


def test_pictures_come_in_the_order_of_their_numbers_at_the_rate_and_in_their_own_sizes(tmp_path):
    write_pictures(tmp_path, {10: (5, 7), 9: (48, 64), 100: (3, 9)})
    # A time of a file says when it was copied.
    os.utime(tmp_path / 'frame100.png', (0, 0))
    pictures = Pictures(tmp_path, 4.0)
    shots = shots_of(pictures)
    assert [tuple(shot.rgb[0, 0]) for shot in shots] == [(200, 0, 9), (200, 0, 10), (200, 0, 100)]
    assert [shot.rgb.shape[:2] for shot in shots] == [(48, 64), (5, 7), (3, 9)]
    assert [shot.time_s for shot in shots] == [0, 0.25, 0.5] and pictures.period_s == 0.25 and not pictures.live


def test_a_picture_that_cannot_be_read_is_named_and_leaves_its_place_empty(tmp_path):
    write_pictures(tmp_path, {1: (4, 4), 3: (4, 4)})
    (tmp_path / 'frame2.png').write_bytes(b'\x89PNG\r\n\x1a\n and no more')
    pictures = Pictures(tmp_path, 1.0)
    assert [shot.time_s for shot in shots_of(pictures)] == [0, 2]
    assert len(pictures.problems) == 1 and 'frame2.png is left out: ' in pictures.problems[0]


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / 'notes.txt').write_text('')
    with pytest.raises(InputError, match=r'has no picture \(.jpg, .jpeg or .png\)') as refused:
        Pictures(tmp_path, 1.0)
    assert refused.value.reason == 'clip_empty'
    with pytest.raises(InputError, match='does not exist; give a folder of pictures'):
        Pictures(tmp_path / 'none', 1.0)


def test_a_picture_is_turned_as_its_exif_tag_says(tmp_path):
    stored = np.zeros((48, 64, 3), np.uint8)
    stored[:24, :32] = 255
    _, jpeg = cv2.imencode('.jpg', stored)
    # Orientation 6: turn clockwise. A TIFF block of one entry in an APP1 segment.
    block = b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0'
    path = tmp_path / 'phone.jpg'
    path.write_bytes(
        jpeg[:2].tobytes() + b'\xff\xe1' + (len(block) + 2).to_bytes(2, 'big') + block + jpeg[2:].tobytes()
    )
    rgb = read_upright(path)
    assert rgb.shape == (64, 48, 3) and rgb[8, 40].min() > 200 and rgb[8, 8].max() < 60


def test_a_webcam_that_is_missing_or_no_camera_is_refused(tmp_path):
    with pytest.raises(InputError, match=r'/dev/video987 does not exist; this machine has') as refused:
        Webcam('987')
    assert refused.value.reason == 'webcam'
    file = tmp_path / 'video0'
    file.write_text('')
    with pytest.raises(InputError, match=r'cannot be opened as a webcam: another program uses it'):
        Webcam(str(file))


def test_a_webcam_gives_images_of_now_until_it_is_unplugged(tmp_path, monkeypatch):
    """No machine of the tests has a webcam: a clip takes its place behind the capture of OpenCV."""
    clip = write_clip(tmp_path / 'clip.mp4', images=3)
    monkeypatch.setattr('m3et_ros.data.clips._opened', lambda source, backend: cv2.VideoCapture(source, cv2.CAP_FFMPEG))
    webcam = Webcam(str(clip))
    assert webcam.live and webcam.name == str(clip)
    shots = webcam.shots()
    taken = [next(shots) for _ in range(3)]
    assert [shot.time_s for shot in taken] == [None] * 3
    assert np.abs(taken[1].rgb[40, 50].astype(int) - (200, 0, 20)).max() < 12
    with pytest.raises(InputError, match='gives no images: it was unplugged') as refused:
        next(shots)
    assert refused.value.reason == 'webcam'
    webcam.close()


@pytest.mark.parametrize(
    'given', [{}, {'video': 'a', 'pictures': 'b'}, {'webcam': '0', 'video': 'a'}], ids=['none', 'two', 'other']
)
def test_one_source_must_be_given(given):
    with pytest.raises(InputError, match='Give one source') as refused:
        open_source(**given)
    assert refused.value.reason == 'source'


def test_the_source_is_the_one_that_was_given(tmp_path):
    clip = write_clip(tmp_path / 'clip.mp4')
    write_pictures(tmp_path, {1: (4, 4)})
    assert isinstance(open_source(video=str(clip)), VideoFile)
    pictures = open_source(pictures=str(tmp_path), rate_hz=8.0)
    assert isinstance(pictures, Pictures) and pictures.period_s == 0.125
    with pytest.raises(InputError, match='/dev/video987'):
        open_source(webcam='987')
