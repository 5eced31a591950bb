"""Questions about single frames of a bag: each from the frame of its time, which is encoded once."""

import cv2
import numpy as np
import pytest

from m3et_ros.data.bags.reader import IMAGE
from m3et_ros.data.bags.writer import COLOR_TOPIC, BagWriter
from m3et_ros.data.datasets.openeqa import EqaQuestion
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.evaluation.tasks import vqa_in_bags
from m3et_ros.evaluation.tasks.eqa import EqaTask, examine
from m3et_ros.evaluation.tasks.vqa_in_bags import HEIGHT, VqaTask, examine_moments
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import untrained

START, MS = 1_700_000_000_000_000_000, 1_000_000
STAMPS = (0, 100, 200, 300)
MOMENT = VqaTask()


def ask(*times, text='Is the tap on?'):
    return [EqaQuestion(text, 'yes', 'state', f'q{i}', 'bag', time=time) for i, time in enumerate(times)]


def world(number):
    """A picture unlike those of other numbers."""
    return np.random.default_rng(number).integers(0, 255, (24, 32, 3), dtype=np.uint8)


def write(path, stamps, numbers=None, depth=True):
    """A bag with a frame of another world at each of these milliseconds."""
    with BagWriter(path) as bag:
        for number, at in zip(numbers or range(len(stamps)), stamps):
            bag.write_frame(
                Frame(world(number), np.full((24, 32), 1.5, np.float32) if depth else None, START + at * MS)
            )
    return path


def write_raw(path, stamps, spoil=()):
    """A bag of colours alone whose clock need not go on; pictures of `spoil` are cut short."""
    with BagWriter(path) as bag:
        for at, stamp in enumerate(stamps):
            image = bag._image(world(at), 'rgb8', bag._header(START + stamp * MS, 'camera'))
            if at in spoil:
                image.data = image.data[:100]
            bag.write_message(COLOR_TOPIC, IMAGE, image, START + 100 * at * MS)
    return path


@pytest.fixture(scope='module')
def engine():
    return Engine(untrained('tiny', 0))


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    return write(tmp_path_factory.mktemp('bags') / 'bag', STAMPS)


@pytest.fixture(scope='module')
def alone(engine, tmp_path_factory):
    """Return (answer, confidence) for a bag with one world alone, by the number of the world."""
    folder = tmp_path_factory.mktemp('alone')
    parts = [examine(engine, EqaTask('frame'), write(folder / str(n), [0], [n]), ask(None))[0] for n in range(4)]
    said = [(part['answers'][0]['answer'], part['answers'][0]['confidence']) for part in parts]
    assert len(set(said)) == 4
    return said


def said(part):
    return [(answer['answer'], answer.get('confidence')) for answer in part['answers']]


def test_a_question_is_answered_from_the_newest_frame_at_or_before_its_time(engine, bag, alone):
    times = (0.25, 0, 0.2, 0.0999, None, 0.3, 0.1)
    part, took, _ = examine_moments(engine, MOMENT, bag, ask(*times))
    frames = (2, 0, 2, 0, 3, 3, 1)
    assert said(part) == [alone[frame] for frame in frames]
    assert [answer['frame_s'] for answer in part['answers']] == [frame / 10 for frame in frames]
    assert all(
        answer['first_ns'] == answer['last_ns'] == START + STAMPS[frame] * MS and answer['frames_used'] == 1
        for answer, frame in zip(part['answers'], frames)
    )
    # Seven questions, four frames, each of them looked at once.
    assert part['asked_frames'] == len(took['encode_ms']) == 4 and len(took['answer_ms']) == 7
    assert part['frames'] == 4 and part['seconds'] == 0.3 and part['troubles'] == []


def test_the_same_bag_gives_the_same_part(engine, bag):
    (first, _, sheet), (second, _, again) = (examine_moments(engine, MOMENT, bag, ask(0, 0.2)) for _ in range(2))
    assert first == second and np.array_equal(sheet, again)


def test_a_time_outside_the_bag_is_told_and_the_rest_answered(engine, bag, alone):
    part, took, _ = examine_moments(engine, MOMENT, bag, ask(0.3001, 0.3, 1e300))
    assert said(part) == [(None, None), alone[3], (None, None)] and len(took['encode_ms']) == 1
    for place in (0, 2):
        assert '0.000 to 0.300 s' in part['answers'][place]['trouble']
    long = ask(0, text='x' * 3000)
    assert '3000 characters' in examine_moments(engine, MOMENT, bag, long)[0]['answers'][0]['trouble']


def test_nothing_to_be_looked_at_leaves_no_picture(engine, bag):
    part, took, sheet = examine_moments(engine, MOMENT, bag, ask(7))
    assert sheet is None and part['sheet'] is None and part['asked_frames'] == 0 and took['encode_ms'] == []


