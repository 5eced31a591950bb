"""The VQA normaliser step by step, the scores of answers, and LLM-match from given marks."""

import hashlib
import json
import random
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3et_ros.evaluation.metrics.answers import (
    CONTRACTIONS,
    agreement,
    best_f1,
    exact_match,
    llm_match,
    mark_scores,
    normalise,
    normalise_reference,
    older_soft_score,
    soft_score,
    soft_scores,
    token_f1,
    unanswered_share,
)

PHRASES = st.lists(st.sampled_from(['mug', 'plate', 'red', 'left', 'of', 'sink']), max_size=6).map(' '.join)


@pytest.mark.parametrize(
    'answer, expected',
    [
        ('Yes.', 'yes'),
        (' a\tmug \n', 'mug'),
        ('The two  Mugs', '2 mugs'),
        ('none', '0'),
        ('ten', '10'),
        ('eleven', 'eleven'),
        ('1,000 plates', '1000 plates'),
        ('2.5 m.', '2.5 m'),
        ('t-shirt', 't shirt'),
        ('fork, knife', 'fork knife'),
        ('red/blue', 'red blue'),
        ('is it? no', 'is it no'),
        ('dont know', "don't know"),
        ("couldntve couldnt've", "couldntve couldn't've"),
        ('an apple on the table', 'apple on table'),
        ('', ''),
        # The protocol stops after 32 full stops.
        ('x' + '.' * 34, 'x..'),
    ],
)
def test_a_prediction_takes_every_step(answer, expected):
    assert normalise(answer) == expected


def test_an_older_human_answer_takes_the_punctuation_step_only():
    assert normalise_reference('The two, mugs.') == 'The two mugs'


def test_contractions_lack_exactly_one_apostrophe():
    assert CONTRACTIONS["hed've"] == CONTRACTIONS["he'dve"] == "he'd've"
    assert CONTRACTIONS['twas'] == "'twas"
    assert CONTRACTIONS["yall'd've"] == "y'all'd've"
    assert CONTRACTIONS["somebody'd"] == 'somebodyd'  # the protocol's own slip
    assert 'shell' not in CONTRACTIONS and 'were' not in CONTRACTIONS


@given(words=st.lists(st.sampled_from(['the', 'two', 'Mug', "don't", 'dont', '2.5', 'red', 'a']), max_size=6))
def test_normalising_twice_changes_nothing(words):
    once = normalise(' '.join(words))
    assert normalise(once) == once


@pytest.mark.parametrize('matches, expected', [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (7, 1), (10, 1)])
def test_the_soft_score_follows_the_table_of_the_protocol(matches, expected):
    assert agreement(matches) == pytest.approx(expected)
    assert soft_score('Mug', ['Mug'] * matches + ['plate'] * (10 - matches)) == pytest.approx(expected)


@given(n=st.integers(4, 12), data=st.data())
def test_agreement_is_the_mean_over_leave_one_out_sets(n, data):
    same = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    left_out = [min(1, sum(same[:i] + same[i + 1 :]) / 3) for i in range(n)]
    assert agreement(sum(same), n) == pytest.approx(np.mean(left_out))


@pytest.mark.parametrize(
    ('prediction', 'answers', 'today', 'older'),
    [
        ('two', ['two'] * 10, 1, 0),
        ('two', ['2'] * 10, 0, 1),
        ('Yes', ['Yes'] * 10, 1, 0),
        ('yes!', ['yes'] * 10, 0, 1),
        ('the cat', ['the cat'] * 10, 1, 0),
        (' the\tcat\n', ['the cat'] * 10, 1, 0),
        ('two', ['two'] * 9 + ['2'], 1, 0.3),
        ('A dog.', ['dog'] * 3 + ['the Dog'] * 3 + ['cat'] * 4, 1, 0.9),
        ('ten', ['10', 'Ten!', 'ten, ten', 'nine'] + ['many'] * 6, 0.6, 0.3),
    ],
)
def test_answers_on_which_all_people_agree_are_compared_as_they_stand(prediction, answers, today, older):
    # docs/papers.md 7.1: the official rule of today, and that of older evaluation code.
    assert soft_score(prediction, answers) == pytest.approx(today)
    assert older_soft_score(prediction, answers) == pytest.approx(older)


