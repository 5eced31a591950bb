"""Entities of a Rerun recording, read back from its file."""

import numpy as np
import pytest
from rrd_files import read_rrd
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import ColorRGBA, Header

from m3et_ros.cli.view.messages import SeenBox
from m3et_ros.cli.view.rerun_log import HOLD_NS, RobotLog, blueprint
from m3et_ros.msg import ActionAnticipation, Answer, LabelMap, Place, ScoredLabel
from m3et_ros.ros.convert import stamp_msg, to_image_msg

rerun = pytest.importorskip('rerun', reason='rerun-sdk is not installed (170 MB): pip install m3et_ros[rerun]')
STAMP = 1_700_000_000_000_000_000
STEP = 100_000_000


@pytest.fixture
def recorded(tmp_path):
    """Log with a function; return the columns of each entity of the file, as lists of one value per row."""

    def run(write):
        recording = rerun.RecordingStream('test')
        recording.save(tmp_path / 'test.rrd')
        log = RobotLog(recording, 'one')
        write(log)
        recording.send_blueprint(blueprint(['one', 'two']))
        recording.flush()
        recording.disconnect()
        return read_rrd(tmp_path / 'test.rrd')

    return run


def header(n=0):
    return Header(stamp=stamp_msg(STAMP + n * STEP), frame_id='eye')


def frames(entity):
    return entity['frame']


def test_images_of_a_frame_share_its_number_and_stamp(recorded):
    def write(log):
        for n in range(2):
            log.message('rgb', to_image_msg(np.full((8, 12, 3), 90, np.uint8), 'rgb8', header(n)))
        log.message('mask', to_image_msg(np.full((8, 12), 3, np.uint8), 'mono8', header(0)))

    entities = recorded(write)
    assert frames(entities['/one/camera/rgb']) == [0, 1] and frames(entities['/one/camera/segmentation'])[-1] == 0
    assert entities['/one/camera/rgb']['ros_time'] == [STAMP, STAMP + STEP]
    assert bytes(entities['/one/camera/rgb']['EncodedImage:blob'][0][0])[:2] == b'\xff\xd8'
    assert set(bytes(entities['/one/camera/segmentation']['SegmentationImage:buffer'][-1][0])) == {3}


def test_filled_places_are_those_that_were_not_measured(recorded):
    measured = np.array([[1, 0], [0, 2]], np.float32)
    completed = np.array([[1, 1.5], [np.nan, 2]], np.float32)

    def write(log):
        log.message('depth', to_image_msg(measured, '32FC1', header(0)))
        log.message('completed', to_image_msg(completed, '32FC1', header(0)))
        log.message('completed', to_image_msg(completed, '32FC1', header(1)))

    entities = recorded(write)
    filled = entities['/one/camera/filled']
    assert [bytes(one[0]) for one in filled['SegmentationImage:buffer'] if one] == [bytes([0, 1, 0, 0])]
    assert len(entities['/one/camera/depth_completed']['frame']) == 2
    assert entities['/one/camera/depth']['EncodedDepthImage:meter'][0] == [1000.0]


def test_the_pinhole_is_that_of_camera_info_and_one_without_focal_length_is_left_out(recorded):
    def write(log):
        log.message('info', CameraInfo(header=header(), height=48, width=64))
        info = CameraInfo(header=header(), height=48, width=64, k=[50.0, 0.0, 32.0, 0.0, 50.0, 24.0, 0.0, 0.0, 1.0])
        log.message('info', info)
        log.message('info', info)

    pinhole = recorded(write)['/one/camera']
    assert pinhole['Pinhole:image_from_camera'] == [[[50, 0, 0, 0, 50, 0, 32, 24, 1]]]
    assert pinhole['Pinhole:resolution'] == [[[64, 48]]]


def test_names_and_colours_of_classes(recorded):
    colors = [ColorRGBA(r=1.0, g=0.0, b=0.0, a=1.0), ColorRGBA(r=0.0, g=0.2, b=0.0, a=1.0)]
    label_map = LabelMap(header=header(), ids=[0, 1], names=['cup', 'sink'], colors=colors)
    context = recorded(lambda log: log.message('labels', label_map))['/one/camera/segmentation']
    (infos,) = context['AnnotationContext:context'][0]
    found = {one['class_id']: one['class_description']['info'] for one in infos}
    assert {i: (one['label'], one['color']) for i, one in found.items()} == {
        0: ('cup', 0xFF0000FF),
        1: ('sink', 0x003300FF),
        255: ('unlabelled', 0),
    }


