"""What an action head says of recordings: metrics.json, per_sample.csv and times.json, from parts of bags and segments.

    found = Findings(worker.engine.checkpoint, asked, done, out / PARTS)
    write_run(out, found.document(made_by), found, done)

Everything but times.json and report.html is the same for the same evaluation, however many processes did it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.epic.labels import Labelled
from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.episodes import EpisodeFrames
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.evaluation.batches import rounded
from m3et_ros.evaluation.jobs import Done
from m3et_ros.evaluation.report.files import write_metrics, write_samples
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
from m3et_ros.evaluation.tasks.eqa_results import OF_A_BAG, TIMES, EqaRun, times_of
from m3et_ros.runtime.action_stream import ranked_actions
from m3et_ros.runtime.results import Ranked

LISTED = 5
"""Verb-noun pairs of each segment in per_sample.csv."""

KINDS = ('verb', 'noun', 'action')


@dataclass(frozen=True)
class SegmentPrediction:
    """What was said of one segment in one task, asked as the robot asks (way_of)."""

    # Frame of the part at which was asked, and its time in seconds since the first frame of the bag.
    place: int
    asked_at_s: float
    # Rank of the true verb, noun and action, 0 for right.
    ranks: dict[str, int]
    # The likeliest pairs, best first.
    best: tuple[Ranked, ...]


@dataclass(frozen=True)
class SegmentResult:
    """One segment, and what was said of it: by task, nothing where it could not be asked for."""

    one: Labelled
    said: dict[str, SegmentPrediction]


def way_of(task: str, head: Any) -> str:
    """How the robot asks (runtime.actions.ActionStream.read): one of evaluation.runs.actions.WAYS."""
    return 'chain' if task == 'recognition' or head.follows is None else 'follow'


class ActionResults:
    """Everything that was found about bags that could be watched.

    Args:
        checkpoint: with an action head, on its device; threads are the caller's affair.
        asked: what is asked for.
        done: of the bags in asked.jobs.
        folder: of their parts.
        training: what labels alone would guess, if that is wished for.

    Attributes:
        told: a row for each segment of these bags, in the order of bags and time.
        parts: name to part of the bags that could be watched.
        metrics: of metrics.json.

    Raises:
        InputError: 'bags_none' where no bag could be watched, 'segments_time' where no segment has a frame at which to
            ask, or 'bag_part'.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        asked: BagActions,
        done: Sequence[Done],
        folder: Path,
        training: References | None = None,
        progress: Progress = no_progress,
    ):
        self.labels, self.head = checkpoint.labels, checkpoint.heads['mambavl'].eval()
        self.parts = {one.part['bag']: one.part for one in done if 'failed' not in one.part}
        if not self.parts:
            raise InputError('bags_none', f'none of the bags can be used; the first: {done[0].part["failed"]}')
        tokens = [read_tokens(folder, part) for part in self.parts.values()]
        firsts = np.cumsum([0, *map(len, tokens)]).tolist()
        episodes = [
            episode_of(part, asked.segments[bag], first) for first, (bag, part) in zip(firsts, self.parts.items())
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
                f'{error}; see whether start_timestamp and stop_timestamp count from the first colour frame of the bag',
            ) from error
        if training is not None and any(set(scores['anticipation']) - {'left_out'}):
            scores['references'] = reference_scores(training, episodes)
        said, verbs = {}, {}
        for task in TASKS:
            said[task], verbs[task] = self._said(examiner, task)
        self.told = [
            SegmentResult(one, {task: said[task][bag, number] for task in TASKS if (bag, number) in said[task]})
            for bag in self.parts
            for number, one in enumerate(asked.segments[bag])
        ]
        self.metrics = scores | {'by_verb': verbs, **_summary(asked, done)}

    def _said(self, examiner: Examiner, task: str) -> tuple[dict[tuple[str, int], SegmentPrediction], dict[str, dict]]:
        """What is said of each segment that can be asked for, by bag and number; and scores by true verb."""
        asked, _ = targets(examiner.episodes, task)
        if not asked:
            return {}, {}
        way, (pairs, bags) = way_of(task, self.head), truth(examiner.episodes, asked)
        answers = examiner.ask(asked, way if task == 'recognition' else f'{way}_next')
        found = ranks(answers, pairs)
        verbs, nouns = torch.from_numpy(answers.verbs), torch.from_numpy(answers.nouns)
        # As on the robot: what is being done is less sure where nothing may be.
        busy = examiner.busy(asked) if task == 'recognition' else [1.0] * len(asked)
        said = {}
        for i, (target, bag) in enumerate(zip(asked, bags)):
            episode: EpisodeFrames = examiner.episodes[target.episode]
            best = ranked_actions(verbs[i], nouns[i], self.labels, LISTED, busy[i]).actions
            said[bag, target.number] = SegmentPrediction(
                target.place, float(episode.stamps[target.place]), {kind: int(found[kind][i]) for kind in KINDS}, best
            )
        return said, self._by_verb(pairs, bags, found)

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
        """What metrics.json holds."""
        return {'made_by': dict(made_by), 'metrics': self.metrics}

    def sample_rows(self) -> list[dict[str, Any]]:
        """Rows of per_sample.csv."""
        return [self._row(told) for told in self.told]

    def _row(self, told: SegmentResult) -> dict[str, Any]:
        segment = told.one.segment
        row: dict[str, Any] = {
            'bag': segment.video,
            'narration_id': segment.narration_id,
            'participant_id': segment.participant,
            'start_s': rounded(segment.start_s),
            'stop_s': rounded(segment.stop_s),
            'verb': self.labels.verbs[told.one.verb],
            'noun': self.labels.nouns[told.one.noun],
        }
        for task in TASKS:
            said = told.said.get(task)
            row[f'{task}_asked_at_s'] = said and rounded(said.asked_at_s)
            row |= {f'{task}_{kind}_rank': said and said.ranks[kind] for kind in KINDS}
            for n in range(min(LISTED, len(self.labels.verbs) * len(self.labels.nouns))):
                row[f'{task}_{n + 1}'] = said and said.best[n].label
                row[f'{task}_{n + 1}_p'] = said and rounded(said.best[n].score)
        return row