def literal_score(prediction, answers):
    """Score by the official text read line by line, with explicit sets of nine people."""
    marks = [';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',', '?', '!']
    digits = {'none': '0', 'zero': '0', 'one': '1', 'two': '2', 'three': '3', 'four': '4', 'five': '5', 'six': '6'}
    digits |= {'seven': '7', 'eight': '8', 'nine': '9', 'ten': '10'}

    def punctuated(text):
        result = text
        for mark in marks:
            near_blank = mark + ' ' in text or ' ' + mark in text
            grouped = re.search(r'(\d)(,)(\d)', text) is not None
            result = result.replace(mark, '' if near_blank or grouped else ' ')
        # The flag re.UNICODE stands in the place of the number of replacements, and is worth 32.
        return re.sub(r'\.(?!\d)', '', result, count=int(re.UNICODE))

    def worded(text):
        result = []
        for word in text.lower().split():
            word = digits.get(word, word)
            if word not in ('a', 'an', 'the'):
                result.append(CONTRACTIONS.get(word, word))
        return ' '.join(result)

    prediction, *answers = (text.replace('\n', ' ').replace('\t', ' ').strip() for text in (prediction, *answers))
    if any(answer != answers[0] for answer in answers):
        plain = {text: worded(punctuated(text)) for text in {prediction, *answers}}
        prediction, *answers = (plain[text] for text in (prediction, *answers))
    scores = []
    for left_out in range(len(answers)):
        others = [answer for person, answer in enumerate(answers) if person != left_out]
        scores.append(min(1, sum(other == prediction for other in others) / 3))
    return sum(scores) / len(scores)


ODD_WORDS = (
    "a an the A The two Two ten none no yes Yes 2 3.14 1,000 12,5 .5 5. 7:30 dont don't Don't couldn'tve Im I'm its "
    "ive yall y'allll somebody'd oclock cat cats red/blue t-shirt c++ #1 50% $5 @home n/a U.S. u.s. (left) [x] {y} "
    '"stop" “stop” it\u2019s é ärger Ärger 北京 ... .. ; ;; -- - ! ? , . _ = < > ` \\ 1.2.3 !? ,, 3,4 ' + '.' * 35
)


def test_3000_odd_questions_score_as_the_official_text_says():
    rng, words = random.Random(0), ODD_WORDS.split()

    def phrase():
        return ''.join(
            word + rng.choice([' ', ' ', ' ', '  ', '\t', '\n', '', '. ', ', ', '.'])
            for word in rng.choices(words, k=rng.randint(0, 4))
        )

    def spoken(text):
        ways = (str, str, str, str.lower, str.title, str.strip, 'the {}'.format, '{}.'.format, ' {} '.format)
        return rng.choice(ways)(text)

    found = []
    for _ in range(3000):
        first, second = phrase(), phrase()
        answers = [spoken(first if rng.random() < 0.6 else second) for _ in range(10)]
        if rng.random() < 0.2:
            answers = [first] * 10
        prediction = spoken(rng.choice([first, second, answers[0]]))
        found.append(literal_score(prediction, answers))
        assert abs(soft_score(prediction, answers) - found[-1]) < 1e-9, (prediction, answers)
    assert 0.2 < np.mean(np.equal(found, 1)) < 0.9 and len(np.unique(np.round(found, 6))) == 5


def test_the_contractions_are_those_of_the_official_table():
    # The digest is of the 114 pairs of the official table that are in lower case and change their word.
    assert len(CONTRACTIONS) == 114
    table = json.dumps(sorted(CONTRACTIONS.items())).encode()
    assert hashlib.sha256(table).hexdigest() == '853d25c89947b7f6d41f6c5f81b2d6c3119927f4b16f557fc1b03af6ef45605e'


def test_four_answers_are_enough_and_three_are_refused():
    assert soft_score('mug', ['mug'] * 4) == 1
    with pytest.raises(ValueError, match='exact_match'):
        soft_score('mug', ['mug'] * 3)
    with pytest.raises(ValueError, match='lengths'):
        soft_scores(['mug', 'mug'], [['mug'] * 10])
    with pytest.raises(ValueError, match='3 human answers'):
        older_soft_score('mug', ['mug'] * 3)


def test_several_questions_are_scored_one_by_one():
    scores = soft_scores(['mug', 'yes'], [['mug'] * 10, ['no'] * 9 + ['yes']])
    assert scores == pytest.approx([1, 0.3])


def test_exact_match_normalises_both_sides():
    assert exact_match('Two mugs.', '2 mugs') == 1
    assert exact_match('on the table', ['in the sink', 'on table']) == 1
    assert exact_match('mug', 'mugs') == 0


def test_token_f1_by_hand():
    # Three words predicted, two wanted, two in common: precision 2/3, recall 1.
    assert token_f1('red mug left', 'the red mug') == pytest.approx(0.8)
    # A word counts as often as both sides have it.
    assert token_f1('mug mug', 'mug') == pytest.approx(2 / 3)
    assert token_f1('', 'the') == 1
    assert token_f1('', 'mug') == 0


def test_the_best_reference_counts():
    assert best_f1('red mug', ['blue plate', 'mug']) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match='at least one'):
        best_f1('red mug', [])


@given(predicted=PHRASES, wanted=PHRASES)
def test_token_f1_is_symmetric_bounded_and_independent_of_order(predicted, wanted):
    score = token_f1(predicted, wanted)
    assert 0 <= score <= 1
    assert score == token_f1(wanted, predicted) == token_f1(' '.join(reversed(predicted.split())), wanted)
    assert token_f1(predicted, predicted) == exact_match(predicted, predicted) == 1
    assert score >= exact_match(predicted, wanted)


def test_blank_answers_are_unanswered():
    assert unanswered_share(['mug', ' ', None, '']) == 0.75
    with pytest.raises(ValueError, match='no answers'):
        unanswered_share([])


def test_llm_match_on_both_scales_by_hand():
    score = llm_match([5, 3, 1, None])
    assert (score.count, score.percent, score.mean_mark, score.unanswered) == (4, 37.5, 2.5, 0.25)


def test_chance_over_seven_categories_as_a_mark():
    # 14.29 % as LLM-match would be a mean mark of 1.57 (docs/papers.md 2.6).
    assert llm_match([1] * 6 + [5]).percent == pytest.approx(100 / 7)
    assert llm_match([1] * 6 + [5]).mean_mark == pytest.approx(1.57, abs=0.005)


def test_marks_outside_the_scale_are_clipped_and_nan_is_refused():
    assert mark_scores([0, 7]).tolist() == [0, 1]
    with pytest.raises(ValueError, match='not finite'):
        llm_match([float('nan')])
    with pytest.raises(ValueError, match='no marks'):
        llm_match([])


@given(st.lists(st.none() | st.integers(1, 5), min_size=1))
def test_llm_match_is_bounded_and_independent_of_order(marks):
    score = llm_match(marks)
    assert 0 <= score.percent <= 100 and 1 <= score.mean_mark <= 5
    assert llm_match(sorted(marks, key=str)).percent == pytest.approx(score.percent)
