"""Questions about facts of teachers: only what these decide, by the kitchen's rules."""

import numpy as np
import pytest

from m3et_ros.data.labelled.facts import ObjectFact
from m3et_ros.data.labelled.scene import AskedBy, LabelledScene, draw, labelled_drafts, noun_key

RULES = AskedBy(('cup', 'book', 'chair', 'bed'), ('cup', 'book'), 1)


def fact(number, name, across, distance=float('nan'), *, part='thing', colour='', place=''):
    box = (across - 0.05, 0.4, across + 0.05, 0.6)
    return ObjectFact(0, number, name, part, 0.9, 'red@1', *box, across, 0.02, distance, colour, place)


FACTS = [
    fact(0, 'cup', 0.2, 1.0, colour='red', place='on the table'),
    fact(1, 'book', 0.5, 2.0),
    fact(2, 'book', 0.8),
    fact(3, 'chair', 0.9, part='unsure'),
]


def asked(facts=FACTS, rules=RULES):
    found = {}
    for family, (kind, answer, fields) in labelled_drafts(LabelledScene(facts, rules), rules):
        found.setdefault(family, set()).add((kind, answer, *fields.values()))
    return found


def test_what_is_sure_is_there_and_what_is_unsure_is_not_asked_about():
    assert asked()['existence'] == {
        ('existence', 'yes', 'a cup'),
        ('existence', 'yes', 'a book'),
        ('existence', 'no', 'a bed'),
    }


def test_counted_names_alone_are_counted():
    assert asked()['count'] == {('count', '1', 'cups'), ('count', '2', 'books')}
    assert asked(rules=AskedBy(RULES.nouns, ('book',), 1))['count'] == {('count', '2', 'books')}


def test_colour_and_place_are_asked_where_they_are_known():
    found = asked()
    assert {one for one in found['colour'] if one[0] == 'colour'} == {('colour', 'red', 'cup')}
    assert {one for one in found['location'] if one[0] == 'location'} == {('location', 'on the table', 'cup')}
    bare = asked([fact(0, 'cup', 0.2)])
    assert 'colour' not in bare and 'location' not in bare and 'distance' not in bare


def test_distance_and_side_follow_the_facts():
    found = asked([fact(0, 'cup', 0.2, 1.0), fact(1, 'book', 0.5, 2.0)])
    assert ('distance', '1.0 m', 'cup') in found['distance'] and ('closer', 'cup', 'cup', 'book') in found['distance']
    assert ('region', 'left', 'cup') in found['region']
    assert ('left_of', 'yes', 'cup', 'book') in found['relation']


def test_nothing_is_asked_about_all_things_together():
    kinds = {one[0] for own in asked().values() for one in own}
    assert not kinds & {'count_colour', 'nearest', 'is_nearest', 'thing_at', 'what_at', 'colour_at'}


def test_version_two_asks_about_what_is_absent():
    found = asked(rules=AskedBy(RULES.nouns, RULES.counted, 2))
    assert ('count', '0', 'beds') not in found['count']  # not counted
    assert ('colour', 'not in view', 'bed') in found['absent']
    assert 'absent' not in asked()


def test_names_of_the_kitchen_have_its_plurals():
    assert noun_key('chopping board') == 'board:chopping' and noun_key('book') == 'book'


def test_draws_take_families_and_answers_evenly():
    drafts = list(labelled_drafts(LabelledScene(FACTS, RULES), RULES))
    drawn = draw(drafts, 400, RULES, np.random.default_rng(0))
    families = [one.family for one in drawn]
    assert set(families) == {family for family, _ in drafts}
    own = [one.answer for one in drawn if one.family == 'existence']
    assert own.count('yes') / len(own) == pytest.approx(0.5, abs=0.15)
    assert all(one.closed == (one.family == 'existence') for one in drawn if one.family in ('existence', 'count'))
    assert draw([], 3, RULES, np.random.default_rng(0)) == []
