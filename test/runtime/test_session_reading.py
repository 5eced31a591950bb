"""A session with the shipped weights reads questions before it asks the model, and judges the answers."""

from dataclasses import replace

import numpy as np
import pytest

from m3et_ros.data.checkpoints import DEFAULT_MODEL
from m3et_ros.data.frame import Frame
from m3et_ros.runtime.answerer import open_answerer
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import open_checkpoint
from m3et_ros.runtime.session import Session
from m3et_ros.runtime.understanding import CANNOT_TELL


@pytest.fixture(scope='module')
def engine():
    return Engine(open_checkpoint('kitchen'))


@pytest.fixture
def session(engine):
    session = Session(engine)
    session.domain_every = 0
    session.reset()
    session.observe(Frame(np.full((24, 32, 3), 90, np.uint8), np.full((24, 32), 1.5, np.float32), 1))
    return session


def asked(session, question, scope='frame', **options):
    return session.ask(question, session.views(scope), scope=scope, top_k=3, **options)


def test_everyday_words_give_the_answer_of_the_taught_wording(session):
    plain, everyday = (
        asked(session, 'What colour is the cup?'),
        asked(session, "hey robot, what's the color of the mug"),
    )
    assert everyday.alternatives == plain.alternatives and everyday.answerable
    assert (everyday.question, everyday.read_as) == (
        "hey robot, what's the color of the mug",
        'What colour is the cup?',
    )


def test_a_taught_wording_gives_what_the_model_itself_gives(session, engine):
    reply = asked(session, 'Is the tap on?')
    assert reply.alternatives == engine.classify('Is the tap on?', [session.newest], top_k=3)
    assert (reply.text, reply.confidence) == (reply.alternatives[0].label, reply.alternatives[0].score)
    assert (reply.answerable, reply.reason, reply.explanation) == (True, '', '')


@pytest.mark.parametrize(
    ('question', 'reason'),
    (
        ('Is there a dragon on the table?', 'unknown_word'),
        ('Why is the sky blue?', 'unknown_form'),
        ('Is the tap red?', 'impossible'),
        ('?', 'no_question'),
        ('Have you seen a cup?', 'needs_memory'),
    ),
)
@pytest.mark.parametrize('mode', ('classify', 'generate'))
def test_the_model_is_not_asked_for_what_it_was_never_taught(session, engine, monkeypatch, question, reason, mode):
    for way in ('classify', 'write', 'answer_all'):
        monkeypatch.setattr(engine, way, None)
    reply = asked(session, question, mode=mode)
    assert (reply.text, reply.confidence, reply.alternatives) == (CANNOT_TELL, 0.0, ())
    assert (reply.answerable, reply.reason, reply.frames_used, reply.last_ns) == (False, reason, 1, 1)
    assert reply.explanation


def test_a_question_beyond_the_frame_keeps_the_guesses_of_the_model(session, engine):
    reply = asked(session, 'What will be done next?')
    assert (reply.reason, reply.text, reply.confidence) == ('needs_memory', CANNOT_TELL, 0.0)
    assert reply.alternatives == engine.classify('What will be done next?', [session.newest], top_k=3)


def test_the_memory_answers_about_the_past(session):
    assert asked(session, 'Where did you last see my mug?', 'episode').read_as == 'Where is the cup now?'
    assert asked(session, 'What was done last?', 'episode').answerable


def test_an_answer_below_the_least_confidence_is_unsure(session):
    sure = asked(session, 'What colour is the cup?')
    session.min_confidence = sure.confidence
    assert asked(session, 'What colour is the cup?').answerable
    session.min_confidence = sure.confidence + 1e-3
    unsure = asked(session, 'What colour is the cup?')
    assert (unsure.reason, unsure.text, unsure.alternatives) == ('unsure', CANNOT_TELL, sure.alternatives)


def test_a_scene_is_described(session):
    reply = asked(session, 'Describe the scene.')
    assert reply.text.startswith('I see') and reply.text.endswith('.') and reply.answerable
    assert [r.text for r in session.write('Describe it.', session.views('frame'), scope='frame')] == [reply.text]


def test_a_standing_instruction_is_read_once(session, monkeypatch):
    first = session.read('Is the tap on?', 'frame')
    monkeypatch.setattr(session, '_reader', None)
    session._reader = object()  # has no method read
    assert session.read('Is the tap on?', 'frame') is first
    with pytest.raises(AttributeError):
        session.read('Is the tap off?', 'frame')


def test_an_answerer_is_not_asked_for_unknown_words_and_gets_taught_wordings(session, monkeypatch):
    answerer, prompts = open_answerer('matvlm', '', Engine(open_checkpoint(DEFAULT_MODEL))), []

    def write(question, view, *, max_tokens):
        prompts.append(question)
        yield 'Fine.', 0.5

    monkeypatch.setattr(answerer, 'write', write)
    session.answerer = answerer
    replies = {
        text: list(session.write(text, session.views('frame'), scope='frame'))[-1]
        for text in ('Where is the dragon?', 'where is my mug', 'Describe the scene.', 'What will be done next?')
    }
    assert prompts == ['Where is the cup?', 'Describe the scene.', 'What will be done next?']
    assert [reply.answerable for reply in replies.values()] == [False, True, True, False]
    # The words were sent already, so they stay.
    assert replies['What will be done next?'].text == 'Fine.'


def test_a_temperature_calibrates_the_confidence(engine):
    labels = engine.labels
    warm = replace(labels, calibration=replace(labels.calibration, temperature=3.0))
    other = Engine(replace(engine.checkpoint, labels=warm))
    view = engine.encode(Frame(np.full((24, 32, 3), 90, np.uint8), stamp_ns=1))
    plain, calibrated = (one.answer_all(['Is the tap on?', 'Where is the cup?'], view) for one in (engine, other))
    expected = (plain.log() / 3).softmax(-1)
    assert np.allclose(calibrated, expected, atol=1e-5)
    ranked = other.classify('Is the tap on?', [view], top_k=1)[0]
    assert ranked.score == pytest.approx(float(calibrated[0].max()), abs=1e-4)
