"""N-gram models against their formulas, and on sequences that have a rule."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3et_ros.models.actions.ngram import MEMORY, NONE, NGram, NGramSettings

CLASSES = 4
sequences = st.lists(st.integers(0, CLASSES - 1), min_size=2, max_size=30)


def targets(labels):
    """Every label of a sequence with the labels before it."""
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
    found = NGram(contexts, labels, CLASSES).probabilities(
        context, NGramSettings(order=order, backoff=m, cache=share, decay=0.5)
    )
    np.testing.assert_allclose(found, p, rtol=1e-9)
    assert found.sum() == pytest.approx(1)


def test_scores_are_divided_by_a_power_of_the_prior():
    model = NGram(*targets([0, 0, 0, 1, 2]), CLASSES)
    plain, corrected = (model.scores([[0]], NGramSettings(tau=tau)) for tau in (0.0, 0.5))
    np.testing.assert_allclose(plain - corrected, 0.5 * np.log(model.prior)[None], rtol=1e-5)


def test_the_cache_covers_the_last_labels_and_no_more():
    model, only_cache = NGram(*targets([0, 1, 2, 3]), CLASSES), NGramSettings(order=0, cache=1.0, decay=1.0)
    assert model.probabilities([1] + [0] * (MEMORY - 1), only_cache)[1] == pytest.approx(1 / MEMORY)
    assert model.probabilities([1] + [0] * MEMORY, only_cache)[1] == 0


def test_repetition_covers_the_last_labels_and_no_more():
    model = NGram(*targets([0, 1, 2, 3]), CLASSES)
    assert model.repeated([[1] + [0] * (MEMORY - 1)])[0, 1] == 2
    assert model.repeated([[1] + [0] * MEMORY])[0, 1] < 1


def test_repetition_names_the_newest_label_first():
    model = NGram(*targets([3, 3, 3, 1]), CLASSES)
    assert np.argsort(-model.repeated([[2, 0, 2]])[0], kind='stable').tolist() == [2, 0, 3, 1]
    assert np.argsort(-model.repeated([[]])[0], kind='stable').tolist()[:2] == [3, 1]


def test_labels_outside_the_classes_are_left_out():
    model = NGram([[], [9]], [9, 1], CLASSES)
    assert model.prior.argmax() == 1
    assert np.isfinite(model.scores([[9], [9, 9]], NGramSettings(cache=0.4))).all()


@settings(deadline=None, max_examples=30)
@given(sequences)
def test_a_table_gives_the_counts_back(labels):
    contexts, own = targets([-1, *labels])  # a label in the context that is none of the classes
    model = NGram(contexts, own, CLASSES)
    again = NGram.from_table(model.table, CLASSES)
    np.testing.assert_array_equal(model.scores(contexts, NGramSettings()), again.scores(contexts, NGramSettings()))
    np.testing.assert_array_equal(model.table, again.table)


def test_rows_of_a_table_hold_context_class_and_count():
    model = NGram([[], [0], [0, 1], [0, 1]], [0, 1, 2, 2], CLASSES)
    rows = model.table.tolist()
    assert [0, 1, 2, 2] in rows and [NONE, 0, 1, 1] in rows and [NONE, 1, 2, 2] in rows and [NONE, NONE, 2, 2] in rows


@pytest.mark.parametrize(
    'table',
    [
        np.zeros((0, 4), int),
        np.zeros((2, 3), int),
        np.array([[-2, -2, CLASSES, 1]]),
        np.array([[-2, -2, -1, 1]]),
        np.array([[-2, -2, 1, 0]]),
    ],
)
def test_other_tables_are_refused(table):
    with pytest.raises(ValueError, match='the table of counts is'):
        NGram.from_table(table, CLASSES)


def test_the_last_class_and_a_count_of_one_are_accepted():
    assert NGram.from_table(np.array([[-2, -2, CLASSES - 1, 1]]), CLASSES).prior.argmax() == CLASSES - 1


def test_a_rule_is_found_by_the_order_that_covers_it():
    labels = [0, 0, 1, 1] * 20  # each label depends on the last two
    contexts, own = targets(labels)
    model = NGram(contexts, own, CLASSES)
    top1 = [(model.scores(contexts, NGramSettings(order=order)).argmax(1) == own).mean() for order in (0, 1, 2)]
    assert top1[2] > 0.95 > 0.8 > top1[1] and top1[2] > top1[0]


@pytest.mark.parametrize(
    ('field', 'good', 'bad'),
    [
        ('order', (0, 2), (-1, 3)),
        ('backoff', (1e-9, 1e9), (0.0, 1e10)),
        ('cache', (0, 1), (-0.1, 1.1)),
        ('decay', (1e-9, 1), (0.0, 1.1)),
        ('tau', (0, 4), (-0.1, 4.1)),
    ],
)
def test_limits_of_the_settings(field, good, bad):
    for value in good:
        assert getattr(replace(NGramSettings(), **{field: value}), field) == value
    for value in bad:
        with pytest.raises(ValueError, match=f'{field} is {value}'):
            NGramSettings(**{field: value})


def test_counts_need_targets_and_as_many_contexts():
    with pytest.raises(ValueError, match='0 contexts'):
        NGram([], [], CLASSES)
    with pytest.raises(ValueError, match='1 contexts and 2 labels'):
        NGram([[]], [1, 2], CLASSES)
