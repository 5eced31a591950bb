"""`m3et evaluate talk`: sentences about kitchens that no model has seen.

m3et evaluate talk --model runs/talk/checkpoint --data test --out results/talk
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from m3et_ros.cli.output import Json, Refused, emit, note, say, table
from m3et_ros.cli.progress import track
from m3et_ros.cli.training_session import command_line

UNTOLD = {'out', 'as_json'}


def talk(
    context: typer.Context,
    *,
    model: Annotated[
        Path | None,
        typer.Option(help='Checkpoint folder of m3et train talk; else the one shipped.', show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option(help='Folder for metrics.json, per_sample.csv and descriptions.csv.')],
    sight: Annotated[str, typer.Option('--from', help='M3ET that it was trained on.')] = 'kitchen',
    data: Annotated[
        str, typer.Option(help='Cache folder of m3et generate; test and validation stand for the standard ones.')
    ] = 'test',
    samples: Annotated[int, typer.Option(min=1, help='Questions.')] = 2000,
    views: Annotated[int, typer.Option(min=1, help='Views to be described.')] = 200,
    noise: Annotated[
        bool, typer.Option('--noise/--clean', help='Pictures as a camera tells them, or as they are.')
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help='Of draws and noise.')] = 0,
    batch: Annotated[int, typer.Option(min=1, max=4096, help='Samples at a time.')] = 32,
    as_json: Json = False,
) -> None:
    """Measure answers in sentences, hallucination and descriptions of a talking model."""
    from m3et_ros.data.checkpoints.talk import load_talk
    from m3et_ros.evaluation.report.files import made_by, write_metrics
    from m3et_ros.evaluation.standard_caches import check_fit
    from m3et_ros.evaluation.tasks.vqa import NOISE
    from m3et_ros.models.vlm.variants import vision_width
    from m3et_ros.runtime.answerer import SHIPPED_TALK
    from m3et_ros.runtime.open_model import open_checkpoint

    seeing, checkpoint = open_checkpoint(sight), load_talk(model or SHIPPED_TALK)
    checkpoint.check_sight(seeing.model_id, vision_width(seeing.model.config))
    folder, recipe = _cache(data)
    check_fit(seeing, recipe)
    try:
        out.mkdir(parents=True, exist_ok=True)
        metrics = _measure(
            checkpoint,
            seeing,
            folder,
            NOISE if noise else None,
            out,
            samples=samples,
            views=views,
            seed=seed,
            batch=batch,
        )
    except OSError as error:
        raise Refused(f'{out} cannot be written ({error.strerror}); give another --out.') from error
    except ValueError as error:
        raise Refused(f'{error}.') from error
    settings = {
        'seed': seed,
        'samples': samples,
        'views': views,
        'batch': batch,
        'sight': seeing.model_id,
        'noise': asdict(NOISE) if noise else None,
    }
    document = {'made_by': made_by(command_line(context, UNTOLD), checkpoint, recipe, **settings), 'metrics': metrics}
    write_metrics(out, document)
    emit(document) if as_json else _tell(metrics, out)


def _cache(data: str) -> tuple[Path, Any]:
    """The folder of a cache and its recipe; a standard one that is missing is rendered."""
    import os

    from m3et_ros.data.kitchen.cache.recipe import read_recipe
    from m3et_ros.evaluation.standard_caches import find_cache, make_cache

    folder, missing = find_cache(data)
    if missing:
        note(f'The {data} cache is rendered into {folder} first; that is done once.')
        make_cache(missing, workers=os.cpu_count() or 1)
    recipe = read_recipe(folder)
    if recipe.split == 'train':
        note('These are training kitchens: what comes out is no measure of what the model can do elsewhere.')
    return folder, recipe


def _measure(
    checkpoint: Any,
    seeing: Any,
    folder: Path,
    noise: Any,
    out: Path,
    *,
    samples: int,
    views: int,
    seed: int,
    batch: int,
) -> dict[str, Any]:
    from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
    from m3et_ros.evaluation.report.files import PER_SAMPLE, write_samples
    from m3et_ros.evaluation.tasks.talk import ask_talker, description_scores, talk_scores, tell_talker

    kitchens = KitchenSamples(folder, noise=noise, length=samples, seed=seed)
    told = tell_talker(checkpoint, seeing, kitchens, views=views, batch=batch, progress=track)
    write_samples(out, [asdict(one) for one in told])
    (out / PER_SAMPLE).replace(out / 'descriptions.csv')
    said = ask_talker(checkpoint, seeing, kitchens, batch=batch, progress=track)
    write_samples(out, [asdict(one) for one in said])
    blind = kitchens.balance.best_blind()
    scores = talk_scores(said)
    for family, part in scores['families'].items():
        part['best_blind'] = round(blind[family], 6)
    return {'answers': scores, 'descriptions': description_scores(told)}


def _tell(metrics: dict[str, Any], out: Path) -> None:
    answers, told = metrics['answers'], metrics['descriptions']
    rows = [('questions', 'accuracy', '95 % interval', 'best blind', 'asked')]
    parts = {
        name.replace('_', ' '): answers[name]
        for name in ('all', 'answerable_from_one_frame', 'fine_spatial')
        if name in answers
    } | answers['families']
    rows += [
        (
            name,
            f'{part["accuracy"]["value"]:.3f}',
            _interval(part['accuracy']),
            f'{part["best_blind"]:.3f}' if 'best_blind' in part else '',
            f'{part["samples"]:,}',
        )
        for name, part in parts.items()
    ]
    say(table(rows, right=(1, 3, 4)))
    if 'pope' in answers:
        likelier, spoken = answers['pope']['harness_A'], answers['pope']['harness_B']
        say(
            f'\nYes or no, is it there: accuracy {likelier["accuracy"]:.3f} by the likelier word, F1 '
            f'{spoken["f1"]:.3f} by what is written; {answers["pope"]["hallucinated"] or 0:.3f} of what is not there '
            'is said to be.'
        )
    rows = [('descriptions', 'value', '95 % interval')]
    rows += [
        (
            name.replace('_', ' '),
            '-' if told[name]['value'] is None else f'{told[name]["value"]:.3f}',
            _interval(told[name]),
        )
        for name in ('chair_things', 'chair_descriptions', 'precision', 'recall')
    ]
    say()
    say(table(rows, right=(1,)))
    say(f'\n{told["descriptions"]} descriptions; all of it in {out}.')


def _interval(scores: dict[str, Any]) -> str:
    return '-' if scores['low'] is None else f'{scores["low"]:.3f} to {scores["high"]:.3f}'
