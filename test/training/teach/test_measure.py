"""Measurements on held-out frames: what a right model would get, what a guesser gets, and the table of both."""

from dataclasses import replace

import pytest

from m3et_ros.training.teach.extend import extended, extended_taught
from m3et_ros.training.teach.label import FrameChoice
from m3et_ros.training.teach.measure import measure, open_exam, rows_of, unknown_words


@pytest.fixture(scope='module')
def exam(student, place, labelled):
    labels = student.labels
    return open_exam(labelled, labels.classes, labels.answers, bags=[place], every=1)


def test_the_exam_holds_the_held_out_frames(exam, place):
    held = [one for one in FrameChoice([place]) if one.split == 'held_out']
    assert [frame.stamp_ns for frame in exam.frames] == [one.frame.stamp_ns for one in held]
    assert len(exam.frames) == len(exam.data)


def test_a_guesser_knows_the_commonest_answer_of_the_training_frames(exam):
    assert exam.guesses['Is there a glass in view?'] == 'yes'  # in two frames of three
    assert {answer for _, answer in exam.asked[0]['existence']} <= {'yes', 'no'}


def test_measurements_are_figures_of_the_held_out_frames(student, exam):
    found = measure(student, exam)
    assert found['depth']['frames'] == len(exam.frames)
    assert all(value > 0 for value in found['depth']['rmse_m'].values())
    assert 0 <= found['masks']['accuracy'] <= 1 and found['masks']['pixels'] > 0
    own = found['existence']
    assert own['questions'] == len(exam.data) and own['guesser'] == 0.5  # it always says yes
    assert found['answers']['existence']['questions'] == own['questions']
    assert len(found['actions']) == len(exam.frames) and 'kitchen' not in found
    assert found['unknown_words'] == []


def test_a_word_that_was_taught_is_understood(student, exam):
    data = exam.data
    data_facts = [replace(fact, name='lamp') if fact.part == 'thing' else fact for fact in data.facts]
    before, data.facts = data.facts, data_facts
    try:
        assert unknown_words(student, data) == ['lamp']
    finally:
        data.facts = before
    taught = extended(student, ['lamp'], ['lamp'])
    taught = replace(taught, labels=replace(taught.labels, taught=extended_taught(student, data)))
    assert unknown_words(taught, data) == []


def test_the_table_sets_before_beside_after():
    part = {
        'depth': {'frames': 5, 'rmse_m': {'auto': 0.2, 'model': 0.3, 'navier_stokes': 0.25}},
        'masks': {'pixels': 1000, 'accuracy': 0.5},
        'existence': {'questions': 10, 'accuracy': 0.4, 'guesser': 0.6},
        'answers': {'count': {'questions': 4, 'accuracy': 0.25, 'guesser': 0.5}},
        'unknown_words': ['lamp'],
        'actions': [['cut', 'bread'], ['take', 'cup']],
        'kitchen': {'questions': 9, 'accuracy': 0.7},
    }
    after = part | {'unknown_words': [], 'actions': [['cut', 'bread'], ['take', 'pan']]}
    after['existence'] = part['existence'] | {'accuracy': 0.9}
    rows = {name.split(',')[0]: rest for name, *rest in rows_of(part, after)}
    assert rows['depth in cut holes'] == ['0.250', '0.200', '0.200']
    assert rows['is it there?'] == ['60.0%', '40.0%', '90.0%']
    assert rows['answers: count'] == ['50.0%', '25.0%', '25.0%']
    assert rows['words not understood'] == ['', 'lamp', 'none']
    assert rows['action head'] == ['', '100.0%', '50.0%']
    assert rows['questions in kept kitchens'] == ['', '70.0%', '70.0%']
    assert rows_of({}, {}) == []
