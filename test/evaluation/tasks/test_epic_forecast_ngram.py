"""Reference lines against their formulas and on sequences that have a rule."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3et_ros.evaluation.tasks.epic_forecast import RECALL, TOP1, ngram_ranks, tune
from m3et_ros.models.actions.ngram import NGram, NGramSettings

CLASSES = 4
sequences = st.lists(st.integers(0, CLASSES - 1), min_size=2, max_size=30)


def targets(labels):
    """Every label of a sequence with what came before."""
    return [labels[:i] for i in range(len(labels))], labels


@settings(deadline=None, max_examples=60)
@given(
    sequences,
    st.lists(st.integers(0, CLASSES - 1), max_size=4),
    st.sampled_from([0, 1, 2]),
    st.floats(0.5, 20),
    st.sampled_from([0.0, 0.3]),
)
def test_probabilities_follow_the_formulas(labels, context, order, m, share):
    contexts, _ = targets(labels)
    counts = [
        Counter((tuple(c[len(c) - n :]), label) for c, label in zip(contexts, labels) if len(c) >= n) for n in range(3)
    ]
    p = np.array([(counts[0][(), c] + 1 / CLASSES) / (len(labels) + 1) for c in range(CLASSES)])
    for n in range(1, min(order, len(context)) + 1):
        own = np.array([counts[n][tuple(context[-n:]), c] for c in range(CLASSES)])
        p = (own + m * p) / (own.sum() + m)
    if share and context:
        weights = [0.5**j for j in range(len(context))]
        cache = [sum(w for w, a in zip(weights, context[::-1]) if a == c) / sum(weights) for c in range(CLASSES)]
        p = (1 - share) * p + share * np.array(cache)
    line = NGramSettings(order=order, backoff=m, cache=share, decay=0.5)
    found = NGram(contexts, labels, CLASSES).probabilities(context, line)
    np.testing.assert_allclose(found, p, rtol=1e-9)
    assert found.sum() == pytest.approx(1)


def test_scores_are_divided_by_a_power_of_the_prior():
    model = NGram(*targets([0, 0, 0, 1, 2]), CLASSES)
    plain, corrected = (model.scores([[0]], NGramSettings(tau=tau)) for tau in (0.0, 0.5))
    np.testing.assert_allclose(plain - corrected, 0.5 * np.log(model.prior)[None], rtol=1e-5)


def test_repetition_names_the_newest_first():
    model = NGram(*targets([3, 3, 3, 1]), CLASSES)
    assert np.argsort(-model.repeated([[2, 0, 2]])[0], kind='stable').tolist() == [2, 0, 3, 1]
    assert np.argsort(-model.repeated([[]])[0], kind='stable').tolist()[:2] == [3, 1]


def test_labels_outside_are_left_out():
    model = NGram([[], [9]], [9, 1], CLASSES)
    assert model.prior.argmax() == 1
    assert np.isfinite(model.scores([[9], [9, 9]], NGramSettings(cache=0.4))).all()
    assert ngram_ranks(model, [[]], np.array([9]), NGramSettings()).tolist() == [CLASSES]


@settings(deadline=None, max_examples=30)
@given(sequences)
def test_a_table_gives_the_counts_back(labels):
    contexts, own = targets([-1, *labels])  # a label that nobody knows in the context
    model = NGram(contexts, own, CLASSES)
    again = NGram.from_table(model.table, CLASSES)
    np.testing.assert_array_equal(model.scores(contexts, NGramSettings()), again.scores(contexts, NGramSettings()))
    np.testing.assert_array_equal(model.table, again.table)


@pytest.mark.parametrize(
    'table', [np.zeros((0, 4), int), np.zeros((2, 3), int), np.array([[-2, -2, 9, 1]]), np.array([[-2, -2, 1, 0]])]
)
def test_other_tables_are_refused(table):
    with pytest.raises(ValueError, match='the table of counts is'):
        NGram.from_table(table, CLASSES)


def test_a_rule_is_found_by_the_order_that_can_see_it():
    labels = [0, 0, 1, 1] * 20  # what follows depends on the last two
    contexts, own = targets(labels)
    model, wanted = NGram(contexts, own, CLASSES), np.array(own)
    top1 = [(ngram_ranks(model, contexts, wanted, NGramSettings(order=order)) == 0).mean() for order in (0, 1, 2)]
    assert top1[2] > 0.95 > 0.8 > top1[1] and top1[2] > top1[0]


@pytest.mark.parametrize('kind', [TOP1, RECALL])
def test_tuning_is_no_worse_than_where_it_started(kind):
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, CLASSES, 60), rng.integers(1, 4, 60)).tolist()
    contexts, own = targets(labels)
    model, wanted = NGram(contexts[:60], own[:60], CLASSES), np.array(own[60:])
    start = NGramSettings(cache=0.1, tau=0.4 * (kind == RECALL))

    def worth(line):
        hit = ngram_ranks(model, contexts[60:], wanted, line) < (1 if kind == TOP1 else 5)
        return hit.mean() if kind == TOP1 else np.mean([hit[wanted == c].mean() for c in np.unique(wanted)])

    chosen = tune(model, contexts[60:], wanted, kind, rounds=1)
    assert worth(chosen) >= worth(start) and (chosen.tau == 0 or kind == RECALL)


@pytest.mark.parametrize(
    'field, value', [('order', 3), ('order', True), ('backoff', 0.0), ('cache', 1.5), ('decay', 0.0), ('tau', -1.0)]
)
def test_lines_out_of_range_are_refused(field, value):
    with pytest.raises(ValueError, match=f'{field} is'):
        NGramSettings(**{field: value})


def test_other_uses_are_refused():
    with pytest.raises(ValueError, match='0 contexts'):
        NGram([], [], CLASSES)
    with pytest.raises(ValueError, match="kind is 'best'"):
        tune(NGram([[]], [1], CLASSES), [[]], np.array([1]), 'best')
