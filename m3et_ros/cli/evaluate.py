"""`m3et evaluate`: what a model is worth on kitchens that it has never seen.

    m3et evaluate vqa --model kitchen --data test --out results/vqa
    m3et evaluate vqa my_bag --questions my_questions.json --model kitchen --out results/my_vqa
    m3et evaluate reconstruction --model runs/two/checkpoint --data cache/kitchen --out results/reconstruction

--out gets metrics.json, per_sample.csv and pictures/. The same command on the same machine writes the same metrics.json
byte for byte.
"""

import os
from dataclasses import asdict, replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from m3et_ros.cli import evaluate_actions, evaluate_bags, evaluate_epic, evaluate_eqa, evaluate_talk, evaluate_vqa
from m3et_ros.cli.output import Json, Refused, emit, note, say, table
from m3et_ros.cli.progress import track
from m3et_ros.cli.sittings import command_line

app = typer.Typer(help='Measure a model on kitchens that it has never seen.', no_args_is_help=True)

Sight = Enum('Sight', {'rgb': 'rgb', 'depth': 'depth'}, type=str)
BELOW = 2
"""Exit code of a result below --at-least."""

UNTOLD = {'out', 'as_json', 'at_least', 'workers'}
"""Options without influence on the results; the command that is written down does without them."""

Model = Annotated[str, typer.Option(help='Checkpoint folder, named size, or owner/name on the Hub.')]
Data = Annotated[str, typer.Option(help='Cache folder of m3et generate; test and validation stand for the standard '
                                   'ones, which are rendered when they are asked for first.')]
Out = Annotated[Path, typer.Option(help='Folder for metrics.json, per_sample.csv and pictures.')]
Device = Annotated[str, typer.Option(help='cpu, cuda, cuda:N, or auto for CUDA where there is one.')]
Seed = Annotated[int, typer.Option(min=0, help='Of draws, masks and noise.')]
Batch = Annotated[int, typer.Option(min=1, max=4096, help='Samples at a time.')]
Workers = Annotated[int, typer.Option(min=0, max=256, help='Processes that render a standard cache.')]
Bags = Annotated[list[Path] | None, typer.Argument(help='Recordings to be measured instead of --data.',
                                                   show_default=False)]
CPUS = os.cpu_count() or 1


@app.command()
def vqa(
        context: typer.Context, bags: Bags = None, *, model: Model, out: Out, data: Data = 'test',
        samples: Annotated[int, typer.Option(min=1, help='Questions of each subset.')] = 4000,
        noise: Annotated[bool, typer.Option('--noise/--clean', help='Pictures as a camera tells them, or as '
                                            'they are.')] = True,
        without: Annotated[list[Sight] | None, typer.Option(
            help='Withhold this from the model; may be given twice.')] = None,
        write: Annotated[bool, typer.Option('--generate', help='Let the text decoder answer, too.')] = False,
        blind: Annotated[str | None, typer.Option(help='A model that answers from the question alone, for '
                                                  'comparison.')] = None,
        at_least: Annotated[float | None, typer.Option(min=0, max=1, help='End with exit code 2 below this accuracy '
                                                       'over all families or questions.')] = None,
        seed: Seed = 0, batch: Batch = 32, device: Device = 'cpu',
        workers: Annotated[int | None, typer.Option(
            min=0, max=256, help='Processes that render a standard cache, all processors by default, or that answer '
            'from recordings, one by default.', show_default=False)] = None,
        questions: evaluate_vqa.Questions = None, scope: evaluate_vqa.Scope = 'moment',
        camera: evaluate_eqa.Camera = None, remaps: evaluate_eqa.Remaps = None, train: evaluate_eqa.Train = None,
        judge_url: evaluate_eqa.JudgeUrl = None, judge_model: evaluate_eqa.JudgeModel = None,
        judge_prompt: evaluate_eqa.JudgePrompt = None, ray: evaluate_eqa.Ray = None, threads: evaluate_eqa.Threads = 1,
        as_json: Json = False) -> None:
    """Answer questions about kitchens, by family and subset, or about single frames of recordings, by category.

    Beside every accuracy stands what guessing gives. With recordings --questions is needed, in OpenEQA's schema with
    the second of the frame as `time`.
    """
    evaluate_vqa.check_options(context)
    if bags:
        judge = evaluate_eqa.chosen_judge(judge_url, judge_model, judge_prompt)
        ask = evaluate_eqa.Ask(questions or [], out, model, train or [], judge, at_least, workers or 1, ray, device,
                               as_json)
        return evaluate_vqa.vqa_of_bags(context, bags, ask, scope=scope, write=write, camera=camera,
                                        remaps=remaps or [], threads=threads)
    _vqa_of_kitchens(context, out, as_json, model=model, data=data, samples=samples, noise=noise, write=write,
                     without=[sight.name for sight in without or ()], blind=blind, at_least=at_least, seed=seed,
                     batch=batch, device=device, workers=CPUS if workers is None else workers)


