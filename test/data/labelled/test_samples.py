"""A labelled recording as samples: masks and questions follow the tables, also after a correction by hand."""

import json
import shutil

import numpy as np
import pytest
from small_place import RedDetector, tiny_student, write_place

from m3et_ros.data.errors import InputError
from m3et_ros.data.labelled.facts import AnsweredFact, write_facts
from m3et_ros.data.labelled.samples import HOLED, LabelledSamples
from m3et_ros.training.teach.label import LabelOptions, label
from m3et_ros.training.teach.teachers import Teachers

CLASSES = ('wall', 'glass', 'lamp')


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp('place')
    teachers = Teachers(tiny_student(), detection=RedDetector())
    label([write_place(folder / 'bag')], folder / 'labels', teachers, LabelOptions(32))
    return folder / 'labels'


@pytest.fixture
def own(made, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(made, tmp_path / 'labels')


def first_thing(data):
    return next(fact for fact in data.facts if fact.part == 'thing' and fact.frame in data.numbers)


def correct(folder, word):
    """Put a word into the column correct of every row that says glass."""
    path = folder / 'objects.csv'
    lines = path.read_text().splitlines()
    path.write_text('\n'.join(line + word if ',glass,thing' in line else line for line in lines))


def test_both_splits_hold_frames_with_depth_mask_and_questions(made):
    train, held = (LabelledSamples(made, classes=CLASSES, each=4, split=name) for name in ('train', 'held_out'))
    assert len(train) >= 20 and len(held) >= 10 and not set(train.numbers) & set(held.numbers)
    sample = train[1]
    assert sample.rgb.shape == (32, 32, 3) and sample.semseg.shape == (8, 8) and len(sample.asked) == 4
    assert np.nanmax(sample.depth) == pytest.approx(2) and np.isnan(sample.depth[:, 0]).all()
    assert train.has_depth and train.has_questions


def test_masks_have_the_students_ids_and_the_teachers_apart(made):
    data = LabelledSamples(made, classes=CLASSES)
    number = first_thing(data).frame
    index = int(np.flatnonzero(data.numbers == number)[0])
    assert (data[index].semseg == 1).any() and set(np.unique(data.taught_mask(index))) == {1, 255}


def test_a_correction_changes_mask_and_questions(own):
    correct(own, 'lamp')
    data = LabelledSamples(own, classes=CLASSES, each=8)
    fact = first_thing(data)
    index = int(np.flatnonzero(data.numbers == fact.frame)[0])
    assert fact.name == 'lamp' and set(np.unique(data.taught_mask(index))) == {2, 255}
    answers = {
        (draft[2].get('article'), draft[1]) for family, draft in data.drafts(fact.frame) if family == 'existence'
    }
    assert ('a lamp', 'yes') in answers and ('a glass', 'no') in answers


def test_a_row_left_out_is_no_thing(own):
    correct(own, '-')
    data = LabelledSamples(own, classes=CLASSES)
    assert all(fact.part == 'background' for fact in data.facts)
    assert all((data.taught_mask(i) == 255).all() for i in range(len(data)))


def test_answers_that_the_student_lacks_are_not_asked_for(made):
    data = LabelledSamples(made, classes=CLASSES, answers=('yes', 'no'), each=16)
    assert {one.answer for i in range(8) for one in data[i].asked} == {'yes', 'no'}
    assert data.wanted_answers() == ['yes', 'no'] or set(data.wanted_answers()) == {'yes', 'no'}
    assert 'glass' in data.wanted_classes()


def test_draws_differ_by_epoch_and_repeat(made):
    one, other = (LabelledSamples(made, classes=CLASSES, each=8, noise=HOLED, seed=3) for _ in range(2))
    assert one[2].asked == other[2].asked and np.array_equal(one[2].rgb, other[2].rgb)
    other.epoch = 1
    assert one[2].asked != other[2].asked


def test_holes_are_cut_into_the_depth_that_is_learnt(made):
    data = LabelledSamples(made, classes=CLASSES, noise=HOLED)
    lost = [np.isnan(s.depth).sum() - np.isnan(s.clean_depth).sum() for s in (data[i] for i in range(10))]
    assert max(lost) > 50


def test_answers_of_a_teacher_are_asked_too(own):
    write_facts(
        own / 'questions.csv',
        [AnsweredFact(n, 'What room is it?', 'hall', 0.5, 'vlm@1') for n in range(9)],
        AnsweredFact,
    )
    data = LabelledSamples(own, classes=CLASSES, each=16)
    asked = [one for i in range(6) for one in data[i].asked if one.family == 'open']
    assert asked and {(one.question, one.answer) for one in asked} == {('What room is it?', 'hall')}
    assert 'hall' in data.wanted_answers()


def test_a_folder_that_is_not_finished_is_refused(own):
    (own / 'labelled.json').unlink()
    with pytest.raises(InputError, match='m3et label has finished') as refused:
        LabelledSamples(own, classes=CLASSES)
    assert refused.value.reason == 'labelled'


def test_contents_of_another_form_are_refused(own):
    path = own / 'labelled.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'shards': 3}))
    with pytest.raises(InputError, match="because of the field 'shards'"):
        LabelledSamples(own, classes=CLASSES)


@pytest.mark.parametrize('wrong', [{'split': 'test'}, {'each': 65}, {'each': -1}], ids=['split', 'many', 'few'])
def test_arguments_out_of_range_are_refused(made, wrong):
    with pytest.raises(ValueError, match='give'):
        LabelledSamples(made, classes=CLASSES, **wrong)
