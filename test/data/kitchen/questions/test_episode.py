"""Questions at the end of episodes against the masks of every frame, computed here in another way."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

from m3et_ros.data.datasets.openeqa import read_questions, write_questions
from m3et_ros.data.kitchen.questions.episode import AHEAD, APART, ASK, choose, episode_drafts, worded
from m3et_ros.data.kitchen.questions.episode_wordings import EQA_CATEGORIES, FACTS, PHRASINGS, USES
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS, action
from m3et_ros.data.kitchen.questions.observer import (
    CLEAR_FRAMES,
    CLEAR_SHARE,
    GONE_S,
    EpisodeKnowledge,
    KitchenObserver,
    ObservedInstance,
)
from m3et_ros.data.kitchen.questions.splits import ANSWERS_OF, HELD_OUT
from m3et_ros.data.kitchen.sim.camera import Camera
from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.data.kitchen.sim.vocabulary import OBJECTS, spoken, with_article

TEST, TRAIN = 20_004, 6


def observed(seed):
    """A observer of an episode of 30 s, and its observations; every third tick, ray-cast."""
    episode, seen = Episode(seed, width=48, height=36), []
    observer = KitchenObserver(episode)
    with Camera(episode, backend='raycast') as camera:
        for state in episode.run(301):
            if state.tick % 3 == 0:
                seen.append(camera.observe(state))
                observer.observe(seen[-1])
    return observer, seen


@pytest.fixture(scope='module')
def kitchens():
    return {seed: observed(seed) for seed in (TEST, 20_011, TRAIN)}


@pytest.fixture(scope='module')
def drafts(kitchens):
    return {seed: episode_drafts(observer.report()) for seed, (observer, _) in kitchens.items()}


def of(drafts, *kinds):
    """(answer, fields) of the questions of some kinds."""
    return [(answer, fields) for found in drafts.values() for kind, answer, fields in found if kind in kinds]


def test_every_category_is_asked_and_every_answer_is_listed(drafts):
    asked = defaultdict(list)
    for found in drafts.values():
        for category, own in found.items():
            asked[category] += own
    assert set(asked) == set(EQA_CATEGORIES) and all(asked.values())
    assert {answer for own in asked.values() for _, answer, _ in own} <= set(ANSWERS)
    assert {kind for own in asked.values() for kind, _, _ in own} <= set(PHRASINGS)
    spoken_of = {noun for table in (USES, FACTS) for pair in table.values() for nouns in pair for noun in nouns}
    assert spoken_of <= set(OBJECTS)


@pytest.mark.parametrize('seed', [TEST, 20_011])
def test_objects_asked_about_were_clearly_visible_and_are_out_of_view(kitchens, drafts, seed):
    observer, seen = kitchens[seed]
    names = list(observer.episode.instances)
    nouns = {name: instance.noun for name, instance in observer.episode.instances.items()}
    end = seen[-1].stamp_s
    asked = of(drafts[seed], 'where_now', 'was_colour')
    assert len(asked) > 4
    for answer, fields in asked:
        (name,) = [
            name
            for i, name in enumerate(names, start=1)
            if spoken(nouns[name]) == fields['a'] and any((frame.instance == i).any() for frame in seen)
        ]
        masks = [frame.instance == names.index(name) + 1 for frame in seen]
        assert sum(mask.mean() >= CLEAR_SHARE for mask in masks) >= CLEAR_FRAMES
        assert not any(mask.any() for mask, frame in zip(masks, seen) if end - frame.stamp_s < GONE_S)
        assert answer in (seen[-1].state.places[name], observer.episode.instances[name].colour)


@pytest.mark.parametrize('seed', [TEST, 20_011])
def test_what_was_never_there_is_in_no_mask(kitchens, drafts, seed):
    observer, seen = kitchens[seed]
    pixels = sum(np.bincount(frame.instance.ravel(), minlength=len(observer.episode.instances) + 1) for frame in seen)
    found = {instance.noun for i, instance in enumerate(observer.episode.instances.values(), start=1) if pixels[i]}
    asked = of(drafts[seed], 'was_seen')
    answers_to = {fields['article']: answer for answer, fields in asked}
    assert {'yes', 'no'} == set(answers_to.values())
    for noun in OBJECTS:
        if with_article(noun) in answers_to:
            assert (answers_to[with_article(noun)] == 'yes') == (noun in found), noun


def test_the_order_of_actions_is_that_of_the_labels(kitchens, drafts):
    observer, _ = kitchens[TEST]
    done = [action(label.verb, label.noun) for label in observer.state.finished]
    assert len(done) > 4
    assert of(drafts[TEST], 'first', 'last') == [(done[0], {}), (done[-1], {})]
    pairs = of(drafts[TEST], 'which_first')
    assert pairs
    for answer, fields in pairs:
        assert done.index(answer) == min(done.index(fields['action']), done.index(fields['other']))
    for answer, fields in of(drafts[TEST], 'right_after'):
        assert done[done.index(fields['action']) + 1] == answer
    assert all((answer == 'yes') == (fields['action'] in done) for answer, fields in of(drafts[TEST], 'ever_done'))


def test_near_and_far_agree_with_the_room(kitchens, drafts):
    world = kitchens[TEST][0].episode.world
    asked = of(drafts[TEST], 'nearer_to')
    assert asked
    known = kitchens[TEST][0].report()
    where = {spoken(noun): world.position_of(one.name) for noun, one in known.single.items()}
    for answer, fields in asked:
        other = ({fields['a'], fields['b']} - {answer}).pop()
        mark = world.scene.landmarks[fields['c']]
        assert np.linalg.norm(where[answer] - mark) < np.linalg.norm(where[other] - mark)


def test_answers_are_balanced_and_draws_repeat(drafts):
    draws = [choose(list(drafts.values()), 40, np.random.default_rng(1)) for _ in range(2)]
    assert draws[0] == draws[1] and all(len(chosen) > 20 for chosen in draws[0])
    answers = defaultdict(Counter)
    for chosen in draws[0]:
        for category, (kind, answer, _) in chosen:
            answers[kind][answer] += 1
            answers[category][answer] += 1
    assert sum(counts['yes'] for counts in answers.values()) > 10
    for name, counts in answers.items():
        assert abs(counts['yes'] - counts['no']) <= AHEAD, name
    assert max(Counter(category for category, _ in draws[0][0]).values()) <= 7


def test_no_question_twice_and_the_schema_of_openeqa(drafts, tmp_path):
    (chosen,) = choose([drafts[TEST]], 60, np.random.default_rng(0))
    questions = worded(chosen, f'kitchens/{TEST}', np.random.default_rng(0))
    assert len({question.question for question in questions}) == len(questions) == len(chosen) > 30
    write_questions(tmp_path / 'q.json', questions)
    assert read_questions(tmp_path / 'q.json') == questions and questions[3].episode == str(TEST)
    assert not any('{' in question.question for question in questions)


def test_training_has_no_held_out_questions(kitchens, monkeypatch):
    known = kitchens[TRAIN][0].report()
    before = episode_drafts(known)
    colour, noun = next((one.colour, noun) for noun, one in known.lost.items() if one.colour)
    done = known.done[0]
    monkeypatch.setattr('m3et_ros.data.kitchen.questions.episode.HELD_OUT', type(HELD_OUT)(((colour, noun),), (), ()))
    monkeypatch.setattr('m3et_ros.data.kitchen.questions.splits.HELD_OUT', type(HELD_OUT)(((colour, noun),), (), ()))
    monkeypatch.setattr('m3et_ros.data.kitchen.questions.episode.ANSWERS_OF', {action(done.verb, done.noun)})
    monkeypatch.setattr('m3et_ros.data.kitchen.questions.splits.ANSWERS_OF', {action(done.verb, done.noun)})
    after = episode_drafts(known)
    name = action(done.verb, done.noun)
    assert any(name in (answer, *fields.values()) for found in before.values() for _, answer, fields in found)
    for found in after.values():
        for _, answer, fields in found:
            assert name not in (answer, *fields.values())
            assert not (fields.get('colour') == colour and spoken(noun) in fields.values())
            assert not (answer == colour and fields.get('a') == spoken(noun))
    assert not any(answer in ANSWERS_OF for found in before.values() for _, answer, _ in found)


# Limits


@pytest.fixture(scope='module')
def start():
    """A kitchen, its state after a minute, and the name of one object of each noun."""
    episode = Episode(TEST, width=16, height=16)
    state = replace(next(episode.run(1)), stamp_s=60.0)
    names = {}
    for name, thing in episode.scene.things.items():
        names.setdefault(thing.noun, name)
    return episode, state, names


def remembered(start, *nouns, state=None, **fields):
    """Knowledge of objects that were seen at the start only, and of the sink."""
    episode, now, names = start
    state = state or now
    things = [
        ObservedInstance(names[noun], noun, 'red', CLEAR_FRAMES, 0.0, state.places[names[noun]], **fields)
        for noun in nouns
    ]
    return EpisodeKnowledge(episode, state, [*things, ObservedInstance('sink', 'sink', '', CLEAR_FRAMES, 0.0)])


def asked(category, known, kind):
    return [(answer, *fields.values()) for found, answer, fields in ASK[category](known) if found == kind]


def test_yes_and_no_stay_within_their_lead():
    drafts = [('ever_done', 'yes', {'action': str(i)}) for i in range(9)]
    (only_yes,) = choose([{'action history': drafts}], 9, np.random.default_rng(0))
    assert len(only_yes) == AHEAD
    drafts += [('ever_done', 'no', {'action': str(i)}) for i in range(9, 12)]
    (both,) = choose([{'action history': drafts}], 99, np.random.default_rng(0))
    answers = Counter(answer for _, (_, answer, _) in both)
    assert answers == {'no': 3, 'yes': 3 + AHEAD}


@pytest.mark.parametrize(
    ('filled', 'fill', 'answer'), [(True, 0.2, 'yes'), (False, 0.0, 'no'), (True, 0.0, None), (False, 0.2, None)]
)
def test_a_filling_is_asked_about_only_if_it_is_as_it_was_last_seen(start, filled, fill, answer):
    _, state, names = start
    state = replace(state, fill=state.fill | {names['pan']: fill})
    found = asked('object state recognition', remembered(start, 'pan', state=state, was_filled=filled), 'still_filled')
    assert found == ([(answer, 'pan')] if answer else [])


@pytest.mark.parametrize('apart', [0.2, 0.34, 0.36, 0.8])
def test_positions_are_compared_only_if_they_are_clearly_apart(start, apart):
    episode, _, names = start
    sink = episode.scene.landmarks['sink']
    world, here = episode.world, {name: episode.world.position[names[name]] for name in ('pan', 'cup')}
    try:
        world.position[names['pan']], world.position[names['cup']] = sink + (0.1, 0, 0), sink + (0.1 + apart, 0, 0)
        world.openness.update(dict.fromkeys(world.openness, 0.0))
        nearer = asked('spatial understanding', remembered(start, 'pan', 'cup'), 'nearer_to')
    finally:
        world.position.update({names[name]: position for name, position in here.items()})
    assert nearer == ([('pan', 'cup', 'pan', 'sink')] if apart > APART else [])


@pytest.mark.parametrize('openness', [0.0, 1.0])
def test_the_tap_is_asked_about_only_if_it_is_as_it_was_last_seen(start, openness):
    episode, state, _ = start
    state = replace(state, openness=state.openness | {'tap': openness})
    for was_open in (False, True):
        tap = ObservedInstance('tap', 'tap', '', CLEAR_FRAMES, 0.0, was_open=was_open)
        found = asked('object state recognition', EpisodeKnowledge(episode, state, [tap]), 'still_on')
        assert found == ([('yes' if was_open else 'no',)] if was_open == (openness > 0.5) else [])


def test_an_object_in_view_is_not_asked_about(start):
    _, state, _ = start
    known = remembered(start, 'pan', 'cup', state=replace(state, stamp_s=0.5))
    assert known.lost == {} and not any(
        fields.get('a') in ('pan', 'cup') for ask in ASK.values() for _, _, fields in ask(known)
    )
