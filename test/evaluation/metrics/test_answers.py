"""The soft score's table and the tally by family."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3et_ros.evaluation.metrics.answers import Group, agreement, by_group, soft_score, soft_scores


@pytest.mark.parametrize('matches, expected', [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (7, 1), (10, 1)])
def test_the_table_of_the_protocol(matches, expected):
    assert agreement(matches) == pytest.approx(expected)
    assert soft_score('Mug.', ['mug'] * matches + ['plate'] * (10 - matches)) == pytest.approx(expected)


@given(n=st.integers(4, 12), data=st.data())
def test_agreement_is_the_mean_over_leave_one_out_sets(n, data):
    same = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    left_out = [min(1, sum(same[:i] + same[i + 1 :]) / 3) for i in range(n)]
    assert agreement(sum(same), n) == pytest.approx(np.mean(left_out))


def test_human_answers_keep_articles_and_number_words():
    # The prediction becomes 2, the human answers stay two: no match (docs/papers.md 7.1).
    assert soft_score('two', ['two'] * 10) == 0
    assert soft_score('two', ['2'] * 10) == 1


def test_too_few_answers_are_refused():
    with pytest.raises(ValueError, match='exact_match'):
        soft_score('mug', ['mug'])
    with pytest.raises(ValueError, match='lengths'):
        soft_scores(['mug', 'mug'], [['mug'] * 10])


def test_scores_of_several_questions():
    scores = soft_scores(['mug', 'yes'], [['mug'] * 10, ['no'] * 9 + ['yes']])
    assert scores == pytest.approx([1, 0.3])


def test_groups_count_and_average():
    assert by_group([1, 0, 0.5, 1], ['state', 'count', 'count', 'state']) == {
        'count': Group(2, 0.25),
        'state': Group(2, 1),
    }
    with pytest.raises(ValueError, match='not finite'):
        by_group([1, float('nan')], ['state', 'state'])


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from('abc')), min_size=1, max_size=30), st.randoms())
def test_groups_do_not_depend_on_order(samples, random):
    before = by_group(*zip(*samples))
    random.shuffle(samples)
    after = by_group(*zip(*samples))
    assert before.keys() == after.keys()
    for name, group in before.items():
        assert group.count == after[name].count and group.score == pytest.approx(after[name].score)
