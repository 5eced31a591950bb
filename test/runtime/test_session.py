"""A session: what is asked is checked, and the answer says what it rests on."""

import numpy as np
import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import untrained
from m3et_ros.runtime.session import Session, checked_question, checked_scope


@pytest.fixture(scope='module')
def engine():
    return Engine(untrained('tiny', 0))


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


def test_good_questions_and_scopes_pass():
    assert checked_question('  what? ', 20) == 'what?'
    assert [checked_scope(s) for s in ('', 'frame', 'episode')] == ['frame', 'frame', 'episode']
    with pytest.raises(InputError, match='"frame" or "episode"'):
        checked_scope('world')


def test_nothing_seen_nothing_answered(session):
    with pytest.raises(InputError, match='No image has arrived yet'):
        session.views('frame')


def test_answers_say_what_they_rest_on(session):
    for n in range(1, 21):
        session.observe(frame(n))
    reply = session.ask('what?', session.views('frame'), scope='frame', top_k=3)
    assert (reply.frames_used, reply.first_ns, reply.last_ns) == (1, 20 * 10**9, 20 * 10**9)
    assert reply.text == reply.alternatives[0].label and reply.confidence == reply.alternatives[0].score
    reply = session.ask('what?', session.views('episode'), scope='episode', top_k=3)
    assert 2 <= reply.frames_used <= 4 and reply.first_ns == 10**9 and reply.last_ns == 20 * 10**9


def test_an_image_of_ones_own_is_not_remembered(session):
    session.observe(frame(1))
    views = session.views('frame', frame(9))
    assert views[0].frame.stamp_ns == 9 * 10**9
    assert session.newest.frame.stamp_ns == 10**9 and session.memory.seen == 1


def test_the_memory_keeps_no_encoder_outputs(session):
    for n in range(9):
        session.observe(frame(n))
    assert all(view.encoded is None for view in session.memory) and session.newest.encoded is not None


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
    assert session.newest is None and len(session.memory) == 0
