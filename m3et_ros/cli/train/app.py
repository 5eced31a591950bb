"""`m3et train`: one of the paper's two stages on the simulated kitchen, on recordings and on public data sets.

m3et train pretrain --data cache/kitchen --out runs/one --minutes 60
m3et train pretrain --data cache/kitchen --out runs/one --minutes 60 --resume
m3et train pretrain --data cache/kitchen --bag my_bag --every 3 --out runs/mine
m3et train vqa --data cache/kitchen --from runs/one/checkpoint --out runs/two
torchrun --nproc-per-node 2 -m m3et_ros.cli.main train pretrain --data cache/kitchen --out runs/one
"""

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from m3et_ros.cli.output import Json, Refused, emit, say
from m3et_ros.cli.train import actions, memory, talk
from m3et_ros.cli.training_session import asked_to_stop, command_line, teller

app = typer.Typer(help='Train a model, here or under torchrun.', no_args_is_help=True)
CHECKPOINT = 'checkpoint'
BAGS = 'bags'
"""Where in the folder of the run the frames of recordings are laid down."""


@app.command('pretrain', help='Predict hidden patches of colour, depth and labels.')
@app.command('vqa', help='Answer questions, and tell depth and labels of what is seen.')
def train(
    context: typer.Context,
    *,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help='Cache of training kitchens, or nyu:PATH, vqav2:QUESTIONS,ANNOTATIONS,IMAGES, imagenet:ROOT or '
            'bag:PATH; may be given several times.',
            show_default=False,
        ),
    ] = None,
    bag: Annotated[
        list[Path] | None,
        typer.Option(
            help='Recording to pretrain on, with or without depth; may be given several times.', show_default=False
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help='Folder of the run: state, log and, at the end, a checkpoint.')],
    every: Annotated[int, typer.Option(min=1, help='Only every n-th frame of a recording.')] = 1,
    model: Annotated[str, typer.Option(help='Named size with random weights to start from.')] = 'kitchen',
    start: Annotated[Path | None, typer.Option('--from', help='Checkpoint folder to start from instead.')] = None,
    words: Annotated[
        Path | None,
        typer.Option(
            '--tokenizer', help='BERT tokenizer.json or vocab.txt for a new model; else one learnt from the kitchen.'
        ),
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help='Samples of the whole run.')] = None,
    batch: Annotated[int | None, typer.Option(min=1, help='Samples of one step, over all processes.')] = None,
    questions: Annotated[int, typer.Option(min=1, max=64, help='Questions of a picture, stage vqa.')] = 8,
    lr: Annotated[float | None, typer.Option(help='Highest learning rate.')] = None,
    optimiser: Annotated[str | None, typer.Option(help='adamw, or muon beside it for hidden matrices.')] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help='Stop after so long; --resume goes on.')] = None,
    seed: Annotated[int, typer.Option(min=0, help='Of weights, order, noise and masks.')] = 0,
    workers: Annotated[int, typer.Option(min=0, help='Processes that load samples.')] = 0,
    bf16: Annotated[bool, typer.Option('--bf16', help='Matrix products in bfloat16, for GPUs and AMX.')] = False,
    resume: Annotated[bool, typer.Option('--resume', help='Go on with the run in --out.')] = False,
    as_json: Json = False,
) -> None:
    """Do one of the paper's two stages on the simulated kitchen, on recordings or public data sets."""
    # Waiting threads that spin are worse than one thread as soon as another process works; read when torch is loaded.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    from m3et_ros.data.checkpoints.m3et import save_checkpoint
    from m3et_ros.training.loop import TrainingSession
    from m3et_ros.training.m3et import STAGES, run

    stage = context.info_name
    given = {
        name: value
        for name, value in (('samples', samples), ('batch', batch), ('lr', lr), ('optimiser', optimiser))
        if value is not None
    }
    checkpoint = _start(model, start, words, seed)
    try:
        recipe = STAGES[stage](**given)
    except ValueError as error:
        raise Refused(f'{error}.') from error
    sources = _sources(
        [*(data or []), *(f'bag:{path}' for path in bag or [])],
        checkpoint,
        out / BAGS,
        every=every,
        each=questions if stage == 'vqa' else 0,
        seed=seed,
    )
    with asked_to_stop() as stop:
        outcome, trained, main = run(
            recipe,
            checkpoint.model,
            sources,
            tokenizer=checkpoint.tokenizer,
            answers=checkpoint.labels.answers,
            classes=checkpoint.labels.classes,
            folder=out,
            seed=seed,
            tell=teller(),
            stop=stop,
            sitting=TrainingSession(minutes=minutes, workers=workers, bf16=bf16, resume=resume),
        )
    if not main:
        return
    card = _card(checkpoint.model_id, recipe, outcome, sources, seed, command_line(context))
    model_id = save_checkpoint(out / CHECKPOINT, replace(checkpoint, model=trained, trained=True), card=card)
    if as_json:
        emit({'model_id': model_id, 'checkpoint': str(out / CHECKPOINT), **asdict(outcome)})
        return
    say(f'{model_id} in {out / CHECKPOINT}: {outcome.samples:,} samples, {outcome.step:,} of {outcome.steps:,} steps.')
    if outcome.step < outcome.steps:
        say('The run has not ended: the same command with --resume goes on.')


