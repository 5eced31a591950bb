"""Sources of m3et robot: options, the arguments of their process, and the end of a clip. test_robot.py runs them."""

import subprocess
import sys
import threading
from pathlib import Path

from m3et_ros.cli.processes import Child
from m3et_ros.cli.source import CameraSource, SourceEnd, source_arguments


def test_a_source_is_named_and_known_as_given():
    assert not CameraSource().given
    assert CameraSource(webcam='0').given and CameraSource(webcam='0').name == 'webcam 0'
    assert CameraSource(video=Path('a.mp4')).name == 'a.mp4' and CameraSource(pictures=Path('b')).name == 'b'


def test_pictures_have_the_rate_that_is_given():
    arguments = source_arguments(CameraSource(pictures=Path('b'), rate=2.5), 'head', '/m3et')
    assert 'rate_hz:=2.5' in arguments and 'pictures:="b"' in arguments and '__ns:=/head' in arguments
    assert 'loop:=false' in arguments and not any('video' in word or 'webcam' in word for word in arguments)


def test_the_end_is_that_of_the_camera_or_a_signal():
    stopped = threading.Event()
    camera = Child('camera', 'this', show=False)
    try:
        end = SourceEnd(stopped, camera)
        while not end.wait(0.1):
            pass
        assert camera.code is not None and end.is_set() and not stopped.is_set()
    finally:
        camera.finish(60)
    sleeper = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)
    try:
        camera._process = sleeper
        assert not end.is_set() and not end.wait(0)
        stopped.set()
        assert end.is_set() and end.wait(0)
    finally:
        sleeper.communicate(b'\n')
