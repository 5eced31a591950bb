"""Pictures of the page: values that a browser decodes, and the choice of images by their stamps."""

import threading
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from m3et_ros.cli.view.pictures import (
    OUTLINE,
    UNKNOWN_GREY,
    DepthPainter,
    NewestWorker,
    Pace,
    colour_picture,
    mask_picture,
)
from m3et_ros.data.errors import InputError
from m3et_ros.data.images.compressed import encode_depth, encode_rgb

STAMP = SimpleNamespace(sec=1_700_000_000, nanosec=5)
SECOND = 1_000_000_000


def image(pixels, encoding, stamp=STAMP):
    return SimpleNamespace(
        header=SimpleNamespace(stamp=stamp, frame_id='eye'),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels.strides[0],
        data=np.ascontiguousarray(pixels).tobytes(),
    )


def packed(form, data):
    return SimpleNamespace(header=SimpleNamespace(stamp=STAMP, frame_id='eye'), format=form, data=data)


def decoded(picture):
    return cv2.imdecode(np.frombuffer(picture.data, np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8'])
def test_colours_arrive_in_their_order_and_no_wider_than_asked(encoding):
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[:] = (250, 120, 10) if encoding == 'rgb8' else (10, 120, 250)
    picture = colour_picture(image(pixels, encoding), 40)
    assert (picture.kind, picture.size, picture.stamp_ns) == ('colour', (80, 60), STAMP.sec * SECOND + 5)
    shown = decoded(picture)
    assert shown.shape == (30, 40, 3) and np.abs(shown.astype(int) - (10, 120, 250)).max() < 6  # OpenCV reads B G R


def test_a_jpeg_of_the_camera_passes_as_it_is():
    form, data = encode_rgb(np.full((60, 80, 3), 77, np.uint8), quality=95)
    picture = colour_picture(packed(form, data), 40)
    assert picture.data == data and picture.size == (80, 60)


def test_a_png_of_the_camera_becomes_a_jpeg_of_the_width_asked():
    form, data = encode_rgb(np.full((60, 80, 3), 77, np.uint8), kind='png')
    picture = colour_picture(packed(form, data), 40)
    assert picture.data.startswith(b'\xff\xd8') and decoded(picture).shape == (30, 40, 3) and picture.size == (80, 60)


def test_class_ids_come_back_exactly():
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (decoded(mask_picture(image(ids, 'mono8'), 640)) == ids).all()
    assert (decoded(mask_picture(image(ids.repeat(2, 0).repeat(2, 1), 'mono8'), 16)) == ids).all()


def test_a_mask_of_another_encoding_is_refused():
    with pytest.raises(InputError, match='rgb8.*mono8'):
        mask_picture(image(np.zeros((4, 4, 3), np.uint8), 'rgb8'), 640)


def test_near_is_bright_unknown_is_grey_and_filled_places_have_an_outline():
    depth = np.tile(np.linspace(1, 3, 64, dtype=np.float32), (48, 1))
    measured = depth.copy()
    measured[16:32, 16:32] = np.nan
    depth[:, -8:] = np.nan
    picture = DepthPainter(640).paint(image(depth, '32FC1'), image(measured, '32FC1'))
    shown = decoded(picture).astype(int)
    assert np.abs(shown[24, 60] - UNKNOWN_GREY).max() < 40
    assert shown[40, 2].sum() > shown[40, 50].sum() + 100
    assert shown[16, 20].min() > 170 and shown[24, 31].min() > 170 and OUTLINE == (255, 255, 255)
    assert shown[24, 24].min() < 150  # the inside of the filled place keeps its colour
    assert picture.facts['filled'] == round(256 / (48 * 64), 4)
    assert 1 <= picture.facts['near'] < picture.facts['far'] <= 3 and picture.size == (64, 48)


def test_packed_measured_depth_gives_the_outline_too():
    depth = np.full((32, 32), 2, np.float32)
    measured = depth.copy()
    measured[8:24, 8:24] = np.nan
    picture = DepthPainter(640).paint(image(depth, '32FC1'), packed(*encode_depth(measured)))
    assert picture.facts['filled'] == 0.25


def test_without_measured_depth_there_is_no_outline():
    picture = DepthPainter(640).paint(image(np.full((32, 32), 2, np.float32), '32FC1'), None)
    assert 'filled' not in picture.facts and decoded(picture).std((0, 1)).max() < 3


def test_the_depth_at_a_place_is_that_of_the_newest_picture():
    painter = DepthPainter(640)
    assert painter.metres_at(0.5, 0.5) is None
    depth = np.array([[1, 2], [3, np.nan]], np.float32)
    painter.paint(image(depth, '32FC1'), None)
    assert [painter.metres_at(u, v) for u, v in ((0, 0), (0.99, 0), (0, 0.99))] == [1, 2, 3]
    assert [painter.metres_at(u, v) for u, v in ((0.99, 0.99), (1, 0), (-0.1, 0), (0, 1))] == [None] * 4


def test_the_colour_scale_follows_slowly():
    painter = DepthPainter(640)
    first = painter.paint(image(np.full((8, 8), 1, np.float32), '32FC1'), None).facts
    second = painter.paint(image(np.full((8, 8), 2, np.float32), '32FC1'), None).facts
    assert first['near'] == 1 and second['near'] == pytest.approx(1.1)


def chosen(pace, stamps):
    return [stamp for stamp in stamps if pace.due(stamp)]


def test_a_camera_of_the_rate_asked_loses_nothing_to_its_jitter():
    stamps = [SECOND + n * 100_000_000 + (40_000_000 if n % 2 else 0) for n in range(50)]
    assert chosen(Pace(10), stamps) == stamps


def test_a_faster_camera_is_thinned_to_the_rate_and_alike_for_all_its_topics():
    stamps = [SECOND + n * SECOND // 30 for n in range(300)]
    assert 99 <= len(chosen(Pace(10), stamps)) <= 101
    assert chosen(Pace(10), stamps) == chosen(Pace(10), stamps)


def test_a_recording_that_starts_over_is_shown_at_once():
    pace = Pace(10)
    assert chosen(pace, [100 * SECOND, 101 * SECOND, 3 * SECOND, 3 * SECOND + 1]) == [
        100 * SECOND,
        101 * SECOND,
        3 * SECOND,
    ]


def test_images_without_a_stamp_are_chosen_by_the_clock():
    times = iter([0.0, 0.01, 0.2])
    pace = Pace(10, clock=lambda: SECOND + round(next(times) * SECOND))
    assert [pace.due(0) for _ in range(3)] == [True, False, True]


def test_the_newest_work_of_a_name_replaces_what_waits_and_a_fault_is_told():
    failures, done, begun, go = [], [], threading.Event(), threading.Event()
    worker = NewestWorker(lambda *told: failures.append(told))

    def first():
        begun.set()
        go.wait(60)

    worker.submit('a', first)
    assert begun.wait(60)
    finished = threading.Event()

    def refuse():
        raise InputError('x', 'no picture')

    assert worker.submit('b', lambda: done.append(1)) is False
    assert worker.submit('b', lambda: done.append(2)) is True
    worker.submit('c', refuse)
    worker.submit('d', lambda: 1 / 0)
    worker.submit('e', finished.set)
    go.set()
    assert finished.wait(60)
    worker.close()
    assert done == [2] and failures[0] == ('c', 'no picture') and failures[1][0] == 'd'
    assert 'ZeroDivisionError' in failures[1][1] or 'division' in failures[1][1]
