"""Images of messages as viewers take them."""

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from m3et_ros.cli.view.messages import RESULTS, SeenBox, boxes_of, depth_of, encode_jpeg, jpeg_of, png_of_depth
from m3et_ros.data.errors import InputError
from m3et_ros.msg import Answer
from m3et_ros.ros import interfaces, space_outputs
from m3et_ros.ros.convert import stamp_msg, to_image_msg
from m3et_ros.runtime.space import PixelRegion, Solid

RED = np.full((16, 24, 3), (250, 10, 20), np.uint8)


def decoded(data):
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def test_raw_colours_become_jpeg():
    image = decoded(jpeg_of(to_image_msg(RED, 'rgb8', Header())))
    assert image.shape == RED.shape and np.abs(image.astype(int) - RED).max() < 12


def test_a_jpeg_passes_as_it_is_and_a_png_becomes_jpeg():
    jpeg = encode_jpeg(RED)
    assert jpeg_of(CompressedImage(format='rgb8; jpeg compressed bgr8', data=jpeg)) == jpeg
    png = cv2.imencode('.png', RED[..., ::-1])[1].tobytes()
    image = decoded(jpeg_of(CompressedImage(format='rgb8; png compressed bgr8', data=png)))
    assert np.abs(image.astype(int) - RED).max() < 12


def test_an_image_that_cannot_be_read_is_refused():
    with pytest.raises(InputError) as refused:
        jpeg_of(CompressedImage(format='jpeg', data=b'nothing'))
    assert refused.value.reason == 'unknown_compression'


def test_depth_is_read_and_written_in_millimetres():
    stored = np.array([[0, 1500], [2500, 65535]], np.uint16)
    metres = depth_of(to_image_msg(stored, '16UC1', Header()))
    np.testing.assert_array_equal(metres, np.float32([[np.nan, 1.5], [2.5, np.nan]]))
    png = cv2.imdecode(np.frombuffer(png_of_depth(metres), np.uint8), cv2.IMREAD_UNCHANGED)
    assert png.dtype == np.uint16 and png.tolist() == [[0, 1500], [2500, 0]]


def test_results_are_topics_of_the_model_node():
    assert set(RESULTS.values()) <= set(interfaces.OUTPUTS)


def test_the_boxes_of_markers_are_those_of_the_things():
    box = Solid((0.5, 0.25, 1.0), (0.1, 0.2, 0.3), 1.0)
    region = PixelRegion(0, (0, 0, 1, 1), np.zeros(1, np.int64), np.zeros(1, np.int64))
    header = Header(stamp=stamp_msg(7), frame_id='eye')
    things = [space_outputs.SpaceThing(name, (255, 0, 51), region, box, 0.5) for name in ('cup', 'pan')]
    markers = [one for n, thing in enumerate(things) for one in space_outputs.thing_markers(thing, n, header)]
    markers.append(Marker(header=header, ns='things', id=4, action=Marker.DELETE))
    stamp, frame, boxes = boxes_of(MarkerArray(markers=markers))
    assert (stamp, frame) == (7, 'eye')
    assert boxes == [SeenBox(name, (255, 0, 51), (0.5, 0.25, 1.0), (0.1, 0.2, 0.3)) for name in ('cup', 'pan')]
    assert boxes_of(MarkerArray(markers=markers[-1:])) == (7, 'eye', [])


def test_the_markers_of_an_answer_are_no_boxes():
    assert boxes_of(MarkerArray(markers=space_outputs.answer_markers(Answer(text='on the table')))) is None
    assert boxes_of(MarkerArray()) is None