def test_time_counts_from_the_first_frame_even_if_it_cannot_be_read(engine, tmp_path, alone):
    path = write_raw(tmp_path / 'bag', STAMPS, spoil=(0, 2))
    # Where the very first picture is spoilt the camera has to be named.
    named = VqaTask(camera='/camera/camera')
    part, *_ = examine_moments(engine, named, path, ask(0, 0.1, 0.2, 0.3))
    assert [answer['frame_s'] if answer['answer'] else None for answer in part['answers']] == [None, 0.1, 0.1, 0.3]
    assert '0.100 to 0.300 s' in part['answers'][0]['trouble'] and part['spoilt_frames'] == 2


def test_a_clock_that_jumps_back_makes_no_frame_newer(engine, tmp_path):
    path = write_raw(tmp_path / 'bag', (500, 600, 100, 700))
    part, *_ = examine_moments(engine, MOMENT, path, ask(0.15, 0.1, 0, None))
    assert [answer['frame_s'] for answer in part['answers']] == [0.1, 0.1, 0, 0.2]
    path = write_raw(tmp_path / 'ends', (500, 600, 100))
    part, took, _ = examine_moments(engine, MOMENT, path, ask(0.1, None, 0.05, 0.2))
    assert [answer.get('frame_s') for answer in part['answers']] == [0.1, -0.4, 0, None]
    assert '0.000 to 0.100 s' in part['answers'][3]['trouble'] and len(took['encode_ms']) == 3


def test_a_cut_bag_is_asked_about_what_can_be_read(engine, tmp_path):
    file = next(write(tmp_path / 'bag', range(0, 20_000, 20), depth=False).glob('*.mcap'))
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    part, *_ = examine_moments(engine, MOMENT, file, ask(0.1, 19.9))
    assert part['answers'][0]['frame_s'] == 0.1 and part['answers'][1]['answer'] is None
    assert 'cut off' in part['troubles'][-1] and 0 < part['frames'] < 1000
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(InputError, match='bag.mcap'):
        examine_moments(engine, MOMENT, file, ask(0))


def test_written_answers_are_those_of_the_frame(engine, bag, tmp_path):
    other = write(tmp_path / 'bag', [0], [1])
    written, alone = (
        examine_moments(engine, VqaTask(write=True), path, ask(at))[0] for path, at in ((bag, 0.1), (other, 0))
    )
    assert said(written) == said(alone)


def test_the_sheet_shows_the_asked_frames_in_rows(engine, bag, monkeypatch):
    monkeypatch.setattr(vqa_in_bags, 'COLUMNS', 2)
    part, _, sheet = examine_moments(engine, MOMENT, bag, ask(0, 0.2, None))
    layout = part['sheet']
    assert layout == {'width': 192, 'height': HEIGHT, 'columns': 2} and sheet.shape == (2 * HEIGHT, 2 * 192, 3)
    for answer, number in zip(part['answers'], (0, 2, 3)):
        row, column = divmod(answer['picture'], 2)
        tile = sheet[row * HEIGHT : (row + 1) * HEIGHT, column * 192 : (column + 1) * 192]
        assert np.array_equal(tile, cv2.resize(world(number), (192, HEIGHT), interpolation=cv2.INTER_AREA))
    monkeypatch.setattr(vqa_in_bags, 'MOST_PICTURES', 1)
    part, _, sheet = examine_moments(engine, MOMENT, bag, ask(0, 0.2))
    assert [answer['picture'] for answer in part['answers']] == [0, None] and sheet.shape == (HEIGHT, 192, 3)


def test_renamed_topics_are_read(engine, bag):
    renamed = VqaTask(camera='/head', remaps={COLOR_TOPIC: '/head/color/image_raw'})
    part, *_ = examine_moments(engine, renamed, bag, ask(0))
    assert part['camera'] == {'rgb': COLOR_TOPIC, 'depth': None} and part['answers'][0]['answer']


def test_a_job_answers_by_its_scope(engine, bag):
    questions = ask(0.1, None)
    part, _, files = VqaTask().examine(engine, bag, questions)
    whole, _, sheet = examine_moments(engine, MOMENT, bag, questions)
    assert part == whole and cv2.imdecode(np.frombuffer(files['jpg'], np.uint8), cv2.IMREAD_COLOR).shape == sheet.shape
    assert VqaTask().examine(engine, bag, ask(7))[2] == {}
    blind, *_ = VqaTask('blind').examine(engine, bag, questions)
    assert [answer['frames_used'] for answer in blind['answers']] == [0, 0] and 'sheet' not in blind
    with pytest.raises(ValueError, match="scope is 'episode'"):
        VqaTask('episode')
