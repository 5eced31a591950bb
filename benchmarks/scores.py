"""Score the models that a benchmark has trained: test once, report intervals, and compare models sample by sample."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from runs import plain, write
from torch.utils.data import Subset

from m3et_ros.cli.progress import track
from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.kitchen.cache.recipe import read_recipe
from m3et_ros.data.kitchen.sim.vocabulary import CLASSES
from m3et_ros.evaluation.batches import interval_json, rounded, spread
from m3et_ros.evaluation.files import weights_digest
from m3et_ros.evaluation.metrics.depth import depth_rates
from m3et_ros.evaluation.metrics.intervals import POSITIVE, SHARE, bootstrap, paired_difference, ratio
from m3et_ros.evaluation.metrics.segmentation import mean_iou
from m3et_ros.evaluation.standard_caches import check_fit
from m3et_ros.evaluation.tasks.reconstruction import measure_frames
from m3et_ros.evaluation.tasks.reconstruction_scores import reconstruction_scores
from m3et_ros.evaluation.tasks.vqa import NOISE, SHOWN, ask, scores_of
from m3et_ros.runtime.engine import Engine

Rows = dict[str, np.ndarray]
"""Summable rows for each of MEASURES in an exam, and the kitchens of its 'questions' and 'frames'."""


@dataclass(frozen=True)
class Exam:
    """The data and inputs of a test."""

    # Cache of kitchens.
    cache: Path
    # Questions drawn from it, 0 for none, and evenly spaced frames.
    questions: int
    frames: int
    # Data set class.
    samples: type[KitchenSamples] = KitchenSamples
    # Images that accompany a question; () leaves the model blind.
    shown: Sequence[str] = SHOWN
    # Test the reconstruction of images, too.
    dense: bool = True


def measure(checkpoint: Checkpoint, path: Path, exam: Exam) -> Rows:
    """Test a checkpoint, or load its earlier scores; the whole report goes to <path>.json.

    Raises:
        InputError: the checkpoint does not fit the cache.
    """
    report, arrays, recipe = path.with_suffix('.json'), path.with_suffix('.npz'), read_recipe(exam.cache)
    asked = plain(
        {
            'weights': weights_digest(checkpoint.model),
            'cache': recipe.name,
            'questions': exam.questions,
            'frames': exam.frames,
            'samples': exam.samples.__name__,
            'shown': exam.shown,
            'dense': exam.dense,
        }
    )
    if report.exists() and json.loads(report.read_text(encoding='utf-8'))['asked'] == asked:
        with np.load(arrays, allow_pickle=False) as file:
            return dict(file)
    check_fit(checkpoint, recipe)
    subject, what = Engine(checkpoint, device='auto').checkpoint, f'{path.parent.name}, {path.name}'
    document, found = _answers(subject, exam, what) if exam.questions else ({}, {})
    if exam.dense:
        document['reconstruction'], rows = _pictures(subject, exam, what)
        found |= rows
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(arrays, **found)
    write(report, {'asked': asked, **document})
    return found


def _answers(subject: Checkpoint, exam: Exam, what: str) -> tuple[dict[str, Any], Rows]:
    drawn = exam.samples(exam.cache, noise=NOISE, length=exam.questions)
    replies = ask(
        subject.model,
        subject.tokenizer,
        drawn,
        answers=subject.labels.answers,
        shown=exam.shown,
        progress=track,
        what=f'{what}: questions',
    )
    return {'vqa': scores_of(replies, drawn.balance)}, {
        'questions': np.array([reply.cluster for reply in replies]),
        'vqa_accuracy': _means([reply.score for reply in replies]),
    }


def _pictures(subject: Checkpoint, exam: Exam, what: str) -> tuple[dict[str, Any], Rows]:
    views = exam.samples(exam.cache, questions=False)
    frames = measure_frames(
        subject.model,
        Subset(views, spread(len(views), exam.frames)),
        progress=lambda items, total, _what, unit: track(items, total, f'{what}: frames', unit),
    )
    rows = {name: frames.columns[column] for name, (column, _) in DENSE.items() if column in frames.columns}
    if 'psnr_hidden_db' in rows:
        rows['psnr_hidden_db'] = _means(rows['psnr_hidden_db'])
    return reconstruction_scores(frames, CLASSES), rows | {'frames': np.array(frames.clusters)}


def _means(scores: Sequence[float]) -> np.ndarray:
    """Return rows (n, 2) for ratio; missing scores do not count."""
    scores = np.asarray(scores, float)
    return np.stack([np.nan_to_num(scores), np.isfinite(scores)], 1)


def _miou(sums: np.ndarray) -> np.ndarray:
    side = round(sums.shape[-1] ** 0.5)
    return mean_iou(sums.reshape(*sums.shape[:-1], side, side))


DENSE = {
    'psnr_hidden_db': ('psnr_hidden', ratio),
    'miou': ('labels', _miou),
    'rmse_in_holes_m': ('holes_model', lambda sums: depth_rates(sums)[..., 0]),
}
"""Figure -> column of measure_frames, and the statistic of its summed rows."""
MEASURES = {'vqa_accuracy': ratio} | {name: statistic for name, (_, statistic) in DENSE.items()}
"""Figures reported for every model, with the statistic of their summed rows."""
BOUNDS = {'miou': SHARE, 'rmse_in_holes_m': POSITIVE}


def _rows(tests: Sequence[Rows], name: str) -> tuple[np.ndarray, list[str]]:
    """Return rows (n, k) and kitchens of a figure, joined over all seeds."""
    kitchens = 'questions' if name == 'vqa_accuracy' else 'frames'
    return (
        np.concatenate([found[name].reshape(len(found[name]), -1) for found in tests]),
        [kitchen for found in tests for kitchen in found[kitchens].tolist()],
    )


def figures(tests: Sequence[Rows]) -> dict[str, Any]:
    """Return each figure over all seeds with its 95 % interval over kitchens, and for each seed alone.

    Args:
        tests: of one model, one for each seed; the mIoU is over the label maps of all seeds together.
    """
    result = {}
    for name, statistic in MEASURES.items():
        if all(name in found for found in tests):
            rows, kitchens = _rows(tests, name)
            result[name] = interval_json(bootstrap(rows, statistic, kitchens, bounds=BOUNDS.get(name))) | {
                'of_seeds': [rounded(_alone(found, name)) for found in tests]
            }
    return result


def _alone(found: Rows, name: str) -> float:
    """Return a figure of one seed."""
    return float(MEASURES[name](_rows([found], name)[0].sum(0)))


def differences(tests: Sequence[Rows], others: Sequence[Rows]) -> dict[str, Any]:
    """Return figures less those of other models on the same samples, as `figures` does.

    The interval is over kitchens and says nothing about other trainings; the differences of the seeds do.
    """
    result = {}
    for name, statistic in MEASURES.items():
        if all(name in found for found in (*tests, *others)):
            (rows, kitchens), (other, _) = _rows(tests, name), _rows(others, name)
            result[name] = interval_json(paired_difference(rows, other, statistic, kitchens)) | {
                'of_seeds': [
                    rounded(_alone(found, name) - _alone(base, name)) for found, base in zip(tests, others, strict=True)
                ]
            }
    return result
