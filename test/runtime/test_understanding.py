from dataclasses import replace

import pytest

from m3et_ros.data.kitchen.labels import kitchen_labels
from m3et_ros.data.kitchen.questions.taught import kitchen_taught
from m3et_ros.data.questions.reader import Reading
from m3et_ros.data.questions.taught import Taught
from m3et_ros.runtime.open_model import open_checkpoint, untrained
from m3et_ros.runtime.results import Ranked, Reply
from m3et_ros.runtime.understanding import CANNOT_TELL, REASONS, judged, question_reader, refused, taught_of

GUESSES = (Ranked(3, 'red', 0.4), Ranked(4, 'blue', 0.3))
REPLY = Reply('What colour?', 'red', 0.4, GUESSES, 'frame', 1, 5, 5, 0.1)


def test_the_shipped_weights_were_taught_the_questions_of_version_1():
    taught = taught_of(open_checkpoint('kitchen'))
    assert taught == kitchen_taught(version=1)
    assert taught.episode  # it has the head for them


def test_a_checkpoint_says_itself_what_it_was_taught():
    made, other = replace(untrained('tiny', 0), trained=True), kitchen_taught(version=1)
    assert taught_of(made) == replace(kitchen_labels().taught, episode={})  # without that head
    assert taught_of(replace(made, labels=replace(made.labels, taught=other))).frame == other.frame
    reader = question_reader(made)
    assert reader.read('What is on the left?').reason == ''
    assert reader.read('Is there a dragon in view?').reason == 'unknown_word'


@pytest.mark.parametrize('change', ({'taught': Taught({})}, {'taught': None, 'answers': ('yes', 'no')}))
def test_nothing_is_known_of_foreign_labels_and_of_random_weights(change):
    made = untrained('tiny', 0)
    assert question_reader(made) is None
    assert question_reader(replace(made, trained=True, labels=replace(made.labels, **change))) is None


def test_a_refusal_says_why_and_keeps_the_guesses():
    reading = Reading('', reason='unknown_word', explanation='Never.', suggestions=('Is it red?',))
    reply = refused(REPLY, reading)
    assert (reply.text, reply.confidence, reply.answerable) == (CANNOT_TELL, 0.0, False)
    assert (reply.reason, reply.explanation, reply.suggestions) == ('unknown_word', 'Never.', ('Is it red?',))
    assert reply.alternatives == GUESSES


@pytest.mark.parametrize(
    ('text', 'least', 'unlike', 'reason'),
    (
        ('red', 0.4, False, ''),
        ('red', 0.41, False, 'unsure'),
        ('red', 0.0, True, 'unlike_training'),
        ('not in view', 0.0, False, 'not_in_view'),
    ),
)
def test_answers_are_judged(text, least, unlike, reason):
    reply = judged(replace(REPLY, text=text), min_confidence=least, unlike_training=unlike)
    assert reply.reason == reason and reply.answerable == (reason == '')
    assert reply.alternatives == GUESSES
    assert (reply.text, reply.confidence) == ((text, 0.4) if reply.answerable else (CANNOT_TELL, 0.0))
    assert reason in ('', *REASONS) and bool(reply.explanation) == (reason != '')


def test_a_refusal_is_not_judged_again():
    reply = refused(REPLY, Reading(reason='needs_memory'))
    assert judged(reply, min_confidence=1.0, unlike_training=True) is reply
