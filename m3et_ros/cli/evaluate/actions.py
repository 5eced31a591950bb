"""`m3et evaluate actions`: what is done and what comes next, in recordings or in kitchens that no model has seen.

    m3et record kitchens --eqa --seed 20000 --episodes 20
    m3et evaluate actions kitchens/2* --segments kitchens/segments.csv --model kitchen --out results/actions

    m3et generate cache --seeds 20000:20096 --stride 4 --frames 100
    m3et evaluate actions --model kitchen --data cache/kitchen-... --out results/actions --train cache/kitchen-...

Of recordings, --out gets metrics.json, per_sample.csv and report.html. The same command on the same machine writes the
same metrics.json, with any number of workers; a run that was stopped goes on where it was.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from m3et_ros.cli.evaluate.common import Camera, Remaps, Threads, refuse_idle_options, renamed
from m3et_ros.cli.evaluate.eqa import BELOW
from m3et_ros.cli.output import Json, Refused, emit, note, say, table
from m3et_ros.cli.progress import track
from m3et_ros.cli.training_session import command_line

UNTOLD = {'out', 'as_json', 'at_least', 'workers'}
FIGURES = ('top1', 'top5', 'mean_top5_recall_unbalanced')
OF_BAGS, OF_CACHES = ('segments', 'camera', 'remaps', 'workers', 'threads', 'device'), ('data', 'bf16')
"""Options that have a meaning for one of the two alone."""


def actions(
    context: typer.Context,
    bags: Annotated[
        list[Path] | None,
        typer.Argument(help='rosbag2 folders, .mcap or .db3 files, in the place of --data.', show_default=False),
    ] = None,
    *,
    model: Annotated[str, typer.Option(help='Checkpoint folder, named size, or owner/name on the Hub.')],
    out: Annotated[
        Path, typer.Option(help='Folder for metrics.json and, of recordings, per_sample.csv and report.html.')
    ],
    segments: Annotated[
        list[Path] | None,
        typer.Option(
            help="With recordings: CSV file with EPIC-KITCHENS-100's columns; video_id is the name of the bag, times "
            'count from its first colour frame, verb and noun are words that the model knows; may be given '
            'several times.',
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help='Cache of kitchens with many frames a second; may be given several times.', show_default=False
        ),
    ] = None,
    train: Annotated[
        list[Path] | None,
        typer.Option(
            help='Cache of training kitchens, for what their labels alone would guess; may be given several times.',
            show_default=False,
        ),
    ] = None,
    camera: Camera = None,
    remaps: Remaps = None,
    workers: Annotated[
        int, typer.Option(min=1, max=256, help='With recordings: processes, each with a model of its own.')
    ] = 1,
    threads: Threads = 1,
    device: Annotated[
        str, typer.Option(help='With recordings: cpu, cuda, cuda:N, or auto for CUDA where there is one.')
    ] = 'cpu',
    bf16: Annotated[
        bool, typer.Option('--bf16', help='With --data: encode frames with matrix products in bfloat16.')
    ] = False,
    at_least: Annotated[
        float | None,
        typer.Option(min=0, max=1, help='End with exit code 2 where fewer actions are recognised, top-1, asked chain.'),
    ] = None,
    as_json: Json = False,
) -> None:
    """Recognise actions and foresee the next one: top-1, top-5, mean top-5 recall."""
    from m3et_ros.evaluation.tasks.actions_in_bags import ActionTask

    refuse_idle_options(context, OF_CACHES, OF_BAGS)
    if bags:
        task = ActionTask(camera=camera, remaps=renamed(remaps or []), threads=threads)
        document = _of_bags(context, bags, model, out, segments or [], train or [], task, workers, device)
    else:
        document = _of_caches(context, model, out, data or [], train or [], bf16)
    emit(document) if as_json else _tell(document['metrics'], out)
    reached = document['metrics']['recognition'].get('chain', {}).get('all', {}).get('action', {}).get('top1')
    if at_least is not None and (reached is None or reached['value'] < at_least):
        note(
            'no action could be asked for'
            if reached is None
            else f'top-1 of recognition {reached["value"]:.4f} is below {at_least}'
        )
        raise typer.Exit(BELOW)


def _of_bags(
    context: typer.Context,
    bags: list[Path],
    model: str,
    out: Path,
    segments: list[Path],
    train: list[Path],
    task: Any,
    workers: int,
    device: str,
) -> dict[str, Any]:
    """Progress recordings, score them and write everything; returns metrics.json."""
    from m3et_ros.cli.evaluate.common import _make
    from m3et_ros.evaluation.jobs import PARTS, limited, run_jobs
    from m3et_ros.evaluation.report.actions_html import write_action_report
    from m3et_ros.evaluation.tasks.actions_in_bags import ActionWorker, match_segments, read_files
    from m3et_ros.evaluation.tasks.actions_results import ActionResults, files_digest, write_run

    if not segments:
        raise Refused(
            'recordings were given without what is done in them; give --segments (m3et record --eqa writes '
            'such a file).'
        )
    files, training = read_files(segments), _references(train)
    worker = ActionWorker(model, device, task, out / PARTS)
    asked = match_segments(bags, files, worker.engine.labels)
    for text in asked.notes:
        note(text)
    if asked.without:
        note(f'no segment that the model has words for is about {", ".join(asked.without)}')
    _make(out)
    done = run_jobs(worker, asked.jobs, workers, model, device, track)
    for one in done:
        for trouble in filter(None, (one.part.get('failed'), *one.part['troubles'])):
            note(f'{one.part["bag"]}: {trouble}')
    with limited(task.threads):
        found = ActionResults(worker.engine.checkpoint, asked, done, out / PARTS, training, progress=track)
    document = found.document(
        {
            'command': command_line(context, UNTOLD),
            'settings': worker.task.settings() | {'train': _named(train)},
            'model': worker.model,
            'environment': worker.environment,
            'segments': files_digest(segments),
        }
    )
    write_action_report(out, document, found, write_run(out, document, found, done), done)
    return document


def _of_caches(
    context: typer.Context, model: str, out: Path, data: list[Path], train: list[Path], bf16: bool
) -> dict[str, Any]:
    """Score kitchens of caches and write metrics.json; returns it."""
    from m3et_ros.data.features import watch_episodes
    from m3et_ros.data.kitchen.cache.recipe import read_recipe
    from m3et_ros.evaluation.report.files import made_by, write_metrics
    from m3et_ros.evaluation.tasks.actions import Examiner, examine, examine_busy, reference_scores
    from m3et_ros.runtime.open_model import open_checkpoint

    if not data:
        raise Refused('nothing was given to look at; name recordings with --segments, or give --data.')
    checkpoint = open_checkpoint(model)
    if 'mambavl' not in checkpoint.heads:
        raise Refused(f'{checkpoint.model_id} has no action head; train one with m3et train actions.')
    head = checkpoint.heads['mambavl'].eval()
    try:
        tokens, episodes = watch_episodes(checkpoint, data, out / 'tokens', bf16=bf16, progress=track)
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
            metrics['busy'] = examine_busy(examiner)
        if train:
            metrics['references'] = reference_scores(_references(train), episodes)
    except ValueError as error:
        raise Refused(f'{error}.') from error
    settings = {'bf16': bf16, 'data': _named(data), 'train': _named(train)}
    document = {
        'made_by': made_by(command_line(context, UNTOLD), checkpoint, read_recipe(data[0]), **settings),
        'metrics': metrics,
    }
    write_metrics(out, document)
    return document


def _references(train: list[Path]) -> Any:
    """What the labels of training kitchens would guess, or None."""
    from m3et_ros.data.kitchen.cache.episodes import open_episodes
    from m3et_ros.evaluation.tasks.actions import References

    return References(open_episodes(train)) if train else None


def _named(caches: list[Path]) -> list[str]:
    from m3et_ros.data.kitchen.cache.recipe import read_recipe

    return [read_recipe(folder).name for folder in caches]


def _tell(metrics: dict[str, Any], out: Path) -> None:
    """Say what was found, way by way."""
    from m3et_ros.evaluation.tasks.actions import TASKS

    rows = [('task', 'asked', 'subset', 'actions', *FIGURES)]
    for task in TASKS:
        rows += [
            (task, way, subset, f'{part["samples"]:,}', *_row(part))
            for way, subsets in metrics[task].items()
            if way != 'left_out'
            for subset, part in subsets.items()
        ]
    rows += [
        ('anticipation', f'labels: {name}', 'all', '', *_row(part))
        for name, part in metrics.get('references', {}).items()
    ]
    say(table(rows, right=(3, 4, 5, 6)))
    if busy := metrics.get('busy'):
        say(
            f'\nWhether anything is being done: right in {busy["accuracy"]["value"]:.1%} of {busy["frames"]:,} frames, '
            f'of which {busy["within"]:.1%} lie within an action; area under the ROC curve {busy["auroc"]}.'
        )
    bags = metrics.get('bags')
    read = f'Seen in {len(bags) - metrics["failed_bags"]} of {len(bags)} bags. ' if bags else ''
    say(
        f'\nAsked as oracle or history, the question tells a true label: no result of the model alone. {read}All in '
        f'{out}.'
    )


def _row(part: dict[str, Any]) -> list[str]:
    return [f'{part["action"][figure]["value"]:.3f}' for figure in FIGURES]
