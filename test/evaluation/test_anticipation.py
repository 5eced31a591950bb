"""Forecasts: probabilities, order of the file, the mean of members, corrections that are chosen for recall."""

import numpy as np
import pytest
import torch
from epic_folder import make_folder

from m3et_ros.data.epic import find_split, read_segments
from m3et_ros.data.epic_history import Asking, HistoryWindows, Pasts
from m3et_ros.data.epic_lists import read_classes
from m3et_ros.data.history_checkpoint import TASKS, Correction, HistoryCheckpoint
from m3et_ros.evaluation.anticipation import CORRECTED, FLOORS, PLAIN, TAUS, answers, choose, forecast
from m3et_ros.evaluation.ranking import label_ranks, mean_topk_recall
from m3et_ros.models.history import HistoryConfig, HistoryModel


@pytest.fixture(scope='module')
def pasts(tmp_path_factory):
    folder = make_folder(tmp_path_factory.mktemp('epic'), videos=4, segments=14)
    classes = read_classes(folder)
    return Pasts(read_segments(find_split(folder, 'train'), classes), classes)


def models(pasts, count=2):
    asking = Asking(pasts.classes)
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        found.append(HistoryModel(HistoryConfig(verbs=7, nouns=6, pairs=2, words=len(asking.words), d=8, e=8,
                                                hidden=12, N=4)).eval())
    return tuple(found), asking


def made(pasts, corrections=None):
    members, asking = models(pasts)
    settings = corrections or dict.fromkeys(TASKS, Correction(0.5, 1.0))
    return HistoryCheckpoint(members, pasts.classes, asking.words, {0: 30, 2001: 5}, settings, 1.0, (), (), ())


def windows(pasts, checkpoint, **options):
    return HistoryWindows(pasts, sorted(checkpoint.pairs), Asking(pasts.classes), pasts.windows(**options))


def test_members_are_averaged_as_probabilities(pasts):
    checkpoint = made(pasts)
    batch, _ = windows(pasts, checkpoint).collate(pasts.windows()[:2])
    with torch.inference_mode():
        verb, noun, action = answers(checkpoint.members, batch)
        alone = [answers((member,), batch) for member in checkpoint.members]
    for together, one, other in zip((verb, noun, action), *alone):
        torch.testing.assert_close(together.exp(), (one.exp() + other.exp()) / 2)
        torch.testing.assert_close(together.exp().flatten(1).sum(1), torch.ones(len(together)))
    torch.testing.assert_close(noun.exp(), action.exp().sum(2))


def test_a_forecast_has_the_order_of_the_file(pasts):
    checkpoint = made(pasts)
    found = forecast(checkpoint, windows(pasts, checkpoint))
    short = forecast(checkpoint, windows(pasts, checkpoint, length=3, before=40))
    np.testing.assert_allclose(short.noun, found.noun, atol=1e-5)
    batch, _ = windows(pasts, checkpoint).collate(pasts.windows())
    with torch.inference_mode():
        verb, noun, action = answers(checkpoint.members, batch)
    rows = pasts.order[batch['target'].numpy()]
    np.testing.assert_allclose(found.verb[rows], verb.numpy(), atol=1e-5)
    ids, scores = found.actions[PLAIN]
    assert ids.shape == scores.shape == (len(pasts), 42) and (np.diff(scores, axis=1) <= 0).all()
    place = np.argmax(action.flatten(1).numpy(), 1)
    assert (ids[rows, 0] == place % 7 * 1000 + place // 7).all()


def test_corrected_actions_are_divided_by_the_prior(pasts):
    checkpoint = made(pasts)
    found = forecast(checkpoint, windows(pasts, checkpoint))
    plain, corrected = ({int(a): s for a, s in zip(found.actions[kind][0][5], found.actions[kind][1][5])}
                        for kind in (PLAIN, CORRECTED))
    assert plain[0] - corrected[0] == pytest.approx(0.5 * np.log(31), abs=1e-4)
    assert plain[2001] - corrected[2001] == pytest.approx(0.5 * np.log(6), abs=1e-4)
    assert plain[1001] == pytest.approx(corrected[1001], abs=1e-5)
    counts = checkpoint.counts('noun')
    np.testing.assert_allclose(found.noun - found.scores('noun', Correction(0.5, 1.0), counts),
                               np.broadcast_to(0.5 * np.log(counts + 1), found.noun.shape), atol=1e-5)


def test_each_target_is_asked_for_once(pasts):
    checkpoint = made(pasts)
    data = windows(pasts, checkpoint)
    data.windows = data.windows[1:]
    with pytest.raises(ValueError, match='14 of 56 targets are not asked for once'):
        forecast(checkpoint, data)


def test_the_chosen_corrections_have_the_best_recall(pasts):
    checkpoint = made(pasts)
    data, counts = windows(pasts, checkpoint), {task: checkpoint.counts(task) for task in TASKS}
    chosen = choose(checkpoint.members, data, counts)
    found = forecast(checkpoint, data)
    labels = np.array([segment.noun for segment in pasts.segments])

    def recall(correction):
        return mean_topk_recall(label_ranks(found.scores('noun', correction, counts['noun']), labels), labels)
    assert set(chosen) == set(TASKS)
    best = max(recall(Correction(tau, floor)) for tau in TAUS for floor in FLOORS)
    assert recall(chosen['noun']) == pytest.approx(best)