def _summary(asked: BagActions, done: Sequence[Done]) -> dict[str, Any]:
    """What was measured on."""
    bags = {
        one.part['bag']: {name: one.part[name] for name in OF_A_BAG if name in one.part}
        | {'segments': len(asked.segments[one.part['bag']])}
        | (
            {}
            if 'failed' in one.part
            else {'frames_taken_in': len(one.part['stamps_ns']), 'streams': 1 + len(one.part['breaks'])}
        )
        for one in done
    }
    return {
        'bags': bags,
        'failed_bags': sum('failed' in one.part for one in done),
        'bags_without_segments': list(asked.without),
        'notes': list(asked.notes),
        'segments': {'asked_for': asked.count, 'elsewhere': asked.elsewhere, 'unknown': asdict(asked.unknown)},
    }


def files_digest(paths: Sequence[Path]) -> list[dict[str, str]]:
    """Name and SHA-256 of the files of segments."""
    return [{'name': path.name, 'sha256': hashlib.sha256(path.read_bytes()).hexdigest()} for path in paths]


def write_run(out: Path, document: Mapping[str, Any], found: ActionResults, done: Sequence[Done]) -> dict[str, Any]:
    """Write everything but the report and the parts; returns what times.json holds.

    Raises:
        InputError: 'out_unwritable'.
    """
    times = times_of(EqaRun({}, (), tuple(done)))
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_samples(out, found.sample_rows())
        (out / TIMES).write_text(json.dumps(times, indent=2) + '\n', encoding='utf-8')
        write_metrics(out, document)
    except OSError as error:
        raise InputError(
            'out_unwritable',
            f'{out} cannot be written ({error.strerror}); free some space, or give '
            'another --out: what is finished in its parts is kept',
        ) from error
    return times