def _vqa_of_kitchens(context: typer.Context, out: Path, as_json: bool, *, model: str, data: str, samples: int,
                     noise: bool, write: bool, without: list[str], blind: str | None, at_least: float | None, seed: int,
                     batch: int, device: str, workers: int) -> None:
    """Ask the questions of a cache; arguments as the options of vqa have them."""
    from m3et_ros.evaluation.runs.questions import NOISE, SHOWN, subset_samples

    _make(out)
    subject, folder, recipe = _prepare(model, data, device, workers)
    guesser = _checkpoint(blind, recipe, device) if blind else None
    found, empty = _refusing(subset_samples, folder, length=samples, noise=NOISE if noise else None, seed=seed)
    shown = tuple(name for name in SHOWN if name not in without)
    replies = {name: _ask(subject, drawn, f'questions, {name}', shown=shown, write=write, batch=batch)
               for name, drawn in found.items()}
    guesses = {name: _ask(guesser, drawn, f'questions, {name}, blind', shown=(), batch=batch)
               for name, drawn in found.items()} if guesser else {}
    metrics = _vqa_metrics(found, empty, replies, guesses)
    settings = {'seed': seed, 'samples': samples, 'batch': batch, 'shown': list(shown),
                'noise': asdict(NOISE) if noise else None, 'blind_model': guesser.model_id if guesser else None}
    document = _write(out, context, subject, recipe, settings, metrics,
                      [{'subset': name, **asdict(reply)} | ({'guessed': guesses[name][reply.index].predicted}
                                                            if guesser else {})
                       for name, own in replies.items() for reply in own])
    _draw_replies(out, subject.model_id, found['all'], replies['all'])
    emit(document) if as_json else _tell_vqa(metrics, out)
    reached = metrics['subsets']['all']['accuracy']['value']
    if at_least is not None and reached < at_least:
        note(f'accuracy {reached:.4f} is below {at_least}')
        raise typer.Exit(BELOW)


@app.command()
def reconstruction(
        context: typer.Context, model: Model, out: Out, bags: Bags = None,
        data: Data = 'test',
        frames: Annotated[int, typer.Option(min=1, help='Frames, evenly apart in the cache or in each bag; all if it '
                                            'has fewer.')] = 500,
        look: Annotated[bool, typer.Option('--cross-attention/--no-cross-attention', help='Let decoders attend to what '
                                           'the encoder saw, or switch that off, to compare.')] = True,
        seed: Seed = 0, batch: Batch = 32, device: Device = 'cpu', workers: Workers = CPUS,
        as_json: Json = False) -> None:
    """Rebuild hidden patches, fill holes in depth, label what is seen: PSNR, depth errors and mIoU."""
    from torch.utils.data import Subset

    from m3et_ros.data.kitchen.dataset import KitchenSamples
    from m3et_ros.data.kitchen.vocabulary import CLASSES
    from m3et_ros.evaluation.runs.dense import NOISE, measure_frames
    from m3et_ros.evaluation.runs.dense_scores import frame_rows, reconstruction_scores
    from m3et_ros.evaluation.runs.pictures import draw_frames, spread
    from m3et_ros.evaluation.runs.report import PICTURES

    _make(out)
    if bags:
        subject = _looking(_open(model, device), look)
        metrics = evaluate_bags.reconstruction_of_bags(context, bags, subject, out, frames=frames, seed=seed,
                                                       batch=batch, as_json=as_json)
        return None if as_json else _tell_reconstruction(metrics, out)
    opened, folder, recipe = _prepare(model, data, device, workers)
    subject = _looking(opened, look)
    kitchens = _refusing(KitchenSamples, folder, questions=False)
    chosen = spread(len(kitchens), frames)
    seen = spread(len(chosen), 8)
    found = _refusing(measure_frames, subject.model, Subset(kitchens, chosen), seed=seed, batch=batch, pictures=seen,
                      watch=track)
    metrics = reconstruction_scores(found, CLASSES)
    settings = {'seed': seed, 'frames': len(chosen), 'batch': batch, 'noise': asdict(NOISE), 'cross_attention': look}
    document = _write(out, context, subject, recipe, settings, metrics, frame_rows(found))
    shown = [(found.keys[i], found.images[i]) for i in seen if found.images[i]]
    if shown:
        draw_frames(shown, out / PICTURES / 'frames.png', f'{subject.model_id} on {recipe.split} kitchens')
    emit(document) if as_json else _tell_reconstruction(metrics, out)


