"""One pass over the frames of a bag: its topics, its summary, and what is wrong with the recording."""

import cv2
import numpy as np
import pytest

from m3et_ros.data.bags.reader import IMAGE, BagReader
from m3et_ros.data.bags.topics import CameraTopics
from m3et_ros.data.bags.writer import COLOR_TOPIC, DEPTH_TOPIC, BagWriter
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.evaluation.tasks.bag_pass import BagPass, jpeg, strip_picture, topics_of

START, MS = 1_700_000_000_000_000_000, 1_000_000


def write(path, stamps, size=(24, 32), depth=lambda at: True):
    """Write a bag with a random frame at each of these milliseconds."""
    rng = np.random.default_rng(0)
    with BagWriter(path) as bag:
        for at in stamps:
            rgb = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
            bag.write_frame(Frame(rgb, np.full(size, 1.5, np.float32) if depth(at) else None, START + at * MS))
    return path


def write_raw(path, stamps, cut=()):
    """Write a bag of colours whose clock need not go on; the images numbered in `cut` are cut short."""
    with BagWriter(path) as bag:
        for at, stamp in enumerate(stamps):
            image = bag._image(np.full((24, 32, 3), at, np.uint8), 'rgb8', bag._header(START + stamp * MS, 'camera'))
            if at in cut:
                image.data = image.data[:100]
            bag.write_message(COLOR_TOPIC, IMAGE, image, START + 100 * at * MS)
    return path


def read(path, camera=None, every=1):
    """Read a bag to its end; return the pass and the stamps of its frames."""
    with BagReader(path) as reader:
        bag_pass = BagPass(reader, camera or topics_of(reader, None, {}), every)
        stamps = [frame.stamp_ns for frame in bag_pass]
    return bag_pass, stamps


def test_a_part_describes_the_bag_and_repeats_the_answers(tmp_path):
    path = write(tmp_path / 'bag', [0, 100, 200, 300])
    bag_pass, stamps = read(path)
    assert bag_pass.part(path, [{'question_id': 'q'}]) == {
        'bag': 'bag',
        'camera': {'rgb': COLOR_TOPIC, 'depth': DEPTH_TOPIC},
        'frames': 4,
        'seconds': 0.3,
        'first_ns': START,
        'last_ns': START + 300 * MS,
        'spoilt_frames': 0,
        'frames_without_depth': 0,
        'longest_gap_s': 0.1,
        'troubles': [],
        'answers': [{'question_id': 'q'}],
    }
    assert stamps == [START + at * MS for at in (0, 100, 200, 300)] and bag_pass.newest_ns == stamps[-1]


def test_only_every_nth_frame_is_read(tmp_path):
    path = write(tmp_path / 'bag', [0, 100, 200, 300, 400])
    assert read(path, every=2)[1] == [START + at * MS for at in (0, 200, 400)]


def test_topics_are_found_or_named_or_renamed(tmp_path):
    path = write(tmp_path / 'bag', [0])
    with BagReader(path) as reader:
        both = CameraTopics(COLOR_TOPIC, DEPTH_TOPIC)
        assert topics_of(reader, None, {}) == topics_of(reader, '/camera/camera/', {}) == both
        assert topics_of(reader, '/head', {COLOR_TOPIC: '/head/color/image_raw'}) == CameraTopics(COLOR_TOPIC, None)
        renamed = {COLOR_TOPIC: '/head/color/image_raw', DEPTH_TOPIC: '/head/aligned_depth_to_color/image_raw'}
        assert topics_of(reader, '/head', renamed) == both
        with pytest.raises(InputError) as refused:
            topics_of(reader, '/head', {})
    assert all(word in str(refused.value) for word in ('/head/color/image_raw', COLOR_TOPIC, '--remap'))


def test_a_gap_is_reported_with_the_number_of_missing_frames(tmp_path):
    bag_pass, _ = read(write(tmp_path / 'bag', [0, 100, 200, 1700]))
    (trouble,) = bag_pass.troubles  # 14 frames of a tenth of a second would have filled it
    assert 'about 14 frames are missing' in trouble and '0.100 s' in trouble and '1.500 s' in trouble


@pytest.mark.parametrize(('step', 'reported'), [(174, False), (175, True)])
def test_frames_are_missing_from_one_and_three_quarter_steps_on(tmp_path, step, reported):
    bag_pass, _ = read(write(tmp_path / 'bag', [0, 100, 200, 300, 300 + step]))
    assert bool(bag_pass.troubles) is reported


def test_a_clock_that_jumps_back_is_reported(tmp_path):
    bag_pass, _ = read(write_raw(tmp_path / 'bag', (500, 600, 100, 200)), CameraTopics(COLOR_TOPIC, None))
    assert bag_pass.frames == 4 and bag_pass.newest_ns == START + 600 * MS
    assert bag_pass.stamps == (START + 500 * MS, START + 200 * MS)
    assert any('1 frames are older than the one before: the clock jumped back' in text for text in bag_pass.troubles)


