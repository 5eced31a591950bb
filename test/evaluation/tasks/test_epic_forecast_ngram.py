"""Tuning of n-gram models and the ranks of their labels; the model itself is tested in test/models/actions."""

import numpy as np
import pytest

from m3et_ros.evaluation.tasks.epic_forecast import RECALL, TOP1, ngram_ranks, tune
from m3et_ros.models.actions.ngram import NGram, NGramSettings

CLASSES = 4


def targets(labels):
    """Every label of a sequence with the labels before it."""
    return [labels[:i] for i in range(len(labels))], labels


def test_a_label_outside_the_classes_ranks_last():
    model = NGram([[], [9]], [9, 1], CLASSES)
    assert ngram_ranks(model, [[]], np.array([9]), NGramSettings()).tolist() == [CLASSES]


def test_without_settings_the_last_labels_are_repeated():
    model = NGram(*targets([3, 3, 3, 1]), CLASSES)
    assert ngram_ranks(model, [[2, 0, 2]] * 4, np.array([2, 0, 3, 1]), None).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize('kind', [TOP1, RECALL])
def test_tuning_is_no_worse_than_where_it_started(kind):
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, CLASSES, 60), rng.integers(1, 4, 60)).tolist()
    contexts, own = targets(labels)
    model, wanted = NGram(contexts[:60], own[:60], CLASSES), np.array(own[60:])
    start = NGramSettings(cache=0.1, tau=0.4 if kind == RECALL else 0.0)

    def worth(settings):
        hit = ngram_ranks(model, contexts[60:], wanted, settings) < (1 if kind == TOP1 else 5)
        return hit.mean() if kind == TOP1 else np.mean([hit[wanted == c].mean() for c in np.unique(wanted)])

    chosen = tune(model, contexts[60:], wanted, kind, rounds=1)
    assert worth(chosen) >= worth(start) and (chosen.tau == 0 or kind == RECALL)


def test_an_unknown_measure_is_refused():
    with pytest.raises(ValueError, match="kind is 'best'"):
        tune(NGram([[]], [1], CLASSES), [[]], np.array([1]), 'best')
