"""Fit the schedule of both stages to the minutes that there are: measure a few steps, and plan how many will be done.

The learning rate of a recipe falls to 0 over its samples, so a stage that is planned for its time ends there.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.class_names import ClassNames
from m3et_ros.runtime.fused_scans import use_fused
from m3et_ros.runtime.kernels import use_built
from m3et_ros.training.loop import Objective
from m3et_ros.training.m3et import Answer, Collate, Pretrain
from m3et_ros.training.optim import build_optimiser
from m3et_ros.training.recipe import Recipe

TRIAL_S, TRIAL_SHARE = 12.0, 0.05
"""Longest trial of a stage in seconds, so that both take less than half a minute, and as a share of the time left."""
GRACE_S = 300.0
"""Seconds by which a stage may exceed its time, if the machine has become slower, before it is cut off."""
TRIAL_STEPS = 12
RESERVE = 0.85
"""Share of the time of a stage that is planned: a machine slows down when it does something else."""
SHARES = {'pretrain': 0.25, 'vqa': 0.75}
"""Share of the training time of each stage."""
LEAST_STEPS = 4
BATCH = 16
EACH = 8
"""Questions of a sample."""
RATES = {'pretrain': 3e-4, 'vqa': 3e-4}
"""Highest learning rates: a third of those of the shipped weights, which start from nothing."""


def recipes(checkpoint: Checkpoint, *, samples: int, questions: bool, masks: bool) -> dict[str, Recipe]:
    """Return the recipes of both stages, with any number of steps.

    Args:
        checkpoint: the student.
        samples: training samples that there are; a batch has at most so many.
        questions: the data ask questions. Without them stage 2 learns depth and segmentation alone.
        masks: the data have masks; without them nothing can be pointed at.
    """
    batch = min(BATCH, samples)
    # Weights without a channel of validity fill holes from colours alone (runtime.engine), so half of the steps do.
    drop = 0.15 if checkpoint.model.config.depth_validity else 0.5
    answer = Answer(samples=batch, batch=batch, lr=RATES['vqa'], drop_depth=drop)
    if not questions:
        answer = replace(answer, answer=0, words=0, pointing=0, slots=0, silent=1.0)
    if not masks:
        answer = replace(answer, pointing=0, slots=0)
    return {'pretrain': Pretrain(samples=batch, batch=batch, lr=RATES['pretrain']), 'vqa': answer}


def seconds_per_step(
    recipe: Recipe, checkpoint: Checkpoint, data: Any, *, seed: int, workers: int, bf16: bool, left: float
) -> float:
    """Measure a step on a copy of the model, which stays as it is.

    Args:
        recipe: the stage.
        checkpoint: the student.
        data: its data set.
        seed: seed of the draws.
        workers: processes that load samples.
        bf16: matrix products in bfloat16.
        left: seconds to the end of the lesson, of which a trial takes TRIAL_SHARE, or one step.
    """
    use_built()
    use_fused()
    model = copy.deepcopy(checkpoint.model).train()
    labels = checkpoint.labels
    naming = ClassNames(checkpoint.tokenizer, labels.classes) if isinstance(recipe, Answer) and labels.classes else None
    collate = Collate(model.config, checkpoint.tokenizer, tuple(labels.answers), naming)
    optimizer = build_optimiser(
        model, kind=recipe.optimiser, weight_decay=recipe.weight_decay, layer_decay=1.0, encoder_scale=1.0
    )
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)).tolist()
    batches = [order[i : i + recipe.batch] for i in range(0, len(order) - recipe.batch + 1, recipe.batch)]
    loader = DataLoader(data, batch_sampler=batches * TRIAL_STEPS, collate_fn=collate, num_workers=workers)
    spent: list[float] = []
    started = before = time.monotonic()
    device, objective = next(model.parameters()).device, Objective(model, recipe, bf16=bf16)
    for number, (batch, _) in enumerate(loader):
        objective({name: value.to(device) for name, value in batch.items()}, number)[0].backward()
        optimizer.step()
        optimizer.zero_grad()
        now = time.monotonic()
        spent.append(now - before)
        before = now
        if len(spent) > TRIAL_STEPS or now - started > min(TRIAL_S, TRIAL_SHARE * left):
            break
    # The first step pays for what later ones find ready.
    later = spent[1:] or spent
    return sum(later) / len(later)


def planned(recipe: Recipe, seconds: float, step_s: float) -> Recipe:
    """Return the recipe with as many steps as fit into some seconds, at least LEAST_STEPS."""
    steps = max(int(RESERVE * seconds / step_s), LEAST_STEPS)
    return replace(recipe, samples=steps * recipe.batch)


def split_minutes(seconds: float, names: Sequence[str]) -> dict[str, float]:
    """Divide some seconds among stages by their shares."""
    total = sum(SHARES[name] for name in names)
    return {name: seconds * SHARES[name] / total for name in names}
