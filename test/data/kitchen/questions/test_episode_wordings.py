"""Wordings of questions about an episode, and what the tables of common knowledge make of it."""

import string
from dataclasses import replace

import pytest

from m3et_ros.data.datasets.openeqa import CATEGORIES
from m3et_ros.data.kitchen.questions.episode import ASK
from m3et_ros.data.kitchen.questions.episode_wordings import COUNTED, DONE, EQA_CATEGORIES, FACTS, PHRASINGS, USES
from m3et_ros.data.kitchen.questions.observer import CLEAR_FRAMES, EpisodeKnowledge, ObservedInstance
from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.data.kitchen.sim.objects import ALWAYS
from m3et_ros.data.kitchen.sim.vocabulary import AFFORDS, OBJECTS, spoken

TABLES = [('functional reasoning', 'use', phrase, *nouns) for phrase, nouns in USES.items()] + [
    ('world knowledge', 'fact', phrase, *nouns) for phrase, nouns in FACTS.items()
]


@pytest.fixture(scope='module')
def start():
    episode = Episode(4, width=16, height=16)
    return episode, next(episode.run(1))


def asked(start, category, seen):
    """(kind, answer) of the questions about a phrase when these nouns were seen, each on the table, long ago."""
    episode, state = start
    things = [ObservedInstance(f'{noun}_x', noun, 'red', CLEAR_FRAMES, 0.0, 'on the table') for noun in seen]
    state = replace(state, stamp_s=60.0, places=state.places | {thing.name: 'on the table' for thing in things})
    return list(ASK[category](EpisodeKnowledge(episode, state, things)))


@pytest.mark.parametrize(('category', 'kind', 'phrase', 'sure', 'doubtful'), TABLES)
def test_the_only_noun_that_serves_is_named_unless_a_doubtful_one_was_seen(
    start, category, kind, phrase, sure, doubtful
):
    words = phrase if category == 'functional reasoning' or phrase in COUNTED else f'something {phrase}'
    wanted = (f'{kind}_where', 'on the table', {kind: words})
    for noun in sure:
        assert wanted in asked(start, category, [noun])
        for other in doubtful:
            assert wanted not in asked(start, category, [noun, other])
    for noun in doubtful:
        assert wanted not in asked(start, category, [noun])


@pytest.mark.parametrize(('category', 'kind', 'phrase', 'sure', 'doubtful'), TABLES)
def test_what_is_in_every_kitchen_is_not_asked_for(start, category, kind, phrase, sure, doubtful):
    words = phrase if category == 'functional reasoning' or phrase in COUNTED else f'something {phrase}'
    answers = {
        answer
        for found, answer, fields in asked(start, category, [])
        if (found, fields) == (f'{kind}_seen', {kind: words})
    }
    assert answers == (set() if set(sure) & set(ALWAYS) else {'no'})


def test_fruit_is_counted(start):
    assert ('fact_count', '2', {'facts': 'fruit'}) in asked(start, 'world knowledge', ['apple', 'lemon'])
    assert ('fact_count', '0', {'facts': 'fruit'}) in asked(start, 'world knowledge', [])
    assert not any(kind == 'fact_count' for kind, *_ in asked(start, 'world knowledge', ['apple', 'tomato']))


def test_the_tables_speak_of_objects_and_contradict_nothing():
    for sure, doubtful in (*USES.values(), *FACTS.values()):
        assert set(sure) | set(doubtful) <= set(OBJECTS) and not set(sure) & set(doubtful)
    assert set(COUNTED) <= set(FACTS) and set(DONE) <= set(AFFORDS)
    assert {spoken(noun) for sure, _ in USES.values() for noun in sure} >= {'knife', 'sponge', 'chopping board'}


def test_the_categories_are_those_of_openeqa_and_one_more():
    assert EQA_CATEGORIES[:7] == CATEGORIES and len(EQA_CATEGORIES) == 8 and set(EQA_CATEGORIES) == set(ASK)


@pytest.mark.parametrize('kind', PHRASINGS)
def test_the_wordings_of_a_kind_are_questions_with_the_same_fields(kind):
    fields = [{name for _, name, _, _ in string.Formatter().parse(wording) if name} for wording in PHRASINGS[kind]]
    assert all(own == fields[0] for own in fields) and all(wording.endswith('?') for wording in PHRASINGS[kind])


def test_no_wording_belongs_to_two_kinds():
    wordings = [wording for own in PHRASINGS.values() for wording in own]
    assert len(set(wordings)) == len(wordings)


@pytest.mark.parametrize(('use', 'sure', 'doubtful'), [('fry in', 'pan', 'pot'), ('cut on', 'board:chopping', 'plate')])
def test_a_use_that_people_dispute_is_not_asked_about(start, use, sure, doubtful):
    wanted = ('use_where', 'on the table', {'use': use})
    assert wanted in asked(start, 'functional reasoning', [sure])
    assert wanted not in asked(start, 'functional reasoning', [doubtful])
    assert ('use_seen', 'yes', {'use': use}) not in asked(start, 'functional reasoning', [doubtful])
