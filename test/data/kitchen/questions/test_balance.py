"""Draws against what a blind guesser could know."""

from collections import Counter

import numpy as np
import pytest

from m3et_ros.data.kitchen.questions.balance import RARE, TEMPERED, Balance

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


def test_tempered_answers_are_drawn_by_a_power_of_their_rows():
    table = np.array([(0, 0)] * 900 + [(0, 1)] * 100 + [(1, 0)] * 900 + [(1, 1)] * 100).T
    kinds = [('count', 'count'), ('colour', 'colour')]
    assert Balance(*table, kinds, temper=TEMPERED).best_blind() == pytest.approx({'count': 0.75, 'colour': 0.5})
    assert Balance(*table, kinds, temper={'count': 1.0}).best_blind() == pytest.approx({'count': 0.9, 'colour': 0.5})
    assert Balance(*table, kinds).best_blind() == pytest.approx({'count': 0.5, 'colour': 0.5})
    assert TEMPERED == {'count': 0.5, 'count_colour': 0.5, 'nearest': 0.5}


ABSENT_ROWS = [(0, 0)] * 400 + [(0, 1)] * 100 + [(1, 5)] * 900 + [(2, 5)] * 25 + [(3, 5)] * 50 + [(4, 1)] * 60
ABSENT_KINDS = [
    ('colour', 'colour'),
    ('absent', 'colour'),
    ('absent', 'colour'),
    ('absent', 'colour'),
    ('colour', 'colour'),
]
TEXTS = np.array([0, 0, 1, 2, 2])
"""'Colour of the cup?' (text 0) in view and not; text 1 only of things out of view; text 2 has one answer in view."""


def test_absent_things_are_drawn_in_words_that_are_also_drawn_of_things_in_view():
    table = np.array(ABSENT_ROWS).T
    balance = Balance(*table, ABSENT_KINDS, texts=TEXTS)
    seen = draws(balance, table)
    assert set(seen) == {(0, 0), (0, 1), (1, 5)}
    assert seen[1, 5] / 4000 == pytest.approx(0.5, abs=0.03)  # one family of two
    assert Balance(*table, ABSENT_KINDS).families == ('colour',)  # no text is shared


def test_the_best_blind_guess_knows_the_text_but_not_the_family():
    """Half of the questions are 'not in view', a quarter each of the two colours: one answer for both families."""
    balance = Balance(*np.array(ABSENT_ROWS).T, ABSENT_KINDS, texts=TEXTS)
    assert balance.best_blind() == pytest.approx({'absent': 1.0, 'colour': 0.0})
    rows = [(0, 0)] * 90 + [(0, 1)] * 10 + [(1, 5)] * 90 + [(2, 3)] * 50 + [(2, 4)] * 50 + [(3, 5)] * 50
    kinds = [('colour', 'colour'), ('absent', 'colour'), ('state', 'is_on'), ('absent', 'is_on')]
    balance = Balance(*np.array(rows).T, kinds, texts=np.array([0, 0, 1, 1]), temper={'colour': 1.0})
    # 0.9 against 0.5 of 'not in view' for the colour; 0.5 against 0.5 and 0.5 for the tap, and the first counts.
    assert balance.best_blind()['colour'] == pytest.approx(0.9)
    assert sum(balance.best_blind().values()) == pytest.approx(0.9 + 0.5)


def test_absent_wordings_are_as_frequent_as_those_they_share_their_words_with():
    rows = [(0, 0)] * 400 + [(0, 1)] * 100 + [(1, 0)] * 40 + [(1, 1)] * 25 + [(2, 5)] * 900 + [(3, 5)] * 900
    kinds = [('colour', 'colour')] * 2 + [('absent', 'colour')] * 2
    table = np.array(rows).T
    odds = Balance(*table, kinds, texts=np.array([0, 1, 0, 1])).row_odds(len(rows))
    shares = [odds[table[0] == wording].sum() for wording in range(4)]
    assert shares == pytest.approx([1 / 3, 1 / 6, 1 / 3, 1 / 6])  # roots of 100 and 25
    few = np.array([*rows[:565], *[(2, 5)] * 4, *[(3, 5)] * 900]).T
    odds = Balance(*few, kinds, texts=np.array([0, 1, 0, 1])).row_odds(few.shape[1])
    assert odds[few[0] == 2].sum() == pytest.approx(0.5 * 2 / 7)  # at most the root of its 4 rows, beside 5
