"""Draws against what a blind guesser could know."""

from collections import Counter

import numpy as np
import pytest

from m3et_ros.data.kitchen.questions.balance import RARE, Balance

KINDS = [('colour', 'colour'), ('colour', 'colour'), ('state', 'is_on'), ('state', 'is_open')]


@pytest.fixture(scope='module')
def table():
    """Three wordings with lopsided answers and one that always has the same."""
    rows = [(0, 0)] * 900 + [(0, 1)] * 100 + [(1, 2)] * 500 + [(2, 3)] * 990 + [(2, 4)] * 10 + [(3, 3)] * 50
    wording, answer = np.array(rows).T
    return wording, answer


def draws(balance, table, count=4000):
    rng = np.random.default_rng(0)
    rows = [balance.draw(rng) for _ in range(count)]
    return Counter(zip(table[0][rows].tolist(), table[1][rows].tolist()))


def test_families_and_answers_come_evenly(table):
    balance = Balance(*table, KINDS)
    seen = draws(balance, table)
    assert set(seen) == {(0, 0), (0, 1), (2, 3), (2, 4)}  # what has one answer is not asked
    assert all(900 < count < 1100 for count in seen.values())
    assert balance.best_blind() == pytest.approx({'colour': 0.5, 'state': 0.5})
    assert balance.majority() == pytest.approx({'colour': 0.5, 'state': 0.5})


def test_rare_answers_are_not_learnt_by_heart():
    table = np.array([(0, 0)] * 80 + [(0, 1)] * 2).T
    balance = Balance(*table, [('hand', 'held')])
    assert balance.best_blind() == pytest.approx({'hand': 0.8})  # 8 to 2
    assert 600 < draws(balance, table, 4000)[0, 1] < 1000


def test_every_row_of_a_pool_is_drawn(table):
    balance, rng = Balance(*table, KINDS), np.random.default_rng(1)
    rows = {balance.draw(rng) for _ in range(3000)}
    assert {row for row in rows if table[1][row] == 4} == set(np.flatnonzero(table[1] == 4))


def test_only_chosen_rows_are_drawn_at_the_odds_of_all(table):
    chosen = table[1] == 1  # its wording has a second answer among the others
    assert set(draws(Balance(*table, KINDS, chosen=chosen), table)) == {(0, 1)}


def test_blind_accuracy_is_that_of_the_draws(table):
    rng = np.random.default_rng(2)
    wording = rng.integers(0, 6, 5000)
    answer = (rng.geometric(0.4, 5000) - 1).clip(0, 4) + wording // 3
    balance = Balance(wording, answer, [(f'f{w % 2}', f'k{w % 3}') for w in range(6)])
    seen, best, total = draws(balance, (wording, answer), 20_000), Counter(), Counter()
    for (word, _), count in seen.items():
        total[f'f{word % 2}'] += count
    for word in range(6):
        best[f'f{word % 2}'] += max(count for (w, _), count in seen.items() if w == word)
    for family, accuracy in balance.best_blind().items():
        assert best[family] / total[family] == pytest.approx(accuracy, abs=0.03)


def test_nothing_to_ask_is_refused():
    with pytest.raises(ValueError, match='two answers'):
        Balance(np.zeros(4, int), np.zeros(4, int), [('state', 'is_on')])


def test_answers_of_eight_rows_and_more_are_drawn_alike():
    table = np.array([(0, 0)] * 80 + [(0, 1)] * RARE).T
    assert Balance(*table, [('hand', 'held')]).best_blind() == pytest.approx({'hand': 0.5})
    table = np.array([(0, 0)] * 80 + [(0, 1)] * (RARE - 1)).T
    assert Balance(*table, [('hand', 'held')]).best_blind() == pytest.approx({'hand': 8 / 15})


def test_the_odds_of_rows_are_those_of_the_draws(table):
    balance, rng = Balance(*table, KINDS), np.random.default_rng(3)
    odds = balance.row_odds(len(table[0]))
    rows = np.bincount([balance.draw(rng) for _ in range(20_000)], minlength=len(odds))
    assert odds.sum() == pytest.approx(1) and (rows[odds == 0] == 0).all()
    for wording, answer in ((0, 0), (0, 1), (2, 3), (2, 4)):
        pool = (table[0] == wording) & (table[1] == answer)
        assert rows[pool].sum() / 20_000 == pytest.approx(odds[pool].sum(), abs=0.02)
