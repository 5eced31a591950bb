"""`m3et train actions`: an action head that reads the tokens of a trained model (MambaVL).

    m3et generate cache --seeds 0:640 --stride 4 --frames 100
    m3et train actions --data cache/kitchen-... --out runs/actions

The model encodes every frame once and does not change; then the head is trained within minutes. The checkpoint is that
model with the head. With --epic DIR --history a model learns from past labels alone instead: see history.py. With
--epic DIR --features DIR or --frames DIR it is the published head on clips of EPIC-KITCHENS-100: see clips.py.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from m3et_ros.cli.options import Json, expand_options
from m3et_ros.cli.output import Refused, print_json, print_line
from m3et_ros.cli.progress import track
from m3et_ros.cli.train.clips import ClipOptions, ClipSource, train_on_clips
from m3et_ros.cli.train.common import (
    CHECKPOINT,
    BudgetOptions,
    SessionOptions,
    check_training_split,
    kitchen_lines,
    print_unfinished,
    recipe_line,
)
from m3et_ros.cli.train.history import HistoryOptions, train_on_labels
from m3et_ros.cli.training_session import command_line, prepare_training, progress_reporter, stop_on_signal
from m3et_ros.data.checkpoints import DEFAULT_MODEL

if TYPE_CHECKING:
    from m3et_ros.data.checkpoints.m3et import Checkpoint
    from m3et_ros.models.actions.mambavl import MambaVL
    from m3et_ros.training.actions import Windows

TOKENS = 'tokens'
Form = Literal['stream', 'paper']


@dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """The action head and the model whose tokens it reads."""

    start: Annotated[
        str, typer.Option('--from', help='Model whose tokens are read: checkpoint folder or named size.')
    ] = DEFAULT_MODEL
    tokens: Annotated[
        Path | None, typer.Option(help='Folder of encoded frames, such as frames/ of m3et train memory.')
    ] = None
    length: Annotated[int, typer.Option(min=2, help='Number of frames in a window.')] = 100
    form: Annotated[
        Form,
        typer.Option(
            help='stream: one token a frame, a fading mean, a hidden layer and a table of what follows; paper: the '
            'plain mean of all patches, linear classes, and words with positions, for windows of few frames.'
        ),
    ] = 'stream'
    shared: Annotated[
        bool, typer.Option('--shared/--disjoint', help='One matrix A for video and questions, or one each.')
    ] = True


@expand_options(
    'data out epic history members held_out held_out_people features frames fps task clip questions mixup qa augmented '
    'start tokens samples batch length lr form shared minutes seed bf16 resume as_json'
)
def actions(
    context: typer.Context,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help='Cache of training kitchens with several frames a second; may be given several times.',
            show_default=False,
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help='Folder of the run: tokens, state, log and, at the end, a checkpoint.')],
    history: HistoryOptions,
    clips: ClipOptions,
    head: HeadOptions,
    budget: BudgetOptions,
    session: SessionOptions,
    as_json: Json = False,
) -> int:
    """Train an action head (MambaVL) to recognise current actions and anticipate next ones."""
    prepare_training()
    ways = [history.history, clips.features is not None, clips.frames is not None]
    if history.epic or any(ways):
        if data or history.epic is None or sum(ways) != 1:
            raise Refused(
                'Give --epic DIR with --history (past labels only), --features DIR or --frames DIR, one of the three, '
                'and without --data.'
            )
        command = command_line(context)
        if history.history:
            return train_on_labels(history, out, budget, session, command, as_json=as_json)
        source = ClipSource(history.epic, history.held_out, head.start, head.shared)
        return train_on_clips(clips, source, out, budget, session, command, as_json=as_json)
    return train_on_tokens(context, data or [], out, head, budget, session, as_json=as_json)


def train_on_tokens(
    context: typer.Context,
    data: list[Path],
    out: Path,
    options: HeadOptions,
    budget: BudgetOptions,
    session: SessionOptions,
    *,
    as_json: bool,
) -> int:
    """Encode the frames, train the head, and write the model with its head; return the exit code.

    Args:
        context: typer context of the verb, for the recorded command.
        data: caches of training kitchens.
        out: folder of the run.
        options: head and model.
        budget: fields of the recipe.
        session: minutes, seed, precision and resume.
        as_json: print JSON.

    Raises:
        InputError: the model or a cache cannot be opened.
        Refused: there is nothing to train on, or it does not fit the options.
    """
    from m3et_ros.runtime.open_model import open_checkpoint
    from m3et_ros.training.actions import Act, train_head, train_idle_detection
    from m3et_ros.training.run_state import TrainingSession

    try:
        recipe, checkpoint = Act(**budget.given()), open_checkpoint(options.start)
        windows, head = prepare_head(checkpoint, data, options.tokens or out / TOKENS, options, session)
    except ValueError as error:
        raise Refused(f'{error}.') from error
    with stop_on_signal() as stop:
        outcome, trained, main = train_head(
            head,
            windows,
            checkpoint.tokenizer,
            checkpoint.model.config.text_length,
            out,
            recipe=recipe,
            seed=session.seed,
            session=TrainingSession(
                minutes=session.minutes, resume=session.resume, report=progress_reporter(), stop=stop
            ),
        )
    code = stop.code if outcome.step < outcome.steps else 0
    if not main:
        return code
    if trained.busy_head is not None:
        train_idle_detection(trained, windows.tokens, windows.episodes, seed=session.seed)
    card = model_card(checkpoint.model_id, recipe, outcome, data, session.seed, command_line(context))
    _save(out / CHECKPOINT, checkpoint, trained, outcome, card, as_json=as_json)
    return code


def prepare_head(
    checkpoint: 'Checkpoint', data: list[Path], folder: Path, options: HeadOptions, session: SessionOptions
) -> 'tuple[Windows, MambaVL]':
    """Encode the frames of caches, and make a head with random weights.

    Args:
        checkpoint: the model that encodes.
        data: caches of training kitchens.
        folder: folder of the encoded frames.
        options: length of the windows, and form of the head.
        session: seed and precision.

    Returns:
        The windows to train on, and the head.

    Raises:
        Refused: there is nothing to train on, or a cache is of another split.
        ValueError: no episode is long enough.
    """
    import torch

    from m3et_ros.data.features.episodes import encode_episodes
    from m3et_ros.data.kitchen.cache.episodes import frame_rate
    from m3et_ros.models.actions.mambavl import MambaVL
    from m3et_ros.runtime.open_model import action_config
    from m3et_ros.training.actions import Windows

    if not data:
        raise Refused('There is nothing to train on; give --data.')
    check_training_split(data)
    config = action_config(
        checkpoint.model.config,
        checkpoint.labels,
        paper=options.form == 'paper',
        rate_hz=frame_rate(data),
        shared_A=options.shared,
    )
    tokens, episodes = encode_episodes(
        checkpoint, data, folder, bf16=session.bf16, whole=options.form == 'paper', progress=track
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(session.seed)
        head = MambaVL(config)
    return Windows(tokens, episodes, checkpoint.labels, length=options.length, seed=session.seed), head


def _save(folder: Path, checkpoint: 'Checkpoint', head: Any, outcome: Any, card: str, *, as_json: bool) -> None:
    """Write the model with its head and print the outcome."""
    from m3et_ros.data.checkpoints.m3et import save_checkpoint

    with_head = replace(checkpoint, heads={**checkpoint.heads, 'mambavl': head})
    model_id = save_checkpoint(folder, with_head, card=card)
    if as_json:
        print_json({'model_id': model_id, 'checkpoint': str(folder), **asdict(outcome)})
        return
    print_line(f'{model_id} with an action head in {folder}: {outcome.step:,} of {outcome.steps:,} steps.')
    if outcome.step < outcome.steps:
        print_unfinished()


def model_card(before: str, recipe: Any, outcome: Any, data: list[Path], seed: int, command: str) -> str:
    """Return the model card of the head: what was done, nothing else.

    Args:
        before: id of the model whose tokens the head reads.
        recipe: recipe of the training.
        outcome: outcome of the training.
        data: caches of training kitchens.
        seed: seed of the run.
        command: command that repeats it.
    """
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
            recipe_line(recipe),
            *kitchen_lines(data),
            *(f'- {name}: {value:.4f}' for name, value in outcome.losses.items()),
            '',
        ]
    )
