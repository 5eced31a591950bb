from pathlib import Path

import pytest

from m3et_ros.data.kitchen.questions.taught import kitchen_taught
from m3et_ros.data.questions.reader import COMPOSED, REASONS, QuestionReader
from m3et_ros.data.questions.taught import Taught, TaughtField, TaughtKind

HERE = Path(__file__).parent
READERS = {version: QuestionReader(kitchen_taught(version=version)) for version in (1, 2)}
READER = READERS[1]


def lines(name):
    rows = [line.split('\t') for line in (HERE / name).read_text(encoding='utf-8').splitlines()]
    return [row for row in rows if len(row) == 2]


@pytest.mark.parametrize('version', (1, 2))
@pytest.mark.parametrize(('name', 'count'), (('outside.txt', 200), ('outside_second.txt', 60)))
def test_questions_outside_of_what_was_taught_are_flagged_for_the_right_reason(name, count, version):
    found = [(reasons.split('|'), text, READERS[version].read(text)) for reasons, text in lines(name)]
    assert len(found) >= count
    assert {reason for reasons, _, _ in found for reason in reasons} <= set(REASONS)
    assert [text for _, text, reading in found if not reading.reason] == []
    right = sum(reading.reason in reasons for reasons, _, reading in found)
    assert right >= 0.98 * len(found)
    assert all(reading.explanation for _, _, reading in found)


@pytest.mark.parametrize('version', (1, 2))
def test_taught_questions_in_everyday_words_are_accepted(version):
    rows = lines('taught.txt')
    assert len(rows) >= 300
    wrong = []
    for scope, text in rows:
        reading = READERS[version].read(text, 'episode' if scope == 'episode' else 'frame')
        if reading.reason != ('needs_memory' if scope == 'past' else '') or not reading.question:
            wrong.append((text, reading))
    assert wrong == []


@pytest.mark.parametrize('version', (1, 2))
def test_every_taught_wording_goes_to_the_model_word_for_word(version):
    taught, changed = READERS[version].taught, []
    for scope, kinds in (('frame', taught.frame), ('episode', taught.episode)):
        for name, kind in kinds.items():
            for position in range(len(kind.wordings)):
                values = {key: one.words[-1] for key, one in kind.fields.items()}
                values |= {key: kind.fields[key].words[0] for key in ('b', 'other') if key in values}
                text = taught.worded(kind, values, position)
                reading = READERS[version].read(text, scope)
                if name == 'what_at':
                    assert reading.kind in COMPOSED
                elif (reading.kind, reading.question) != (name, text):
                    changed.append((text, reading))
    assert changed == []


@pytest.mark.parametrize(
    ('text', 'scope', 'question'),
    (
        ('hey robot, do you see any mugs?', 'frame', 'Is there a cup in view?'),
        ('Is the refrigerator gray?', 'frame', ''),
        ('Are the tins in the trash can?', 'frame', 'Is the can in the bin?'),
        ('How many loaves can be seen', 'frame', 'How many loaves of bread can you see?'),
        ('Where did you last see my mug?', 'episode', 'Where is the cup now?'),
        ('Did the person open the fridge?', 'episode', 'Was this done: open fridge?'),
        ('What color was the cup?', 'episode', 'What colour was the cup?'),
    ),
)
def test_a_question_is_put_into_a_taught_wording(text, scope, question):
    assert READER.read(text, scope).question == question


def test_an_unknown_word_is_named_and_a_near_one_offered():
    reading = READER.read('Is there a botttel in view?')
    assert (reading.reason, reading.kind) == ('unknown_word', 'existence')
    assert 'botttel' in reading.explanation
    assert reading.suggestions[0] == 'Is there a bottle in view?'
    far = READER.read('Is there a dragon on the table?')
    assert far.reason == 'unknown_word' and '"dragon"' in far.explanation


def test_an_unknown_form_is_answered_with_near_questions_about_the_same_things():
    reading = READER.read('What is the price of the cup?')
    assert reading.reason == 'unknown_form'
    assert {'What is the distance to the cup?', 'What colour is the cup?'} < set(reading.suggestions)


def test_a_field_outside_of_what_was_taught_is_impossible():
    reading = READER.read('Is the tap red?')
    assert reading.reason == 'impossible' and '"tap"' in reading.explanation
    assert 'Is there a tap in view?' in reading.suggestions


def test_one_frame_shows_no_past_and_no_future():
    for text, word in (('What will be done next?', 'anticipation'), ('What was done last?', 'episode')):
        reading = READER.read(text)
        assert reading.reason == 'needs_memory' and word in reading.explanation
        assert reading.question == text
    past = READER.read('What colour was the cup?')
    assert (past.reason, past.suggestions) == ('needs_memory', ('What colour was the cup?',))
    assert READER.read('What was done last?', 'episode').reason == ''


def test_an_episode_does_not_answer_about_one_frame():
    reading = READER.read('How far away is the cup?', 'episode')
    assert (reading.reason, reading.suggestions) == ('unknown_form', ('How far away is the cup?',))


def test_without_memory_an_episode_is_asked_as_a_frame():
    bare = QuestionReader(Taught(READER.taught.frame, forms=READER.taught.forms))
    assert bare.read('How far away is the cup?', 'episode').reason == ''


def test_the_words_come_from_what_was_taught():
    garden = Taught(
        {'count': TaughtKind(('How many {plural} grow?',), {'plural': TaughtField('noun', ('rose',), 'many')})},
        forms={'rose': ('a rose', 'roses')},
    )
    reader = QuestionReader(garden)
    assert reader.read('how many roses are there').question == 'How many roses grow?'
    assert reader.read('how many cups are there').reason == 'unknown_word'
    assert reader.read('What do you see?').reason == 'unknown_form'