def place(**fields):
    message = Place(label='cup', confidence=0.75, u=30.0, v=20.0, distance=1.25, measured=1.0)
    message.box = RegionOfInterest(x_offset=10, y_offset=12, width=40, height=16)
    message.position.x, message.position.y, message.position.z = 0.5, 0.25, 1.0
    message.size.x, message.size.y, message.size.z = 0.1, 0.2, 0.3
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def test_an_answer_is_logged_once_with_its_place_which_is_removed_later(recorded):
    where = Answer(header=header(), question='Where?', text='left', confidence=0.5, answerable=True, places=[place()])

    def write(log):
        log.message('answer', where)
        log.message('answer', where)
        log.message('answer', Answer(header=header(), question='What?', text='I cannot tell', explanation='Unsure.'))
        picture = to_image_msg(np.zeros((8, 12, 3), np.uint8), 'rgb8', Header(stamp=stamp_msg(STAMP + HOLD_NS + 1)))
        log.message('rgb', picture)

    entities = recorded(write)
    texts, levels = (entities['/one/answers'][f'TextLog:{name}'] for name in ('text', 'level'))
    assert texts == [['Where? left (0.50)'], ['What? I cannot tell (Unsure.)']] and levels == [['INFO'], ['WARN']]
    flat = entities['/one/camera/places']
    assert flat['Boxes2D:centers'][0] == [[30, 20]] and flat['Boxes2D:half_sizes'][0] == [[20, 8]]
    assert flat['Boxes2D:labels'][0] == ['cup 0.75']
    space = entities['/one/places']
    assert space['Boxes3D:centers'][0] == [[0.5, 0.25, 1.0]] and space['Boxes3D:labels'][0] == ['cup 0.75, 1.25 m']
    np.testing.assert_allclose(space['Boxes3D:half_sizes'][0][0], [0.05, 0.1, 0.15], rtol=1e-6)
    assert [True] in flat['Clear:is_recursive'] and [True] in space['Clear:is_recursive']


def test_a_place_without_depth_is_in_the_image_alone(recorded):
    unknown = place()
    unknown.position.x = float('nan')
    answer = Answer(header=header(), question='Where?', text='left', answerable=True, places=[unknown])
    entities = recorded(lambda log: log.message('answer', answer))
    assert '/one/camera/places' in entities and '/one/places' not in entities


def test_boxes_of_what_is_seen_take_the_place_of_those_before(recorded):
    def write(log):
        log.boxes(STAMP, [SeenBox('cup', (255, 0, 0), (0.5, 0.25, 1.0), (0.2, 0.4, 0.6))])
        log.boxes(STAMP + STEP, [])

    boxes = recorded(write)['/one/boxes']
    assert boxes['ros_time'] == [STAMP, STAMP + STEP] and boxes['Boxes3D:labels'] == [['cup'], []]
    assert boxes['Boxes3D:centers'] == [[[0.5, 0.25, 1.0]], []] and boxes['Boxes3D:colors'][0] == [0xFF0000FF]
    np.testing.assert_allclose(boxes['Boxes3D:half_sizes'][0][0], [0.1, 0.2, 0.3], rtol=1e-6)


def test_actions_are_states_and_confidences_and_an_unlikely_one_is_no_state(recorded):
    def actions(now, following, score=0.25):
        return ActionAnticipation(
            header=header(),
            current_actions=[ScoredLabel(label=now, score=score)],
            actions=[ScoredLabel(label=following, score=0.5)],
        )

    def write(log):
        log.message('anticipation', actions('open tap', 'wash cup'))
        log.message('anticipation', actions('take cup', 'close tap', score=0.0625))
        log.message('anticipation', ActionAnticipation(header=header()))

    entities = recorded(write)
    assert entities['/one/anticipation/now']['StateChange:state'] == [['open tap'], []]
    assert entities['/one/anticipation/next']['StateChange:state'] == [['wash cup'], ['close tap'], []]
    scores = [one for one in entities['/one/anticipation/confidence']['Scalars:scalars'] if one]
    assert scores[:2] == [[0.25, 0.5], [0.0625, 0.5]] and np.isnan(scores[2]).all()


def test_health_is_logged_at_the_newest_image(recorded):
    values = {'rate_in_hz': '10', 'rate_out_hz': 'none', 'dropped/a': '2', 'dropped/b': '3'}

    def write(log):
        log.health('ok', 'Running.', values)  # no image yet
        log.message('rgb', to_image_msg(np.zeros((8, 12, 3), np.uint8), 'rgb8', header(4)))
        log.health('warn', 'Too slow.', values)

    entities = recorded(write)
    rates = [one for one in entities['/one/health/rates']['Scalars:scalars'] if one]
    assert len(rates) == 1 and rates[0][0] == 10 and np.isnan(rates[0][1])
    assert [one for one in entities['/one/health/dropped']['Scalars:scalars'] if one] == [[5]]
    assert entities['/one/health/report']['TextLog:text'] == [['Too slow.']]
    assert entities['/one/health/report']['ros_time'] == [STAMP + 4 * STEP]


@pytest.mark.parametrize(('health', 'shown'), [(True, 2), (False, 0)], ids=['live', 'recording'])
def test_the_arrangement_has_a_tab_for_each_robot_and_health_where_there_is_any(health, shown):
    def views(part):
        contents = getattr(part, 'contents', ())
        yield part
        for one in contents if not isinstance(contents, str) else ():
            if not isinstance(one, str):
                yield from views(one)

    arranged = blueprint(['one', 'two'], health=health)
    found = list(views(arranged.root_container))
    assert [one.name for one in found if one.name in ('one', 'two')] == ['one', 'two']
    assert sum(one.name == 'Health' for one in found) == shown
    assert {str(one.origin) for one in found if one.name == 'Answers'} == {'one/answers', 'two/answers'}
