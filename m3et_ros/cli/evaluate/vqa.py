"""`m3et evaluate vqa`: questions about kitchens of a cache, or about single frames of recordings.

    m3et evaluate vqa --data test-own --out results/vqa
    m3et evaluate vqa --model runs/vqa/checkpoint --data vqav2:QUESTIONS,ANNOTATIONS,IMAGES --out results/vqav2

    m3et record kitchens --vqa --seed 20000 --episodes 4 --questions 100
    m3et evaluate vqa kitchens/2* --questions kitchens/questions.json --out results/vqa

VQAv2 is scored by the official metric (evaluation.tasks.vqav2), and --out also gets results.json, which the official
evaluation reads. With recordings --out gets the files of `m3et evaluate eqa`, by the same rules.
"""

from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from m3et_ros.cli.evaluate.common import (
    CPUS,
    Bags,
    BagTopics,
    Batch,
    ClusterRun,
    Data,
    JudgeOptions,
    Noise,
    ScoreOptions,
    Seed,
    check_threshold,
    format_interval,
    is_given,
    make_out,
    open_cache,
    open_fitting_model,
    open_model,
    prepare,
    refuse_idle_options,
    refusing,
    write_results,
)
from m3et_ros.cli.evaluate.eqa import evaluate_recordings
from m3et_ros.cli.evaluate.public import check_kind, kind_of, open_public, origin, refuse_given
from m3et_ros.cli.options import Json, expand_options, option_names
from m3et_ros.cli.output import Refused, print_json, print_line, print_table
from m3et_ros.cli.progress import track

if TYPE_CHECKING:
    from m3et_ros.data.checkpoints.m3et import Checkpoint
    from m3et_ros.data.kitchen.cache.recipe import CacheRecipe
    from m3et_ros.runtime.vlm.model import VisionLanguageModel as Vlm

Modality = Enum('Modality', {'rgb': 'rgb', 'depth': 'depth'}, type=str)
PICTURE = 'answers.png'
SUBMISSION = 'results.json'


@dataclass(frozen=True, kw_only=True)
class KitchenQuestions:
    """Questions about the kitchens of a cache."""

    data: Data = 'test-own'
    samples: Annotated[
        int, typer.Option(min=1, help='Number of questions in each subset, or evenly spaced ones of VQAv2.')
    ] = 4000
    noise: Noise = True
    without: Annotated[
        list[Modality] | None, typer.Option(help='Withhold this modality from the model; may be given twice.')
    ] = None
    blind: Annotated[str | None, typer.Option(help='A model that answers from the question alone, for comparison.')] = (
        None
    )
    seed: Seed = 0
    batch: Batch = 32


@dataclass(frozen=True, kw_only=True)
class FrameQuestions(BagTopics):
    """Questions about single frames of recordings."""

    questions: Annotated[
        list[Path] | None,
        typer.Option(
            help="With recordings: question file in OpenEQA's schema, with the second of the frame as `time`; may be "
            'given several times.',
            show_default=False,
        ),
    ] = None
    scope: Annotated[
        Literal['moment', 'blind'],
        typer.Option(help='With recordings: answer from the frame of the question, or without any image.'),
    ] = 'moment'


@dataclass(frozen=True, kw_only=True)
class VqaRun(ClusterRun):
    """The model, its processes and the folder of results."""

    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=256,
            help='Processes that render a standard cache, by default one for each processor, or that read recordings, '
            'by default one.',
            show_default=False,
        ),
    ] = None


OF_KITCHENS = option_names(KitchenQuestions)
"""Options that have a meaning only without recordings."""
OF_BAGS = (*option_names(FrameQuestions), *option_names(JudgeOptions), 'train', 'ray', 'threads')
"""Options that have a meaning only with recordings."""


