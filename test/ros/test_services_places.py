"""A question where, asked of a running node: the answer has the place of the thing, in pixels and in metres."""

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from m3et_ros.data.kitchen.sim.camera import Camera
from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.data.kitchen.sim.vocabulary import CLASS_OF
from m3et_ros.ros.convert import stamp_msg, to_image_msg
from m3et_ros.ros.model_node import ModelNode
from m3et_ros.srv import AskQuestion

HEADER = Header(stamp=stamp_msg(7), frame_id='lens')


@pytest.fixture(scope='module')
def seen():
    """A picture of a kitchen with a single pan."""
    episode = Episode(20027, width=320, height=240)
    with Camera(episode, backend='raycast') as camera:
        *_, state = episode.run(20)
        return camera.observe(state)


@pytest.fixture
def ask(ros, seen):
    """Ask a node with the shipped model about the picture."""
    node = ros.add(ModelNode(context=ros.context, namespace='where'))
    node.trigger_configure()
    node.trigger_activate()
    client = ros.node('client').create_client(AskQuestion, '/where/model/ask')
    ros.until(client.service_is_ready)
    info = CameraInfo(header=HEADER, width=320, height=240, k=seen.K.ravel().tolist())

    def answer(*, depth=True, intrinsics=True, question='Where is the pan?'):
        request = AskQuestion.Request(question=question, image=to_image_msg(seen.rgb, 'rgb8', HEADER))
        request.depth = to_image_msg(seen.depth, '32FC1', HEADER) if depth else Image()
        request.camera_info = info if intrinsics else CameraInfo()
        response = ros.until(client.call_async(request).result)
        assert response.success, response.message
        return response.answer

    yield answer
    node.trigger_deactivate()


def test_the_answer_to_where_has_the_place_as_far_as_depth_and_intrinsics_tell_it(ask, seen):
    pan = seen.semantic == CLASS_OF['pan']
    (place,) = ask().places
    assert place.label == 'pan' and pan[round(place.v), round(place.u)]
    depth = float(np.median(seen.depth[pan]))
    assert place.position.z == pytest.approx(depth, abs=0.1)
    assert place.position.x == pytest.approx((place.u - seen.K[0, 2]) / seen.K[0, 0] * depth, abs=0.15)
    assert place.distance > place.position.z and place.measured == 1.0
    (flat,) = ask(intrinsics=False).places
    assert np.isnan([flat.position.x, flat.size.x]).all() and flat.distance == pytest.approx(depth, abs=0.1)
    (bare,) = ask(depth=False).places
    assert np.isnan([bare.position.x, bare.distance, bare.measured]).all()
    assert not ask(question='What colour is the pan?').places