def _looking(checkpoint: Any, look: bool) -> Any:
    """The checkpoint, or one whose decoders see nothing of the encoder."""
    from m3et_ros.evaluation.runs.dense import without_context

    return checkpoint if look else replace(checkpoint, model=without_context(checkpoint.model))


def _make(out: Path) -> None:
    """The folder of the results, before the work rather than after it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK):
            raise PermissionError(13, os.strerror(13))
    except OSError as error:
        raise Refused(f'{out} cannot be written ({error.strerror}); give another --out.') from error


def _prepare(model: str, data: str, device: str, workers: int) -> tuple[Any, Path, Any]:
    """The checkpoint on its device, the folder of the cache and its recipe."""
    from m3et_ros.data.kitchen.cache import read_recipe
    from m3et_ros.evaluation.runs.kitchen import find_cache, make_cache

    folder, missing = find_cache(data)
    recipe = missing or read_recipe(folder)
    subject = _checkpoint(model, recipe, device)
    if missing:
        note(f'The {data} cache is rendered into {folder} first; that is done once.')
        _refusing(make_cache, missing, workers=workers)
    if recipe.split == 'train':
        note('These are training kitchens: what comes out is no measure of what the model can do elsewhere.')
    return subject, folder, recipe


def _checkpoint(name: str, recipe: Any, device: str) -> Any:
    """A checkpoint that fits the cache, on its device."""
    from m3et_ros.evaluation.runs.kitchen import check_fit
    from m3et_ros.runtime.engine import Engine
    from m3et_ros.runtime.models import open_checkpoint

    checkpoint = open_checkpoint(name)
    check_fit(checkpoint, recipe)
    return Engine(checkpoint, device=device).checkpoint


def _open(name: str, device: str) -> Any:
    """A checkpoint on its device."""
    from m3et_ros.runtime.engine import Engine
    from m3et_ros.runtime.models import open_checkpoint

    return Engine(open_checkpoint(name), device=device).checkpoint


def _refusing(call: Any, *arguments: Any, **options: Any) -> Any:
    """Call something whose ValueErrors are sentences about what was asked for."""
    from m3et_ros.data.errors import InputError

    try:
        return call(*arguments, **options)
    except InputError:
        raise
    except ValueError as error:
        raise Refused(f'{error}.') from error


def _ask(checkpoint: Any, samples: Any, what: str, **options: Any) -> list:
    from m3et_ros.evaluation.runs.questions import ask

    return _refusing(ask, checkpoint.model, checkpoint.tokenizer, samples, answers=checkpoint.labels.answers,
                     watch=track, what=what, **options)


def _vqa_metrics(found: dict, empty: dict, replies: dict, guesses: dict) -> dict[str, Any]:
    from m3et_ros.evaluation.runs.questions import gap, scores_of, vqa_scores

    subsets: dict[str, Any] = {name: scores_of(own, found[name].balance) for name, own in replies.items()}
    for name, own in guesses.items():
        subsets[name]['blind_model'] = vqa_scores(own, found[name].balance)
    return {'subsets': subsets, 'left_out': empty,
            'gaps': {name: gap(replies['seen'], replies[name]) for name in ('held_out', 'textures')
                     if name in replies and 'seen' in replies}}


def _write(out: Path, context: typer.Context, subject: Any, recipe: Any, settings: dict, metrics: dict,
           rows: list[dict]) -> dict[str, Any]:
    """Write metrics.json and per_sample.csv; returns the former."""
    from m3et_ros.evaluation.runs.report import made_by, write_metrics, write_samples

    document = {'made_by': made_by(command_line(context, UNTOLD), subject, recipe, **settings), 'metrics': metrics}
    write_metrics(out, document)
    write_samples(out, rows)
    return document


def _draw_replies(out: Path, model_id: str, drawn: Any, replies: list) -> None:
    from m3et_ros.evaluation.runs.pictures import choose_replies, draw_replies
    from m3et_ros.evaluation.runs.report import PICTURES

    draw_replies([(reply, drawn[reply.index].rgb) for reply in choose_replies(replies)], out / PICTURES / 'answers.png',
                 f'{model_id} on {drawn.split} kitchens: right answers, then wrong ones')


def _tell_vqa(metrics: dict[str, Any], out: Path) -> None:
    heads = ('accuracy', '95 % interval', 'best blind', 'majority', 'questions')

    def row(name: str, part: dict) -> tuple:
        return (name, f'{part["accuracy"]["value"]:.3f}', _interval(part['accuracy'], 3), f'{part["best_blind"]:.3f}',
                f'{part["majority"]:.3f}', f'{part["samples"]:,}')
    rows = [row(name, part) for name, part in metrics['subsets'].items()]
    whole = metrics['subsets']['all']
    for extra in ('answerable_from_one_frame', 'written', 'blind_model'):
        if extra in whole:
            rows.append(row(f'all, {extra.replace("_", " ")}', whole[extra]))
    say(table([('subset', *heads), *rows], right=(1, 3, 4, 5)))
    say()
    say(table([('family', *heads), *(row(*item) for item in whole['families'].items())], right=(1, 3, 4, 5)))
    say(f'\nAll of it in {out}.')


def _interval(scores: dict[str, Any], digits: int) -> str:
    return '-' if scores['low'] is None else f'{scores["low"]:.{digits}f} to {scores["high"]:.{digits}f}'


def _tell_reconstruction(metrics: dict[str, Any], out: Path) -> None:
    rows: list[tuple] = [('measure', 'value', '95 % interval')]

    def add(name: str, scores: dict[str, Any] | None, digits: int = 3) -> None:
        if scores and scores['value'] is not None:
            rows.append((name, f'{scores["value"]:.{digits}f}', _interval(scores, digits)))
    hidden, full, colour = (metrics[name] for name in ('hidden', 'full', 'rgb_only'))
    add('PSNR of hidden patches, dB', hidden.get('psnr_hidden_db'), 2)
    add('PSNR of the picture, rest pasted in, dB', hidden.get('psnr_pasted_db'), 2)
    for name, part in (('hidden patches', hidden), ('colour and noisy depth', full), ('colour alone', colour)):
        add(f'mIoU, {name}', part.get('segmentation', {}).get('miou'))
        add(f'depth RMSE, {name}, m', part.get('depth', {}).get('rmse_m'))
    for name, scores in full.get('depth_in_holes', {}).items():
        if isinstance(scores, dict):
            add(f'depth RMSE in holes, {name.replace("_", " ")}, m', scores['rmse_m'])
            add(f'share by which the model is below {name.replace("_", " ")}', scores.get('model_below'))
    say(table(rows, right=(1,)))
    say(f'\n{metrics["frames"]:,} frames; all of it in {out}.')


app.command('actions')(evaluate_actions.actions)
app.command('epic')(evaluate_epic.epic)
app.command('talk')(evaluate_talk.talk)
for verb in (evaluate_eqa.eqa, evaluate_eqa.answers, evaluate_eqa.merge, evaluate_eqa.compare):
    app.command(verb.__name__)(verb)
