"""`m3et evaluate actions`: current and next actions, in recordings or in kitchens of a cache.

    m3et record kitchens --eqa --seed 20000 --episodes 20
    m3et evaluate actions kitchens/2* --segments kitchens/segments.csv --out results/actions

    m3et generate cache --seeds 20000:20096 --stride 4 --frames 100
    m3et evaluate actions --data cache/kitchen-... --out results/actions --train cache/kitchen-...

For recordings --out gets metrics.json, per_sample.csv and report.html. The same command on the same machine writes the
same metrics.json, with any number of workers; a run that was stopped is resumed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m3et_ros.cli.evaluate.common import (
    BagRun,
    BagTopics,
    check_threshold,
    make_out,
    print_troubles,
    recorded_command,
    refuse_idle_options,
    refusing,
)
from m3et_ros.cli.options import Json, expand_options, option_names
from m3et_ros.cli.output import Refused, print_json, print_line, print_status, print_table
from m3et_ros.cli.progress import track

if TYPE_CHECKING:
    from m3et_ros.evaluation.tasks.actions import References

TOKENS = 'tokens'
"""Folder below --out for the encoded frames of caches."""
FIGURES = ('top1', 'top5', 'mean_top5_recall_unbalanced')


@dataclass(frozen=True, kw_only=True)
class SegmentOptions(BagTopics):
    """Recorded actions and the topics of their recordings."""

    segments: Annotated[
        list[Path] | None,
        typer.Option(
            help="With recordings: CSV file with EPIC-KITCHENS-100's columns; video_id is the name of the bag, times "
            'count from its first colour frame, verb and noun are words of the model; may be given several times.',
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """Caches of kitchens whose frames are encoded."""

    data: Annotated[
        list[Path] | None,
        typer.Option(
            help='Cache of kitchens with several frames a second; may be given several times.', show_default=False
        ),
    ] = None
    bf16: Annotated[
        bool, typer.Option('--bf16', help='With --data: encode frames with matrix products in bfloat16.')
    ] = False


OF_CACHES = option_names(CacheOptions)
"""Options that have a meaning only without recordings."""
OF_BAGS = (*option_names(SegmentOptions), 'workers', 'threads', 'device')
"""Options that have a meaning only with recordings."""


@expand_options('bags model out segments data train camera remaps workers threads device bf16 at_least as_json')
def actions(
    context: typer.Context,
    bags: Annotated[
        list[Path] | None,
        typer.Argument(help='rosbag2 folders, .mcap or .db3 files, instead of --data.', show_default=False),
    ] = None,
    *,
    run: BagRun,
    segments: SegmentOptions,
    caches: CacheOptions,
    train: Annotated[
        list[Path] | None,
        typer.Option(
            help='Cache of training kitchens, whose labels give the baselines; may be given several times.',
            show_default=False,
        ),
    ] = None,
    at_least: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="End with exit code 2 if top-1 of recognition, with the model's own history, is lower."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Recognise current actions and anticipate next ones: top-1, top-5, mean top-5 recall."""
    refuse_idle_options(context, of_data=OF_CACHES, of_bags=OF_BAGS)
    if bags:
        document = measure_recordings(context, bags, run, segments, train or [])
    else:
        document = measure_caches(context, run, caches, train or [])
    print_document(document, run.out, as_json=as_json)
    recognition = document['metrics']['recognition']
    top1 = recognition.get('chain', {}).get('all', {}).get('action', {}).get('top1')
    check_threshold('top-1 of recognition', top1 and top1['value'], at_least)


def measure_recordings(
    context: typer.Context, bags: list[Path], run: BagRun, options: SegmentOptions, train: list[Path]
) -> dict[str, Any]:
    """Measure recordings, and write metrics.json, per_sample.csv and report.html.

    Args:
        context: typer context of the verb, for the recorded command.
        bags: the recordings.
        run: model, device, processes and folder of results.
        options: recorded actions and topics.
        train: caches of training kitchens for the baselines.

    Returns:
        The content of metrics.json.

    Raises:
        InputError: segments cannot be read or belong to no bag, or the model cannot be opened.
        Refused: there are no segments, or --out cannot be made.
    """
    from m3et_ros.evaluation.jobs import PARTS, limited, run_jobs
    from m3et_ros.evaluation.report.actions_html import write_action_report
    from m3et_ros.evaluation.tasks.actions_in_bags import ActionJobRunner, ActionTask, match_segments, read_files
    from m3et_ros.evaluation.tasks.actions_results import ActionResults, files_digest, write_run

    task = ActionTask(camera=options.camera, remaps=options.renamed(), threads=run.threads)
    if not options.segments:
        raise Refused(
            'recordings were given without the actions in them; give --segments (m3et record --eqa writes such a file).'
        )
    files, references = read_files(options.segments), _references(train)
    runner = ActionJobRunner(run.model, run.device, task, run.out / PARTS)
    matched = match_segments(bags, files, runner.engine.labels)
    for text in matched.notes:
        print_status(text)
    if matched.without:
        print_status(f'no segment with words of the model is about {", ".join(matched.without)}')
    make_out(run.out)
    done = run_jobs(runner, matched.jobs, run.workers, run.model, run.device, track)
    print_troubles(one.part for one in done)
    with limited(task.threads):
        results = ActionResults(runner.engine.checkpoint, matched, done, run.out / PARTS, references, progress=track)
    document = results.document(
        {
            'command': recorded_command(context),
            'settings': runner.task.settings() | {'train': _names(train)},
            'model': runner.model,
            'environment': runner.environment,
            'segments': files_digest(options.segments),
        }
    )
    write_action_report(run.out, document, results, write_run(run.out, document, results, done), done)
    return document


