"""Videos: colours come back bit for bit, and a video that lacks a frame is refused."""

import sys

import av
import numpy as np
import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.data.lerobot.video import VideoWriter, read_video

SIZE = (24, 34)


def pictures(count):
    return np.random.default_rng(0).integers(0, 256, (count, *SIZE, 3), np.uint8)


def film(path, frames, codec='lossless', fps=10):
    with VideoWriter(path, codec, frames.shape[1:3], fps) as video:
        for frame in frames:
            video.write(frame)
        assert video.frames == len(frames)
    return path


def test_lossless_colours_come_back_bit_for_bit_from_any_frame_on(tmp_path):
    frames = pictures(9)
    path = film(tmp_path / 'a.mp4', frames)
    for start, count in ((0, 9), (3, 4), (8, 1)):
        found = list(read_video(path, start / 10, count, 10, SIZE))
        assert np.array_equal(found, frames[start : start + count])
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ('h264', 'gbrp', 10)
        keys = [frame.key_frame for frame in file.decode(stream)]
    assert keys[0] and sum(keys) >= 3


def test_odd_sizes_are_lossless_too_and_small_videos_refuse_them(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (2, 23, 35, 3), np.uint8)
    assert np.array_equal(list(read_video(film(tmp_path / 'a.mp4', frames), 0, 2, 10, (23, 35))), frames)
    with pytest.raises(InputError, match='store them lossless or as png'):
        VideoWriter(tmp_path / 'b.mp4', 'small', (23, 35), 10)


def test_a_small_video_is_av1_and_close(tmp_path):
    frames = np.stack([np.full((64, 96, 3), (20 * i, 100, 200), np.uint8) for i in range(3)])
    path = film(tmp_path / 'a.mp4', frames, 'small')
    found = np.array(list(read_video(path, 0, 3, 10, (64, 96))))
    assert np.abs(found.astype(int) - frames).mean() < 3
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.codec.canonical_name, stream.pix_fmt) == ('av1', 'yuv420p')


def test_a_video_that_is_shorter_than_its_table_is_refused(tmp_path):
    path = film(tmp_path / 'a.mp4', pictures(4))
    frames = read_video(path, 0, 5, 10, SIZE)
    for _ in range(4):
        next(frames)
    with pytest.raises(InputError, match='no frame at 0.400 s') as refused:
        next(frames)
    assert refused.value.reason == 'lerobot_video'
    with pytest.raises(InputError, match='no frame at 9'):
        next(read_video(path, 9, 1, 10, SIZE))


def test_another_size_and_damage_are_refused(tmp_path):
    path = film(tmp_path / 'a.mp4', pictures(4))
    with pytest.raises(InputError, match='34x24 and .* gives 64x48'):
        next(read_video(path, 0, 1, 10, (48, 64)))
    whole = path.read_bytes()
    for data in (b'', b'no video', whole[: len(whole) // 3]):
        path.write_bytes(data)
        with pytest.raises(InputError) as refused:
            list(read_video(path, 0, 4, 10, SIZE))
        assert refused.value.reason == 'lerobot_video'
    with pytest.raises(InputError, match='there is no file'):
        next(read_video(tmp_path / 'b.mp4', 0, 1, 10, SIZE))


def test_frames_of_another_size_are_not_written(tmp_path):
    with (
        VideoWriter(tmp_path / 'a.mp4', 'lossless', SIZE, 10) as video,
        pytest.raises(ValueError, match='give one size'),
    ):
        video.write(np.zeros((2, 2, 3), np.uint8))


def test_without_pyav_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'av', None)
    with pytest.raises(InputError, match=r'm3et_ros\[lerobot\]'):
        VideoWriter(tmp_path / 'a.mp4', 'lossless', SIZE, 10)
