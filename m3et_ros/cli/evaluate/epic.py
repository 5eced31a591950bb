"""`m3et evaluate epic`: next-action anticipation on EPIC-KITCHENS-100 by the official metrics, from past labels.

    m3et evaluate epic --epic annotations --model runs/history/checkpoint --split held_out --out results/epic
    m3et evaluate epic --epic annotations --model runs/history/checkpoint --split validation --out results/epic
    m3et evaluate epic kitchens/2* --segments kitchens/segments.csv --model kitchen --out results/actions

--out gets metrics.json, per_sample.csv and challenge.json (the official format). The same command on the same machine
writes the same files byte for byte. With recordings it is m3et evaluate actions: pixels are looked at.
"""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from m3et_ros.cli.evaluate import actions
from m3et_ros.cli.evaluate.common import given
from m3et_ros.cli.output import Json, Refused, emit, note, say, table
from m3et_ros.cli.progress import track
from m3et_ros.cli.training_session import command_line

UNTOLD = {'out', 'as_json', 'folder'}
CHALLENGE = 'challenge.json'
HELD_OUT = 'held_out'


def epic(
    context: typer.Context,
    bags: Annotated[
        list[Path] | None,
        typer.Argument(
            help='Recordings, in the place of --epic: rosbag2 folders, .mcap or .db3 files.', show_default=False
        ),
    ] = None,
    *,
    folder: Annotated[
        Path | None, typer.Option('--epic', help='Folder of the official annotations.', show_default=False)
    ] = None,
    segments: Annotated[
        list[Path] | None, typer.Option(help='With recordings: see m3et evaluate actions.', show_default=False)
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help='Checkpoint folder of m3et train actions --epic DIR --history; with '
            'recordings one of m3et evaluate actions.'
        ),
    ],
    out: Annotated[Path, typer.Option(help='Folder for metrics.json, per_sample.csv and challenge.json.')],
    split: Annotated[
        str,
        typer.Option(
            help='held_out (training videos that were not learnt from), validation, or '
            'a CSV file with the official columns.'
        ),
    ] = HELD_OUT,
    challenge: Annotated[
        bool, typer.Option('--challenge/--no-challenge', help='Write the file in the format of the challenge.')
    ] = True,
    device: Annotated[str, typer.Option(help='cpu, cuda or cuda:N.')] = 'cpu',
    as_json: Json = False,
) -> None:
    """Foresee the next action from the labels of the past: top-1, top-5, mean top-5 recall; no pixels.

    Recordings are scored from their pixels, as by m3et evaluate actions BAG... --segments CSV.
    """
    if bags:
        for flag, name in (('--epic', 'folder'), ('--split', 'split'), ('--challenge', 'challenge')):
            if given(context, name):
                raise Refused(f'{flag} is for labels without pixels, and recordings were given; leave one of them out.')
        return actions.actions(context, bags, model=model, out=out, segments=segments, device=device, as_json=as_json)
    if folder is None:
        raise Refused('nothing was given to foresee; give --epic with the annotations, or recordings with --segments.')
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    from m3et_ros.data.checkpoints.history import load_history
    from m3et_ros.data.epic.class_lists import read_classes
    from m3et_ros.evaluation.report.files import write_metrics, write_samples
    from m3et_ros.evaluation.tasks.epic import anticipate, challenge_file, ranks_of, sample_rows

    checkpoint, classes = load_history(Path(model)), read_classes(folder)
    annotations = _annotations(folder, split, checkpoint, classes)
    _make(out)
    found = anticipate(checkpoint, annotations, classes, device=_device(device), progress=track)
    ranks = ranks_of(checkpoint, found, annotations)
    document = {
        'made_by': _made_by(command_line(context, UNTOLD), checkpoint, annotations, split, device),
        'metrics': _metrics(folder, split, checkpoint, annotations, ranks),
    }
    write_metrics(out, document)
    write_samples(out, sample_rows(checkpoint, found, ranks, annotations))
    if challenge and _official(checkpoint):
        text = json.dumps(challenge_file(checkpoint, found, annotations), separators=(',', ':'), allow_nan=False)
        (out / CHALLENGE).write_text(text + '\n', encoding='utf-8')
    emit(document) if as_json else _tell(document['metrics'], out)