def _start(model: str, start: Path | None, words: Path | None, seed: int) -> Any:
    """The checkpoint whose model is trained; without further heads, which would no longer fit its tokens."""
    from m3et_ros.data.checkpoints.m3et import load_checkpoint, random_checkpoint
    from m3et_ros.data.kitchen.labels import kitchen_labels
    from m3et_ros.data.tokenizer import Tokenizer
    from m3et_ros.models.m3et.sizes import SIZES
    from m3et_ros.runtime.open_model import untrained

    if start is not None and words is not None:
        raise Refused('A checkpoint has its own tokenizer; leave --tokenizer out, or --from.')
    if start is not None:
        return replace(load_checkpoint(start), heads={})
    if model not in SIZES:
        raise Refused(f'There is no model size {model!r}; give one of {", ".join(SIZES)}, or --from a checkpoint.')
    if words is None:
        return replace(untrained(model, seed), heads={})
    tokenizer = Tokenizer.load(words)
    return random_checkpoint(replace(SIZES[model], vocabulary=tokenizer.vocabulary), tokenizer, kitchen_labels(), seed)


def _sources(words: list[str], checkpoint: Any, cache: Path, *, every: int, each: int, seed: int) -> Any:
    """All that is learnt from, as one data set; `each` questions a picture of the kitchen, 0 for none."""
    from m3et_ros.data.datasets.sources import SourceOptions, open_sources

    if not words:
        raise Refused('There is nothing to learn from; give --data or --bag.')
    config = checkpoint.model.config
    opening = SourceOptions(
        checkpoint.labels.classes, config.image_size, cache, metric=config.depth_norm == 'fixed', every=every, seed=seed
    )
    try:
        return open_sources(
            words, opening, kitchen=lambda folders: _kitchens(folders, each=each, seed=seed), questions=each > 0
        )
    except ValueError as error:
        raise Refused(str(error)) from error


def _kitchens(folders: list[Path], *, each: int, seed: int) -> Any:
    """The data set, `each` questions a picture, 0 for none; only training kitchens are let in."""
    from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
    from m3et_ros.data.noise import Noise

    try:
        kitchens = KitchenSamples(folders, questions=each > 0, each=max(each, 1), noise=Noise(), seed=seed)
    except ValueError as error:
        raise Refused(str(error)) from error
    if kitchens.split != 'train':
        raise Refused(
            f'The cache {folders[0]} holds {kitchens.split} kitchens, which no model may learn from; give '
            'one of the train split.'
        )
    return kitchens


def _card(before: str, recipe: Any, outcome: Any, sources: Any, seed: int, command: str) -> str:
    """The model card: what was done and measured, nothing else."""
    from m3et_ros.data.kitchen.cache.recipe import read_recipe

    caches = [
        f'- kitchen: {", ".join(f"{k} {v}" for k, v in asdict(read_recipe(folder)).items())}'
        for folder in sources.caches
    ]
    parts = [f'- {name}: {count:,} samples an epoch' for name, count in zip(sources.names, sources.parts)]
    others = len(sources.names) > bool(sources.caches)
    place = ' and '.join(['in the simulated kitchen'] * bool(sources.caches) + ['on other data'] * others)
    losses = [f'- {name}: {value:.4f}' for name, value in outcome.losses.items()]
    return '\n'.join(
        [
            f'# M3ET trained {place}',
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
            f'- recipe {type(recipe).__name__}: {", ".join(f"{k} {v}" for k, v in asdict(recipe).items())}',
            '',
            '## Data',
            '',
            *parts,
            *caches,
            '',
            '## Losses',
            '',
            'Means of the last steps on training data, weighted as in the recipe; not a test result.',
            '',
            *losses,
            '',
        ]
    )


app.command('actions')(actions.actions)
app.command('memory')(memory.memory)
app.command('talk')(talk.talk)
