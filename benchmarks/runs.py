"""Shared by the benchmarks that train: options, one budget for all models, and runs that are not repeated.

The folder of a run holds a folder for each stage with state, log, checkpoint and, at the end, done.json. The same
command resumes a run that was stopped.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from m3et_ros.cli.output import print_status
from m3et_ros.data.checkpoints.m3et import Checkpoint, load_checkpoint, random_checkpoint, save_checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.files import write_atomically
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.kitchen.cache.recipe import CacheRecipe, read_recipe
from m3et_ros.data.noise import Noise
from m3et_ros.evaluation.files import made_by, weights_digest
from m3et_ros.evaluation.standard_caches import find_cache, make_cache
from m3et_ros.models.m3et.sizes import SIZES
from m3et_ros.runtime.open_model import untrained
from m3et_ros.training.m3et import Answer, Pretrain, run
from m3et_ros.training.optim import OPTIMISERS
from m3et_ros.training.recipe import Recipe
from m3et_ros.training.run_state import (
    STATE,
    Interrupted,
    LogEntry,
    Report,
    StageSessions,
    TrainingSession,
    read_header,
)

RESULTS = Path(__file__).parent / 'results'
CHECKPOINT, DONE = 'checkpoint', 'done.json'
QUIET = 20.0
"""Seconds between lines of progress, at least."""


def parser(doc: str, *, one: int, two: int, seeds: str) -> argparse.ArgumentParser:
    """Build the options of all benchmarks that train; `one` and `two` are the default samples of the stages."""
    options = argparse.ArgumentParser(description=doc.splitlines()[0])
    options.add_argument('--data', type=Path, nargs='+', required=True, help='caches of training kitchens')
    options.add_argument('--test', default='test', help='cache to measure on; test and validation are standard ones')
    options.add_argument('--out', type=Path, required=True, help='folder of the runs')
    options.add_argument('--results', type=Path, help='JSON file to write; default in benchmarks/results')
    options.add_argument('--size', choices=sorted(SIZES), default='kitchen')
    options.add_argument('--seeds', type=lambda text: [int(word) for word in text.split(',')], default=seeds)
    options.add_argument('--samples-one', type=int, default=one, help='views of masked pre-training; 0 leaves it out')
    options.add_argument('--samples-two', type=int, default=two, help='views of question answering; 0 leaves it out')
    options.add_argument('--lr-one', type=float, default=Pretrain.lr, help='highest learning rate of the first')
    options.add_argument('--lr-two', type=float, default=Answer.lr, help='highest learning rate of the second')
    options.add_argument('--optimiser', choices=sorted(OPTIMISERS), default='adamw', help='of the second')
    options.add_argument('--batch', type=int, default=64)
    options.add_argument('--each', type=int, default=8, help='questions of a view')
    options.add_argument('--bf16', action='store_true', help='matrix products in bfloat16')
    options.add_argument('--workers', type=int, default=0, help='processes that load samples')
    options.add_argument('--minutes', type=float, help='stop training after this time; the same command resumes it')
    options.add_argument('--questions', type=int, default=4000, help='questions of the test')
    options.add_argument('--frames', type=int, default=500, help='frames of the test')
    return options


class Bench:
    """One training budget for several models, and the progress of all their trainings.

    Args:
        options: those of `parser`.
        trainings: number of models to train.
        weights: trained model from which all start; None for random weights of the size.
    """

    def __init__(self, options: argparse.Namespace, trainings: int, weights: Checkpoint | None = None):
        self.options = options
        self.train_recipes = [read_recipe(folder) for folder in options.data]
        if any(recipe.split != 'train' for recipe in self.train_recipes):
            raise InputError(
                'split', f'{options.data[0]} holds no training kitchens, and no model may learn from others.'
            )
        self.cache, missing = find_cache(options.test)
        if missing:
            make_cache(missing, workers=os.cpu_count() or 1)
        self.recipe: CacheRecipe = read_recipe(self.cache)
        if self.recipe.split == 'train':
            raise InputError('split', f'{options.test} holds training kitchens, which are no test; give others.')
        self._weights, self.base = weights, weights or untrained(options.size, 0)
        self._sessions = StageSessions(
            TrainingSession(minutes=options.minutes, workers=options.workers, bf16=options.bf16, resume=True)
        )
        self._started: float | None = None
        self._total, self._done = trainings * (options.samples_one + options.samples_two), 0

    @property
    def stages(self) -> tuple[Recipe, ...]:
        """Recipes of the stages that are not left out."""
        o = self.options
        found: list[Recipe] = []
        if o.samples_one:
            found.append(Pretrain(samples=o.samples_one, batch=o.batch, lr=o.lr_one))
        if o.samples_two:
            found.append(Answer(samples=o.samples_two, batch=o.batch, lr=o.lr_two, optimiser=o.optimiser))
        return tuple(found)

    def start(self, seed: int, **changes: Any) -> Checkpoint:
        """Build a model with these fields of its config changed; parts that the trained model lacks begin at random."""
        base = self.base
        found = random_checkpoint(replace(base.model.config, **changes), base.tokenizer, base.labels, seed)
        if self._weights:
            found.model.load_state_dict(self._weights.model.state_dict(), strict=False)
        return found

    def train(
        self,
        checkpoint: Checkpoint,
        folder: Path,
        seed: int,
        *,
        recipes: Sequence[Recipe] = (),
        samples: type[KitchenSamples] = KitchenSamples,
    ) -> tuple[Checkpoint, float]:
        """Train all stages of a model, or load it if that was done before.

        Args:
            checkpoint: the model to start from.
            folder: of its run.
            seed: of the run.
            recipes: stages; by default both.
            samples: class of the data set.

        Returns:
            The trained model, and the seconds that its training took.

        Raises:
            InputError: the folder holds a run with other settings, or as training.m3et.run.
            Interrupted: the time is up.
        """
        seconds = 0.0
        for number, recipe in enumerate(recipes or self.stages):
            name = f'{number}_{type(recipe).__name__.lower()}'
            checkpoint, spent = self._stage(checkpoint, folder / name, seed, recipe, samples)
            seconds += spent
        return checkpoint, seconds

    def _stage(
        self, checkpoint: Checkpoint, folder: Path, seed: int, recipe: Recipe, samples: type[KitchenSamples]
    ) -> tuple[Checkpoint, float]:
        each = self.options.each if isinstance(recipe, Answer) else 0
        settings = plain(
            {
                'seed': seed,
                'recipe': type(recipe).__name__,
                **asdict(recipe),
                'each': each,
                'bf16': self.options.bf16,
                'data': [asdict(cache) for cache in self.train_recipes],
                'read_by': samples.__name__,
                'model': checkpoint.model.config.to_dict(),
                'start': weights_digest(checkpoint.model),
            }
        )
        if (folder / DONE).exists():
            self._total -= recipe.samples
            return load_checkpoint(folder / CHECKPOINT), _seconds_of(folder, settings)
        before = read_header(folder)['step'] * recipe.batch if (folder / STATE).exists() else 0
        self._total -= before
        session = self._sessions.of_stage(folder)
        self._started = self._started or time.monotonic()
        outcome, model, _ = run(
            recipe,
            checkpoint,
            samples(self.options.data, questions=each > 0, each=max(each, 1), noise=Noise(), seed=seed),
            folder,
            seed=seed,
            session=replace(session, report=self._reporter(folder.parent.name, before)),
        )
        if not outcome.finished:
            raise Interrupted
        self._done += recipe.samples - before
        save_checkpoint(
            folder / CHECKPOINT,
            replace(checkpoint, model=model, trained=True),
            card=f'# A run of a benchmark\n\n{json.dumps(settings, indent=2)}\n',
        )
        write(folder / DONE, {'asked': settings, 'seconds': outcome.seconds})
        (folder / STATE).unlink(missing_ok=True)
        return load_checkpoint(folder / CHECKPOINT), outcome.seconds

    def _reporter(self, run: str, before: int) -> Report:
        """Return a callback that prints the progress of a stage and of all trainings now and then."""
        last = -QUIET

        def report(stage: str, entry: LogEntry) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last < QUIET:
                return
            last, done = now, self._done + entry.samples - before
            left = (now - self._started) * (self._total - done) / done
            print_status(
                f'{run}, {stage}: step {entry.step:,} of {entry.steps:,}, {entry.samples_per_second:.0f} samples/s; '
                f'{entry.seconds_left / 60:.0f} min left here, about {left / 60:.0f} min for all'
            )

        return report

    def made_by(self, script: str, checkpoint: Checkpoint) -> dict[str, Any]:
        """Return command, settings, caches and environment, without a path of this machine."""
        settings = {
            name: value
            for name, value in vars(self.options).items()
            if name not in ('data', 'test', 'out', 'results', 'minutes', 'workers')
        }
        gpu = torch.cuda.is_available()
        found = made_by(
            f'python benchmarks/{script}',
            checkpoint,
            self.recipe,
            **plain(settings),
            data=[cache.name for cache in self.train_recipes],
            training_device=torch.cuda.get_device_name() if gpu else 'cpu',
        )
        return {name: value for name, value in found.items() if name != 'model'}


def _seconds_of(folder: Path, settings: dict[str, Any]) -> float:
    """Return the seconds of a completed run, which must have had the same settings."""
    done = json.loads((folder / DONE).read_text(encoding='utf-8'))
    other = [name for name, value in settings.items() if done['asked'].get(name) != value]
    if other:
        raise InputError(
            'other_run',
            f'The run in {folder} has other {", ".join(other)}; give the same options as before or another --out.',
        )
    return done['seconds']


def plain(value: Any) -> Any:
    """Return a value as it comes back from JSON."""
    return json.loads(json.dumps(value, default=str))


def write(path: Path, document: Any) -> None:
    """Write JSON atomically, creating the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as part:
        part.write_text(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + '\n', encoding='utf-8')


def run_script(main: Callable[[], None]) -> None:
    """Run a script; an error ends it with one sentence."""
    try:
        main()
    except Interrupted:
        sys.exit('The time is up; the same command resumes the run.')
    except (InputError, ValueError, OSError) as error:
        sys.exit(str(error))
