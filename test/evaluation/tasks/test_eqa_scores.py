"""Scores per category against hand-made cases, and the lines that guessing reaches."""

from dataclasses import replace

import pytest

from m3et_ros.data.datasets.openeqa import EqaQuestion
from m3et_ros.evaluation.tasks.eqa_scores import answer_type, eqa_scores, guesses, score_answer


def question(text, answer, category='state', episode='one', *extra):
    return EqaQuestion(text, answer, category, f'{episode}-{text}-{answer}-{category}', episode, extra)


ASKED = [
    question('is it on', 'yes'),
    question('is it open', 'yes', 'state', 'two'),
    question('where', 'on the big table', 'place', 'one', 'table'),
    question('what', 'red cup', 'thing', 'two'),
]


def scores(answers, **options):
    marks = options.pop('marks', [None] * len(ASKED))
    return eqa_scores([score_answer(*row) for row in zip(ASKED, answers, marks)], **options)


def test_every_figure_by_hand():
    found = scores(['Yes.', 'no', 'table', None])
    whole = found['all']
    assert whole['questions'] == 4 and whole['episodes'] == 2 and whole['unanswered'] == 0.25
    assert whole['exact_match']['value'] == 0.5
    # 'on the big table' is three words without its article: F1 of one common word is 2 * 1 / (1 + 3).
    assert whole['token_f1']['value'] == (1 + 0 + 0.5 + 0) / 4
    assert whole['best_f1']['value'] == (1 + 0 + 1 + 0) / 4
    assert whole['exact_match_of_answered'] == pytest.approx(2 / 3, abs=1e-6)
    assert whole['exact_match']['low'] is whole['exact_match']['high'] is None  # two episodes are too few
    assert {name: part['exact_match']['value'] for name, part in found['categories'].items()} == {
        'place': 1,
        'state': 0.5,
        'thing': 0,
    }
    assert found['categories']['place']['exact_match']['low'] is None


def test_intervals_of_marks_stay_within_0_and_100_per_cent():
    asked = [question('is it on', 'yes', 'state', f'episode {n}') for n in range(6)]
    rows = [score_answer(one, 'yes', mark) for one, mark in zip(asked, (5, 5, 5, 5, 4, 1), strict=True)]
    found = eqa_scores(rows, judged=True)['all']['llm_match']
    assert found['percent']['value'] == pytest.approx(100 * (4 + 0.75 + 0) / 6, abs=1e-4)
    assert found['mean_mark'] == pytest.approx(25 / 6, abs=1e-6)
    assert 0 < found['percent']['low'] < 60 < found['percent']['value'] < 90 < found['percent']['high'] < 100


def test_a_blank_answer_is_none():
    assert score_answer(ASKED[0], '  ').answer is None
    assert scores([None, ' ', '', None])['all']['unanswered'] == 1
    assert scores([None] * 4)['all']['exact_match_of_answered'] is None


def test_lines_of_guessing_without_and_with_training_questions():
    found = scores(['x'] * 4)
    assert found['lines_from'] == 'these questions'
    assert found['all']['guessing'] == {'majority': 0.5, 'category': 1}
    training = [
        question('is it on', 'no', 'state', 'three'),
        question('is it on', 'no', 'state', 'four'),
        question('where is it', 'table', 'place', 'three'),
    ]
    lines = guesses(ASKED, training)
    assert lines['majority'] == ['no'] * 4
    assert lines['category'] == ['no', 'no', 'table', 'no']
    assert lines['nearest'][2] == 'table'
    assert scores(['x'] * 4, training=training)['all']['guessing']['category'] == 0.25


def test_soft_score_of_vqa_where_people_answered():
    told = [
        replace(one, answers=answers)
        for one, answers in zip(ASKED, [('yes',) * 2 + ('on',) * 8, (), ('no',) * 10, ('no',) * 10])
    ]
    found = eqa_scores([score_answer(*row) for row in zip(told, ['Yes.', 'yes', 'no', None])])
    # Two of ten said yes, which is worth .6; all said no; the last was left unanswered.
    assert found['all']['vqa_soft']['value'] == pytest.approx((0.6 + 1 + 0) / 3, abs=1e-6)
    assert found['all']['vqa_soft_older']['value'] == found['all']['vqa_soft']['value']
    assert 'a013f00' in found['all']['vqa_soft']['rule'] and 'older' in found['all']['vqa_soft_older']['rule']
    two = score_answer(replace(ASKED[0], answers=('two',) * 10), 'two')
    assert (two.vqa_soft, two.vqa_soft_older) == (1, 0)
    assert found['all']['vqa_soft']['questions'] == 3 and found['all']['questions'] == 4
    without = {name for name, part in found['categories'].items() if 'vqa_soft' not in part}
    assert without == {
        one.category for one in told if not any(other.answers for other in told if other.category == one.category)
    }
    assert 'vqa_soft' not in scores(['yes'] * 4)['all'] and 'answer_types' not in scores(['yes'] * 4)


def test_types_of_answers_of_questions_about_frames():
    assert [answer_type(text) for text in ('Yes', 'no.', '3', 'two', '1.5 m', 'red cup')] == [
        'yes/no',
        'yes/no',
        'number',
        'number',
        'other',
        'other',
    ]
    rows = [score_answer(replace(one, time=1.0), 'yes') for one in ASKED]
    types = eqa_scores(rows)['answer_types']
    assert sum(part['questions'] for part in types.values()) == 4 and list(types) == sorted(types)
    expected = [row.exact_match for row in rows if answer_type(row.question.answer) == 'yes/no']
    assert types['yes/no']['exact_match']['value'] == pytest.approx(sum(expected) / len(expected), abs=1e-6)


def test_llm_match_on_both_scales_and_only_when_judged():
    found = scores(['yes', 'no', 'table', None], marks=[5, 1, 4, None], judged=True)
    assert found['all']['llm_match']['percent']['value'] == 100 * (1 + 0 + 0.75 + 0) / 4
    assert found['all']['llm_match']['mean_mark'] == (5 + 1 + 4 + 1) / 4
    assert 'llm_match' not in scores(['yes'] * 4)['all']


def test_the_same_answers_give_the_same_scores_in_any_place_of_the_machine():
    assert scores(['yes', 'no', 'table', 'cup']) == scores(['yes', 'no', 'table', 'cup'])
    with pytest.raises(ValueError, match='no answers'):
        eqa_scores([])
