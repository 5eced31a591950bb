"""Forecasts: probabilities, the order of the file, the mean of members, and tuned corrections and n-grams."""

import numpy as np
import pytest
import torch
from epic_folder import make_folder

from m3et_ros.data.checkpoints.history import TASKS, Correction, Expert, HistoryCheckpoint
from m3et_ros.data.epic.annotations import find_split, read_segments
from m3et_ros.data.epic.class_lists import read_classes
from m3et_ros.data.epic.history import ActionHistories, HistoryWindows, QuestionWords
from m3et_ros.evaluation.metrics.ranking import label_ranks, mean_topk_recall
from m3et_ros.evaluation.tasks.epic_forecast import (
    CORRECTED,
    FLOORS,
    PLAIN,
    RECALL,
    SHARES,
    TAUS,
    TOP1,
    Ensemble,
    best_actions,
    choose_corrections,
    choose_share,
    forecast,
    ngram_ranks,
    tune,
)
from m3et_ros.models.actions.history import HistoryConfig, HistoryModel
from m3et_ros.models.actions.ngram import NGram, NGramSettings


@pytest.fixture(scope='module')
def pasts(tmp_path_factory):
    folder = make_folder(tmp_path_factory.mktemp('epic'), videos=4, segments=14)
    classes = read_classes(folder)
    return ActionHistories(read_segments(find_split(folder, 'train'), classes), classes)


def models(pasts, count=2):
    asking = QuestionWords(pasts.classes)
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        found.append(
            HistoryModel(
                HistoryConfig(verbs=7, nouns=6, pairs=2, words=len(asking.words), d=8, e=8, hidden=12, N=4)
            ).eval()
        )
    return tuple(found), asking


def made(pasts, share=0.0):
    members, asking = models(pasts)
    expert = Expert(NGram([[], [0], [1]], [0, 1, 0], 2), NGramSettings(cache=0.2), share)
    return HistoryCheckpoint(
        members,
        pasts.classes,
        asking.words,
        {0: 30, 2001: 5},
        expert,
        dict.fromkeys(TASKS, Correction(0.5, 1.0)),
        1.0,
        (),
        (),
        (),
    )


def panel(checkpoint):
    return Ensemble(checkpoint.members, checkpoint.expert, sorted(checkpoint.pairs))


def windows(pasts, checkpoint, **options):
    return HistoryWindows(pasts, sorted(checkpoint.pairs), QuestionWords(pasts.classes), pasts.windows(**options))


def test_members_are_averaged_as_probabilities(pasts):
    checkpoint = made(pasts)
    data = windows(pasts, checkpoint)
    batch, _ = data.collate(pasts.windows()[:2])
    with torch.inference_mode():
        verb, noun, action = Ensemble(checkpoint.members).predict(batch, data)
        alone = [Ensemble((member,)).predict(batch, data) for member in checkpoint.members]
    for together, one, other in zip((verb, noun, action), *alone):
        torch.testing.assert_close(together.exp(), (one.exp() + other.exp()) / 2)
        torch.testing.assert_close(together.exp().flatten(1).sum(1), torch.ones(len(together)))
    torch.testing.assert_close(noun.exp(), action.exp().sum(2))


def test_the_ngram_has_its_share(pasts):
    checkpoint = made(pasts, share=0.25)
    data = windows(pasts, checkpoint)
    batch, _ = data.collate(pasts.windows()[:1])
    with torch.inference_mode():
        alone = Ensemble(checkpoint.members).predict(batch, data)[2].exp()
        _, noun, mixed = panel(checkpoint).predict(batch, data)
    wanted = 0.75 * alone
    for row, place in enumerate(batch['target'].tolist()):
        context = pasts.context(place, np.where(data.pair < 2, data.pair, 2))
        p = checkpoint.expert.counts.probabilities(context, checkpoint.expert.line)
        wanted[row, 0, 0] += 0.25 * p[0]  # take tap
        wanted[row, 1, 2] += 0.25 * p[1]  # wash spoon
    torch.testing.assert_close(mixed.exp(), wanted)
    torch.testing.assert_close(noun.exp(), wanted.sum(2))


def test_the_chosen_share_is_right_most_often(pasts):
    checkpoint = made(pasts)
    data = windows(pasts, checkpoint)
    truth = 1000 * np.array([s.verb for s in pasts.segments]) + np.array([s.noun for s in pasts.segments])

    def right(share):
        return (forecast(made(pasts, share), data).actions[PLAIN][0][:, 0] == truth).sum()

    chosen = choose_share(panel(checkpoint), data)
    assert right(chosen) == max(right(share) for share in SHARES)


