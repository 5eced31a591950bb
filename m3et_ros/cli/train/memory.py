"""`m3et train memory`: a memory of episodes in constant size, which reads the tokens of a trained model.

    m3et generate cache --seeds 0:640 --stride 4 --frames 100
    m3et train memory --data cache/kitchen-... --out runs/memory

The model encodes every frame once and does not change; then percepts, action log and answers of the memory are trained
one after the other. The checkpoint is that model with the memory and with the heads that it had.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m3et_ros.cli.options import Json, expand_options
from m3et_ros.cli.output import Refused, print_json, print_line
from m3et_ros.cli.progress import track
from m3et_ros.cli.train.common import CHECKPOINT, check_training_split, kitchen_lines, recipe_line
from m3et_ros.cli.training_session import command_line, prepare_training, progress_reporter, stop_on_signal
from m3et_ros.data.checkpoints import DEFAULT_MODEL

if TYPE_CHECKING:
    from m3et_ros.training.loop import Outcome
    from m3et_ros.training.memory.run import MemoryRecipe

STEPS = ('eye', 'diary', 'reader')
"""Names of the three steps in JSON and in the model card."""


@dataclass(frozen=True, kw_only=True)
class MemoryBudget:
    """Sizes of the three steps; None leaves one at the default of its recipe."""

    frames: Annotated[int | None, typer.Option(min=1, help='Number of frames to train the percepts on.')] = None
    episodes: Annotated[
        int | None, typer.Option(min=1, help='Number of episodes to train the action log on, with repeats.')
    ] = None
    asked: Annotated[
        int | None, typer.Option(min=1, help='Number of episodes to train the answers on, with repeats.')
    ] = None
    batch: Annotated[int | None, typer.Option(min=1, help='Number of frames or episodes in one step.')] = None
    questions: Annotated[int, typer.Option(min=1, max=40, help='Number of questions per moment in one step.')] = 16


@dataclass(frozen=True, kw_only=True)
class MemorySession:
    """Options of one session of a run."""

    minutes: Annotated[
        float | None, typer.Option(min=0, help='Stop each step after this many minutes; the same command continues.')
    ] = None
    seed: Annotated[int, typer.Option(min=0, help='Seed of weights, order and wordings.')] = 0
    bf16: Annotated[bool, typer.Option('--bf16', help='Matrix products in bfloat16.')] = False


@expand_options('data out start frames episodes asked batch questions minutes seed bf16 as_json')
def memory(
    context: typer.Context,
    data: Annotated[
        list[Path],
        typer.Option(help='Cache of training kitchens with questions about episodes; may be given several times.'),
    ],
    out: Annotated[Path, typer.Option(help='Folder of the run: frames, states, logs and, at the end, a checkpoint.')],
    budget: MemoryBudget,
    session: MemorySession,
    start: Annotated[
        str, typer.Option('--from', help='Model that encodes the frames: checkpoint folder or named size.')
    ] = DEFAULT_MODEL,
    as_json: Json = False,
) -> int:
    """Train a memory of episodes that answers questions about them."""
    prepare_training()
    from m3et_ros.data.checkpoints.m3et import save_checkpoint
    from m3et_ros.runtime.open_model import open_checkpoint
    from m3et_ros.training.memory.run import train_memory
    from m3et_ros.training.run_state import TrainingSession

    check_training_split(data)
    checkpoint = open_checkpoint(start)
    try:
        recipe = memory_recipe(budget)
        with stop_on_signal() as stop:
            head, outcomes = train_memory(
                checkpoint,
                data,
                out,
                recipe=recipe,
                seed=session.seed,
                session=TrainingSession(
                    minutes=session.minutes, bf16=session.bf16, resume=True, report=progress_reporter(), stop=stop
                ),
                progress=track,
            )
    except ValueError as error:
        raise Refused(f'{error}.') from error
    card = model_card(checkpoint.model_id, recipe, outcomes, data, session.seed, command_line(context))
    with_memory = replace(checkpoint, heads={**checkpoint.heads, 'episode': head})
    model_id = save_checkpoint(out / CHECKPOINT, with_memory, card=card)
    done = len(outcomes) == len(STEPS) and all(one.step == one.steps for one in outcomes.values())
    if as_json:
        print_json(
            {
                'model_id': model_id,
                'checkpoint': str(out / CHECKPOINT),
                'done': done,
                'steps': {name: asdict(outcome) for name, outcome in outcomes.items()},
            }
        )
    else:
        print_line(f'{model_id} with a memory in {out / CHECKPOINT}.')
        if not done:
            print_line('The run is not finished: the same command continues it.')
    return 0 if done else stop.code


def memory_recipe(budget: MemoryBudget) -> 'MemoryRecipe':
    """Return the recipe of the memory with the sizes that were given.

    Raises:
        ValueError: a size is below one batch.
    """
    from m3et_ros.training.memory.run import MemoryRecipe

    recipe = MemoryRecipe(each=budget.questions)
    steps = {}
    for name, samples in (('see', budget.frames), ('tell', budget.episodes), ('remember', budget.asked)):
        sizes = {'samples': samples, 'batch': budget.batch}
        steps[name] = replace(
            getattr(recipe, name), **{key: value for key, value in sizes.items() if value is not None}
        )
    return replace(recipe, **steps)


def model_card(
    before: str, recipe: 'MemoryRecipe', outcomes: 'dict[str, Outcome]', data: list[Path], seed: int, command: str
) -> str:
    """Return the model card of the memory: what was done, nothing else.

    Args:
        before: id of the model that encodes the frames.
        recipe: recipe of the three steps.
        outcomes: outcomes of the steps that were done.
        data: caches of training kitchens.
        seed: seed of the run.
        command: command that repeats it.
    """
    lines = [
        '# Memory of episodes',
        '',
        f'Reads the encodings of `{before}`. Made by:',
        '',
        f'    {command}',
        '',
        f'- seed: {seed}',
        f'- questions of a moment at a time: {recipe.each}',
    ]
    for name, step in zip(STEPS, (recipe.see, recipe.tell, recipe.remember), strict=True):
        if name in outcomes:
            lines += [_outcome_line(name, outcomes[name]), recipe_line(step)]
    return '\n'.join([*lines, *kitchen_lines(data), ''])


def _outcome_line(name: str, outcome: 'Outcome') -> str:
    losses = ', '.join(f'{loss} {value:.4f}' for loss, value in outcome.losses.items())
    return (
        f'- {name}: {outcome.step:,} of {outcome.steps:,} steps, {outcome.samples:,} samples, '
        f'{outcome.seconds / 60:.1f} minutes; {losses}'
    )
