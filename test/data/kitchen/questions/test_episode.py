"""Questions at the end of episodes against the masks of every frame, looked at here by another way."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from m3et_ros.data.datasets.openeqa import read_questions, write_questions
from m3et_ros.data.kitchen.questions.episode import AHEAD, choose, episode_drafts, worded
from m3et_ros.data.kitchen.questions.episode_wordings import EQA_CATEGORIES, FACTS, PHRASINGS, USES
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS, action
from m3et_ros.data.kitchen.questions.observer import CLEAR_FRAMES, CLEAR_SHARE, GONE_S, KitchenObserver
from m3et_ros.data.kitchen.questions.splits import ANSWERS_OF, HELD_OUT
from m3et_ros.data.kitchen.sim.camera import Camera
from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.data.kitchen.sim.vocabulary import OBJECTS, spoken, with_article

TEST, TRAIN = 20_004, 6


def watched(seed):
    """A observer of an episode of 30 s, and its observations; every third tick, ray-cast."""
    pytest.importorskip('mujoco')
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
    return {seed: watched(seed) for seed in (TEST, 20_011, TRAIN)}


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
def test_things_asked_about_were_seen_well_and_are_out_of_view(kitchens, drafts, seed):
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
            if spoken(nouns[name]) == fields['a'] and any((look.instance == i).any() for look in seen)
        ]
        masks = [look.instance == names.index(name) + 1 for look in seen]
        assert sum(mask.mean() >= CLEAR_SHARE for mask in masks) >= CLEAR_FRAMES
        assert not any(mask.any() for mask, look in zip(masks, seen) if end - look.stamp_s < GONE_S)
        assert answer in (seen[-1].state.places[name], observer.episode.instances[name].colour)


@pytest.mark.parametrize('seed', [TEST, 20_011])
def test_what_was_never_there_is_in_no_mask(kitchens, drafts, seed):
    observer, seen = kitchens[seed]
    pixels = sum(np.bincount(look.instance.ravel(), minlength=len(observer.episode.instances) + 1) for look in seen)
    found = {instance.noun for i, instance in enumerate(observer.episode.instances.values(), start=1) if pixels[i]}
    asked = of(drafts[seed], 'was_seen')
    told = {fields['article']: answer for answer, fields in asked}
    assert {'yes', 'no'} == set(told.values())
    for noun in OBJECTS:
        if with_article(noun) in told:
            assert (told[with_article(noun)] == 'yes') == (noun in found), noun


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
    account = kitchens[TEST][0].report()
    where = {spoken(noun): world.position_of(sight.name) for noun, sight in account.single.items()}
    for answer, fields in asked:
        other = ({fields['a'], fields['b']} - {answer}).pop()
        mark = world.scene.landmarks[fields['c']]
        assert np.linalg.norm(where[answer] - mark) < np.linalg.norm(where[other] - mark)


def test_answers_come_out_even_and_the_same_draw_twice(drafts):
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


def test_training_is_asked_nothing_that_is_held_out(kitchens, monkeypatch):
    account = kitchens[TRAIN][0].report()
    before = episode_drafts(account)
    colour, noun = next((sight.colour, noun) for noun, sight in account.lost.items() if sight.colour)
    done = account.done[0]
    monkeypatch.setattr('m3et_ros.data.kitchen.questions.episode.HELD_OUT', type(HELD_OUT)(((colour, noun),), (), ()))
    monkeypatch.setattr('m3et_ros.data.kitchen.questions.splits.HELD_OUT', type(HELD_OUT)(((colour, noun),), (), ()))
    monkeypatch.setattr('m3et_ros.data.kitchen.questions.episode.ANSWERS_OF', {action(done.verb, done.noun)})
    monkeypatch.setattr('m3et_ros.data.kitchen.questions.splits.ANSWERS_OF', {action(done.verb, done.noun)})
    after = episode_drafts(account)
    name = action(done.verb, done.noun)
    assert any(name in (answer, *fields.values()) for found in before.values() for _, answer, fields in found)
    for found in after.values():
        for _, answer, fields in found:
            assert name not in (answer, *fields.values())
            assert not (fields.get('colour') == colour and spoken(noun) in fields.values())
            assert not (answer == colour and fields.get('a') == spoken(noun))
    assert not any(answer in ANSWERS_OF for found in before.values() for _, answer, _ in found)


def test_who_has_seen_nothing_cannot_tell(kitchens):
    with pytest.raises(ValueError, match='no frame has been observed'):
        KitchenObserver(kitchens[TEST][0].episode).report()