@expand_options(
    'bags model answerer answerer_checkpoint out data samples noise without write blind at_least seed batch device '
    'workers questions scope camera remaps train judge_url judge_model judge_prompt ray threads as_json'
)
def vqa(
    context: typer.Context,
    bags: Bags = None,
    *,
    run: VqaRun,
    kitchens: KitchenQuestions,
    frames: FrameQuestions,
    scoring: ScoreOptions,
    write: Annotated[bool, typer.Option('--generate', help='Let the text decoder answer too.')] = False,
    as_json: Json = False,
) -> None:
    """Answer questions about kitchens, by family and subset, or about single frames of recordings, by category.

    Every accuracy is shown beside the accuracy of guessing. Recordings need --questions, in OpenEQA's schema with the
    second of the frame as `time`.
    """
    refuse_idle_options(context, of_data=OF_KITCHENS, of_bags=OF_BAGS)
    run.check_answerer(context)
    if not bags and kind_of(kitchens.data):
        evaluate_vqav2(context, run, kitchens, write=write, at_least=scoring.at_least, as_json=as_json)
        return
    if not bags:
        evaluate_kitchens(context, run, kitchens, write=write, at_least=scoring.at_least, as_json=as_json)
        return
    from m3et_ros.evaluation.tasks.vqa_in_bags import VqaTask

    if not frames.questions:
        raise Refused(
            'recordings were given without questions about them; give --questions (m3et record --vqa writes '
            'such a file).'
        )
    task = VqaTask(frames.scope, write, camera=frames.camera, remaps=frames.renamed(), threads=run.threads)
    evaluate_recordings(context, bags, frames.questions, task, run, scoring, as_json=as_json)


def evaluate_vqav2(
    context: typer.Context,
    run: VqaRun,
    options: KitchenQuestions,
    *,
    write: bool,
    at_least: float | None,
    as_json: bool,
) -> None:
    """Answer the questions of VQAv2, and write and print the scores by the official metric.

    Args:
        context: typer context of the verb, for the recorded command.
        run: model, device and folder of results.
        options: data set, number of questions, shown modalities and batch.
        write: let the text decoder answer too.
        at_least: threshold of the accuracy; None for none.
        as_json: print JSON.

    Raises:
        InputError: the model or the data set cannot be opened.
        Refused: the data set has no questions, an option has no meaning for it, or --out cannot be written.
        typer.Exit: the accuracy is below the threshold.
    """
    from torch.utils.data import Subset

    from m3et_ros.evaluation.batches import spread
    from m3et_ros.evaluation.files import write_metrics
    from m3et_ros.evaluation.tasks.vlm import PROMPT
    from m3et_ros.evaluation.tasks.vqa import SHOWN
    from m3et_ros.evaluation.tasks.vqav2 import official, vqav2_scores

    check_kind(options.data, 'vqav2')
    refuse_given(context, options.data, 'noise', 'blind', 'seed', 'workers')
    make_out(run.out)
    checkpoint, facts, machine = _open_answerer(context, run)
    data = open_public(options.data, run.out, None, None, questions=True).sets[0]
    chosen = spread(len(data), options.samples)
    shown = tuple(name for name in SHOWN if name not in {modality.value for modality in options.without or ()})
    found = _answer(checkpoint, Subset(data, chosen), 'questions', shown=shown, write=write, batch=options.batch)
    replies = official(found, data, chosen)
    metrics = vqav2_scores(replies)
    if run.answerer_checkpoint is None:
        metrics['covered'] = round(data.covered(checkpoint.labels.answers), 6)
    settings: dict[str, Any] = {'samples': len(chosen)}
    if run.answerer_checkpoint is None:
        settings |= {'batch': options.batch, 'shown': list(shown)}
    else:
        settings |= {'prompt': PROMPT}
    document = {'made_by': origin(context, options.data, len(data), facts, machine, **settings), 'metrics': metrics}
    write_metrics(run.out, document)
    _write_replies(run.out, replies, data, facts['id'])
    if as_json:
        print_json(document)
    else:
        _print_vqav2(metrics, run.out)
    check_threshold('accuracy', metrics['accuracy']['value'], at_least)


def _write_replies(out: Path, replies: list[Any], data: Any, model_id: str) -> None:
    """Write per_sample.csv, the file for the official evaluation, and pictures with their answers."""
    from m3et_ros.data.checkpoints.json_files import write_json
    from m3et_ros.evaluation.files import PICTURES, write_samples
    from m3et_ros.evaluation.report.pictures import choose_predictions, draw_predictions
    from m3et_ros.evaluation.tasks.vqav2 import submission

    write_samples(out, [reply.row() for reply in replies])
    write_json(out / SUBMISSION, submission(replies, data))
    draw_predictions(
        [(reply, data[reply.index].rgb) for reply in choose_predictions(replies)],
        out / PICTURES / PICTURE,
        f'{model_id} on VQAv2: right answers, then wrong ones',
    )


