"""The topics of the camera in a bag, recognised by the content of their images."""

import cv2
import numpy as np
import pytest

from m3et_ros.data.bags.reader import COMPRESSED_IMAGE, IMAGE, BagReader
from m3et_ros.data.bags.topics import CameraTopics, find_camera
from m3et_ros.data.bags.writer import COLOR_TOPIC, DEPTH_TOPIC, BagWriter
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.images.compressed import encode_depth, encode_rgb

RGB, DEPTH = np.full((4, 6, 3), 90, np.uint8), np.full((4, 6), 1.5, np.float32)
MM = np.full((4, 6), 1500, np.uint16)


def bag(path, *topics):
    """A bag with one image on each topic: (name, pixels or compressed fields, encoding, frame)."""
    with BagWriter(path) as writer:
        for name, pixels, encoding, frame in topics:
            header = writer._header(10**9, frame)
            if encoding is None:
                writer.write_message(name, COMPRESSED_IMAGE, writer._packed(header, *pixels), 10**9)
            else:
                writer.write_message(name, IMAGE, writer._image(pixels, encoding, header), 10**9)
    return BagReader(path)


def test_the_camera_of_this_package(tmp_path):
    for images, ends in (('raw', ('', '')), ('compressed', ('/compressed', '/compressedDepth')), ('both', ('', ''))):
        with BagWriter(tmp_path / images, images=images) as writer:
            writer.write_frame(Frame(RGB, DEPTH, 10**9), mask=MM.astype(np.uint8))
        with BagReader(tmp_path / images) as reader:
            camera = find_camera(reader)
        assert (camera.rgb, camera.depth, camera.note) == (COLOR_TOPIC + ends[0], DEPTH_TOPIC + ends[1], '')


def test_other_names_are_found_by_what_they_hold(tmp_path):
    with bag(
        tmp_path / 'bag',
        ('/eye/infra', MM.astype(np.uint8), 'mono8', 'eye'),
        ('/eye/a', MM, '16UC1', 'eye'),
        ('/eye/b', RGB, 'bgr8', 'eye'),
        ('/eye/b/compressed', encode_rgb(RGB), None, 'eye'),
    ) as reader:
        camera = find_camera(reader)
        assert (camera.rgb, camera.depth) == ('/eye/b', '/eye/a')
        assert find_camera(reader, rgb='/eye/b/compressed').depth == '/eye/a'


def test_only_depth_on_the_pixels_of_the_colours_is_taken(tmp_path):
    colours = ('/c', encode_rgb(RGB), None, 'colour')
    far = ('/far', DEPTH, '32FC1', 'depth')
    small = ('/small', MM[:2], '16UC1', 'colour')
    broken = ('/rvl', ('16UC1; compressedDepth rvl', b'0' * 40), None, 'colour')
    with bag(tmp_path / 'without', colours, far, small, broken) as reader:
        camera = find_camera(reader)
        assert camera.depth is None and 'depth is absent' in camera.note
        assert all(words in camera.note for words in ('/far (6x4 in depth)', '/small (6x2', '/rvl', 'pixels'))
        far = find_camera(reader, depth='/far')
        assert far.depth == '/far' and "'depth'" in far.note and "'colour'" in far.note and 'align_depth' in far.note
    with bag(tmp_path / 'aligned', colours, ('/d', encode_depth(DEPTH), None, '/colour')) as reader:
        assert find_camera(reader) == find_camera(reader, depth='/d') == CameraTopics('/c', '/d')


def test_depth_of_the_compressed_transport_is_depth_and_infrared_is_no_colour(tmp_path):
    png = cv2.imencode('.png', MM)[1].tobytes()
    grey = cv2.imencode('.png', RGB[..., 0])[1].tobytes()
    with bag(
        tmp_path / 'bag',
        ('/c', encode_rgb(RGB), None, 'eye'),
        ('/d/compressed', ('16UC1; png compressed ', png), None, 'eye'),
        ('/infra', ('mono8; png compressed ', grey), None, 'eye'),
        ('/infra2', RGB[..., 0], '8UC1', 'eye'),
    ) as reader:
        assert find_camera(reader) == CameraTopics('/c', '/d/compressed')
        assert find_camera(reader, depth='/d').depth == '/d/compressed'


def test_ambiguous_and_missing_cameras_are_refused(tmp_path):
    with bag(tmp_path / 'two', ('/left', RGB, 'rgb8', ''), ('/right', RGB, 'rgb8', '')) as reader:
        with pytest.raises(InputError, match='/left, /right; name one'):
            find_camera(reader)
        assert find_camera(reader, rgb='/right').rgb == '/right'
        with pytest.raises(InputError, match='no topic /depth'):
            find_camera(reader, rgb='/left', depth='/depth')
    with (
        bag(tmp_path / 'none', ('/mask', MM.astype(np.uint8), 'mono8', '')) as reader,
        pytest.raises(InputError, match='no readable colour images .*mono8'),
    ):
        find_camera(reader)


def test_of_several_aligned_depths_the_realsense_one_is_taken_then_the_first_by_name(tmp_path):
    colours = ('/c', RGB, 'rgb8', 'eye')
    topics = [(name, MM, '16UC1', 'eye') for name in ('/b', '/a')]
    with bag(tmp_path / 'two', colours, *topics) as reader:
        assert find_camera(reader).depth == '/a'
    with bag(tmp_path / 'three', colours, *topics, (DEPTH_TOPIC, MM, '16UC1', 'eye')) as reader:
        assert find_camera(reader).depth == DEPTH_TOPIC


@pytest.mark.parametrize('name', ['/aligned_depth', '/depth_registered/image', '/depth_to_color', '/depth_to_rgb'])
def test_names_of_aligned_depth_count_where_a_frame_is_empty(tmp_path, name):
    for number, frames in enumerate((('colour', ''), ('', 'depth'))):
        with bag(tmp_path / f'{number}', ('/c', RGB, 'rgb8', frames[0]), (name, MM, '16UC1', frames[1])) as reader:
            assert find_camera(reader).depth == name
    with bag(tmp_path / 'other', ('/c', RGB, 'rgb8', 'colour'), (name, MM, '16UC1', 'depth')) as reader:
        assert find_camera(reader).depth is None
    with bag(tmp_path / 'small', ('/c', RGB, 'rgb8', 'colour'), (name, MM[:2], '16UC1', 'colour')) as reader:
        assert find_camera(reader).depth is None
