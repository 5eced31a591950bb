import json
import threading

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String

from m3et_ros.cli.ask.client import client
from m3et_ros.cli.demo.result_listener import MAX_FRAMES, PICTURES, ResultListener, quantiles
from m3et_ros.ros.convert import stamp_msg, to_image_msg

TOPICS = {
    'rgb': '/cam/color/image_raw',
    'measured': '/cam/aligned_depth_to_color/image_raw',
    'completed': '/r/model/depth/image',
    'overlay': '/r/model/segmentation/overlay',
    'mask': '/r/model/segmentation/mask',
}


@pytest.fixture
def listening():
    """A results, its node, and publishers by name; all in one context, where discovery is immediate."""
    with client(threading.Event()) as node:
        results = ResultListener(node, '/r', '/cam')
        senders = {name: node.create_publisher(Image, topic, 100) for name, topic in TOPICS.items()}
        senders['truth'] = node.create_publisher(String, '/cam/camera_sim/action', 100)
        senders['diagnostics'] = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        yield results, node, senders


def image(stamp):
    return to_image_msg(np.zeros((2, 2), np.uint8), 'mono8', Header(stamp=stamp_msg(stamp)))


def test_pictures_are_grouped_by_stamp(listening):
    results, node, senders = listening
    for name in PICTURES:
        senders[name].publish(image(7))
    senders['rgb'].publish(image(8))
    assert node.wait(lambda: results.newest_complete() == 7 and 8 in results.frames, 20)
    assert results.complete(7) and not results.complete(8) and not results.complete(9)
    assert results.received['rgb'] == 2 and len(results.ages) == 1 and results.ages[0] > 1e9


def test_only_the_newest_frames_are_held(listening):
    results, node, senders = listening
    for stamp in range(1, MAX_FRAMES + 6):
        senders['rgb'].publish(image(stamp))
        assert node.wait(lambda stamp=stamp: stamp in results.frames, 20)
    assert list(results.frames) == list(range(6, MAX_FRAMES + 6))


def test_the_next_action_is_known_once_it_begins(listening):
    results, node, senders = listening
    take, put = ({'narration': n, 'start_s': s} for n, s in (('take cup', 1.0), ('put cup', 3.0)))
    for stamp, action in enumerate((None, take, take, None, put)):
        senders['truth'].publish(
            String(data=json.dumps({'stamp_ns': stamp, 'current': action, 'answers': {'Who?': str(stamp)}}))
        )
    assert node.wait(lambda: len(results.truths) == 5, 20)
    assert [results.next_action(stamp) for stamp in range(5)] == [take, put, put, put, None]
    assert results.answers[3] == {'Who?': '3'}


def test_drops_are_those_of_this_node(listening):
    results, node, senders = listening

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
    assert node.wait(lambda: results.diagnostics, 20)
    assert results.drops() == {'stamp_back': 2, 'rgb_superseded': 3} and results.unconfigured == 1


def test_quantiles():
    assert quantiles([]) == {'p50': None, 'p95': None}
    assert quantiles(list(range(101))) == {'p50': 50.0, 'p95': 95.0}
