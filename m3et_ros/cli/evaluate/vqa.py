"""NEW FILE."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from m3et_ros.cli.evaluate.common import (
    BELOW,
    CPUS,
    Bags,
    Batch,
    Camera,
    Data,
    Device,
    JudgeModel,
    JudgePrompt,
    JudgeUrl,
    Model,
    Out,
    Ray,
    Remaps,
    Seed,
    Sight,
    Threads,
    Train,
    _checkpoint,
    _interval,
    _make,
    _prepare,
    _refusing,
    _write,
    chosen_judge,
    refuse_idle_options,
    renamed,
)
from m3et_ros.cli.evaluate.eqa import Ask, evaluate_recordings
from m3et_ros.cli.output import Json, Refused, emit, note, say, table
from m3et_ros.cli.progress import track

Questions = Annotated[
    list[Path] | None,
    typer.Option(
        help="With recordings: question file in OpenEQA's schema, `time` saying the second of the frame; may be given "
        'several times.',
        show_default=False,
    ),
]
Scope = Annotated[
    Literal['moment', 'blind'],
    typer.Option(help='With recordings: answer from the frame that is asked about, or without looking.'),
]


# MERGED from m3et_ros/cli/evaluate
def vqa(
    context: typer.Context,
    bags: Bags = None,
    *,
    model: Model,
    out: Out,
    data: Data = 'test',
    samples: Annotated[int, typer.Option(min=1, help='Questions of each subset.')] = 4000,
    noise: Annotated[
        bool, typer.Option('--noise/--clean', help='Pictures as a camera tells them, or as they are.')
    ] = True,
    without: Annotated[
        list[Sight] | None, typer.Option(help='Withhold this from the model; may be given twice.')
    ] = None,
    write: Annotated[bool, typer.Option('--generate', help='Let the text decoder answer, too.')] = False,
    blind: Annotated[
        str | None, typer.Option(help='A model that answers from the question alone, for comparison.')
    ] = None,
    at_least: Annotated[
        float | None,
        typer.Option(min=0, max=1, help='End with exit code 2 below this accuracy over all families or questions.'),
    ] = None,
    seed: Seed = 0,
    batch: Batch = 32,
    device: Device = 'cpu',
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=256,
            help='Processes that render a standard cache, all processors by default, or that answer '
            'from recordings, one by default.',
            show_default=False,
        ),
    ] = None,
    questions: Questions = None,
    scope: Scope = 'moment',
    camera: Camera = None,
    remaps: Remaps = None,
    train: Train = None,
    judge_url: JudgeUrl = None,
    judge_model: JudgeModel = None,
    judge_prompt: JudgePrompt = None,
    ray: Ray = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Answer questions about kitchens, by family and subset, or about single frames of recordings, by category.

    Beside every accuracy stands what guessing gives. With recordings --questions is needed, in OpenEQA's schema with
    the second of the frame as `time`.
    """
    check_options(context)
    if bags:
        judge = chosen_judge(judge_url, judge_model, judge_prompt)
        ask = Ask(questions or [], out, model, train or [], judge, at_least, workers or 1, ray, device, as_json)
        return vqa_of_bags(
            context, bags, ask, scope=scope, write=write, camera=camera, remaps=remaps or [], threads=threads
        )
    _vqa_of_kitchens(
        context,
        out,
        as_json,
        model=model,
        data=data,
        samples=samples,
        noise=noise,
        write=write,
        without=[sight.name for sight in without or ()],
        blind=blind,
        at_least=at_least,
        seed=seed,
        batch=batch,
        device=device,
        workers=CPUS if workers is None else workers,
    )


def _vqa_of_kitchens(
    context: typer.Context,
    out: Path,
    as_json: bool,
    *,
    model: str,
    data: str,
    samples: int,
    noise: bool,
    write: bool,
    without: list[str],
    blind: str | None,
    at_least: float | None,
    seed: int,
    batch: int,
    device: str,
    workers: int,
) -> None:
    """Ask the questions of a cache; arguments as the options of vqa have them."""
    from m3et_ros.evaluation.tasks.vqa import NOISE, SHOWN, subset_samples

    _make(out)
    subject, folder, recipe = _prepare(model, data, device, workers)
    guesser = _checkpoint(blind, recipe, device) if blind else None
    found, empty = _refusing(subset_samples, folder, length=samples, noise=NOISE if noise else None, seed=seed)
    shown = tuple(name for name in SHOWN if name not in without)
    replies = {
        name: _ask(subject, drawn, f'questions, {name}', shown=shown, write=write, batch=batch)
        for name, drawn in found.items()
    }
    guesses = (
        {
            name: _ask(guesser, drawn, f'questions, {name}, blind', shown=(), batch=batch)
            for name, drawn in found.items()
        }
        if guesser
        else {}
    )
    metrics = _vqa_metrics(found, empty, replies, guesses)
    settings = {
        'seed': seed,
        'samples': samples,
        'batch': batch,
        'shown': list(shown),
        'noise': asdict(NOISE) if noise else None,
        'blind_model': guesser.model_id if guesser else None,
    }
    document = _write(
        out,
        context,
        subject,
        recipe,
        settings,
        metrics,
        [
            {'subset': name, **asdict(reply)} | ({'guessed': guesses[name][reply.index].predicted} if guesser else {})
            for name, own in replies.items()
            for reply in own
        ],
    )
    _draw_replies(out, subject.model_id, found['all'], replies['all'])
    emit(document) if as_json else _tell_vqa(metrics, out)
    reached = metrics['subsets']['all']['accuracy']['value']
    if at_least is not None and reached < at_least:
        note(f'accuracy {reached:.4f} is below {at_least}')
        raise typer.Exit(BELOW)


