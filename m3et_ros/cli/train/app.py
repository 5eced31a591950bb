"""`m3et train`: one of the paper's two stages on the simulated kitchen, on recordings and on public data sets.

m3et train pretrain --data cache/kitchen --out runs/one --minutes 60
m3et train pretrain --data cache/kitchen --out runs/one --minutes 60 --resume
m3et train pretrain --data cache/kitchen --bag my_bag --every 3 --out runs/mine
m3et train vqa --data cache/kitchen --from runs/one/checkpoint --out runs/two
m3et train vqa --data vqav2:questions.json,annotations.json,train2014 --from runs/one/checkpoint --out runs/three
torchrun --nproc-per-node 2 -m m3et_ros.cli.main train pretrain --data cache/kitchen --out runs/one
"""

from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m3et_ros.cli.options import Json, expand_options
from m3et_ros.cli.output import Refused, print_json, print_line
from m3et_ros.cli.train.actions import actions
from m3et_ros.cli.train.answers import with_candidates
from m3et_ros.cli.train.common import (
    CHECKPOINT,
    BudgetOptions,
    SessionOptions,
    check_training_split,
    kitchen_lines,
    print_unfinished,
    recipe_line,
)
from m3et_ros.cli.train.hybrid import hybrid
from m3et_ros.cli.train.memory import memory
from m3et_ros.cli.train.milestones import milestone_writer
from m3et_ros.cli.train.start import StartOptions, open_start
from m3et_ros.cli.train.talk import talk
from m3et_ros.cli.training_session import command_line, prepare_training, progress_reporter, stop_on_signal

if TYPE_CHECKING:
    from m3et_ros.data.checkpoints.m3et import Checkpoint

app = typer.Typer(help='Train a model, here or under torchrun.', no_args_is_help=True)
NoiseName = Enum('NoiseName', {'camera': 'camera', 'wide': 'wide'}, type=str)
DEFAULT_NOISE = NoiseName('camera')
BAGS = 'bags'
"""Folder in the folder of the run for the frames of recordings."""


@dataclass(frozen=True, kw_only=True)
class SourceChoice:
    """The data to train on."""

    data: Annotated[
        list[str] | None,
        typer.Option(
            help='Cache of training kitchens, or labelled:DIR, nyu:PATH, vqav2:QUESTIONS,ANNOTATIONS,IMAGES, '
            'imagenet:ROOT, bag:PATH or lerobot:DIR; may be given several times.',
            show_default=False,
        ),
    ] = None
    bag: Annotated[
        list[Path] | None,
        typer.Option(
            help='Recording to pretrain on, with or without depth; may be given several times.', show_default=False
        ),
    ] = None
    every: Annotated[int, typer.Option(min=1, help='Take every n-th frame of a recording only.')] = 1
    questions: Annotated[int, typer.Option(min=1, max=64, help='Number of questions per image, in stage vqa.')] = 8
    noise: Annotated[
        NoiseName,
        typer.Option(
            help='Disturbances of simulated images: those of one camera, or a wide range of cameras, light and holes.'
        ),
    ] = DEFAULT_NOISE
    tempered: Annotated[
        bool,
        typer.Option(
            '--tempered/--even',
            help='Answers of counting and nearest-thing questions by the square root of their frequency, or all '
            'answers of a question equally often.',
        ),
    ] = False

    def names(self) -> list[str]:
        """Return all sources as text, recordings as bag:PATH."""
        return [*(self.data or []), *(f'bag:{path}' for path in self.bag or [])]


