"""Schedules fitted to the time: steps that fit, a rate that ends at 0, and recipes that follow the data."""

import pytest

from m3et_ros.data.labelled.samples import LabelledSamples
from m3et_ros.training.teach.plan import LEAST_STEPS, planned, recipes, seconds_per_step, split_minutes


def test_a_stage_has_the_steps_that_fit_and_ends_at_rate_zero(student):
    recipe = planned(recipes(student, samples=100, questions=True, masks=True)['vqa'], 100.0, 0.5)
    assert recipe.batch == 16 and recipe.steps == 170  # 85 % of 100 s by 0.5 s
    assert recipe.rate(recipe.steps - 1) < 0.01 * recipe.lr < recipe.rate(recipe.steps // 4)


def test_a_stage_without_time_has_few_steps_still(student):
    assert planned(recipes(student, samples=100, questions=True, masks=True)['pretrain'], 0.0, 9.0).steps == LEAST_STEPS


def test_few_samples_make_a_small_batch(student):
    assert {recipe.batch for recipe in recipes(student, samples=9, questions=True, masks=True).values()} == {9}


def test_what_the_data_lack_is_not_learnt(student):
    full, bare = (recipes(student, samples=99, questions=have, masks=have)['vqa'] for have in (True, False))
    assert (full.answer, full.words, full.pointing) == (1.0, 0.5, 0.5)
    assert (bare.answer, bare.words, bare.pointing, bare.slots) == (0, 0, 0, 0) and bare.dense == 1
    # A model without a channel of validity fills holes from colours alone.
    assert not student.model.config.depth_validity and full.drop_depth == 0.5


def test_the_time_is_divided_by_shares():
    assert split_minutes(100, ['pretrain', 'vqa']) == pytest.approx({'pretrain': 25, 'vqa': 75})
    assert split_minutes(100, ['vqa']) == pytest.approx({'vqa': 100})


def test_a_trial_leaves_the_model_as_it_is(student, labelled):
    data = LabelledSamples(labelled, classes=student.labels.classes, answers=student.labels.answers, each=2)
    before = {name: value.clone() for name, value in student.model.state_dict().items()}
    recipe = recipes(student, samples=8, questions=True, masks=True)['vqa']
    assert seconds_per_step(recipe, student, data, seed=0, workers=0, bf16=False, left=1.0) > 0
    assert all(value.equal(before[name]) for name, value in student.model.state_dict().items())
    assert not student.model.training