def measure_caches(context: typer.Context, run: BagRun, options: CacheOptions, train: list[Path]) -> dict[str, Any]:
    """Measure kitchens of caches, and write metrics.json.

    Args:
        context: typer context of the verb, for the recorded command.
        run: model and folder of results.
        options: caches of kitchens.
        train: caches of training kitchens for the baselines.

    Returns:
        The content of metrics.json.

    Raises:
        InputError: the model or a cache cannot be opened.
        Refused: there are no caches, the model has no action head, or the caches do not fit it.
    """
    from m3et_ros.data.kitchen.cache.recipe import read_recipe
    from m3et_ros.evaluation.files import made_by, write_metrics
    from m3et_ros.runtime.open_model import open_checkpoint

    if not options.data:
        raise Refused('no data were given; name recordings with --segments, or give --data.')
    checkpoint = open_checkpoint(run.model)
    if 'mambavl' not in checkpoint.heads:
        raise Refused(f'{checkpoint.model_id} has no action head; train one with m3et train actions.')
    make_out(run.out)
    metrics = refusing(_score_caches, checkpoint, options, run.out / TOKENS, train)
    settings = {'bf16': options.bf16, 'data': _names(options.data), 'train': _names(train)}
    document = {
        'made_by': made_by(recorded_command(context), checkpoint, read_recipe(options.data[0]), **settings),
        'metrics': metrics,
    }
    write_metrics(run.out, document)
    return document


def _score_caches(checkpoint: Any, options: CacheOptions, folder: Path, train: list[Path]) -> dict[str, Any]:
    """Encode the frames of caches into `folder`, and return the scores of the action head and of the baselines."""
    from m3et_ros.data.features.episodes import encode_episodes
    from m3et_ros.evaluation.tasks.actions import Examiner, examine, examine_idle_detection, reference_scores

    head = checkpoint.heads['mambavl'].eval()
    tokens, episodes = encode_episodes(
        checkpoint, options.data, folder, bf16=options.bf16, whole=head.config.patches > 1, progress=track
    )
    examiner = Examiner(
        head,
        tokens,
        episodes,
        checkpoint.tokenizer,
        checkpoint.labels,
        checkpoint.model.config.text_length,
        progress=track,
    )
    metrics = examine(examiner)
    if head.busy_head is not None:
        metrics['busy'] = examine_idle_detection(examiner)
    if train:
        metrics['references'] = reference_scores(_references(train), episodes)
    return metrics


def _references(train: list[Path]) -> 'References | None':
    """Return the baselines from the labels of training kitchens, or None without them."""
    from m3et_ros.data.kitchen.cache.episodes import open_episodes
    from m3et_ros.evaluation.tasks.actions import References

    return References(open_episodes(train)) if train else None


def _names(caches: list[Path]) -> list[str]:
    from m3et_ros.data.kitchen.cache.recipe import read_recipe

    return [read_recipe(folder).name for folder in caches]


def print_document(document: dict[str, Any], out: Path, *, as_json: bool) -> None:
    """Print metrics.json, or its scores as a table."""
    from m3et_ros.evaluation.tasks.actions import TASKS

    if as_json:
        print_json(document)
        return
    metrics = document['metrics']
    rows: list[tuple[str, ...]] = [('task', 'question', 'subset', 'actions', *FIGURES)]
    for task in TASKS:
        for way, subsets in metrics[task].items():
            if way == 'left_out':
                continue
            for subset, part in subsets.items():
                rows.append((task, way, subset, f'{part["samples"]:,}', *_figures(part)))
    for name, part in metrics.get('references', {}).items():
        rows.append(('anticipation', f'labels: {name}', 'all', '', *_figures(part)))
    print_table(rows, right=(3, 4, 5, 6))
    if busy := metrics.get('busy'):
        print_line(
            f'\nAction or none: right in {busy["accuracy"]["value"]:.1%} of {busy["frames"]:,} frames, of which '
            f'{busy["within"]:.1%} lie within an action; area under the ROC curve {busy["auroc"]}.'
        )
    bags = metrics.get('bags')
    read = f'Read {len(bags) - metrics["failed_bags"]} of {len(bags)} bags. ' if bags else ''
    print_line(
        '\nThe questions "oracle" and "history" contain a true label, so these rows are not results of the model '
        f'alone. {read}All results are in {out}.'
    )


def _figures(part: dict[str, Any]) -> list[str]:
    return [f'{part["action"][figure]["value"]:.3f}' for figure in FIGURES]
