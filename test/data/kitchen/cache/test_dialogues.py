"""Dialogues about cached views: they say the facts of the cache, the same in every run."""

import numpy as np
import pytest
from torch.utils.data import DataLoader

from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.kitchen.cache.dialogues import DialogueViews, Facts, describe, facts_of
from m3et_ros.data.kitchen.cache.generate import generate
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS
from m3et_ros.data.kitchen.questions.sentences import parse_question, short_answer
from m3et_ros.data.kitchen.sim.vocabulary import OBJECTS, plural, spoken
from m3et_ros.evaluation.tasks.talk import named_in


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    return generate(
        tmp_path_factory.mktemp('caches'),
        seeds=range(3),
        size=32,
        stride=25,
        frames=6,
        backend='raycast',
        version=1,
        workers=0,
        progress=False,
    )


@pytest.mark.parametrize(
    ('facts', 'text'),
    [
        (
            Facts({'cup': 9, 'spoon': 4, 'jar': 1}, {'cup': 'red'}, {'cup': 'on the table'}, {'spoon': 2}, None, None),
            'I can see a red cup and two spoons. The cup is on the table.',
        ),
        (Facts({}, {}, {}, {}, None, None), 'I can see no things.'),
        (Facts({}, {}, {}, {}, 'cup', None), 'I can see no things. The hand is holding the cup.'),
        (
            Facts({'milk': 9}, {'milk': 'white'}, {}, {}, 'milk', ('put', 'milk')),
            'I can see a white milk carton. The person is putting down the milk.',
        ),
    ],
)
def test_descriptions_say_the_facts(facts, text):
    assert describe(facts) == text
    assert set(facts.named) <= named_in(text)


def test_i_can_see_an_orange_cup_names_one_thing():
    assert named_in('I can see an orange cup, two potatoes.') == {'cup', 'potato'}
    assert named_in('I can see an orange and a can. The can is in the hand.') == {'orange', 'can'}


def test_views_are_the_chosen_ones_and_answers_the_true_ones(cache):
    every = KitchenSamples(cache, questions=False)
    frames = np.arange(0, len(every), 2)
    views = DialogueViews(cache, frames, each=4, length=40, pixels=True)
    samples = KitchenSamples(cache)
    for index in range(len(views)):
        dialogue = views[index]
        assert np.array_equal(dialogue.rgb, every[int(frames[dialogue.view])].rgb) and len(dialogue.turns) == 4
        frame = int(frames[dialogue.view])
        rows = np.flatnonzero(samples.table.frame == frame)
        for turn in dialogue.turns:
            kind, fields = parse_question(turn.prompt)
            short = short_answer(kind, fields, turn.reply)
            known = {
                (samples.table.wordings[samples.table.wording[row]][1], ANSWERS[samples.table.answer[row]])
                for row in rows
                if all(
                    fields.get(name, value) == value
                    for name, value in samples.table.wordings[samples.table.wording[row]][2]
                )
            }
            assert (kind, short) in known
        assert dialogue.description.reply == describe(facts_of(samples, frame)) == describe(views.facts(frame))


def test_dialogues_repeat_in_every_run_and_differ_between_epochs(cache):
    first, second = (DialogueViews(cache, np.arange(0, 12, 3), each=2, seed=1) for _ in range(2))
    assert first[1] == second[1] and len(first) == 4
    second.epoch = 1
    assert any(first[i].turns != second[i].turns for i in range(4))
    with pytest.raises(IndexError):
        first[4]


def test_a_description_names_up_to_four_nouns_of_three_cells():
    cells = {'cup': 9, 'pan': 5, 'jar': 3, 'can': 2, 'egg': 1}
    assert Facts(cells, {}, {}, {}, None, None).named == ['cup', 'pan', 'jar']
    assert Facts(dict.fromkeys(OBJECTS, 3), {}, {}, {}, None, None).named == list(OBJECTS)[:4]


def test_facts_are_those_of_the_questions(cache):
    samples, held = KitchenSamples(cache), set()
    answers = {}
    for row in range(len(samples.table)):
        _, kind, fields = samples.table.wordings[samples.table.wording[row]]
        answers[int(samples.table.frame[row]), kind, fields] = ANSWERS[samples.table.answer[row]]
    for frame in samples.frames.tolist():
        facts = facts_of(samples, frame)
        answer = answers.get((frame, 'held', ()))
        assert facts.held == (None if answer in (None, 'nothing') else answer)
        held.add(answer)
        for noun, colour in facts.colours.items():
            assert answers[frame, 'colour', (('a', spoken(noun)),)] == colour
        for noun, place in facts.places.items():
            assert answers[frame, 'location', (('a', spoken(noun)),)] == place
        for noun, count in facts.counts.items():
            assert answers[frame, 'count', (('plural', plural(noun)),)] == str(count)
    assert 'nothing' in held and len(held) > 1


def test_only_the_families_and_the_pixels_asked_for_come_along(cache):
    views = DialogueViews(cache, np.arange(0, 12, 3), each=3, families=('count', 'colour'), length=6)
    assert len(views) == 6 and all(views[i].rgb is None for i in range(6))
    assert {turn.family for i in range(6) for turn in views[i].turns} == {'count', 'colour'}
    assert all(len(views[i].turns) == 3 and views[i].description.family == 'describe' for i in range(6))
    assert len(DialogueViews(cache, np.arange(4), each=1)[0].turns) == 1


def test_workers_of_a_loader_see_the_epoch(cache):
    views = DialogueViews(cache, np.arange(6), each=2, length=4)
    loader = DataLoader(views, batch_size=2, num_workers=1, persistent_workers=True, collate_fn=list)
    for views.epoch in (0, 3):
        assert [one for batch in loader for one in batch] == [views[i] for i in range(4)]
