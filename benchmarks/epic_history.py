"""Measure next-action anticipation on EPIC-KITCHENS-100 from past labels: our model against n-gram baselines.

    python benchmarks/epic_history.py --epic annotations --out runs/epic_history

All methods learn from the same training videos, are tuned on an inner set of them, and are scored on the 80 held-out
ones with the same metrics; the official validation split is not read. The input is the true labels of the past, no
pixels. The same command resumes an interrupted run. Each member (seed) is also scored alone. With --people, all videos
of some participants are held out, and other participants are chosen on: kitchens that no model has met.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from runs import RESULTS, plain, run_script, write

from m3et_ros.cli.output import print_status
from m3et_ros.cli.training_session import progress_reporter
from m3et_ros.data.checkpoints.history import HistoryCheckpoint, load_history, save_history
from m3et_ros.data.epic.annotations import Annotations, find_split, read_segments
from m3et_ros.data.epic.class_lists import read_classes, read_tail
from m3et_ros.data.epic.history import ActionHistories
from m3et_ros.evaluation.files import environment, weights_digest
from m3et_ros.evaluation.metrics.intervals import paired_difference
from m3et_ros.evaluation.tasks.epic import (
    INPUT,
    anticipate,
    class_mean,
    labels_of,
    measure,
    official_rows,
    ranks_of,
    summary,
)
from m3et_ros.evaluation.tasks.epic_forecast import CORRECTED, PLAIN, RECALL, TOP1, ngram_ranks, tune
from m3et_ros.models.actions.ngram import MEMORY, NGram, NGramSettings
from m3et_ros.training.history import Anticipate, HistoryRecipe, Videos, split_people, split_videos, train_history
from m3et_ros.training.run_state import TrainingSession

CHECKPOINT = 'checkpoint'
TASKS = ('verb', 'noun', 'action')
LINES: dict[str, NGramSettings | None] = {
    'prior': NGramSettings(order=0),
    'repeat the last labels': None,
    'bigram': NGramSettings(order=1),
    'trigram': NGramSettings(order=2),
}
CACHE = 'trigram + recency cache'


def main() -> None:
    """Train or load the model, score all methods and write the table."""
    options = _options()
    classes = read_classes(options.epic)
    annotations = read_segments(find_split(options.epic, 'train'), classes)
    pasts = ActionHistories(annotations, classes)
    people = annotations.recorded_by
    videos = split_people(people, options.people) if options.people else split_videos(annotations.videos)
    checkpoint = _trained(options, pasts, videos)
    held_out = annotations.only(videos.held_out)
    rows = official_rows(
        held_out, unseen=(), tail_verbs=read_tail(options.epic, 'verb'), tail_nouns=read_tail(options.epic, 'noun')
    )
    lines = dict(_references(pasts, videos))
    lines |= dict(_ours(checkpoint, held_out, classes))
    table = {name: measure(ranks, held_out, rows) for name, ranks in lines.items()}
    document = {
        'input': INPUT,
        'measured_on': summary(held_out)
        | {'which': f'training {"participants" if options.people else "videos"} held out by hash'},
        'learnt_from': {'videos': len(checkpoint.learnt), 'inner': len(videos.inner)},
        'made_by': {
            'command': 'python benchmarks/epic_history.py',
            'recipe': plain(asdict(options.recipe)),
            'model': checkpoint.config.to_dict(),
            'members': options.members,
            'seed': options.seed,
            'expert': {'share': checkpoint.expert.share, **asdict(checkpoint.expert.line)},
            'corrections': {t: asdict(c) for t, c in checkpoint.corrections.items()},
            'weights_sha256': [weights_digest(member) for member in checkpoint.members],
            'environment': environment(next(checkpoint.members[0].parameters()).device),
        },
        'table': table,
        'ours_less_cache': _gains(lines, held_out),
    }
    write(options.results or RESULTS / 'epic_history.json', document)
    _print_table(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--epic', type=Path, required=True, help='folder of the official annotations')
    parser.add_argument('--out', type=Path, required=True, help='folder of the runs')
    parser.add_argument('--results', type=Path, help='JSON file to write; default in benchmarks/results')
    parser.add_argument('--members', type=int, default=3, help='seeds')
    parser.add_argument('--seed', type=int, default=0, help='the first')
    parser.add_argument('--samples', type=int, default=Anticipate.samples, help='windows of a run')
    parser.add_argument('--people', type=int, default=0, help='hold out this many participants, not 80 videos')
    parser.add_argument('--minutes', type=float, help='stop training after this time; the same command resumes it')
    options = parser.parse_args()
    options.recipe = Anticipate(samples=options.samples)
    return options


def _trained(options: argparse.Namespace, pasts: ActionHistories, videos: Videos) -> HistoryCheckpoint:
    """Load the checkpoint if there is one; otherwise train it."""
    folder = options.out / CHECKPOINT
    if (folder / 'config.json').is_file():
        print_status(f'using the existing checkpoint {folder}')
        return load_history(folder)
    checkpoint = train_history(
        pasts,
        videos,
        options.out,
        HistoryRecipe(options.recipe, members=options.members, seed=options.seed),
        session=TrainingSession(minutes=options.minutes, resume=True, report=progress_reporter(stages=True)),
    )
    save_history(folder, checkpoint, card=f'# A run of a benchmark\n\n{json.dumps(asdict(options.recipe), indent=2)}\n')
    return load_history(folder)


def _references(pasts: ActionHistories, videos: Videos) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield the ranks of every baseline by task, in file order; settings are chosen on the inner videos."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for task in TASKS:
        for name, ranks in _task_lines(pasts, videos, task):
            found.setdefault(name, {})[task] = ranks
    yield from found.items()


def _task_lines(pasts: ActionHistories, videos: Videos, task: str) -> Iterator[tuple[str, np.ndarray]]:
    names = np.repeat(np.array(pasts.videos), np.diff(pasts.starts))
    places = {part: np.flatnonzero(np.isin(names, list(own))) for part, own in asdict(videos).items()}
    places['whole'] = np.concatenate([places['learnt'], places['inner']])
    labels = {'verb': pasts.verb, 'noun': pasts.noun, 'action': 1000 * pasts.verb + pasts.noun}[task]
    size = {'verb': len(pasts.classes.verbs), 'noun': len(pasts.classes.nouns)}.get(task)
    if size is None:  # actions: those that occur in the training videos
        known = np.unique(labels[places['whole']])
        place = np.minimum(np.searchsorted(known, labels), len(known) - 1)
        labels, size = np.where(known[place] == labels, place, len(known)), len(known)

    def contexts_and_labels(part: str) -> tuple[list[list[int]], np.ndarray]:
        return [pasts.context(i, labels, MEMORY) for i in places[part]], labels[places[part]]

    trial, whole, inner = (
        NGram(*contexts_and_labels('learnt'), size),
        NGram(*contexts_and_labels('whole'), size),
        contexts_and_labels('inner'),
    )
    contexts, exam = contexts_and_labels('held_out')
    back = np.argsort(pasts.order[places['held_out']])
    for name, line in LINES.items():
        yield name, ngram_ranks(whole, contexts, exam, line)[back]
    for kind in (TOP1, RECALL):
        line = tune(trial, *inner, kind)
        print_status(f'{task}, {kind}: {line}')
        yield f'{CACHE}, tuned for {kind}', ngram_ranks(whole, contexts, exam, line)[back]


def _ours(checkpoint: HistoryCheckpoint, exam: Annotations, classes: Any) -> Iterator[tuple[str, dict]]:
    """Yield the ranks of our model: with the n-gram, without it, and each member alone."""
    alone = replace(checkpoint.expert, share=0.0)
    ways = {'ours': checkpoint, 'ours without n-gram': replace(checkpoint, expert=alone)}
    ways |= {
        f'ours, one member, seed {i}': replace(checkpoint, members=(member,), expert=alone)
        for i, member in enumerate(checkpoint.members)
    }
    for name, way in ways.items():
        ranks = ranks_of(way, anticipate(way, exam, classes), exam)
        for kind in (PLAIN, CORRECTED):
            yield f'{name}, {kind}', ranks[kind]


def _gains(lines: dict[str, dict[str, np.ndarray]], exam: Annotations) -> dict[str, Any]:
    """Return the gain over trigram with cache, tuned for each metric, in points with 95 % intervals over videos."""
    labels = labels_of(exam)
    names, own = np.unique([segment.video for segment in exam.segments], return_inverse=True)

    def sums(ranks: np.ndarray, task: str, kind: str) -> np.ndarray:
        if kind == TOP1:
            return np.stack([np.bincount(own, ranks < 1), np.bincount(own)], 1)
        classes, place = np.unique(labels[task], return_inverse=True)
        size = len(names) * len(classes)
        return np.concatenate(
            [
                np.bincount(own * len(classes) + place, weights, size).reshape(len(names), -1)
                for weights in (ranks < 5, np.ones(len(ranks)))
            ],
            1,
        )

    found: dict[str, Any] = {}
    for kind, way in ((TOP1, PLAIN), (RECALL, CORRECTED)):
        for task in TASKS:
            sides = [sums(lines[name][task], task, kind) for name in (f'ours, {way}', f'{CACHE}, tuned for {kind}')]
            gain = paired_difference(*sides, statistic=class_mean, clusters=names)
            found.setdefault(task, {})[kind] = {
                key: None if value is None else round(100 * value, 2)
                for key, value in (('points', gain.value), ('low', gain.low), ('high', gain.high))
            }
    return found


def _print_table(table: dict[str, Any]) -> None:
    print(f'{INPUT}; per cent: top-1 / top-5 / mean top-5 recall')
    for name, subsets in table.items():
        cells = (
            ' / '.join(f'{100 * subsets["all"][task][m]["value"]:.1f}' for m in ('top1', 'top5', RECALL))
            for task in TASKS
        )
        print(f'| {name} | {" | ".join(cells)} |')


if __name__ == '__main__':
    run_script(main)