def test_frames_that_cannot_be_decoded_are_counted(tmp_path):
    path = write_raw(tmp_path / 'bag', (0, 100, 200, 300), cut=(1, 2))
    bag_pass, _ = read(path, CameraTopics(COLOR_TOPIC, None))
    assert bag_pass.part(path, [])['spoilt_frames'] == 2 and bag_pass.frames == 2
    assert any('2 frames cannot be decoded' in text for text in bag_pass.troubles)


def test_frames_without_their_depth_are_counted(tmp_path):
    bag_pass, _ = read(write(tmp_path / 'some', range(0, 1000, 100), depth=lambda at: at != 500))
    assert bag_pass.troubles == ['1 of 10 frames have no depth within 20 ms of their colour image']
    path = write(tmp_path / 'none', range(0, 300, 100), depth=lambda at: False)
    bag_pass, _ = read(path)
    assert bag_pass.troubles == []
    (trouble,) = bag_pass.part(path, [])['troubles']  # said once for the camera, not for its frames
    assert 'depth is absent' in trouble and 'learnt' not in trouble


@pytest.mark.parametrize(
    ('offset', 'words'),
    [(60, '60 ms after'), (-60, '60 ms before'), (15_300, '15.3 s after'), (-10_800_000, '3 h before')],
)
def test_depth_that_never_pairs_is_counted_with_its_offset(tmp_path, offset, words):
    """Depth comes every second and its own recording at once; its stamps are off."""
    with BagWriter(tmp_path / 'bag') as bag:
        for at in range(0, 10_000, 1000):
            rgb = np.zeros((24, 32, 3), np.uint8)
            bag.write_frame(Frame(rgb, stamp_ns=START + at * MS))
            depth = bag._image(np.full((24, 32), 1500, np.uint16), '16UC1', bag._header(START + (at + offset) * MS, ''))
            bag.write_message(DEPTH_TOPIC, IMAGE, depth, START + at * MS)
    bag_pass, stamps = read(tmp_path / 'bag', CameraTopics(COLOR_TOPIC, DEPTH_TOPIC))
    (trouble,) = bag_pass.troubles
    assert trouble.startswith('10 of 10 frames have no depth within 20 ms') and words in trouble
    assert bag_pass.part(tmp_path, [])['frames_without_depth'] == len(stamps) == 10


@pytest.mark.parametrize(('metres', 'reported'), [(0.049, True), (0.051, False), (9.99, False), (10.01, True)])
def test_depth_in_another_unit_is_reported_with_its_median(tmp_path, metres, reported):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_frame(Frame(np.zeros((24, 32, 3), np.uint8), np.full((24, 32), metres, np.float32), START))
    bag_pass, _ = read(tmp_path / 'bag')
    assert bool(bag_pass.troubles) is reported
    assert not reported or all(word in bag_pass.troubles[0] for word in (f'{metres:g} m', 'unit', DEPTH_TOPIC))


def test_depth_in_another_frame_is_left_out_and_reported(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_frame(Frame(np.zeros((24, 32, 3), np.uint8), stamp_ns=START, frame_id='colour'))
        bag.write_depth(np.full((24, 32), 1.5, np.float32), START, 'depth')
    for camera in (None, '/camera/camera'):
        with BagReader(tmp_path / 'bag') as reader:
            topics = topics_of(reader, camera, {})
        assert topics.depth is None and 'depth' in topics.note and 'colour' in topics.note


def test_a_bag_that_is_cut_off_is_read_up_to_there(tmp_path):
    file = next(write(tmp_path / 'bag', range(0, 1000, 20), size=(240, 320)).glob('*.mcap'))
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    bag_pass, stamps = read(file)
    assert 0 < bag_pass.frames == len(stamps) < 50
    assert 'cut off' in bag_pass.troubles[0] and f'the {bag_pass.frames} frames before' in bag_pass.troubles[0]


def test_a_bag_without_a_readable_frame_is_refused(tmp_path):
    path = write_raw(tmp_path / 'bag', (0, 100), cut=(0, 1))
    bag_pass, _ = read(path, CameraTopics(COLOR_TOPIC, None))
    with pytest.raises(InputError, match=f'no readable frame on {COLOR_TOPIC}: 2 frames cannot be decoded') as refused:
        bag_pass.require_frames(path)
    assert refused.value.reason == 'bag_format'


@pytest.mark.parametrize(('frames', 'shown'), [(1, 1), (5, 5), (8, 4), (20, 5)])
def test_the_strip_has_evenly_spaced_frames(tmp_path, frames, shown):
    bag_pass, _ = read(write(tmp_path / 'bag', range(0, 100 * frames, 100)))
    assert len(bag_pass.strip) == shown and bag_pass.strip[0].shape == (96, 128, 3)


def test_a_jpeg_keeps_the_order_of_colours():
    rgb = np.zeros((24, 32, 3), np.uint8)
    rgb[..., 0] = 200
    found = cv2.imdecode(np.frombuffer(jpeg(strip_picture(rgb), 90), np.uint8), cv2.IMREAD_COLOR)
    assert found.shape == (96, 128, 3) and found[..., 2].mean() > 190 and found[..., 0].mean() < 10
