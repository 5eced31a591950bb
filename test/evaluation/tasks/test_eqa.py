"""Questions about a bag: the same answers twice, every scope and every setting."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from m3et_ros.data.bags.frames import frames
from m3et_ros.data.bags.reader import BagReader
from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.datasets.openeqa import EqaQuestion
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.evaluation.tasks import eqa
from m3et_ros.evaluation.tasks.eqa import EqaTask, examine
from m3et_ros.models.episode.model import EpisodeHead
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import untrained
from m3et_ros.runtime.session import Session
from m3et_ros.training.memory.run import episode_config

START, MS = 1_700_000_000_000_000_000, 1_000_000
QUESTIONS = [
    EqaQuestion(text, 'yes', 'state', f'q{i}', 'bag')
    for i, text in enumerate(('Is the tap on?', 'Where is the milk?', 'x' * 3000))
]


def write(path, stamps, size=(24, 32), depth=True):
    """A bag with a frame of another colour at each of these milliseconds."""
    rng = np.random.default_rng(0)
    with BagWriter(path) as bag:
        for at in stamps:
            rgb = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
            bag.write_frame(Frame(rgb, np.full(size, 1.5, np.float32) if depth else None, START + at * MS))
    return path


@pytest.fixture(scope='module')
def engine():
    return Engine(untrained('tiny', 0))


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    return write(tmp_path_factory.mktemp('bags') / 'bag', range(0, 2000, 100))


def test_the_same_bag_gives_the_same_part(engine, bag):
    (first, times, strip), (second, *_) = (examine(engine, EqaTask(), bag, QUESTIONS) for _ in range(2))
    assert first == second and first['bag'] == 'bag' and first['frames'] == 20 and first['seconds'] == 1.9
    assert first['camera'] == {
        'rgb': '/camera/camera/color/image_raw',
        'depth': '/camera/camera/aligned_depth_to_color/image_raw',
    }
    assert len(times['encode_ms']) == 20 and len(times['answer_ms']) == 2
    assert strip.shape == (96, 4 * 128, 3)
    asked = first['answers']
    assert [answer['question_id'] for answer in asked] == ['q0', 'q1', 'q2']
    assert asked[0]['answer'] in engine.labels.answers and 0 < asked[0]['confidence'] <= 1
    assert asked[0]['first_ns'] == START and asked[0]['last_ns'] == START + 1900 * MS
    assert asked[2]['answer'] is None and '3000 characters' in asked[2]['trouble']


def test_a_learnt_memory_encodes_the_due_frames_and_answers_for_all(bag):
    plain = untrained('tiny', 0)
    torch.manual_seed(0)
    head = EpisodeHead(
        episode_config(plain, ('yes', 'no'), rate_hz=2.5, d=16, d_eye=16, d_value=8, d_slot=8, d_stream=16)
    )
    engine = Engine(replace(plain, heads={'episode': head}))
    (part, times, _), (again, *_) = (examine(engine, EqaTask(), bag, QUESTIONS[:2]) for _ in range(2))
    assert part == again and part['frames'] == 20 and len(times['encode_ms']) == 5
    for answer in part['answers']:
        assert answer['answer'] in ('yes', 'no') and answer['frames_used'] == 5
        assert (answer['first_ns'], answer['last_ns']) == (START, START + 1600 * MS)
    comb, times, _ = examine(engine, EqaTask(comb=True), bag, QUESTIONS[:2])
    assert len(times['encode_ms']) == 20 and comb['answers'][0]['frames_used'] <= 8
    assert comb['answers'] == examine(Engine(plain), EqaTask(), bag, QUESTIONS[:2])[0]['answers']


def test_answers_are_those_of_a_session_that_observed_the_frames(engine, bag):
    session = Session(engine)
    with BagReader(bag) as reader:
        for frame in frames(reader):
            session.observe(frame)
    part, *_ = examine(engine, EqaTask(), bag, QUESTIONS[:2])
    for question, answer in zip(QUESTIONS, part['answers']):
        reply = session.ask(question.question, session.views('episode'), scope='episode', top_k=1)
        assert (reply.text, round(reply.confidence, 6), reply.frames_used) == (
            answer['answer'],
            answer['confidence'],
            answer['frames_used'],
        )


def test_each_scope_uses_its_own_frames(engine, bag):
    parts = {
        scope: examine(engine, EqaTask(scope=scope), bag, QUESTIONS[:2])[0]['answers']
        for scope in ('episode', 'frame', 'blind')
    }
    assert [parts[scope][0]['frames_used'] for scope in parts] == [6, 1, 0]
    assert len({parts[scope][0]['confidence'] for scope in parts}) == 3
    # Blind answers do not see the bag.
    other = write(bag.parent / 'other', [0, 100])
    assert examine(engine, EqaTask(scope='blind'), other, QUESTIONS[:2])[0]['answers'] == parts['blind']
    assert examine(engine, EqaTask(scope='frame'), other, QUESTIONS[:2])[0]['answers'] != parts['frame']


def test_written_answers_and_fewer_frames(engine, bag):
    part, times, _ = examine(engine, EqaTask(write=True, every=5), bag, QUESTIONS[:1])
    assert part['frames'] == 4 == len(times['encode_ms'])
    assert part['answers'][0]['answer'] is None or isinstance(part['answers'][0]['answer'], str)
    assert examine(engine, EqaTask(write=True, scope='blind'), bag, QUESTIONS[:1])[0]['answers'][0]['frames_used'] == 0


def test_the_memory_has_the_given_number_of_frames(engine, bag):
    part, *_ = examine(engine, EqaTask(memory_frames=3), bag, QUESTIONS[:1])
    assert part['answers'][0]['frames_used'] == 3
    with_depth = examine(engine, EqaTask(memory_frames=2), bag, QUESTIONS[:1])[0]['answers'][0]
    assert with_depth['frames_used'] == 2


def test_the_named_depth_topic_is_read(engine, bag):
    found, named = (
        examine(engine, EqaTask(camera=camera), bag, QUESTIONS[:1])[0] for camera in (None, '/camera/camera')
    )
    assert named == found and named['camera']['depth'] is not None


def test_a_written_answer_has_at_most_the_given_word_pieces(engine, bag, monkeypatch):
    whole = examine(engine, EqaTask('frame', write=True), bag, QUESTIONS[:1])[0]['answers'][0]
    monkeypatch.setattr(eqa, 'WORDS', 1)
    short = examine(engine, EqaTask('frame', write=True), bag, QUESTIONS[:1])[0]['answers'][0]
    assert short['confidence'] > whole['confidence'] and len(short['answer'] or '') < len(whole['answer'] or 'x')


def test_a_job_gets_the_strip_as_jpeg(engine, bag):
    part, times, files = EqaTask().examine(engine, bag, QUESTIONS[:1])
    again, _, strip = examine(engine, EqaTask(), bag, QUESTIONS[:1])
    assert part == again and set(times) == {'encode_ms', 'answer_ms', 'wall_s'}
    assert cv2.imdecode(np.frombuffer(files['jpg'], np.uint8), cv2.IMREAD_COLOR).shape == strip.shape


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'scope': 'day'}, "scope is 'day'"),
        ({'every': 0}, 'every is 0'),
        ({'memory_frames': 1}, 'memory_frames is 1'),
        ({'threads': 0}, 'threads is 0'),
        ({'scope': 'moment'}, "scope is 'moment'"),
    ],
)
def test_wrong_settings_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        EqaTask(**options)


def test_the_limits_of_the_settings_are_allowed():
    task = EqaTask(every=1, memory_frames=2, threads=1)
    assert task.settings() == {
        'scope': 'episode',
        'write': False,
        'every': 1,
        'memory_frames': 2,
        'camera': None,
        'remaps': {},
        'comb': False,
        'threads': 1,
    }


def test_renamed_topics_are_read(engine, bag):
    colour = '/camera/camera/color/image_raw'
    renamed = EqaTask(camera='/head', remaps={colour: '/head/color/image_raw'})
    assert examine(engine, renamed, bag, QUESTIONS[:1])[0]['camera'] == {'rgb': colour, 'depth': None}
    with pytest.raises(InputError, match='/head/color/image_raw'):
        examine(engine, EqaTask(camera='/head'), bag, QUESTIONS[:1])
