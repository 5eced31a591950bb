"""`m3et evaluate actions`: what is done and what comes next, on episodes of kitchens that no model has seen.

    m3et generate cache --seeds 20000:20096 --stride 4 --frames 100
    m3et evaluate actions --model kitchen --data cache/kitchen-... --out results/actions --train cache/kitchen-...
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from m3et_ros.cli.output import Json, Refused, emit, say, table
from m3et_ros.cli.progress import track
from m3et_ros.cli.sittings import command_line

UNTOLD = {'out', 'as_json'}
FIGURES = ('top1', 'top5', 'mean_top5_recall_unbalanced')


def actions(
        context: typer.Context, *,
        model: Annotated[str, typer.Option(help='Checkpoint folder, named size, or owner/name on the Hub.')],
        data: Annotated[list[Path], typer.Option(help='Cache of kitchens with many frames a second; may be given '
                                                 'several times.')],
        out: Annotated[Path, typer.Option(help='Folder for metrics.json and the tokens of the frames.')],
        train: Annotated[list[Path] | None, typer.Option(
            help='Cache of training kitchens, for what their labels alone would guess; may be given several times.',
            show_default=False)] = None,
        bf16: Annotated[bool, typer.Option('--bf16', help='Encode frames with matrix products in bfloat16.')] = False,
        as_json: Json = False) -> None:
    """Recognise actions and foresee the next one: top-1, top-5, mean top-5 recall."""
    from m3et_ros.data.kitchen.cache import read_recipe
    from m3et_ros.data.kitchen.episodes import open_episodes
    from m3et_ros.evaluation.runs.actions import Examiner, References, examine, reference_scores
    from m3et_ros.evaluation.runs.report import made_by, write_metrics
    from m3et_ros.runtime.models import open_checkpoint
    from m3et_ros.training.watched import watch_episodes

    checkpoint = open_checkpoint(model)
    if 'mambavl' not in checkpoint.heads:
        raise Refused(f'{checkpoint.model_id} has no action head; train one with m3et train actions.')
    head = checkpoint.heads['mambavl'].eval()
    try:
        tokens, episodes = watch_episodes(checkpoint, data, out / 'tokens', bf16=bf16, watch=track)
        metrics = examine(Examiner(head, tokens, episodes, checkpoint.tokenizer, checkpoint.labels,
                                   checkpoint.model.config.text_length, watch=track))
        if train:
            metrics['references'] = reference_scores(References(open_episodes(train)), episodes)
    except ValueError as error:
        raise Refused(f'{error}.') from error
    settings = {'bf16': bf16, 'data': [read_recipe(folder).name for folder in data],
                'train': [read_recipe(folder).name for folder in train or []]}
    document = {'made_by': made_by(command_line(context, UNTOLD), checkpoint, read_recipe(data[0]), **settings),
                'metrics': metrics}
    write_metrics(out, document)
    emit(document) if as_json else _tell(metrics, out)


def _tell(metrics: dict[str, Any], out: Path) -> None:
    """Say what was found, action by action."""
    rows = [('task', 'asked', 'subset', 'actions', *FIGURES)]
    for task, ways in metrics.items():
        if task == 'references':
            rows += [('anticipation', f'labels: {name}', 'all', '', *_row(part)) for name, part in ways.items()]
            continue
        rows += [(task, way, subset, f'{part["samples"]:,}', *_row(part)) for way, subsets in ways.items()
                 if way != 'left_out' for subset, part in subsets.items()]
    say(table(rows, right=(3, 4, 5, 6)))
    say(f'\nAsked as oracle or history, the question tells a true label: no result of the model alone. All in {out}.')


def _row(part: dict[str, Any]) -> list[str]:
    return [f'{part["action"][figure]["value"]:.3f}' for figure in FIGURES]