def _open_answerer(context: typer.Context, run: VqaRun) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Open the model that answers; return it with its facts and its machine for metrics.json."""
    import torch

    from m3et_ros.evaluation.files import environment, weights_digest
    from m3et_ros.evaluation.tasks.vlm import vlm_environment, vlm_facts
    from m3et_ros.runtime.vlm.model import open_vlm

    if run.answerer_checkpoint is None:
        made = open_model(run.model, run.device)
        facts = {'id': made.model_id, 'trained': made.trained, 'weights_sha256': weights_digest(made.model)}
        return made, facts, environment(torch.device(next(made.model.parameters()).device))
    refuse_for_vlm(context)
    vlm = open_vlm(run.answerer_checkpoint, device=run.device)
    return vlm, vlm_facts(vlm), vlm_environment(vlm)


def _print_vqav2(metrics: dict[str, Any], out: Path) -> None:
    parts = {'all': metrics, **metrics['answer_types']}
    rows = [
        (name, f'{100 * part["accuracy"]["value"]:.2f}', format_interval(part['accuracy']), f'{part["questions"]:,}')
        for name, part in parts.items()
    ]
    print_table([('answer type', 'accuracy, %', '95 % interval', 'questions'), *rows], right=(1, 3))
    if 'covered' in metrics:
        print_line(f'\nThe answer head has the commonest answer to {metrics["covered"]:.1%} of the questions.')
    print_line(f'All results are in {out}.')


def evaluate_kitchens(
    context: typer.Context,
    run: VqaRun,
    kitchens: KitchenQuestions,
    *,
    write: bool,
    at_least: float | None,
    as_json: bool,
) -> None:
    """Answer the questions of a cache, and write and print the scores.

    Args:
        context: typer context of the verb, for the recorded command.
        run: model, device, processes and folder of results.
        kitchens: cache and questions.
        write: let the text decoder answer too.
        at_least: threshold of the accuracy over all families; None for none.
        as_json: print JSON.

    Raises:
        InputError: the model or the cache cannot be opened.
        Refused: nothing can be asked, or --out cannot be written.
        typer.Exit: the accuracy is below the threshold.
    """
    from m3et_ros.evaluation.tasks.vqa import NOISE, SHOWN, subset_samples

    make_out(run.out)
    workers = CPUS if run.workers is None else run.workers
    checkpoint, folder, recipe = _prepare(context, run, kitchens.data, workers)
    blind = open_fitting_model(kitchens.blind, recipe, run.device) if kitchens.blind else None
    noise = NOISE if kitchens.noise else None
    subsets, left_out = refusing(subset_samples, folder, length=kitchens.samples, noise=noise, seed=kitchens.seed)
    withheld = {modality.value for modality in kitchens.without or ()} | ({'depth'} if run.answerer == 'vlm' else set())
    shown = tuple(name for name in SHOWN if name not in withheld)
    batch = kitchens.batch
    replies = {
        name: _answer(checkpoint, samples, f'questions, {name}', shown=shown, write=write, batch=batch)
        for name, samples in subsets.items()
    }
    guesses = {}
    if blind is not None:
        for name, samples in subsets.items():
            guesses[name] = _answer(blind, samples, f'questions, {name}, blind', shown=(), batch=batch)
    metrics = _scores(subsets, left_out, replies, guesses)
    settings = {
        'seed': kitchens.seed,
        'samples': kitchens.samples,
        'batch': batch,
        'shown': list(shown),
        'noise': asdict(noise) if noise else None,
        'blind_model': blind.model_id if blind else None,
    }
    document = write_results(run.out, context, checkpoint, recipe, settings, metrics, _rows(replies, guesses))
    _draw_answers(run.out, checkpoint.model_id, subsets['all'], replies['all'])
    if as_json:
        print_json(document)
    else:
        _print_metrics(metrics, run.out)
    check_threshold('accuracy', metrics['subsets']['all']['accuracy']['value'], at_least)


def _prepare(
    context: typer.Context, run: VqaRun, data: str, workers: int
) -> 'tuple[Checkpoint | Vlm, Path, CacheRecipe]':
    """Open the model that answers, M3ET or a vision-language model, and a cache.

    Raises:
        InputError: one of them cannot be opened, or they do not fit each other.
        Refused: an option is for M3ET alone.
    """
    from m3et_ros.runtime.vlm.model import open_vlm

    if run.answerer_checkpoint is None:
        return prepare(run.model, data, run.device, workers)
    refuse_for_vlm(context)
    return open_vlm(run.answerer_checkpoint, device=run.device), *open_cache(data, workers)


def refuse_for_vlm(context: typer.Context) -> None:
    """Refuse options that are for M3ET alone.

    Raises:
        Refused: one was given.
    """
    for name, flag in (('without', '--without'), ('batch', '--batch'), ('write', '--generate')):
        if is_given(context, name):
            raise Refused(f'{flag} is for m3et: a vision-language model reads colours and writes; leave it out.')


def _answer(checkpoint: 'Checkpoint | Vlm', samples: Any, what: str, **options: Any) -> list[Any]:
    """Answer the questions of samples; `what` names the work in the progress line."""
    from m3et_ros.evaluation.tasks.vlm import ask_vlm
    from m3et_ros.evaluation.tasks.vqa import ask
    from m3et_ros.runtime.vlm.model import VisionLanguageModel

    if isinstance(checkpoint, VisionLanguageModel):
        return ask_vlm(checkpoint, samples, progress=track, what=what)
    return refusing(
        ask,
        checkpoint.model,
        checkpoint.tokenizer,
        samples,
        answers=checkpoint.labels.answers,
        calibration=checkpoint.labels.calibration,
        progress=track,
        what=what,
        **options,
    )


def _scores(
    subsets: dict[str, Any], left_out: dict[str, Any], replies: dict[str, list[Any]], guesses: dict[str, list[Any]]
) -> dict[str, Any]:
    """Return the metrics: scores by subset, and the gaps between the subset of seen kitchens and others."""
    from m3et_ros.evaluation.tasks.vqa import gap, scores_of, vqa_scores

    scores: dict[str, Any] = {name: scores_of(own, subsets[name].balance) for name, own in replies.items()}
    for name, own in guesses.items():
        scores[name]['blind_model'] = vqa_scores(own, subsets[name].balance)
    gaps = {}
    for name in ('held_out', 'textures'):
        if name in replies and 'seen' in replies:
            gaps[name] = gap(replies['seen'], replies[name])
    return {'subsets': scores, 'left_out': left_out, 'gaps': gaps}


def _rows(replies: dict[str, list[Any]], guesses: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Return the rows of per_sample.csv, with the guess of a blind model where there is one."""
    rows = []
    for name, own in replies.items():
        for reply in own:
            row = {'subset': name, **reply.row()}
            if guesses:
                row['guessed'] = guesses[name][reply.index].predicted
            rows.append(row)
    return rows


