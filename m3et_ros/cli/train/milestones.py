"""Checkpoints that a long run writes while it goes on, so that it can be measured and used before its end."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from m3et_ros.cli.output import print_status

if TYPE_CHECKING:
    from m3et_ros.data.checkpoints.m3et import Checkpoint
    from m3et_ros.training.run_state import Milestone, Outcome

MILESTONES = 'milestones'
"""Folder in the folder of a run; a checkpoint in it is named after its step, with eight digits."""
KEPT = 2
"""Newest checkpoints that stay: whoever reads the last one still finds it when the next is written."""


def milestone_writer(out: Path, checkpoint: 'Checkpoint', card: Callable[['Outcome'], str]) -> 'Milestone':
    """Return a milestone for training.run_state.TrainingSession that writes a checkpoint and drops old ones.

    Args:
        out: folder of the run.
        checkpoint: everything but the weights.
        card: makes the model card of a point of the run.
    """
    from m3et_ros.data.checkpoints.m3et import save_checkpoint

    def write(outcome: 'Outcome', model) -> None:
        folder = out / MILESTONES / f'{outcome.step:08d}'
        # A folder takes its name when it is complete.
        part = folder.with_suffix('.part')
        for old in (part, folder):
            shutil.rmtree(old, ignore_errors=True)
        model_id = save_checkpoint(part, replace(checkpoint, model=model, trained=True), card=card(outcome))
        part.rename(folder)
        for old in milestones(out)[:-KEPT]:
            shutil.rmtree(old)
        print_status(f'{model_id} of step {outcome.step:,} is in {folder}')

    return write


def milestones(out: Path) -> list[Path]:
    """Return the complete checkpoints of the run in `out`, the oldest first."""
    return sorted(path for path in (out / MILESTONES).glob('*') if path.name.isdigit())
