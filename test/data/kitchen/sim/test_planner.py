"""What the person chooses to do."""

from collections import Counter
from itertools import pairwise

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
