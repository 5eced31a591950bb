"""`m3et evaluate talk`: answers in sentences and descriptions, on kitchens that are not in its training data.

m3et evaluate talk --model runs/talk/checkpoint --out results/talk
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m3et_ros.cli.evaluate.common import (
    CPUS,
    Batch,
    Data,
    Noise,
    Seed,
    format_interval,
    make_out,
    open_cache,
    recorded_command,
    refusing,
)
from m3et_ros.cli.options import Json, expand_options
from m3et_ros.cli.output import Refused, print_json, print_line, print_table
from m3et_ros.cli.progress import track
from m3et_ros.data.checkpoints import DEFAULT_MODEL

if TYPE_CHECKING:
    from m3et_ros.data.checkpoints.image_encoders import ImageEncoders
    from m3et_ros.data.checkpoints.m3et import Checkpoint
    from m3et_ros.data.checkpoints.talk import TalkCheckpoint

DESCRIPTIONS = 'descriptions.csv'


@dataclass(frozen=True, kw_only=True)
class TalkSamples:
    """The questions to answer and the views to describe."""

    data: Data = 'test-own'
    samples: Annotated[int, typer.Option(min=1, help='Number of questions.')] = 2000
    views: Annotated[int, typer.Option(min=1, help='Number of views to describe.')] = 200
    noise: Noise = True
    seed: Seed = 0
    batch: Batch = 32


@expand_options()
def talk(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Option(
            help='Checkpoint folder of m3et train talk, or matvlm; the shipped one by default.', show_default=False
        ),
    ] = '',
    *,
    out: Annotated[Path, typer.Option(help='Folder for metrics.json, per_sample.csv and descriptions.csv.')],
    vision: Annotated[
        str,
        typer.Option('--from', help='M3ET that the model was trained on; a model with DINOv2 and SigLIP needs none.'),
    ] = DEFAULT_MODEL,
    options: TalkSamples,
    as_json: Json = False,
) -> None:
    """Measure answers in sentences, hallucination and descriptions of a vision-language model."""
    from m3et_ros.data.checkpoints.m3et import Checkpoint
    from m3et_ros.evaluation.files import made_by, write_metrics
    from m3et_ros.evaluation.standard_caches import check_fit
    from m3et_ros.evaluation.tasks.vqa import NOISE
    from m3et_ros.models.vlm.variants import vision_width
    from m3et_ros.runtime.answerer import open_talk
    from m3et_ros.runtime.open_model import open_checkpoint

    checkpoint = open_talk(model)
    encoder = checkpoint.encoders or open_checkpoint(vision)
    if isinstance(encoder, Checkpoint):
        checkpoint.check_encoder(encoder.model_id, vision_width(encoder.model.config))
    folder, recipe = open_cache(options.data, CPUS)
    if isinstance(encoder, Checkpoint):
        check_fit(encoder, recipe)
    make_out(out)
    try:
        metrics = refusing(_measure, checkpoint, encoder, folder, options, out)
    except OSError as error:
        raise Refused(f'{out} cannot be written ({error.strerror}); give another --out.') from error
    settings = {
        'seed': options.seed,
        'samples': options.samples,
        'views': options.views,
        'batch': options.batch,
        'sight': encoder.model_id,
        'noise': asdict(NOISE) if options.noise else None,
    }
    document = {'made_by': made_by(recorded_command(context), checkpoint, recipe, **settings), 'metrics': metrics}
    write_metrics(out, document)
    if as_json:
        print_json(document)
    else:
        _print_metrics(metrics, out)


def _measure(
    checkpoint: 'TalkCheckpoint', encoder: 'Checkpoint | ImageEncoders', folder: Path, options: TalkSamples, out: Path
) -> dict[str, Any]:
    """Describe views and answer questions, write both tables, and return the metrics."""
    from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
    from m3et_ros.evaluation.files import PER_SAMPLE, write_samples
    from m3et_ros.evaluation.tasks.talk import ask_talker, describe_views, description_scores, talk_scores
    from m3et_ros.evaluation.tasks.vqa import NOISE

    noise = NOISE if options.noise else None
    kitchens = KitchenSamples(folder, noise=noise, length=options.samples, seed=options.seed)
    descriptions = describe_views(
        checkpoint, encoder, kitchens, views=options.views, batch=options.batch, progress=track
    )
    write_samples(out, [one.row() for one in descriptions])
    (out / PER_SAMPLE).replace(out / DESCRIPTIONS)
    answers = ask_talker(checkpoint, encoder, kitchens, batch=options.batch, progress=track)
    write_samples(out, [one.row() for one in answers])
    blind = kitchens.balance.best_blind()
    scores = talk_scores(answers)
    for family, part in scores['families'].items():
        part['best_blind'] = round(blind[family], 6)
    return {'answers': scores, 'descriptions': description_scores(descriptions)}


def _print_metrics(metrics: dict[str, Any], out: Path) -> None:
    answers, descriptions = metrics['answers'], metrics['descriptions']
    parts = {
        name.replace('_', ' '): answers[name]
        for name in ('all', 'answerable_from_one_frame', 'fine_spatial')
        if name in answers
    }
    rows = [('questions', 'accuracy', '95 % interval', 'best blind', 'asked')]
    for name, part in (parts | answers['families']).items():
        best_blind = f'{part["best_blind"]:.3f}' if 'best_blind' in part else ''
        accuracy = part['accuracy']
        rows.append((name, f'{accuracy["value"]:.3f}', format_interval(accuracy), best_blind, f'{part["samples"]:,}'))
    print_table(rows, right=(1, 3, 4))
    if pope := answers.get('pope'):
        print_line(
            f'\nIs it there, yes or no: accuracy {pope["harness_A"]["accuracy"]:.3f} by the likelier word, F1 '
            f'{pope["harness_B"]["f1"]:.3f} by the written answer; {pope["hallucinated"] or 0:.3f} of the absent '
            'things are answered with yes.'
        )
    rows = [('descriptions', 'value', '95 % interval')]
    for name in ('chair_things', 'chair_descriptions', 'precision', 'recall'):
        score = descriptions[name]
        value = '-' if score['value'] is None else f'{score["value"]:.3f}'
        rows.append((name.replace('_', ' '), value, format_interval(score)))
    print_line()
    print_table(rows, right=(1,))
    print_line(f'\n{descriptions["descriptions"]} descriptions; all results are in {out}.')
