"""Questions against masks, computed here by another way."""

from collections import Counter

import numpy as np
import pytest

from m3et_ros.data.kitchen.questions.frame import FAMILIES, LEAST_SHARE, all_questions, sample_questions
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS
from m3et_ros.data.kitchen.sim.vocabulary import CLASSES, COLOURS, NOUNS, OBJECTS, plural, spoken, with_article


def in_view(episode, observation):
    """Name -> mask of what is large enough to speak of."""
    masks = {name: observation.instance == i for i, name in enumerate(episode.instances, start=1)}
    return {name: mask for name, mask in masks.items() if mask.mean() >= LEAST_SHARE}


@pytest.fixture(scope='module', params=range(0, 10, 3))
def asked(request, looked_round):
    episode, observations = looked_round
    observation = observations[request.param]
    answers = {question.text: question.answer for question in all_questions(episode, observation)}
    return episode, observation, answers


def test_existence_and_count_agree_with_the_masks(asked):
    episode, observation, answers = asked
    counts = Counter(episode.instances[name].noun for name in in_view(episode, observation))
    checked = 0
    for i, noun in enumerate(NOUNS):
        told = answers.get(f'Is there {with_article(noun)} in view?')
        if told:
            assert (told == 'yes') == (counts[noun] > 0) == bool((observation.semantic == i).any()), noun
            checked += 1
        assert answers.get(f'How many {plural(noun)} are in view?', str(counts[noun])) == str(counts[noun])
    assert checked > 20


def test_colours_agree_with_the_registry(asked):
    episode, observation, answers = asked
    for name in in_view(episode, observation):
        instance = episode.instances[name]
        words = spoken(instance.noun)
        if f'What colour is the {words}?' in answers:
            assert answers[f'What colour is the {words}?'] == instance.colour
            assert [c for c in COLOURS if answers[f'Is the {words} {c}?'] == 'yes'] == [instance.colour]


def test_left_and_right_agree_with_the_masks(asked):
    episode, observation, answers = asked
    middle = {
        spoken(episode.instances[name].noun): np.nonzero(mask)[1].mean()
        for name, mask in in_view(episode, observation).items()
    }
    for text, answer in answers.items():
        if ' left of the ' in text:
            one, other = text.removeprefix('Is the ').removesuffix('?').split(' left of the ')
            assert (answer == 'yes') == (middle[one] < middle[other]), text


def test_the_hand_holds_what_the_state_says(asked):
    _, observation, answers = asked
    held = observation.state.held
    if 'Is the hand empty?' in answers:
        assert answers['Is the hand empty?'] == ('no' if held else 'yes')
        assert (answers['What is in the hand?'] == 'nothing') == (held is None)


def test_every_family_is_asked_and_every_answer_is_listed(looked_round):
    episode, observations = looked_round
    questions = [question for observation in observations for question in all_questions(episode, observation)]
    assert {question.family for question in questions} == set(FAMILIES)
    assert {question.answer for question in questions} <= set(ANSWERS)
    assert len({question.text for question in questions}) > 200


def test_what_comes_next_is_the_next_label(looked_round):
    episode, observations = looked_round
    observation = observations[0]
    (told,) = (q.answer for q in all_questions(episode, observation) if q.text == 'Which verb comes next?')
    assert told == episode.labels[0].verb.replace('-', ' ')


def test_samples_are_even_over_families_and_over_yes_and_no(looked_round):
    episode, observations = looked_round
    rng = np.random.default_rng(0)
    drawn = [question for observation in observations for question in sample_questions(episode, observation, rng, 100)]
    families = Counter(question.family for question in drawn)
    assert set(families) == set(FAMILIES)
    always = [families[family] for family in ('existence', 'colour', 'relation', 'location', 'distance')]
    assert max(always) < 1.5 * min(always)
    answers = Counter(question.answer for question in drawn if question.family in ('existence', 'relation', 'colour'))
    assert 0.4 < answers['yes'] / (answers['yes'] + answers['no']) < 0.6


def test_objects_come_after_structures_in_the_classes():
    assert CLASSES[-len(OBJECTS) :] == tuple(map(spoken, OBJECTS))
