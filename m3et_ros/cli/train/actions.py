"""`m3et train actions`: what is done and what comes next, by a head that reads a trained model's tokens.

With --epic DIR --history instead what comes next from labels of the past alone: see cli/train/history.py.

    m3et generate cache --seeds 0:640 --stride 4 --frames 100
    m3et train actions --data cache/kitchen-... --from kitchen --out runs/actions

Every frame is encoded once by the model, which stays as it is; then the head is trained in minutes. The checkpoint is
that model with the head beside it.
"""

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from m3et_ros.cli.output import Json, Refused, emit, say
from m3et_ros.cli.progress import track
from m3et_ros.cli.train.history import HistoryOptions, learn_history
from m3et_ros.cli.training_session import asked_to_stop, command_line, teller

TOKENS, CHECKPOINT = 'tokens', 'checkpoint'


def actions(
    context: typer.Context,
    *,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help='Cache of training kitchens with many frames a second; may be given several times.', show_default=False
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help='Folder of the run: tokens, state, log and, at the end, a checkpoint.')],
    epic: Annotated[
        Path | None,
        typer.Option(help='Folder of the EPIC-KITCHENS-100 annotations, with --history.', show_default=False),
    ] = None,
    history: Annotated[bool, typer.Option('--history', help='Learn from labels of the past, without pixels.')] = False,
    members: Annotated[int, typer.Option(min=1, max=64, help='Models that answer together, --history.')] = 3,
    held_out: Annotated[int, typer.Option(min=0, help='Videos that are not learnt from, --history.')] = 80,
    start: Annotated[
        str, typer.Option('--from', help='Model whose tokens are read: checkpoint folder or named size.')
    ] = 'kitchen',
    tokens: Annotated[Path | None, typer.Option(help='Encoded frames, as of m3et train memory: frames/.')] = None,
    samples: Annotated[int | None, typer.Option(min=1, help='Windows of the whole run.')] = None,
    batch: Annotated[int | None, typer.Option(min=1, help='Windows of one step.')] = None,
    length: Annotated[int, typer.Option(min=2, help='Frames of a window.')] = 100,
    lr: Annotated[float | None, typer.Option(help='Highest learning rate.')] = None,
    shared: Annotated[
        bool, typer.Option('--shared/--disjoint', help='One matrix A for video and questions, or one each.')
    ] = True,
    minutes: Annotated[float | None, typer.Option(min=0, help='Stop after so long; --resume goes on.')] = None,
    seed: Annotated[int, typer.Option(min=0, help='Of weights, order and questions.')] = 0,
    bf16: Annotated[bool, typer.Option('--bf16', help='Encode frames with matrix products in bfloat16.')] = False,
    resume: Annotated[bool, typer.Option('--resume', help='Go on with the run in --out.')] = False,
    as_json: Json = False,
) -> None:
    """Learn what is done and what comes next from episodes (MambaVL)."""
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    from m3et_ros.runtime.open_model import open_checkpoint
    from m3et_ros.training.actions import Act, train_head
    from m3et_ros.training.loop import TrainingSession

    given = {name: value for name, value in (('samples', samples), ('batch', batch), ('lr', lr)) if value is not None}
    if epic or history:
        if not (epic and history) or data:
            raise Refused(
                'Give --epic DIR with --history and without --data: of EPIC-KITCHENS-100 only the labels of '
                'the past are learnt from.'
            )
        wish = HistoryOptions(epic, out, given, members, held_out, seed, minutes, resume, command_line(context))
        return learn_history(wish, as_json=as_json)
    try:
        recipe, checkpoint = Act(**given), open_checkpoint(start)
        windows, head = _prepare(checkpoint, data or [], tokens or out / TOKENS, length, shared, seed, bf16)
    except ValueError as error:
        raise Refused(f'{error}.') from error
    with asked_to_stop() as stop:
        outcome, trained, main = train_head(
            head,
            windows,
            checkpoint.tokenizer,
            checkpoint.model.config.text_length,
            out,
            recipe=recipe,
            seed=seed,
            sitting=TrainingSession(minutes=minutes, resume=resume),
            tell=teller(),
            stop=stop,
        )
    if not main:
        return None
    card = _card(checkpoint.model_id, recipe, outcome, data, seed, command_line(context))
    model_id = _delivered(checkpoint, trained, windows, out / CHECKPOINT, card, seed)
    if as_json:
        emit({'model_id': model_id, 'checkpoint': str(out / CHECKPOINT), **asdict(outcome)})
        return None
    say(f'{model_id} with an action head in {out / CHECKPOINT}: {outcome.step:,} of {outcome.steps:,} steps.')
    if outcome.step < outcome.steps:
        say('The run has not ended: the same command with --resume goes on.')


def _prepare(
    checkpoint: Any, data: list[Path], folder: Path, length: int, shared: bool, seed: int, bf16: bool
) -> tuple[Any, Any]:
    """The windows to learn from, and a head with random weights."""
    import torch

    from m3et_ros.data.features import watch_episodes
    from m3et_ros.data.kitchen.cache.episodes import frame_rate
    from m3et_ros.data.kitchen.cache.recipe import read_recipe
    from m3et_ros.models.actions.mambavl import MambaVL
    from m3et_ros.runtime.open_model import action_config
    from m3et_ros.training.actions import Windows

    if not data:
        raise Refused('There is nothing to learn from; give --data.')
    wrong = [folder for folder in data if read_recipe(folder).split != 'train']
    if wrong:
        raise Refused(
            f'The cache {wrong[0]} holds no training kitchens, and no model may learn from others; give one '
            'of the train split.'
        )
    config = action_config(checkpoint.model.config, checkpoint.labels, rate_hz=frame_rate(data), shared_A=shared)
    tokens, episodes = watch_episodes(checkpoint, data, folder, bf16=bf16, progress=track)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = MambaVL(config)
    return Windows(tokens, episodes, checkpoint.labels, length=length, seed=seed), head


def _delivered(checkpoint: Any, head: Any, windows: Any, folder: Path, card: str, seed: int) -> str:
    """Teach the head the last thing, whether anything is being done, and store it beside its model: the model's id."""
    from m3et_ros.data.checkpoints.m3et import save_checkpoint
    from m3et_ros.training.actions import teach_busy

    teach_busy(head, windows.tokens, windows.episodes, seed=seed)
    return save_checkpoint(folder, replace(checkpoint, heads={**checkpoint.heads, 'mambavl': head}), card=card)


def _card(before: str, recipe: Any, outcome: Any, data: list[Path], seed: int, command: str) -> str:
    """The model card of the head: what was done, nothing else."""
    from m3et_ros.data.kitchen.cache.recipe import read_recipe

    return '\n'.join(
        [
            '# Action head (MambaVL)',
            '',
            f'Reads the tokens of `{before}`. Made by:',
            '',
            f'    {command}',
            '',
            f'- steps: {outcome.step:,} of {outcome.steps:,}',
            f'- windows seen: {outcome.samples:,}',
            f'- minutes: {outcome.seconds / 60:.1f}',
            f'- seed: {seed}',
            f'- recipe {type(recipe).__name__}: {", ".join(f"{k} {v}" for k, v in asdict(recipe).items())}',
            *(f'- kitchen: {", ".join(f"{k} {v}" for k, v in asdict(read_recipe(folder)).items())}' for folder in data),
            *(f'- {name}: {value:.4f}' for name, value in outcome.losses.items()),
            '',
        ]
    )