def _annotations(folder: Path, split: str, checkpoint: Any, classes: Any) -> Any:
    """The segments that are asked for; says what was odd, and what was learnt from."""
    from m3et_ros.data.epic.annotations import find_split, read_segments

    whole = read_segments(find_split(folder, 'train' if split == HELD_OUT else split), classes)
    for odd in whole.notes:
        note(odd.text)
    if split == HELD_OUT:
        if not checkpoint.held_out:
            raise Refused(
                'The model has learnt from all training videos; give --split validation, or train one with '
                'videos held out.'
            )
        whole = whole.only(checkpoint.held_out)
        if not whole.segments:
            raise Refused(
                f'{folder} has none of the videos that were held out; give the folder that the model was trained with.'
            )
    known = set(checkpoint.learnt) & set(whole.videos)
    if known:
        note(
            f'{len(known)} of {len(whole.videos)} videos were learnt from: what comes out is no measure of what the '
            'model can do elsewhere.'
        )
    return whole


def _metrics(folder: Path, split: str, checkpoint: Any, annotations: Any, ranks: Any) -> dict[str, Any]:
    from m3et_ros.data.epic.class_lists import read_tail, read_unseen
    from m3et_ros.evaluation.tasks.epic import measure, official_rows, summary

    people = read_unseen(folder, split, present=annotations.participants, learnt=checkpoint.participants)
    rows = official_rows(
        annotations, unseen=people, tail_verbs=read_tail(folder, 'verb'), tail_nouns=read_tail(folder, 'noun')
    )
    return summary(annotations) | {
        'split': split if split in (HELD_OUT, 'validation') else Path(split).name,
        'unseen_participants': list(people),
        'learnt_from': len(set(checkpoint.learnt) & set(annotations.videos)),
        'scores': {kind: measure(own, annotations, rows) for kind, own in ranks.items()},
    }


def _made_by(command: str, checkpoint: Any, annotations: Any, split: str, device: str) -> dict[str, Any]:
    """Everything the result depends on, no time and no place among it."""
    import hashlib
    from dataclasses import asdict

    import torch

    from m3et_ros.evaluation.report.files import environment, weights_digest

    return {
        'command': command,
        'split': split if split in (HELD_OUT, 'validation') else Path(split).name,
        'file': {'name': annotations.path.name, 'sha256': hashlib.sha256(annotations.path.read_bytes()).hexdigest()},
        'model': {
            'id': checkpoint.model_id,
            'members': [weights_digest(member) for member in checkpoint.members],
            'corrections': {task: asdict(c) for task, c in checkpoint.corrections.items()},
        },
        'environment': environment(torch.device(device)),
    }


def _official(checkpoint: Any) -> bool:
    """Whether the challenge knows these classes; says so where it does not."""
    from m3et_ros.evaluation.metrics.challenge import NOUNS, VERBS

    own = checkpoint.config.verbs, checkpoint.config.nouns
    if own != (VERBS, NOUNS):
        note(
            f'{CHALLENGE} is left out: the challenge has {VERBS} verbs and {NOUNS} nouns and the model {own[0]} and '
            f'{own[1]}; use the official class lists.'
        )
    return own == (VERBS, NOUNS)


def _device(name: str) -> str:
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise Refused(
            f'The device {name!r} cannot be used ({str(error).splitlines()[0]}); give cpu, or cuda where there is one.'
        ) from error
    return name


def _make(out: Path) -> None:
    """The folder of the results, before the work rather than after it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f'{out} cannot be written ({error.strerror}); give another --out.') from error


def _tell(metrics: dict[str, Any], out: Path) -> None:
    rows: list[tuple] = [('scores', 'subset', 'task', 'segments', 'top-1', 'top-5', 'mean top-5 recall', '95 %')]
    for kind, subsets in metrics['scores'].items():
        for subset, tasks in subsets.items():
            for task, found in tasks.items():
                if found is None:
                    continue
                recall = found['mean_top5_recall']
                ends = '-' if recall['low'] is None else f'{100 * recall["low"]:.1f} to {100 * recall["high"]:.1f}'
                rows.append(
                    (
                        kind,
                        subset,
                        task,
                        f'{found["segments"]:,}',
                        *(f'{100 * found[name]["value"]:.1f}' for name in ('top1', 'top5')),
                        f'{100 * recall["value"]:.1f}',
                        ends,
                    )
                )
    say(
        f'Next action from {metrics["input"]}; {metrics["segments"]:,} segments of {metrics["videos"]} videos, '
        f'{metrics["without_history"]:,} without history. Per cent.'
    )
    say(table(rows, right=(3, 4, 5, 6)))
    say(f'\nAll of it in {out}.')