def test_a_forecast_has_the_order_of_the_file(pasts):
    checkpoint = made(pasts, share=0.2)
    found = forecast(checkpoint, windows(pasts, checkpoint))
    short = forecast(checkpoint, windows(pasts, checkpoint, length=3, before=40))
    np.testing.assert_allclose(short.noun, found.noun, atol=1e-5)
    data = windows(pasts, checkpoint)
    batch, _ = data.collate(pasts.windows())
    with torch.inference_mode():
        verb, _noun, action = panel(checkpoint).predict(batch, data)
    rows = pasts.order[batch['target'].numpy()]
    np.testing.assert_allclose(found.verb[rows], verb.numpy(), atol=1e-5)
    ids, scores = found.actions[PLAIN]
    assert ids.shape == scores.shape == (len(pasts), 42) and (np.diff(scores, axis=1) <= 0).all()
    place = np.argmax(action.flatten(1).numpy(), 1)
    assert (ids[rows, 0] == place % 7 * 1000 + place // 7).all()


def test_corrected_actions_are_divided_by_the_prior(pasts):
    checkpoint = made(pasts)
    found = forecast(checkpoint, windows(pasts, checkpoint))
    plain, corrected = (
        {int(a): s for a, s in zip(found.actions[kind][0][5], found.actions[kind][1][5])} for kind in (PLAIN, CORRECTED)
    )
    assert plain[0] - corrected[0] == pytest.approx(0.5 * np.log(31), abs=1e-4)
    assert plain[2001] - corrected[2001] == pytest.approx(0.5 * np.log(6), abs=1e-4)
    assert plain[1001] == pytest.approx(corrected[1001], abs=1e-5)
    counts = checkpoint.counts('noun')
    np.testing.assert_allclose(
        found.noun - found.scores('noun', Correction(0.5, 1.0), counts),
        np.broadcast_to(0.5 * np.log(counts + 1), found.noun.shape),
        atol=1e-5,
    )


def test_a_missing_target_is_refused(pasts):
    checkpoint = made(pasts)
    data = windows(pasts, checkpoint)
    data.windows = data.windows[1:]
    with pytest.raises(ValueError, match='14 of 56 targets do not occur exactly once'):
        forecast(checkpoint, data)


def test_the_chosen_corrections_have_the_best_recall(pasts):
    checkpoint = made(pasts)
    data, counts = windows(pasts, checkpoint), {task: checkpoint.counts(task) for task in TASKS}
    chosen = choose_corrections(panel(checkpoint), data, counts)
    found = forecast(checkpoint, data)
    labels = np.array([segment.noun for segment in pasts.segments])

    def recall(correction):
        return mean_topk_recall(label_ranks(found.scores('noun', correction, counts['noun']), labels), labels)

    assert set(chosen) == set(TASKS)
    best = max(recall(Correction(tau, floor)) for tau in TAUS for floor in FLOORS)
    assert recall(chosen['noun']) == pytest.approx(best)


@pytest.mark.parametrize(('best', 'listed'), [(5, 5), (1000, 42)])
def test_a_forecast_lists_the_best_actions_or_all(pasts, best, listed):
    checkpoint = made(pasts)
    found = forecast(checkpoint, windows(pasts, checkpoint), best=best)
    assert all(ids.shape == scores.shape == (len(pasts), listed) for ids, scores in found.actions.values())


CLASSES = 4


def histories_of(labels):
    """Every label of a sequence with the labels before it."""
    return [labels[:i] for i in range(len(labels))], labels


def test_of_equal_actions_the_lower_id_comes_first():
    scores = torch.zeros(2, 40, 30)  # 40 nouns, 30 verbs
    scores[0, 7, 3], scores[1, 2, 29], scores[1, 1, 5] = 1, 2, 2
    ids, values = best_actions(scores, 5)
    assert ids.tolist() == [[3007, 0, 1, 2, 3], [5001, 29002, 0, 1, 2]]
    assert values.tolist() == [[1, 0, 0, 0, 0], [2, 2, 0, 0, 0]]
    assert best_actions(scores[:, :1, :2], 2)[0].tolist() == [[0, 1000]] * 2


def test_a_label_outside_the_classes_ranks_last():
    model = NGram([[], [9]], [9, 1], CLASSES)
    assert ngram_ranks(model, [[]], np.array([9]), NGramSettings()).tolist() == [CLASSES]


def test_without_settings_the_last_labels_are_repeated():
    model = NGram(*histories_of([3, 3, 3, 1]), CLASSES)
    assert ngram_ranks(model, [[2, 0, 2]] * 4, np.array([2, 0, 3, 1]), None).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize('kind', [TOP1, RECALL])
def test_tuning_is_no_worse_than_where_it_started(kind):
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, CLASSES, 60), rng.integers(1, 4, 60)).tolist()
    contexts, own = histories_of(labels)
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


def test_tuning_goes_over_all_fields_as_often_as_asked():
    model, contexts, wanted = NGram([[], [0]], [0, 1], CLASSES), [[], [0]], np.array([0, 1])
    assert tune(model, contexts, wanted, TOP1, rounds=0) == NGramSettings(cache=0.1)
    assert tune(model, contexts, wanted, RECALL, rounds=0) == NGramSettings(cache=0.1, tau=0.4)
