"""Composed answers, with an engine whose answers are written down here."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from m3et_ros.data.frame import Frame
from m3et_ros.data.kitchen.questions.taught import kitchen_taught
from m3et_ros.data.questions.reader import QuestionReader, Reading
from m3et_ros.runtime.composed import Composer, NamedThing, described, listed

TAUGHT = kitchen_taught(version=1)
ANSWERS = ('no', 'yes', 'red', 'orange', 'on the table', 'on the counter', 'nothing', 'milk')
CLASSES = ('wall', 'table', 'counter', 'cup', 'orange', 'milk', 'knife', 'glass')


class Scripted:
    """An engine whose model sees a red cup, an orange and a milk carton on the table; it doubts the knife."""

    config = SimpleNamespace(tasks=('semseg',))
    labels = SimpleNamespace(answers=ANSWERS, classes=CLASSES)
    seen = ('table', 'cup', 'orange', 'milk', 'knife')
    said = {  # noqa: RUF012
        'Is there a table in view?': ('yes', 0.99),
        'Is there a cup in view?': ('yes', 0.9),
        'Is there an orange in view?': ('yes', 0.8),
        'Is there a milk carton in view?': ('yes', 0.7),
        'Is there a knife in view?': ('yes', 0.55),
        'What colour is the cup?': ('red', 0.9),
        'What colour is the orange?': ('orange', 0.9),
        'What colour is the milk?': ('red', 0.4),
        'Where is the cup?': ('on the table', 0.9),
        'Where is the orange?': ('on the table', 0.6),
        'Where is the milk?': ('on the counter', 0.3),
        'What is in the hand?': ('milk', 0.9),
    }

    def __init__(self):
        self.asked = []

    def decode(self, view, tasks):
        logits = torch.zeros(1, len(CLASSES), 10, 10)
        for row, name in enumerate(self.seen):
            logits[0, CLASSES.index(name), row] = 1
        return {'semseg': logits}

    def answer_all(self, questions, view):
        self.asked += questions
        rows = torch.zeros(len(questions), len(ANSWERS))
        for row, question in zip(rows, questions):
            answer, score = self.said.get(question, ('no', 0.9))
            row[ANSWERS.index(answer)] = score
        return rows


VIEW = SimpleNamespace(frame=Frame(np.zeros((4, 4, 3), np.uint8)))


def answer(text):
    engine = Scripted()
    ranked, explanation = Composer(engine, TAUGHT).answer(QuestionReader(TAUGHT).read(text), VIEW)
    return ranked, explanation, engine


def test_a_scene_is_described_by_what_the_model_affirms_and_segments():
    ranked, explanation, engine = answer('Describe the scene.')
    assert explanation == ''
    assert ranked[0].label == (
        'I see a red cup and an orange on the table. There is also a milk carton. The hand is holding a milk carton.'
    )
    assert [(one.label, round(one.score, 2)) for one in ranked[1:]] == [
        ('table', 0.99),
        ('red cup', 0.9),
        ('orange orange', 0.8),
        ('milk', 0.7),
    ]
    assert ranked[0].score == pytest.approx(0.7)
    assert 'Is there a glass in view?' not in engine.asked  # no pixel of it


def test_the_things_at_a_place_are_named():
    ranked, _, _ = answer('What is on the table?')
    assert ranked[0].label == 'I see a red cup and an orange on the table.'
    assert ranked[0].score == pytest.approx(0.8)


def test_a_place_out_of_view_is_not_in_view():
    _, explanation, engine = answer("What's on the counter?")
    assert explanation == 'The counter is not in view.' and engine.asked == []


def test_a_place_in_view_with_nothing_on_it():
    engine = Scripted()
    engine.seen = (*engine.seen, 'counter')
    ranked, explanation = Composer(engine, TAUGHT).answer(Reading('', 'at_place', {'place': 'on the counter'}), VIEW)
    assert (ranked[0].label, explanation) == ('I see nothing on the counter.', '')


@pytest.mark.parametrize(
    ('names', 'text'), ((['a cup'], 'a cup'), (['a', 'b'], 'a and b'), (['a', 'b', 'c'], 'a, b and c'))
)
def test_lists_in_words(names, text):
    assert listed(names) == text


def test_places_and_the_rest_in_sentences():
    things = [
        NamedThing('cup', 0.9, '', 'on the table'),
        NamedThing('pan', 0.8, '', 'on the hob'),
        NamedThing('fridge', 0.7),
    ]
    assert described(things, lambda thing: f'a {thing.noun}') == (
        'I see a cup on the table; and a pan on the hob. There is also a fridge.'
    )
    assert described([], str) == 'I see nothing that I know.'
    assert described(things[2:], lambda thing: 'a fridge') == 'I see a fridge.'
