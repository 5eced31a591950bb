"""m3et cameras lists the presets, for people and for programs."""

import json

from m3et_ros.cli.main import main


def test_every_preset_is_listed_with_its_command_topics_and_depth(capsys):
    assert main(['cameras']) == 0
    shown = capsys.readouterr().out
    for words in (
        'm3et robot --preset zed',
        'ros2 launch orbbec_camera gemini_330_series.launch.py depth_registration:=true',
        'depth    /zed/zed_node/depth/depth_registered, 32FC1 in metres',
        'depth    /camera/depth/image_raw, 16UC1 in millimetres',
        'This camera has no depth; the model predicts it. ros2 launch usb_cam',
    ):
        assert words in shown


def test_programs_read_the_same(capsys):
    assert main(['cameras', '--json']) == 0
    document = json.loads(capsys.readouterr().out)
    assert document['schema'] == 1
    cameras = {camera['name']: camera for camera in document['cameras']}
    assert list(cameras) == ['realsense', 'zed', 'oak', 'orbbec', 'usb_cam', 'astra']
    assert cameras['zed']['topics']['rgb/image_raw'] == '/zed/zed_node/rgb/color/rect/image'
    assert (cameras['zed']['depth_encoding'], cameras['zed']['depth_unit_m']) == ('32FC1', 1.0)
    assert cameras['usb_cam']['depth_unit_m'] is None
    assert cameras['usb_cam']['parameters'] == {'depth_transport': 'none'}
    assert cameras['astra']['align_switch'] == 'depth_registration:=true'