def _draw_answers(out: Path, model_id: str, samples: Any, replies: list[Any]) -> None:
    from m3et_ros.evaluation.files import PICTURES
    from m3et_ros.evaluation.report.pictures import choose_predictions, draw_predictions

    draw_predictions(
        [(reply, samples[reply.index].rgb) for reply in choose_predictions(replies)],
        out / PICTURES / PICTURE,
        f'{model_id} on {samples.split} kitchens: right answers, then wrong ones',
    )


def _print_metrics(metrics: dict[str, Any], out: Path) -> None:
    header = ('accuracy', '95 % interval', 'best blind', 'majority', 'questions')

    def row(name: str, part: dict[str, Any]) -> tuple[str, ...]:
        return (
            name,
            f'{part["accuracy"]["value"]:.3f}',
            format_interval(part['accuracy']),
            f'{part["best_blind"]:.3f}',
            f'{part["majority"]:.3f}',
            f'{part["samples"]:,}',
        )

    rows = [row(name, part) for name, part in metrics['subsets'].items()]
    whole = metrics['subsets']['all']
    for extra in ('answerable_from_one_frame', 'written', 'blind_model'):
        if extra in whole:
            rows.append(row(f'all, {extra.replace("_", " ")}', whole[extra]))
    print_table([('subset', *header), *rows], right=(1, 3, 4, 5))
    print_line()
    families = [row(name, part) for name, part in whole['families'].items()]
    print_table([('family', *header), *families], right=(1, 3, 4, 5))
    print_line(f'\nAll results are in {out}.')
