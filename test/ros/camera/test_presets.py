"""Camera presets: topics as the drivers name them, and sentences about their depth."""

import pytest

from m3et_ros.ros.camera.presets import DEFAULT, PRESETS, UNITS_M, find_preset
from m3et_ros.ros.interfaces import DEPTH, DEPTH_COMPRESSED, DEPTH_PICTURE, RGB, RGB_COMPRESSED, RGB_INFO

COLOUR = {RGB.name, RGB_COMPRESSED.name, RGB_INFO.name}
ALL = COLOUR | {DEPTH.name, DEPTH_COMPRESSED.name, DEPTH_PICTURE.name}
TOPICS = {
    'realsense': (
        '/camera/camera/color/image_raw',
        '/camera/camera/color/camera_info',
        '/camera/camera/aligned_depth_to_color/image_raw',
    ),
    'zed': (
        '/zed/zed_node/rgb/color/rect/image',
        '/zed/zed_node/rgb/color/rect/camera_info',
        '/zed/zed_node/depth/depth_registered',
    ),
    'oak': ('/oak/rgb/image_raw', '/oak/rgb/camera_info', '/oak/stereo/image_raw'),
    'orbbec': ('/camera/color/image_raw', '/camera/color/camera_info', '/camera/depth/image_raw'),
    'usb_cam': ('/image_raw', '/camera_info', None),
    'astra': ('/camera/color/image_raw', '/camera/color/camera_info', '/camera/depth/image_raw'),
}


def test_every_camera_has_the_topics_of_its_driver():
    assert list(PRESETS) == list(TOPICS) and DEFAULT == 'realsense'
    for name, (rgb, info, depth) in TOPICS.items():
        topics = PRESETS[name].topics()
        assert (topics['rgb/image_raw'], topics['rgb/camera_info']) == (rgb, info)
        assert topics.get('depth/image_raw') == depth
        assert set(topics) == (ALL if depth else COLOUR)
        assert topics['rgb/image_raw/compressed'] == f'{rgb}/compressed'
        if depth:
            assert topics['depth/image_raw/compressedDepth'] == f'{depth}/compressedDepth'
            assert topics['depth/image_raw/compressed'] == f'{depth}/compressed'


def test_another_prefix_takes_the_place_of_that_of_the_driver():
    assert PRESETS['zed'].topics('/front/')['rgb/image_raw'] == '/front/rgb/color/rect/image'
    assert PRESETS['usb_cam'].topics('/camera1')['rgb/image_raw'] == '/camera1/image_raw'


def test_units_are_those_of_the_encoding_and_a_camera_without_depth_has_none():
    assert {name: preset.unit_m for name, preset in PRESETS.items()} == {
        'realsense': 0.001,
        'zed': 1.0,
        'oak': 0.001,
        'orbbec': 0.001,
        'usb_cam': None,
        'astra': 0.001,
    }
    assert all(bool(preset.depth) == (preset.encoding in UNITS_M) for preset in PRESETS.values())
    assert PRESETS['usb_cam'].parameters == {'depth_transport': 'none'} and PRESETS['zed'].parameters == {}


def test_depth_that_is_not_aligned_is_named_with_the_switch_of_the_driver():
    assert PRESETS['realsense'].alignment == (
        'Its depth must be aligned to colour: start the driver with align_depth.enable:=true.'
    )
    for name in ('realsense', 'orbbec', 'astra'):
        assert PRESETS[name].align in PRESETS[name].start and PRESETS[name].align in PRESETS[name].alignment
    assert PRESETS['zed'].alignment == 'Its depth is aligned to colour.'
    assert 'i_align_depth: true' in PRESETS['oak'].alignment
    assert 'has no depth' in PRESETS['usb_cam'].alignment


@pytest.mark.parametrize(
    ('name', 'hint'),
    [('realsence', 'did you mean realsense?'), ('ZED', 'did you mean zed?'), ('xyz', 'm3et cameras describes them.')],
    ids=['typo', 'capitals', 'foreign'],
)
def test_a_wrong_name_is_refused_with_the_list_and_the_nearest(name, hint):
    with pytest.raises(ValueError, match='realsense, zed, oak, orbbec, usb_cam, astra') as refused:
        find_preset(name)
    assert str(refused.value).endswith(hint) and f'{name!r}' in str(refused.value)