def _ask(checkpoint: Any, samples: Any, what: str, **options: Any) -> list:
    from m3et_ros.evaluation.tasks.vqa import ask

    return _refusing(
        ask,
        checkpoint.model,
        checkpoint.tokenizer,
        samples,
        answers=checkpoint.labels.answers,
        progress=track,
        what=what,
        **options,
    )


def _vqa_metrics(found: dict, empty: dict, replies: dict, guesses: dict) -> dict[str, Any]:
    from m3et_ros.evaluation.tasks.vqa import gap, scores_of, vqa_scores

    subsets: dict[str, Any] = {name: scores_of(own, found[name].balance) for name, own in replies.items()}
    for name, own in guesses.items():
        subsets[name]['blind_model'] = vqa_scores(own, found[name].balance)
    return {
        'subsets': subsets,
        'left_out': empty,
        'gaps': {
            name: gap(replies['seen'], replies[name])
            for name in ('held_out', 'textures')
            if name in replies and 'seen' in replies
        },
    }


def _draw_replies(out: Path, model_id: str, drawn: Any, replies: list) -> None:
    from m3et_ros.evaluation.report.files import PICTURES
    from m3et_ros.evaluation.report.pictures import choose_replies, draw_replies

    draw_replies(
        [(reply, drawn[reply.index].rgb) for reply in choose_replies(replies)],
        out / PICTURES / 'answers.png',
        f'{model_id} on {drawn.split} kitchens: right answers, then wrong ones',
    )


def _tell_vqa(metrics: dict[str, Any], out: Path) -> None:
    heads = ('accuracy', '95 % interval', 'best blind', 'majority', 'questions')

    def row(name: str, part: dict) -> tuple:
        return (
            name,
            f'{part["accuracy"]["value"]:.3f}',
            _interval(part['accuracy'], 3),
            f'{part["best_blind"]:.3f}',
            f'{part["majority"]:.3f}',
            f'{part["samples"]:,}',
        )

    rows = [row(name, part) for name, part in metrics['subsets'].items()]
    whole = metrics['subsets']['all']
    for extra in ('answerable_from_one_frame', 'written', 'blind_model'):
        if extra in whole:
            rows.append(row(f'all, {extra.replace("_", " ")}', whole[extra]))
    say(table([('subset', *heads), *rows], right=(1, 3, 4, 5)))
    say()
    say(table([('family', *heads), *(row(*item) for item in whole['families'].items())], right=(1, 3, 4, 5)))
    say(f'\nAll of it in {out}.')


# MERGED m3et_ros/cli/evaluate_vqa: `m3et evaluate vqa BAG...`: questions about single frames of recordings, in the place of a cache of kitchens.
#
# MERGED     m3et record kitchens --vqa --seed 20000 --episodes 4 --questions 100
# MERGED     m3et evaluate vqa kitchens/2* --questions kitchens/questions.json --model kitchen --out results/vqa
#
# MERGED --out gets what `m3et evaluate eqa` writes, by the same rules.
OF_KITCHENS = ('data', 'samples', 'noise', 'without', 'blind', 'seed', 'batch')
OF_BAGS = (
    'questions',
    'scope',
    'camera',
    'remaps',
    'train',
    'judge_url',
    'judge_model',
    'judge_prompt',
    'ray',
    'threads',
)
"""Options that have a meaning for one of the two alone."""


def check_options(context: typer.Context) -> None:
    """See that no option was given that would be passed over.

    Raises:
        Refused: one was, or there are recordings without questions.
    """
    refuse_idle_options(context, OF_KITCHENS, OF_BAGS)
    if context.params['bags'] and not context.params['questions']:
        raise Refused(
            'recordings were given without questions about them; give --questions (m3et record --vqa writes '
            'such a file).'
        )


def vqa_of_bags(
    context: typer.Context,
    bags: list[Path],
    ask: Ask,
    *,
    scope: str,
    write: bool,
    camera: str | None,
    remaps: list[str],
    threads: int,
) -> None:
    """Answer questions about single frames of recordings; arguments as the options of `m3et evaluate vqa` have them.

    Raises:
        InputError, Refused, typer.Exit: as evaluate_eqa.evaluate_recordings.
    """
    from m3et_ros.evaluation.tasks.eqa import EqaTask

    task = EqaTask(scope, write, camera=camera, remaps=renamed(remaps), threads=threads)
    evaluate_recordings(context, bags, task, ask)
