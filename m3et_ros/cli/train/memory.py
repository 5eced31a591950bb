"""`m3et train memory`: an episode remembered in constant size, by a head that reads what a trained model sees.

    m3et generate cache --seeds 0:640 --stride 4 --frames 100
    m3et train memory --data cache/kitchen-... --from kitchen --out runs/memory

Every frame is encoded once by the model, which stays as it is; then eye, diarist and reader of the memory learn one
after the other. The checkpoint is that model with the memory beside it, and with the heads that it had.
"""

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from m3et_ros.cli.output import Json, Refused, emit, say
from m3et_ros.cli.progress import track
from m3et_ros.cli.training_session import asked_to_stop, command_line, teller

CHECKPOINT = 'checkpoint'
STEPS = ('eye', 'diary', 'reader')


def memory(
    context: typer.Context,
    *,
    data: Annotated[
        list[Path],
        typer.Option(help='Cache of training kitchens with questions about episodes; may be given several times.'),
    ],
    out: Annotated[Path, typer.Option(help='Folder of the run: frames, states, logs and, at the end, a checkpoint.')],
    start: Annotated[str, typer.Option('--from', help='Model that sees: checkpoint folder or named size.')] = 'kitchen',
    frames: Annotated[int | None, typer.Option(min=1, help='Frames that the eye learns from.')] = None,
    episodes: Annotated[
        int | None, typer.Option(min=1, help='Episodes that the diarist learns from, repeats counted.')
    ] = None,
    asked: Annotated[
        int | None, typer.Option(min=1, help='Episodes that the reader is asked about, repeats counted.')
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help='Frames or episodes of one step.')] = None,
    questions: Annotated[int, typer.Option(min=1, max=40, help='Questions of a moment at a time.')] = 16,
    minutes: Annotated[
        float | None, typer.Option(min=0, help='Stop each step after so long; the same command goes on.')
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help='Of weights, order and wordings.')] = 0,
    bf16: Annotated[bool, typer.Option('--bf16', help='Matrix products in bfloat16.')] = False,
    as_json: Json = False,
) -> None:
    """Learn to remember episodes and to answer questions about them."""
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    from m3et_ros.data.checkpoints.m3et import save_checkpoint
    from m3et_ros.data.kitchen.cache.recipe import read_recipe
    from m3et_ros.runtime.open_model import open_checkpoint
    from m3et_ros.training.memory.run import MemoryRecipe, Ways, train_memory

    wrong = [folder for folder in data if read_recipe(folder).split != 'train']
    if wrong:
        raise Refused(
            f'The cache {wrong[0]} holds no training kitchens, and no model may learn from others; give one '
            'of the train split.'
        )
    checkpoint = open_checkpoint(start)
    try:
        recipe = _recipe(MemoryRecipe(each=questions), frames, episodes, asked, batch)
        with asked_to_stop() as stop:
            head, outcomes = train_memory(
                checkpoint, data, out, recipe=recipe, seed=seed, ways=Ways(bf16, minutes, track, teller(), stop)
            )
    except ValueError as error:
        raise Refused(f'{error}.') from error
    done = len(outcomes) == len(STEPS) and all(one.step == one.steps for one in outcomes.values())
    card = _card(checkpoint.model_id, recipe, outcomes, data, seed, command_line(context))
    model_id = save_checkpoint(
        out / CHECKPOINT, replace(checkpoint, heads={**checkpoint.heads, 'episode': head}), card=card
    )
    if as_json:
        emit(
            {
                'model_id': model_id,
                'checkpoint': str(out / CHECKPOINT),
                'done': done,
                'steps': {name: asdict(outcome) for name, outcome in outcomes.items()},
            }
        )
        return
    say(f'{model_id} with a memory in {out / CHECKPOINT}.')
    if not done:
        say('The run has not ended: the same command goes on.')


def _recipe(recipe: Any, frames: int | None, episodes: int | None, asked: int | None, batch: int | None) -> Any:
    """The recipe with what was asked for."""
    changed = {}
    for name, samples in (('see', frames), ('tell', episodes), ('remember', asked)):
        given = {key: value for key, value in (('samples', samples), ('batch', batch)) if value is not None}
        changed[name] = replace(getattr(recipe, name), **given)
    return replace(recipe, **changed)


def _card(before: str, recipe: Any, outcomes: dict[str, Any], data: list[Path], seed: int, command: str) -> str:
    """The model card of the memory: what was done, nothing else."""
    from m3et_ros.data.kitchen.cache.recipe import read_recipe

    lines = [
        '# Memory of episodes',
        '',
        f'Reads what `{before}` sees. Made by:',
        '',
        f'    {command}',
        '',
        f'- seed: {seed}',
        f'- questions of a moment at a time: {recipe.each}',
    ]
    for name, plan in zip(STEPS, (recipe.see, recipe.tell, recipe.remember)):
        if name in outcomes:
            outcome = outcomes[name]
            lines += [
                f'- {name}: {outcome.step:,} of {outcome.steps:,} steps, {outcome.samples:,} samples, '
                f'{outcome.seconds / 60:.1f} minutes; '
                + ', '.join(f'{loss} {value:.4f}' for loss, value in outcome.losses.items()),
                f'- recipe {type(plan).__name__}: {", ".join(f"{k} {v}" for k, v in asdict(plan).items())}',
            ]
    lines += [f'- kitchen: {", ".join(f"{k} {v}" for k, v in asdict(read_recipe(folder)).items())}' for folder in data]
    return '\n'.join([*lines, ''])
