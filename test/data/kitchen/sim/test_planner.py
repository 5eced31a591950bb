"""The choice of the next action."""

from collections import Counter
from itertools import pairwise

import pytest

from m3et_ros.data.kitchen.sim.planner import WEIGHTS, legal_actions
from m3et_ros.data.kitchen.sim.vocabulary import AFFORDS, VERBS


def test_what_is_opened_is_used_or_closed(worlds):
    follow = [
        after.verb in ('take', 'put', 'close') and after.container == label.container
        for world in worlds
        for label, after in pairwise(world.labels)
        if label.verb == 'open'
    ]
    assert len(follow) > 20
    assert sum(follow) >= 0.9 * len(follow)


def test_every_verb_is_done_and_none_prevails(worlds):
    counts = Counter(label.verb for world in worlds for label in world.labels)
    assert set(counts) == set(VERBS)
    assert max(counts.values()) < 0.35 * counts.total()
    assert min(counts.values()) > 0.01 * counts.total()


def test_labels_follow_one_another_and_fit_the_affordances(worlds):
    for world in worlds:
        for label, after in pairwise(world.labels):
            assert label.start_s < label.stop_s < after.start_s
        for label in world.labels:
            assert label.noun in AFFORDS[label.verb]
            assert label.verb_class == VERBS[label.verb]
            assert label.narration.startswith(label.verb.replace('-', ' '))


def test_one_thing_lies_in_one_place(worlds):
    for world in worlds:
        lying = [slot.occupant for slot in world.scene.slots if slot.occupant in world.slot]
        assert len(set(lying)) == len(lying)
        elsewhere = world.binned | ({world.held} - {None})
        assert set(lying) | elsewhere == set(world.slot) and not set(lying) & elsewhere


def verbs_and_targets(world):
    return {(verb, target if isinstance(target, str) else None) for _, verb, target in legal_actions(world)}


def hold(world, noun):
    """Take an object of a noun into the hand."""
    name = next(name for name, slot in world.slot.items() if slot and world.scene.things[name].noun == noun)
    world.pick_up(name)
    world.begin('take', noun, instance=name)
    world.finish()
    return name


def exposed(world, noun):
    return [
        name
        for name, slot in world.slot.items()
        if slot and not slot.inside and not slot.distant and world.scene.things[name].noun == noun
    ]


def test_a_vessel_that_is_half_full_is_not_poured_into(world):
    hold(world, 'bottle')
    pan = exposed(world, 'pan')[0]
    for fill, wanted in ((0.0, True), (0.499, True), (0.5, False), (1.0, False)):
        world.fill[pan] = fill
        assert (('pour', pan) in verbs_and_targets(world)) is wanted


def test_what_was_just_put_down_is_not_taken_again(world):
    pan, cup = exposed(world, 'pan')[0], exposed(world, 'cup')
    assert ('take', pan) in verbs_and_targets(world)
    world.begin('put', 'pan', instance=pan)
    world.finish()
    possible = verbs_and_targets(world)
    assert ('take', pan) not in possible and all(('take', name) in possible for name in cup)


def test_water_and_the_tap_decide_what_can_be_washed_and_turned(world):
    assert ('turn-on', None) in verbs_and_targets(world) and ('turn-off', None) not in verbs_and_targets(world)
    world.openness['tap'] = 1.0
    assert ('turn-off', None) in verbs_and_targets(world) and ('turn-on', None) not in verbs_and_targets(world)
    hold(world, 'cup')
    assert ('wash', None) in verbs_and_targets(world)
    world.openness['tap'] = 0.0
    assert ('wash', None) not in verbs_and_targets(world)


def test_only_one_container_is_open_at_a_time(world):
    doors = {name for name in world.scene.containers if name != 'tap'}
    assert {target for verb, target in verbs_and_targets(world) if verb == 'open'} == doors
    world.openness['fridge'] = 1.0
    possible = verbs_and_targets(world)
    assert ('close', 'fridge') in possible and not any(verb == 'open' for verb, _ in possible)


@pytest.mark.parametrize(('noun', 'verb'), [('knife', 'cut'), ('spoon', 'mix'), ('bottle', 'shake'), ('can', 'throw')])
def test_a_tool_allows_its_verb(world, noun, verb):
    hold(world, noun)
    verbs = {found for found, _ in verbs_and_targets(world)}
    assert verb in verbs and 'take' not in verbs and 'open' not in verbs


def test_laying_an_object_straight_back_is_unlikely(world):
    hold(world, 'pan')
    weights = {id(target): weight for weight, verb, target in legal_actions(world) if verb == 'put'}
    back = weights.pop(id(world.taken_from))
    assert back < 0.1 * min(weights.values())


def test_weights_of_a_verb_add_up_to_its_weight(world):
    total = Counter()
    for weight, verb, _ in legal_actions(world):
        total[verb] += weight
    assert total['take'] == pytest.approx(WEIGHTS['take']) and total['open'] == pytest.approx(WEIGHTS['open'])
