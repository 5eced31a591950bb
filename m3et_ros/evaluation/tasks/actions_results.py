"""Results of action recognition and anticipation in recordings: metrics.json, per_sample.csv and times.json.

    found = ActionResults(runner.engine.checkpoint, asked, results, out / PARTS)
    write_run(out, found.document(made_by), found, results)

Everything but times.json and report.html is the same for the same evaluation, with any number of processes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.epic.labels import Labelled
from m3et_ros.data.errors import InputError
from m3et_ros.data.files import refuse_unwritable
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.evaluation.batches import rounded
from m3et_ros.evaluation.files import write_metrics, write_samples
from m3et_ros.evaluation.jobs import JobResult, bag_fields, write_times
from m3et_ros.evaluation.tasks.actions import (
    TASKS,
    Examiner,
    References,
    examine,
    ranks,
    reference_scores,
    targets,
    top1,
    truth,
)
from m3et_ros.evaluation.tasks.actions_in_bags import BagActions, episode_of, read_tokens
from m3et_ros.runtime.action_stream import ranked_actions
from m3et_ros.runtime.results import Ranked

LISTED = 5
"""Verb-noun pairs of each segment in per_sample.csv."""

KINDS = ('verb', 'noun', 'action')


@dataclass(frozen=True)
class SegmentPrediction:
    """Prediction of one segment in one task, asked as the robot asks (way_of)."""

    # Frame of the part at which the question was asked, and its time in seconds from the first frame of the bag.
    frame: int
    asked_at_s: float
    # Rank of the true verb, noun and action; 0 is right.
    ranks: dict[str, int]
    # The likeliest pairs, best first.
    best: tuple[Ranked, ...]


@dataclass(frozen=True)
class SegmentResult:
    """A segment with its predictions by task; a task without a frame at which to ask is missing."""

    labelled: Labelled
    predictions: dict[str, SegmentPrediction]


def way_of(task: str, head: Any) -> str:
    """Return the way in which the robot asks (runtime.action_stream.ActionStream.read), one of actions.WAYS."""
    return 'chain' if task == 'recognition' or head.follows is None else 'follow'


class ActionResults:
    """Scores and predictions for the bags that could be read.

    Args:
        checkpoint: checkpoint with an action head, on its device; the caller sets the number of threads.
        asked: bags and segments.
        results: results of the bags in asked.jobs.
        folder: folder of their parts.
        training: baselines from labels alone; None leaves them out.
        progress: see data.progress.Progress.

    Attributes:
        rows: a result for each segment of these bags, in the order of bags and time.
        parts: name to part of the bags that could be read.
        metrics: content of metrics.json.

    Raises:
        InputError: 'bags_none' where no bag could be read, 'segments_time' where no segment has a frame at which to
            ask, or 'bag_part'.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        asked: BagActions,
        results: Sequence[JobResult],
        folder: Path,
        training: References | None = None,
        progress: Progress = no_progress,
    ):
        self.labels, self.head = checkpoint.labels, checkpoint.heads['mambavl'].eval()
        self.parts = {result.part['bag']: result.part for result in results if 'failed' not in result.part}
        if not self.parts:
            raise InputError('bags_none', f'none of the bags can be used; the first: {results[0].part["failed"]}')
        tokens = [read_tokens(folder, part) for part in self.parts.values()]
        firsts = np.cumsum([0, *map(len, tokens[:-1])]).tolist()
        episodes = [
            episode_of(part, asked.segments[bag], first)
            for first, (bag, part) in zip(firsts, self.parts.items(), strict=True)
        ]
        examiner = Examiner(
            self.head,
            np.concatenate(tokens),
            episodes,
            checkpoint.tokenizer,
            self.labels,
            checkpoint.model.config.text_length,
            progress=progress,
        )
        try:
            scores = examine(examiner)
        except ValueError as error:
            raise InputError(
                'segments_time',
                f'{error}; check that start_timestamp and stop_timestamp count from the first colour frame of the bag',
            ) from error
        if training is not None and set(scores['anticipation']) != {'left_out'}:
            scores['references'] = reference_scores(training, episodes)
        predictions, by_verb = {}, {}
        for task in TASKS:
            predictions[task], by_verb[task] = self._predict(examiner, task)
        self.rows = [
            SegmentResult(
                one, {task: found[bag, number] for task, found in predictions.items() if (bag, number) in found}
            )
            for bag in self.parts
            for number, one in enumerate(asked.segments[bag])
        ]
        self.metrics = scores | {'by_verb': by_verb, **_summary(asked, results)}

    def _predict(
        self, examiner: Examiner, task: str
    ) -> tuple[dict[tuple[str, int], SegmentPrediction], dict[str, dict]]:
        """Return the prediction of each segment by bag and number, and the scores by true verb."""
        asked, _ = targets(examiner.episodes, task)
        if not asked:
            return {}, {}
        way, (pairs, bags) = way_of(task, self.head), truth(examiner.episodes, asked)
        answers = examiner.ask(asked, way if task == 'recognition' else f'{way}_next')
        found = ranks(answers, pairs)
        verbs, nouns = torch.from_numpy(answers.verbs), torch.from_numpy(answers.nouns)
        # As on the robot: recognition is less certain where perhaps no action is under way.
        activity = examiner.activity(asked) if task == 'recognition' else [1.0] * len(asked)
        predictions = {}
        for i, (target, bag) in enumerate(zip(asked, bags, strict=True)):
            predictions[bag, target.number] = SegmentPrediction(
                target.frame,
                float(examiner.episodes[target.episode].stamps[target.frame]),
                {kind: int(found[kind][i]) for kind in KINDS},
                ranked_actions(verbs[i], nouns[i], self.labels, LISTED, activity[i]).actions,
            )
        return predictions, self._by_verb(pairs, bags, found)

    def _by_verb(self, pairs: np.ndarray, bags: Sequence[str], found: Mapping[str, np.ndarray]) -> dict[str, dict]:
        table = {}
        for verb in np.unique(pairs[:, 0]):
            where = np.flatnonzero(pairs[:, 0] == verb)
            table[self.labels.verbs[verb]] = {'samples': len(where)} | {
                kind: {f'top{k}': top1(found[kind][where], [bags[i] for i in where], k) for k in (1, 5)}
                for kind in KINDS
            }
        return table

    def document(self, made_by: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content of metrics.json."""
        return {'made_by': dict(made_by), 'metrics': self.metrics}

    def sample_rows(self) -> list[dict[str, Any]]:
        """Return the rows of per_sample.csv."""
        return [self._row(result) for result in self.rows]

    def _row(self, result: SegmentResult) -> dict[str, Any]:
        segment = result.labelled.segment
        row: dict[str, Any] = {
            'bag': segment.video,
            'narration_id': segment.narration_id,
            'participant_id': segment.participant,
            'start_s': rounded(segment.start_s),
            'stop_s': rounded(segment.stop_s),
            'verb': self.labels.verbs[result.labelled.verb],
            'noun': self.labels.nouns[result.labelled.noun],
        }
        listed = min(LISTED, len(self.labels.verbs) * len(self.labels.nouns))
        for task in TASKS:
            prediction = result.predictions.get(task)
            row[f'{task}_asked_at_s'] = None if prediction is None else rounded(prediction.asked_at_s)
            for kind in KINDS:
                row[f'{task}_{kind}_rank'] = None if prediction is None else prediction.ranks[kind]
            for n in range(listed):
                row[f'{task}_{n + 1}'] = None if prediction is None else prediction.best[n].label
                row[f'{task}_{n + 1}_p'] = None if prediction is None else rounded(prediction.best[n].score)
        return row


def _summary(asked: BagActions, results: Sequence[JobResult]) -> dict[str, Any]:
    """Describe the data of the evaluation."""
    bags = {}
    for result in results:
        part = result.part
        bag = bag_fields(result) | {'segments': len(asked.segments[part['bag']])}
        if 'failed' not in part:
            bag |= {'frames_taken_in': len(part['stamps_ns']), 'streams': 1 + len(part['breaks'])}
        bags[part['bag']] = bag
    return {
        'bags': bags,
        'failed_bags': sum('failed' in result.part for result in results),
        'bags_without_segments': list(asked.without),
        'notes': list(asked.notes),
        'segments': {'asked_for': asked.count, 'elsewhere': asked.elsewhere, 'unknown': asdict(asked.unknown)},
    }


def files_digest(paths: Sequence[Path]) -> list[dict[str, str]]:
    """Return name and SHA-256 of files of segments."""
    return [{'name': path.name, 'sha256': hashlib.sha256(path.read_bytes()).hexdigest()} for path in paths]


def write_run(
    out: Path, document: Mapping[str, Any], found: ActionResults, results: Sequence[JobResult]
) -> dict[str, Any]:
    """Write everything but the report and the parts; return the content of times.json.

    Raises:
        InputError: 'out_unwritable'.
    """
    with refuse_unwritable(out, 'free some space, or give another --out: finished parts are kept'):
        out.mkdir(parents=True, exist_ok=True)
        write_samples(out, found.sample_rows())
        times = write_times(out, results)
        write_metrics(out, document)
    return times