@dataclass(frozen=True, kw_only=True)
class StageBudget(BudgetOptions):
    """Fields of the recipe of a stage."""

    optimiser: Annotated[str | None, typer.Option(help='adamw, or muon with it for hidden matrices.')] = None
    average: Annotated[
        float | None,
        typer.Option(
            help='Decay per step, from 0 (the last weights) to below 1, of the averaged weights that the run delivers.'
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class MaskingOptions:
    """The tokens that stay visible in pretraining; None leaves a field at the default of the recipe."""

    visible: Annotated[
        float | None, typer.Option(help='Share of the tokens that stays visible, 0.3 by default.', show_default=False)
    ] = None
    visible_tokens: Annotated[
        int | None, typer.Option(min=1, help='Number of visible tokens in place of a share; MultiMAE shows 98 of 588.')
    ] = None
    alpha: Annotated[
        float | None,
        typer.Option(
            help='Concentration of the Dirichlet draw that divides the visible tokens among the modalities: 1 by '
            'default, below 1 for one modality at a time, above 1 for equal shares.',
            show_default=False,
        ),
    ] = None
    subsets: Annotated[
        bool,
        typer.Option(
            '--subsets',
            help='Show tokens of a random subset of the modalities only, which prepares a model for missing ones.',
        ),
    ] = False

    def given(self) -> dict[str, Any]:
        """Return the fields of the recipe that were given.

        Raises:
            Refused: both a share and a number were given.
        """
        if self.visible is not None and self.visible_tokens is not None:
            raise Refused('--visible and --visible-tokens exclude each other; give one of them.')
        values = {
            'visible': self.visible,
            'tokens': self.visible_tokens,
            'alpha': self.alpha,
            'subsets': self.subsets or None,
        }
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """Folder, processes and checkpoints of a run."""

    out: Annotated[Path, typer.Option(help='Folder of the run: state, log and, at the end, a checkpoint.')]
    workers: Annotated[int, typer.Option(min=0, help='Number of processes that load samples.')] = 0
    milestone_minutes: Annotated[
        float | None,
        typer.Option(
            min=0.1, help='Minutes of training, at least 0.1, between checkpoints in the folder milestones of --out.'
        ),
    ] = None


ORDER = (
    'data bag out every model changes start vocabulary samples batch questions {} noise tempered lr optimiser average '
    'minutes milestone_minutes seed workers bf16 resume as_json'
)


@app.command('pretrain', help='Pretrain: predict hidden patches of colour, depth and labels.')
@expand_options(ORDER.format('visible visible_tokens alpha subsets'))
def pretrain(
    context: typer.Context,
    choice: SourceChoice,
    start: StartOptions,
    budget: StageBudget,
    masking: MaskingOptions,
    session: SessionOptions,
    run: StageRun,
    as_json: Json = False,
) -> int:
    """Train stage 1 on the simulated kitchen, on recordings or on public data sets."""
    prepare_training()
    checkpoint = open_start(start, session.seed)
    recipe = recipe_of('pretrain', budget.given() | masking.given())
    sources = open_sources_of(choice, checkpoint, run.out / BAGS, questions=0, seed=session.seed)
    return train(context, recipe, checkpoint, sources, session, run, as_json=as_json)


@app.command('vqa', help='Train to answer questions, complete depth and segment.')
@expand_options(ORDER.format('answers'))
def vqa(
    context: typer.Context,
    choice: SourceChoice,
    start: StartOptions,
    budget: StageBudget,
    session: SessionOptions,
    run: StageRun,
    answers: Annotated[
        Path | None,
        typer.Option(
            help='File of the candidate answers, a JSON list or a text with one a line; by default those of VQAv2 that '
            'are commonest for nine questions, and those of the model for other sources.',
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Train stage 2 on the simulated kitchen or on public data sets."""
    prepare_training()
    checkpoint = open_start(start, session.seed)
    recipe = recipe_of('vqa', budget.given())
    sources = open_sources_of(choice, checkpoint, run.out / BAGS, questions=choice.questions, seed=session.seed)
    checkpoint = with_candidates(checkpoint, sources, answers, session.seed)
    labels = replace(checkpoint.labels, taught=taught_by(sources, checkpoint.labels.taught))
    return train(context, recipe, replace(checkpoint, labels=labels), sources, session, run, as_json=as_json)


def recipe_of(stage: str, given: dict[str, Any]) -> Any:
    """Return the recipe of a stage with the given fields.

    Raises:
        Refused: a field is out of range.
    """
    from m3et_ros.training.m3et import STAGES

    try:
        return STAGES[stage](**given)
    except ValueError as error:
        raise Refused(f'{error}.') from error


def train(
    context: typer.Context,
    recipe: Any,
    made: 'Checkpoint',
    sources: Any,
    session: SessionOptions,
    options: StageRun,
    *,
    as_json: bool,
) -> int:
    """Train one of the paper's two stages, write the checkpoint and return the exit code.

    Args:
        context: typer context of the verb, for the recorded command.
        recipe: recipe of the stage.
        made: the model to train, with the labels of its checkpoint.
        sources: the data set, as from `open_sources_of`.
        session: minutes, seed, precision and resume.
        options: folder and processes.
        as_json: print JSON.

    Raises:
        InputError: as training.m3et.run.
    """
    from m3et_ros.training.m3et import run
    from m3et_ros.training.run_state import TrainingSession

    out, before, command = options.out, made.model_id, command_line(context)

    def card(outcome: Any) -> str:
        return model_card(before, recipe, outcome, sources, session.seed, command)

    with stop_on_signal() as stop:
        outcome, trained, main = run(
            recipe,
            made,
            sources,
            out,
            seed=session.seed,
            session=TrainingSession(
                minutes=session.minutes,
                milestone_minutes=options.milestone_minutes,
                workers=options.workers,
                bf16=session.bf16,
                resume=session.resume,
                report=progress_reporter(),
                milestone=milestone_writer(out, made, card),
                stop=stop,
            ),
        )
    if main:
        _save(out / CHECKPOINT, replace(made, model=trained, trained=True), outcome, card(outcome), as_json=as_json)
    return stop.code if outcome.step < outcome.steps else 0


def taught_by(sources: Any, before: Any = None) -> Any:
    """Return the questions of sources, for the labels of a checkpoint; an empty Taught where others than kitchens ask.

    Labelled recordings ask what the model was taught before, in the same wordings.

    Args:
        sources: the data set, as from `open_sources_of`.
        before: questions of the model at the start; None where its checkpoint does not say.
    """
    from m3et_ros.data.kitchen.cache.recipe import read_recipe
    from m3et_ros.data.kitchen.questions.taught import kitchen_taught
    from m3et_ros.data.questions.taught import Taught

    others = [name for name in sources.names if not name.startswith('labelled:')]
    if len(others) < len(sources.names) and len(others) == bool(sources.caches):
        return before
    if not sources.caches or len(sources.names) > 1:
        return Taught({})
    return kitchen_taught(version=read_recipe(sources.caches[0]).version)


def _save(folder: Path, checkpoint: 'Checkpoint', outcome: Any, card: str, *, as_json: bool) -> None:
    """Write the checkpoint and print the outcome."""
    from m3et_ros.data.checkpoints.m3et import save_checkpoint

    model_id = save_checkpoint(folder, checkpoint, card=card)
    if as_json:
        print_json({'model_id': model_id, 'checkpoint': str(folder), **asdict(outcome)})
        return
    print_line(f'{model_id} in {folder}: {outcome.samples:,} samples, {outcome.step:,} of {outcome.steps:,} steps.')
    if outcome.step < outcome.steps:
        print_unfinished()


def open_sources_of(choice: SourceChoice, checkpoint: 'Checkpoint', cache: Path, *, questions: int, seed: int) -> Any:
    """Open all sources as one data set.

    Args:
        choice: the sources.
        checkpoint: the model to train.
        cache: folder for the frames of recordings.
        questions: questions of each image of the kitchen; 0 for none.
        seed: seed of noise and draws.

    Raises:
        InputError: a source cannot be read.
        Refused: there is no source, or one does not fit the stage.
    """
    from m3et_ros.data.datasets.sources import SourceOptions, open_sources

    if not choice.names():
        raise Refused('There is nothing to train on; give --data or --bag.')
    config = checkpoint.model.config
    options = SourceOptions(
        checkpoint.labels.classes,
        config.image_size,
        cache,
        metric=config.depth_norm == 'fixed',
        every=choice.every,
        seed=seed,
    )
    try:
        return open_sources(
            choice.names(),
            options,
            kitchen=lambda folders: _open_kitchens(folders, choice, questions=questions, seed=seed),
            labelled=lambda folder: _open_labelled(folder, checkpoint, questions=questions, seed=seed),
            questions=questions > 0,
        )
    except ValueError as error:
        raise Refused(str(error)) from error


def _open_kitchens(folders: list[Path], choice: SourceChoice, *, questions: int, seed: int) -> Any:
    """Open caches of training kitchens with noise, and with questions unless that is 0."""
    from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
    from m3et_ros.data.kitchen.questions.balance import TEMPERED
    from m3et_ros.data.kitchen.sim.vocabulary import CLASSES
    from m3et_ros.data.noise import noise_of

    check_training_split(folders)
    try:
        return KitchenSamples(
            folders,
            questions=questions > 0,
            each=max(questions, 1),
            noise=noise_of(choice.noise.value, CLASSES),
            temper=TEMPERED if choice.tempered and questions else None,
            seed=seed,
        )
    except ValueError as error:
        raise Refused(str(error)) from error


def _open_labelled(folder: Path, checkpoint: 'Checkpoint', *, questions: int, seed: int) -> Any:
    """Open the training split of a labelled recording, with questions unless that is 0."""
    from m3et_ros.data.labelled.samples import HOLED, LabelledSamples

    labels = checkpoint.labels
    data = LabelledSamples(
        folder, classes=labels.classes, answers=labels.answers, each=questions, noise=HOLED, seed=seed
    )
    if questions and not data.has_questions:
        raise Refused(
            f'labelled:{folder} asks no question that {checkpoint.model_id} has the answers to; label it with a '
            'teacher of things, or use m3et teach, which adds answers.'
        )
    return data


def model_card(before: str, recipe: Any, outcome: Any, sources: Any, seed: int, command: str) -> str:
    """Return the model card: what was done and measured, nothing else.

    Args:
        before: id of the model at the start.
        recipe: recipe of the stage.
        outcome: outcome of the training.
        sources: the data set, as from `open_sources_of`.
        seed: seed of the run.
        command: command that repeats it.
    """
    places = []
    if sources.caches:
        places.append('in the simulated kitchen')
    if len(sources.names) > len(places):
        places.append('on other data')
    return '\n'.join(
        [
            f'# M3ET trained {" and ".join(places)}',
            '',
            f'Started from `{before}`. Made by:',
            '',
            f'    {command}',
            '',
            '## Training',
            '',
            f'- steps: {outcome.step:,} of {outcome.steps:,}',
            f'- samples seen: {outcome.samples:,}',
            f'- minutes: {outcome.seconds / 60:.1f}',
            f'- seed: {seed}',
            recipe_line(recipe),
            '',
            '## Data',
            '',
            *(
                f'- {name}: {count:,} samples an epoch'
                for name, count in zip(sources.names, sources.parts, strict=True)
            ),
            *kitchen_lines(sources.caches),
            '',
            '## Losses',
            '',
            'Means of the last steps on training data, weighted as in the recipe; not a test result.',
            '',
            *(f'- {name}: {value:.4f}' for name, value in outcome.losses.items()),
            '',
        ]
    )


app.command('actions')(actions)
app.command('memory')(memory)
app.command('talk')(talk)
app.command('hybrid')(hybrid)
