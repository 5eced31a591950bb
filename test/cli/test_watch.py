import json
import threading

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String

from m3et_ros.cli.ask.client import client
from m3et_ros.cli.watch import KEPT_FRAMES, PICTURES, ResultListener, quantiles
from m3et_ros.ros.convert import stamp_msg, to_image_msg

TOPICS = {
    'rgb': '/cam/color/image_raw',
    'measured': '/cam/aligned_depth_to_color/image_raw',
    'completed': '/r/model/depth/image',
    'overlay': '/r/model/segmentation/overlay',
    'mask': '/r/model/segmentation/mask',
}


@pytest.fixture
def watched():
    """A watch, its node, and publishers by name; all in one context, where discovery is immediate."""
    with client(threading.Event()) as node:
        watch = ResultListener(node, '/r', '/cam')
        senders = {name: node.create_publisher(Image, topic, 100) for name, topic in TOPICS.items()}
        senders['truth'] = node.create_publisher(String, '/cam/camera_sim/action', 100)
        senders['diagnostics'] = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        yield watch, node, senders


def image(stamp):
    return to_image_msg(np.zeros((2, 2), np.uint8), 'mono8', Header(stamp=stamp_msg(stamp)))


def test_pictures_are_put_together_by_stamp(watched):
    watch, node, senders = watched
    for name in PICTURES:
        senders[name].publish(image(7))
    senders['rgb'].publish(image(8))
    assert node.wait(lambda: watch.newest_complete() == 7 and 8 in watch.frames, 20)
    assert watch.complete(7) and not watch.complete(8) and not watch.complete(9)
    assert watch.received['rgb'] == 2 and len(watch.ages) == 1 and watch.ages[0] > 1e9


def test_old_frames_are_forgotten(watched):
    watch, node, senders = watched
    for stamp in range(1, KEPT_FRAMES + 6):
        senders['rgb'].publish(image(stamp))
        assert node.wait(lambda: stamp in watch.frames, 20)
    assert list(watch.frames) == list(range(6, KEPT_FRAMES + 6))


def test_what_comes_next_is_learnt_later(watched):
    watch, node, senders = watched
    take, put = ({'narration': n, 'start_s': s} for n, s in (('take cup', 1.0), ('put cup', 3.0)))
    for stamp, action in enumerate((None, take, take, None, put)):
        senders['truth'].publish(String(data=json.dumps({'stamp_ns': stamp, 'current': action})))
    assert node.wait(lambda: len(watch.truths) == 5, 20)
    assert [watch.next_action(stamp) for stamp in range(5)] == [take, put, put, put, None]


def test_drops_are_those_of_this_model(watched):
    watch, node, senders = watched

    def status(name, **values):
        return DiagnosticStatus(name=name, values=[KeyValue(key=k, value=v) for k, v in values.items()])

    senders['diagnostics'].publish(
        DiagnosticArray(
            status=[
                status(
                    '/r/model',
                    **{
                        'state': 'unconfigured',
                        'dropped/stamp_back': '2',
                        'synchroniser/rgb_superseded': '3',
                        'dropped/none': '0',
                        'frames_in': '9',
                    },
                ),
                status('/other/model', **{'state': 'active', 'dropped/stamp_back': '50'}),
            ]
        )
    )
    assert node.wait(lambda: watch.diagnostics, 20)
    assert watch.drops() == {'stamp_back': 2, 'rgb_superseded': 3} and watch.idle == 1


def test_quantiles():
    assert quantiles([]) == {'p50': None, 'p95': None}
    assert quantiles(list(range(101))) == {'p50': 50.0, 'p95': 95.0}
