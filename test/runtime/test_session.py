"""A session: questions are checked, replies report their frames, and one memory serves."""

import numpy as np
import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.ros.parameters import PARAMETERS
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.frame_comb import FrameMemory
from m3et_ros.runtime.limits import QUESTION_CHARS
from m3et_ros.runtime.open_model import untrained
from m3et_ros.runtime.session import Session, checked_question, checked_scope


@pytest.fixture(scope='module')
def engine():
    return Engine(untrained('tiny', 0))


@pytest.fixture(scope='module')
def remembering(episode_checkpoint):
    return Engine(episode_checkpoint)


@pytest.fixture
def session(engine):
    session = Session(engine, memory_frames=4)
    session.reset()
    return session


def frame(n):
    return Frame(np.full((24, 32, 3), 10 * n % 256, np.uint8), stamp_ns=n * 10**9)


@pytest.mark.parametrize(
    'question, reason', [('', 'question_empty'), (' \t\n', 'question_empty'), ('x' * 21, 'question_long')]
)
def test_questions_are_checked(question, reason):
    with pytest.raises(InputError) as refused:
        checked_question(question, 20)
    assert refused.value.reason == reason and ';' in str(refused.value)


def test_a_question_of_the_longest_length_passes():
    assert checked_question('x' * 20, 20) == 'x' * 20 == checked_question(f' {"x" * 20} ', 20)


def test_the_limit_is_the_same_everywhere_and_names_a_parameter_only_where_there_is_one():
    assert next(row.default for row in PARAMETERS if row.name == 'max_question_chars') == QUESTION_CHARS == 1000
    assert checked_question('x' * 1000) == 'x' * 1000
    with pytest.raises(InputError, match='has 1001 characters and at most 1000 are read; shorten it or raise max_ques'):
        checked_question('x' * 1001)
    with pytest.raises(InputError, match=r'are read; shorten it\.$'):
        checked_question('x' * 1001, parameter='')


def test_good_questions_and_scopes_pass():
    assert checked_question('  what? ', 20) == 'what?'
    assert [checked_scope(s) for s in ('', 'frame', 'episode')] == ['frame', 'frame', 'episode']
    with pytest.raises(InputError, match='"frame" or "episode"'):
        checked_scope('world')


def test_without_a_frame_there_is_no_answer(session):
    with pytest.raises(InputError, match='No image has arrived yet'):
        session.views('frame')


def test_replies_report_the_frames_they_rest_on(session):
    for n in range(1, 21):
        session.observe(frame(n))
    reply = session.ask('what?', session.views('frame'), scope='frame', top_k=3)
    assert (reply.frames_used, reply.first_ns, reply.last_ns) == (1, 20 * 10**9, 20 * 10**9)
    assert reply.text == reply.alternatives[0].label and reply.confidence == reply.alternatives[0].score
    reply = session.ask('what?', session.views('episode'), scope='episode', top_k=3)
    assert 2 <= reply.frames_used <= 4 and reply.first_ns == 10**9 and reply.last_ns == 20 * 10**9


def test_a_sent_image_is_not_remembered(session):
    session.observe(frame(1))
    views = session.views('frame', frame(9))
    assert views[0].frame.stamp_ns == 9 * 10**9
    assert session.newest.frame.stamp_ns == 10**9 and session.memory.frames == 1


def test_a_memory_of_frames_stores_no_encoder_outputs(session):
    for n in range(9):
        session.observe(frame(n))
    views = session.views('episode')
    assert all(view.encoded is None and view.image_encoding is None for view in views)
    assert session.newest.encoded is not None


@pytest.mark.parametrize('scope', ['frame', 'episode'])
def test_writing_ends_with_the_whole_answer(session, scope):
    for n in range(3):
        session.observe(frame(n))
    replies = list(session.write('what?', session.views(scope), scope=scope, max_tokens=4))
    assert replies[-1].text == replies[-2].text if len(replies) > 1 else True
    generated = session.ask('what?', session.views(scope), scope=scope, top_k=1, mode='generate', max_tokens=4)
    assert generated.text == replies[-1].text and generated.confidence == pytest.approx(replies[-1].confidence)


def test_reset_begins_a_new_episode(session):
    session.observe(frame(1))
    session.reset()
    assert session.newest is None and session.memory.frames == 0


def test_written_answers_have_at_most_max_tokens(session):
    session.observe(frame(1))
    views, lengths = session.views('frame'), []
    for max_tokens in (1, 4):
        lengths.append(len(list(session.write('what?', views, scope='frame', max_tokens=max_tokens))) - 1)
        asked = session.ask('what?', views, scope='frame', top_k=1, mode='generate', max_tokens=max_tokens)
        *_, written = session.write('what?', views, scope='frame', max_tokens=max_tokens)
        assert asked.text == written.text
    assert lengths[0] <= 1 and lengths[1] <= 4


def test_a_session_without_a_learnt_memory_stores_frames_and_says_so(engine, caplog):
    with caplog.at_level('INFO'):
        session = Session(engine, memory_frames=3)
    assert isinstance(session.memory, FrameMemory) and 'rest on 3 frames' in caplog.text
    for n in range(9):
        session.observe(frame(n))
    assert session.memory.frames <= 3 and session.memory.last_ns == 8 * 10**9


def test_a_session_with_a_learnt_memory_uses_it_alone(remembering):
    session = Session(remembering, memory_frames=4)
    assert session.memory is remembering.episode_memory
    for n in range(5):
        session.observe(frame(n))
    assert session.memory.frames == 5
    # Nothing else holds frames: a question about the episode rests on the newest view and the state.
    assert session.views('episode') == [session.newest]
    reply = session.ask('what?', session.views('episode'), scope='episode', top_k=1)
    assert (reply.frames_used, reply.first_ns, reply.last_ns, reply.scope) == (5, 0, 4 * 10**9, 'episode')
    session.reset()
    assert session.memory.frames == 0


def test_a_sample_of_frames_may_replace_the_learnt_memory(remembering):
    remembering.episode_memory.reset()
    session = Session(remembering, memory_frames=4, sample_frames=True)
    for n in range(20):
        session.observe(frame(n))
    assert remembering.episode_memory.frames == 0 and isinstance(session.memory, FrameMemory)
    reply = session.ask('what?', session.views('episode'), scope='episode', top_k=1)
    assert 2 <= reply.frames_used <= 4 and reply.text in remembering.labels.answers


def test_a_session_that_remembers_nothing_has_the_newest_frame_alone(engine, caplog):
    with caplog.at_level('INFO'):
        session = Session(engine, memory_frames=4, remember=False)
    for n in range(1, 4):
        session.observe(frame(n))
    assert session.newest.frame.stamp_ns == 3 * 10**9 and session.memory.frames == 0
    assert 'memory of episodes' not in caplog.text


def test_reset_begins_a_new_action_stream(engine, session):
    session.observe(frame(1))
    first = session.anticipate(session.newest, horizon_s=1.0, top_k=3)
    session.observe(frame(20))
    session.anticipate(session.newest, horizon_s=1.0, top_k=3)
    session.reset()
    session.observe(frame(1))
    again = session.anticipate(session.newest, horizon_s=1.0, top_k=3)
    assert (again.now, again.next, again.broken) == (first.now, first.next, '')
