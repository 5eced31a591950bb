"""`m3et evaluate epic`: EPIC-KITCHENS-100 from past labels, or from features of clips, by the official metrics.

    m3et evaluate epic --epic annotations --model runs/history/checkpoint --split held_out --out results/epic
    m3et evaluate epic --epic annotations --model runs/history/checkpoint --split validation --out results/epic
    m3et evaluate epic --epic annotations --model runs/anticipation/checkpoint --features features --out results/clips
    m3et evaluate epic kitchens/2* --segments kitchens/segments.csv --out results/actions

--out gets metrics.json, per_sample.csv and challenge.json (the official format). The same command on the same machine
writes the same files byte for byte. With recordings this is `m3et evaluate actions`, which uses pixels.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m3et_ros.cli.evaluate.actions import SegmentOptions, measure_recordings, print_document
from m3et_ros.cli.evaluate.common import BagRun, make_out, recorded_command, refuse_idle_options, refusing
from m3et_ros.cli.options import Json, expand_options, option_names
from m3et_ros.cli.output import Refused, print_json, print_line, print_status, print_table
from m3et_ros.cli.progress import track
from m3et_ros.cli.training_session import use_passive_threads

if TYPE_CHECKING:
    from m3et_ros.data.checkpoints.history import HistoryCheckpoint
    from m3et_ros.data.checkpoints.video import VideoCheckpoint
    from m3et_ros.data.epic.annotations import Annotations

CHALLENGE = 'challenge.json'
HELD_OUT, VALIDATION = 'held_out', 'validation'


@dataclass(frozen=True, kw_only=True)
class EpicOptions:
    """Annotations of EPIC-KITCHENS-100."""

    folder: Annotated[
        Path | None, typer.Option('--epic', help='Folder of the official annotations.', show_default=False)
    ] = None
    split: Annotated[
        str,
        typer.Option(
            help='held_out (training videos that the model was not trained on), validation, or a CSV file with the '
            'official columns.'
        ),
    ] = HELD_OUT
    features: Annotated[
        Path | None,
        typer.Option(help='Folder of features, for a model of m3et train actions --features.', show_default=False),
    ] = None
    fps: Annotated[
        float | None,
        typer.Option(help='With --features: rows a second, where features.json does not say.', show_default=False),
    ] = None
    questions: Annotated[
        Path | None,
        typer.Option(
            help='With --features: JSON file of the questions, for a model that was trained with one.',
            show_default=False,
        ),
    ] = None
    challenge: Annotated[
        bool, typer.Option('--challenge/--no-challenge', help='Write the file in the format of the challenge.')
    ] = True

    @property
    def split_name(self) -> str:
        """Name of the split: that of the file, without its folder."""
        return self.split if self.split in (HELD_OUT, VALIDATION) else Path(self.split).name


@expand_options('bags folder segments model out split features fps questions challenge device as_json')
def epic(
    context: typer.Context,
    bags: Annotated[
        list[Path] | None,
        typer.Argument(help='Recordings instead of --epic: rosbag2 folders, .mcap or .db3 files.', show_default=False),
    ] = None,
    *,
    labels: EpicOptions,
    segments: Annotated[
        list[Path] | None, typer.Option(help='With recordings: see m3et evaluate actions.', show_default=False)
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help='Checkpoint folder of m3et train actions --epic DIR with --history, or with --features or --frames; '
            'with recordings a model of m3et evaluate actions.'
        ),
    ],
    out: Annotated[Path, typer.Option(help='Folder for metrics.json, per_sample.csv and challenge.json.')],
    device: Annotated[str, typer.Option(help='cpu, cuda or cuda:N.')] = 'cpu',
    as_json: Json = False,
) -> None:
    """Anticipate or recognise actions from past labels, or from features: top-1, top-5, mean top-5 recall.

    Recordings are scored from their pixels, as by m3et evaluate actions BAG... --segments CSV.
    """
    refuse_idle_options(context, of_data=option_names(EpicOptions), data='labels without pixels')
    if bags:
        run = BagRun(model=model, out=out, device=device)
        document = measure_recordings(context, bags, run, SegmentOptions(segments=segments), [])
        print_document(document, out, as_json=as_json)
        return
    if labels.folder is None:
        raise Refused('no data were given; give --epic with the annotations, or recordings with --segments.')
    measure = measure_labels if labels.features is None else measure_clips
    document = measure(context, labels, model, out, device)
    if as_json:
        print_json(document)
    else:
        _print_metrics(document['metrics'], out)


def measure_labels(context: typer.Context, labels: EpicOptions, model: str, out: Path, device: str) -> dict[str, Any]:
    """Anticipate from past labels, and write metrics.json, per_sample.csv and challenge.json.

    Args:
        context: typer context of the verb, for the recorded command.
        labels: annotations and split.
        model: checkpoint folder.
        out: folder of the results.
        device: cpu, cuda or cuda:N.

    Returns:
        The content of metrics.json.

    Raises:
        InputError: model or annotations cannot be read.
        Refused: no video was held out, the device cannot be used, or --out cannot be made.
    """
    use_passive_threads()
    from m3et_ros.data.checkpoints.history import load_history
    from m3et_ros.data.epic.class_lists import read_classes
    from m3et_ros.evaluation.files import weights_digest, write_metrics, write_samples
    from m3et_ros.evaluation.tasks.epic import anticipate, challenge_file, ranks_of, sample_rows, summary

    checkpoint, classes = load_history(Path(model)), read_classes(labels.folder)
    annotations = _read_annotations(labels, checkpoint, classes)
    check_device(device)
    make_out(out)
    forecast = anticipate(checkpoint, annotations, classes, device=device, progress=track)
    ranks = ranks_of(checkpoint, forecast, annotations)
    facts = {
        'members': [weights_digest(member) for member in checkpoint.members],
        'corrections': {task: asdict(c) for task, c in checkpoint.corrections.items()},
    }
    document = {
        'made_by': _made_by(recorded_command(context, ['folder']), checkpoint, annotations, labels, device, facts),
        'metrics': summary(annotations) | _metrics(labels, checkpoint, annotations, ranks),
    }
    write_metrics(out, document)
    write_samples(out, sample_rows(checkpoint, forecast, ranks, annotations))
    if labels.challenge and has_official_classes(checkpoint):
        _write_challenge(out, challenge_file(checkpoint, forecast, annotations))
    return document


def _write_challenge(out: Path, document: dict[str, Any]) -> None:
    text = json.dumps(document, separators=(',', ':'), allow_nan=False)
    (out / CHALLENGE).write_text(text + '\n', encoding='utf-8')


def measure_clips(context: typer.Context, labels: EpicOptions, model: str, out: Path, device: str) -> dict[str, Any]:
    """Classify clips of features, and write metrics.json, per_sample.csv and challenge.json.

    Args:
        context: typer context of the verb, for the recorded command.
        labels: annotations, split, features and questions.
        model: checkpoint folder.
        out: folder of the results.
        device: cpu, cuda or cuda:N.

    Returns:
        The content of metrics.json.

    Raises:
        InputError: model, annotations, features or questions cannot be read, or do not belong together.
        Refused: questions are missing, no video was held out, or --out cannot be made.
    """
    use_passive_threads()
    from m3et_ros.data.checkpoints.video import load_video
    from m3et_ros.data.epic.class_lists import read_classes, read_videos
    from m3et_ros.data.epic.clips import Clips, check_origin, open_features
    from m3et_ros.data.epic.questions import questions_of
    from m3et_ros.evaluation.files import weights_digest, write_metrics, write_samples
    from m3et_ros.evaluation.tasks.epic_video import classify_clips, clip_challenge, clip_ranks, clip_rows, clip_summary

    checkpoint, classes = load_video(Path(model)), read_classes(labels.folder)
    if (labels.questions is None) == (checkpoint.questions == 'file'):
        raise Refused(
            'The model was trained with questions of a file; give --questions with those of this split.'
            if labels.questions is None
            else 'The model was trained with questions that hold no label; leave --questions out.'
        )
    annotations = _read_annotations(labels, checkpoint, classes)
    check_device(device)
    check_origin(labels.features, checkpoint.features)
    features = refusing(open_features, labels.features, labels.fps, read_videos(labels.folder))
    make_out(out)
    questions = questions_of(annotations.segments, checkpoint.observation.task, labels.questions)
    clips = Clips(annotations.segments, features, questions, checkpoint.observation)
    found = classify_clips(checkpoint, clips, device=device, progress=track)
    ranks = clip_ranks(found, annotations)
    facts = {'weights_sha256': weights_digest(checkpoint.head)}
    document = {
        'made_by': _made_by(recorded_command(context, ['folder']), checkpoint, annotations, labels, device, facts),
        'metrics': clip_summary(annotations, checkpoint) | _metrics(labels, checkpoint, annotations, ranks),
    }
    write_metrics(out, document)
    write_samples(out, clip_rows(found, ranks, annotations, classes))
    if labels.challenge and has_official_classes(checkpoint):
        ids = [segment.narration_id for segment in annotations.segments]
        _write_challenge(out, clip_challenge(found, ids, checkpoint.observation.task))
    return document


def _read_annotations(labels: EpicOptions, checkpoint: Any, classes: Any) -> 'Annotations':
    """Return the segments of the split, and print odd rows and the videos that the model was trained on."""
    from m3et_ros.data.epic.annotations import find_split, read_segments

    file = find_split(labels.folder, 'train' if labels.split == HELD_OUT else labels.split)
    annotations = read_segments(file, classes)
    for odd in annotations.notes:
        print_status(odd.text)
    if labels.split == HELD_OUT:
        if not checkpoint.held_out:
            raise Refused(
                'The model was trained on all training videos; give --split validation, or train one with videos '
                'held out.'
            )
        annotations = annotations.only(checkpoint.held_out)
        if not annotations.segments:
            raise Refused(
                f'{labels.folder} has none of the videos that were held out; give the folder that the model was '
                'trained with.'
            )
    trained = set(checkpoint.learnt) & set(annotations.videos)
    if trained:
        print_status(
            f'The model was trained on {len(trained)} of {len(annotations.videos)} videos: the results do not show how '
            'it does elsewhere.'
        )
    return annotations


def _metrics(labels: EpicOptions, checkpoint: Any, annotations: 'Annotations', ranks: Any) -> dict[str, Any]:
    from m3et_ros.data.epic.class_lists import read_tail, read_unseen
    from m3et_ros.evaluation.tasks.epic import measure, official_rows

    folder = labels.folder
    people = read_unseen(folder, labels.split, present=annotations.participants, learnt=checkpoint.participants)
    rows = official_rows(
        annotations, unseen=people, tail_verbs=read_tail(folder, 'verb'), tail_nouns=read_tail(folder, 'noun')
    )
    return {
        'split': labels.split_name,
        'unseen_participants': list(people),
        'learnt_from': len(set(checkpoint.learnt) & set(annotations.videos)),
        'scores': {kind: measure(own, annotations, rows) for kind, own in ranks.items()},
    }


def _made_by(
    command: str,
    checkpoint: 'HistoryCheckpoint | VideoCheckpoint',
    annotations: 'Annotations',
    labels: EpicOptions,
    device: str,
    model: dict[str, Any],
) -> dict[str, Any]:
    """Return everything that determines the results; no time and no path. `model` holds digests and settings."""
    import torch

    from m3et_ros.evaluation.files import environment

    return {
        'command': command,
        'split': labels.split_name,
        'file': {'name': annotations.path.name, 'sha256': hashlib.sha256(annotations.path.read_bytes()).hexdigest()},
        'model': {'id': checkpoint.model_id, **model},
        'environment': environment(torch.device(device)),
    }


def has_official_classes(checkpoint: 'HistoryCheckpoint | VideoCheckpoint') -> bool:
    """Return True if the model has the classes of the challenge; print why no file is written if not."""
    from m3et_ros.evaluation.metrics.challenge import NOUNS, VERBS

    verbs, nouns = checkpoint.config.verbs, checkpoint.config.nouns
    if (verbs, nouns) == (VERBS, NOUNS):
        return True
    print_status(
        f'{CHALLENGE} is left out: the challenge has {VERBS} verbs and {NOUNS} nouns and the model {verbs} and '
        f'{nouns}; use the official class lists.'
    )
    return False


def check_device(name: str) -> None:
    """Check that torch can use a device.

    Raises:
        Refused: it cannot.
    """
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise Refused(
            f'The device {name!r} cannot be used ({str(error).splitlines()[0]}); give cpu, or cuda where there is one.'
        ) from error


def _print_metrics(metrics: dict[str, Any], out: Path) -> None:
    rows: list[tuple[str, ...]] = [
        ('scores', 'subset', 'task', 'segments', 'top-1', 'top-5', 'mean top-5 recall', '95 %')
    ]
    for kind, subsets in metrics['scores'].items():
        for subset, tasks in subsets.items():
            for task, scores in tasks.items():
                if scores is None:
                    continue
                recall = scores['mean_top5_recall']
                interval = '-' if recall['low'] is None else f'{100 * recall["low"]:.1f} to {100 * recall["high"]:.1f}'
                percentages = [f'{100 * scores[name]["value"]:.1f}' for name in ('top1', 'top5', 'mean_top5_recall')]
                rows.append((kind, subset, task, f'{scores["segments"]:,}', *percentages, interval))
    what = 'Present action' if metrics.get('task') == 'recognition' else 'Next action'
    alone = f', {metrics["without_history"]:,} without history' if 'without_history' in metrics else ''
    print_line(
        f'{what} from {metrics["input"]}; {metrics["segments"]:,} segments of {metrics["videos"]} videos{alone}. '
        'Per cent.'
    )
    print_table(rows, right=(3, 4, 5, 6))
    print_line(f'\nAll results are in {out}.')
