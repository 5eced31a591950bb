"""`m3et train hybrid`: replace a share of a trained M3ET's attention by Mamba-2 and distil it (MaTVLM).

    m3et train hybrid --data cache/kitchen --from runs/twin/checkpoint --share 0.5 --out runs/hybrid

The mixers start from the matrices of the attention that they replace; everything else stays the teacher's.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from m3et_ros.cli.options import Json, expand_options
from m3et_ros.cli.output import Refused, print_json, print_line
from m3et_ros.cli.train.common import (
    CHECKPOINT,
    BudgetOptions,
    SessionOptions,
    check_training_split,
    kitchen_lines,
    print_unfinished,
    recipe_line,
)
from m3et_ros.cli.train.talk import Spread
from m3et_ros.cli.training_session import command_line, prepare_training, progress_reporter, stop_on_signal
from m3et_ros.data.checkpoints import DEFAULT_MODEL


@expand_options()
def hybrid(
    context: typer.Context,
    data: Annotated[list[Path], typer.Option(help='Cache of training kitchens; may be given several times.')],
    out: Annotated[Path, typer.Option(help='Folder of the run: state, log and, at the end, a checkpoint.')],
    budget: BudgetOptions,
    session: SessionOptions,
    start: Annotated[
        str, typer.Option('--from', help='Trained M3ET: checkpoint folder or named size.')
    ] = DEFAULT_MODEL,
    share: Annotated[
        float, typer.Option(min=0, max=1, help='Share of the Transformer layers that become Mamba-2, above 0.')
    ] = 0.5,
    spread: Annotated[Spread, typer.Option(help='They are evenly spread, or side by side.')] = Spread.even,
    questions: Annotated[int, typer.Option(min=1, max=64, help='Number of questions per view.')] = 8,
    as_json: Json = False,
) -> int:
    """Replace attention of a trained M3ET by Mamba-2 that imitates it."""
    prepare_training()
    from m3et_ros.data.checkpoints.m3et import save_checkpoint
    from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
    from m3et_ros.runtime.open_model import open_checkpoint
    from m3et_ros.training.hybrid import Imitate, imitate
    from m3et_ros.training.run_state import TrainingSession

    check_training_split(data)
    # Further heads read tokens of the teacher, which the hybrid changes.
    teacher = replace(open_checkpoint(start), heads={})
    try:
        recipe = Imitate(**budget.given())
        samples = KitchenSamples(data, questions=True, each=questions, seed=session.seed)
    except ValueError as error:
        raise Refused(f'{error}.') from error
    with stop_on_signal() as stop:
        chosen = TrainingSession(
            minutes=session.minutes, bf16=session.bf16, resume=session.resume, report=progress_reporter(), stop=stop
        )
        outcome, model, main = imitate(
            recipe, teacher, samples, out, share=share, kind=spread.value, seed=session.seed, session=chosen
        )
    if not outcome.finished:
        print_unfinished(as_json=as_json)
        return stop.code
    if not main:
        return 0
    card = hybrid_card(teacher.model_id, model.config.schedule, command_line(context), recipe, data)
    model_id = save_checkpoint(out / CHECKPOINT, replace(teacher, model=model, trained=True), card=card)
    if as_json:
        print_json({'model_id': model_id, 'checkpoint': str(out / CHECKPOINT), **asdict(outcome)})
    else:
        print_line(f'{model_id} in {out / CHECKPOINT}: layers {model.config.schedule}, {outcome.step:,} steps.')
    return 0


def hybrid_card(teacher: str, schedule: str, command: str, recipe: Any, data: Sequence[Path]) -> str:
    """Return the model card: the teacher, the layers and the command."""
    return '\n'.join(
        [
            f'# A hybrid of {teacher}',
            '',
            f'Layers {schedule}: S is Mamba-2 in the place of attention, distilled from it. Made by:',
            '',
            f'    {command}',
            '',
            recipe_line(recipe),
            *kitchen_lines(data),
            '',
            'Not measured.',
            '',
        ]
    )
