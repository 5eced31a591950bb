"""Questions against masks, computed here by another way."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from m3et_ros.data.kitchen.questions.frame import (
    ASK,
    FAMILIES,
    LEAST_SHARE,
    VisibleScene,
    all_questions,
    sample_questions,
)
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS
from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.data.kitchen.sim.vocabulary import CLASSES, COLOURS, NOUNS, OBJECTS, plural, spoken, with_article
from m3et_ros.data.kitchen.sim.world import ActionLabel


def in_view(episode, observation):
    """Name -> mask of what is large enough to speak of."""
    masks = {name: observation.instance == i for i, name in enumerate(episode.instances, start=1)}
    return {name: mask for name, mask in masks.items() if mask.mean() >= LEAST_SHARE}


@pytest.fixture(scope='module', params=range(0, 10, 3))
def asked(request, observed_episode):
    episode, observations = observed_episode
    observation = observations[request.param]
    answers = {question.text: question.answer for question in all_questions(episode, observation)}
    return episode, observation, answers


def test_existence_and_count_agree_with_the_masks(asked):
    episode, observation, answers = asked
    counts = Counter(episode.instances[name].noun for name in in_view(episode, observation))
    checked = 0
    for i, noun in enumerate(NOUNS):
        answer = answers.get(f'Is there {with_article(noun)} in view?')
        if answer:
            assert (answer == 'yes') == (counts[noun] > 0) == bool((observation.semantic == i).any()), noun
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


def test_every_family_is_asked_and_every_answer_is_listed(observed_episode):
    episode, observations = observed_episode
    questions = [question for observation in observations for question in all_questions(episode, observation)]
    assert {question.family for question in questions} == set(FAMILIES)
    assert {question.answer for question in questions} <= set(ANSWERS)
    assert len({question.text for question in questions}) > 200


def test_what_comes_next_is_the_next_label(observed_episode):
    episode, observations = observed_episode
    observation = observations[0]
    (answer,) = (q.answer for q in all_questions(episode, observation) if q.text == 'Which verb comes next?')
    assert answer == episode.labels[0].verb.replace('-', ' ')


def test_samples_are_even_over_families_and_over_yes_and_no(observed_episode):
    episode, observations = observed_episode
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


# Limits, on pictures with chosen masks


@pytest.fixture(scope='module')
def start():
    """A kitchen, its first state, and the name of one object of each noun."""
    episode = Episode(4, width=16, height=16)
    state = next(episode.run(1))
    names = {}
    for name, thing in episode.scene.things.items():
        names.setdefault(thing.noun, name)
    return episode, state, names


def asked_of(observation, episode, *kinds):
    scene = VisibleScene(episode, observation)
    return {
        (kind, answer, *fields.values()) for ask in ASK.values() for kind, answer, fields in ask(scene) if kind in kinds
    }


@pytest.mark.parametrize(('pixels', 'count'), [(6, 1), (5, None)])
def test_an_instance_counts_from_the_least_share_on_and_makes_its_noun_unclear_below(start, picture, pixels, count):
    episode, state, names = start
    scene = VisibleScene(episode, picture(episode, state, (names['cup'], slice(50, 51), slice(10, 10 + pixels), 2.0)))
    assert scene.counts.get('cup') == count and ('cup' in scene.unclear) is (count is None)
    assert scene.counts['bowl'] == 0 and 'wall' not in scene.counts


@pytest.mark.parametrize(
    ('metres', 'answers'),
    [
        (0.5, {('in_reach', 'yes', 'cup'), ('distance', '0.5 m', 'cup')}),
        (1.0, {('in_reach', 'no', 'cup'), ('distance', '1.0 m', 'cup')}),
        (0.8, {('distance', '1.0 m', 'cup')}),
        (1.25, {('in_reach', 'no', 'cup')}),
        (4.99, {('in_reach', 'no', 'cup'), ('distance', '5.0 m', 'cup')}),
        (5.4, {('in_reach', 'no', 'cup')}),
    ],
)
def test_distances_near_a_border_are_not_asked(start, picture, metres, answers):
    episode, state, names = start
    observation = picture(episode, state, (names['cup'], slice(48, 52), slice(48, 52), metres))
    assert asked_of(observation, episode, 'in_reach', 'distance') == answers


@pytest.mark.parametrize(('column', 'region'), [(10, 'left'), (32, None), (50, 'middle'), (66, None), (80, 'right')])
def test_the_region_is_that_of_the_middle_of_the_mask(start, picture, column, region):
    episode, state, names = start
    observation = picture(episode, state, (names['cup'], slice(40, 50), slice(column - 2, column + 2), 2.0))
    assert asked_of(observation, episode, 'region') == ({('region', region, 'cup')} if region else set())


def test_two_objects_are_compared_only_if_they_are_clearly_apart(start, picture):
    episode, state, names = start

    def asked(columns, metres):
        patches = [
            (names[noun], slice(48, 52), slice(column, column + 4), distance)
            for noun, column, distance in zip(('cup', 'bowl'), columns, metres, strict=True)
        ]
        return asked_of(picture(episode, state, *patches), episode, 'left_of', 'right_of', 'closer', 'nearest')

    far = asked((20, 70), (1.0, 2.0))
    assert {('left_of', 'yes', 'cup', 'bowl'), ('right_of', 'no', 'cup', 'bowl')} <= far
    assert {('left_of', 'no', 'bowl', 'cup'), ('closer', 'cup', 'cup', 'bowl'), ('closer', 'cup', 'bowl', 'cup')} <= far
    colour = episode.instances[names['cup']].colour
    assert ('nearest', f'{colour} cup') in far
    assert asked((46, 50), (1.0, 1.0)) == set()


def test_open_running_and_filled_need_more_than_the_threshold(start, picture):
    episode, state, names = start
    patches = [
        (name, slice(row, row + 5), slice(40, 60), 2.0)
        for row, name in ((10, 'fridge'), (30, 'tap'), (50, names['pan']))
    ]

    def asked(openness, fill):
        changed = replace(
            state,
            openness=state.openness | {'fridge': openness, 'tap': openness},
            fill=state.fill | {names['pan']: fill},
        )
        return {
            found[:2]
            for found in asked_of(picture(episode, changed, *patches), episode, 'is_open', 'is_on', 'is_filled')
        }

    assert asked(0.5, 0.0) == {('is_open', 'no'), ('is_on', 'no'), ('is_filled', 'no')}
    assert asked(0.51, 0.1) == {('is_open', 'yes'), ('is_on', 'yes'), ('is_filled', 'yes')}


def test_past_actions_are_counted_up_to_ten_and_named_from_either_end(start, picture):
    episode, state, _ = start
    kinds = ('how_many_done', 'first', 'last', 'before_last')

    def asked(nouns):
        done = tuple(ActionLabel(i, i + 0.5, 'take', noun, 0, 0, '') for i, noun in enumerate(nouns))
        return asked_of(picture(episode, replace(state, finished=done)), episode, *kinds)

    assert asked([]) == {('how_many_done', '0')}
    assert asked(['cup']) == {('how_many_done', '1'), ('first', 'take cup'), ('last', 'take cup')}
    assert asked(['cup', 'pan', 'jar']) == {
        ('how_many_done', '3'),
        ('first', 'take cup'),
        ('last', 'take jar'),
        ('before_last', 'take pan'),
    }
    assert ('how_many_done', '10') in asked(['cup'] * 10) and 'how_many_done' not in {a[0] for a in asked(['cup'] * 11)}


def test_the_action_under_way_is_named_by_verb_and_noun(start, picture):
    episode, state, _ = start
    label = ActionLabel(0.0, None, 'turn-on', 'board:chopping', 6, 18, '')
    observation = picture(episode, replace(state, current=label))
    assert asked_of(observation, episode, 'now', 'now_verb', 'now_noun') == {
        ('now', 'turn on chopping board'),
        ('now_verb', 'turn on'),
        ('now_noun', 'chopping board'),
    }


def test_nothing_in_view_leaves_only_the_general_questions(start, picture):
    episode, state, _ = start
    scene = VisibleScene(episode, picture(episode, state))
    assert (scene.instances, scene.objects, scene.single, scene.next_action) == ([], [], [], None)
    assert list(ASK['nearest'](scene)) == []
