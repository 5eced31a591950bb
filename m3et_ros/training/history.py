"""Recipe for models.history: cross-entropy of the next noun, and of the verb with and without it (docs/papers.md 3, 9.2)."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.data.checkpoints.history import TASKS, Correction, Expert, HistoryCheckpoint
from m3et_ros.data.epic.annotations import HELD_OUT, held_out_videos
from m3et_ros.data.epic.history import Asking, HistoryWindows, Pasts
from m3et_ros.data.errors import InputError
from m3et_ros.evaluation.tasks.epic_forecast import TOP1, Panel, choose, choose_share, tune
from m3et_ros.models.actions.history import HistoryConfig, HistoryModel
from m3et_ros.models.actions.ngram import MEMORY, NGram
from m3et_ros.training.loop import Outcome, Trainer, TrainingSession
from m3et_ros.training.recipe import Recipe
from m3et_ros.training.run_state import STATE


@dataclass(frozen=True)
class Anticipate(Recipe):
    """Learn what comes next from the labels of what came before. A sample is a window of a video."""

    samples: int = 6_400
    batch: int = 4
    lr: float = 2e-3
    # Label smoothing of nouns: without it the model learns the nouns of the training kitchens by heart.
    smooth_noun: float = 0.1
    # Label smoothing of verbs; more would hide the rare ones when scores are divided by the prior.
    smooth_verb: float = 0.02
    # Share of the past actions whose verb, and of those whose noun, is hidden from the scan.
    hide: float = 0.1
    # Share of the past actions whose pair is hidden, so that pairs that were never learnt do no harm.
    hide_pair: float = 0.3

    def __post_init__(self):
        super().__post_init__()
        for name in ('smooth_noun', 'smooth_verb', 'hide', 'hide_pair'):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise ValueError(f'{name} is {value!r}; give a share from 0 to less than 1')

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return noun, verb_of_noun and verb: cross-entropies over the targets whose classes are known."""
        seed = int(torch.randint(2**62, (), generator=generator))
        batch = dict(batch) | self._hidden(model, batch, generator)
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # of dropout, so that a run that goes on repeats what it would have done
            seen = model.context(batch)
            known = (batch['noun'] >= 0) & (batch['verb'] >= 0)
            noun, verb = batch['noun'].where(known, -1), batch['verb'].where(known, -1)
            of_noun = model.verbs_of(seen, noun.clamp(min=0))
            return {
                'noun': _cross_entropy(model.nouns(seen), noun, self.smooth_noun),
                'verb_of_noun': _cross_entropy(of_noun, verb, self.smooth_verb),
                'verb': _cross_entropy(model.verbs(seen), verb, self.smooth_verb),
            }

    def _hidden(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Past actions, some of them unknown."""
        found = {}
        for name, size, share in (
            ('verbs', model.config.verbs, self.hide),
            ('nouns', model.config.nouns, self.hide),
            ('pairs', model.config.pairs, self.hide_pair),
        ):
            drawn = torch.rand(batch[name].shape, generator=generator) < share
            found[name] = batch[name].masked_fill(drawn.to(batch[name].device), size)
        return found


def run(
    recipe: Anticipate,
    model: HistoryModel,
    data: HistoryWindows,
    *,
    folder: str | Path,
    seed: int = 0,
    sitting: TrainingSession = TrainingSession(),
    tell: Callable[[dict], None] = lambda entry: None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Outcome, nn.Module, bool]:
    """Train a model in place, for one sitting; arguments, result and errors as in training.recipes.run."""
    trainer = Trainer(recipe, model, data, data.collate, Path(folder), seed=seed, sitting=sitting)
    outcome = trainer.run(tell, stop)
    return outcome, trainer.delivered, trainer.accelerator.is_main_process


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Mean over the targets with a label from 0; 0 where there are none."""
    total = F.cross_entropy(logits.float(), labels, ignore_index=-1, reduction='sum', label_smoothing=smoothing)
    return total / (labels >= 0).sum().clamp(min=1)


# MERGED m3et_ros/training/history_run: From annotations to a checkpoint of models.history: which videos serve what, one run that chooses, then the members.
#
# MERGED Three sets of training videos: those held out (80), on which results are told and nothing is chosen; an inner set, on
# MERGED which the corrections for mean top-5 recall and the n-gram's share are chosen with a model that has not learnt from it;
# MERGED the rest. The members then learn from the inner set, too (docs/papers.md 9.2, lesson 3). The official validation split has no
# MERGED part in any of it.
INNER = 60
"""Videos on which corrections are chosen."""


@dataclass(frozen=True)
class Videos:
    """Which video serves what; none serves twice.

    Raises:
        ValueError: nothing is left to learn from, or a video stands in two sets.
    """

    # Learnt from by all.
    learnt: tuple[str, ...]
    # Learnt from by the members, not by the model that chooses.
    inner: tuple[str, ...]
    # Never learnt from.
    held_out: tuple[str, ...]

    def __post_init__(self):
        together = [*self.learnt, *self.inner, *self.held_out]
        if not self.learnt or not self.inner or len(set(together)) < len(together):
            raise ValueError(
                f'{len(self.learnt)} videos to learn from, {len(self.inner)} to choose on and '
                f'{len(self.held_out)} held out; give at least one of the first two and none twice'
            )


def share_out(videos: Iterable[str], *, held_out: int = HELD_OUT, inner: int | None = None) -> Videos:
    """Draw the sets by the hash of the videos' names, always the same whatever the seed of the training.

    Args:
        videos: names.
        held_out: how many are not learnt from.
        inner: on how many corrections are chosen; None takes 60, or a quarter of what is left where that is fewer.

    Raises:
        InputError: there are too few videos.
    """
    videos = tuple(videos)
    inner = min(INNER, (len(set(videos)) - held_out) // 4) if inner is None else inner
    try:
        out = held_out_videos(videos, held_out)
        chosen = held_out_videos(videos, inner, skip=held_out)
        return Videos(tuple(v for v in videos if v not in {*out, *chosen}), chosen, out)
    except ValueError as error:
        raise InputError(
            'training',
            f'There are {len(videos)} videos with labels, too few to hold out {held_out} and '
            f'to choose on {inner}; hold out fewer, or choose on fewer ({error}).',
        ) from error


@dataclass(frozen=True)
class HistoryRecipe:
    """How a checkpoint is made.

    Raises:
        ValueError: members is below 1.
    """

    # Of every run.
    recipe: Anticipate = Anticipate()
    # Sizes and switches; classes, pairs and words give way to those of the data.
    config: HistoryConfig = HistoryConfig()
    # Models whose probabilities are averaged.
    members: int = 3
    # Seed of the first member; the others count on.
    seed: int = 0

    def __post_init__(self):
        if isinstance(self.members, bool) or not 1 <= self.members <= 64:
            raise ValueError(f'members is {self.members!r}; give 1 to 64')


class Interrupted(Exception):
    """The minutes are over, or somebody asked to stop; what was done is kept."""


def learn(
    pasts: Pasts,
    videos: Videos,
    folder: str | Path,
    course: HistoryRecipe = HistoryRecipe(),
    *,
    sitting: TrainingSession = TrainingSession(),
    tell: Callable[[str, dict], None] = lambda what, entry: None,
    stop: Callable[[], bool] = lambda: False,
) -> HistoryCheckpoint:
    """Train the model that chooses and the members, each in a folder of its own.

    Args:
        pasts: of the training file, all videos.
        videos: which serves what.
        folder: of the runs.
        course: how.
        sitting: its minutes count for all runs together.
        tell: gets the name of the run and every line of its log.
        stop: as in Trainer.run.

    Raises:
        Unfinished: go on with sitting.resume.
        InputError: as training.loop.Trainer.
    """
    work = _Work(pasts, Path(folder), course, sitting, tell, stop)
    model = work.train('choice', videos.learnt, course.seed)
    expert, corrections = _choices(work, model, videos)
    whole = (*videos.learnt, *videos.inner)
    members = tuple(work.train(f'member_{i}', whole, course.seed + i) for i in range(course.members))
    pairs = work.pairs(whole)
    expert = replace(expert, counts=work.ngram(whole, work.data(whole, pairs)))
    people = sorted({segment.participant for segment in pasts.segments if segment.video in set(whole)})
    return HistoryCheckpoint(
        members,
        pasts.classes,
        work.asking.words,
        pairs,
        expert,
        corrections,
        pasts.gap_s,
        tuple(people),
        tuple(sorted(whole)),
        videos.held_out,
    )


def _choices(work: '_Work', model: HistoryModel, videos: Videos) -> tuple[Expert, dict[str, Correction]]:
    """What is chosen on the inner videos: the n-gram's settings and share, and the corrections."""
    pairs = work.pairs(videos.learnt)
    inner = work.data(videos.inner, pairs)
    counts = work.ngram(videos.learnt, inner)
    places = np.concatenate([window.targets for window in inner.windows])
    line = tune(counts, [work.pasts.context(place, inner.pair, MEMORY) for place in places], inner.pair[places], TOP1)
    panel = Panel((model,), Expert(counts, line, 0.0), sorted(pairs))
    panel.expert = replace(panel.expert, share=choose_share(panel, inner))
    numbers = HistoryCheckpoint(
        (model,),
        work.pasts.classes,
        work.asking.words,
        pairs,
        panel.expert,
        dict.fromkeys(TASKS, Correction()),
        work.pasts.gap_s,
        (),
        (),
        (),
    )
    return panel.expert, choose(panel, inner, {task: numbers.counts(task) for task in TASKS})


class _Work:
    """What the runs share."""

    def __init__(
        self,
        pasts: Pasts,
        folder: Path,
        course: HistoryRecipe,
        sitting: TrainingSession,
        tell: Callable,
        stop: Callable,
    ):
        self.pasts, self.folder, self.course, self.sitting = pasts, folder, course, sitting
        self.tell, self.stop, self.asking = tell, stop, Asking(pasts.classes)
        self._started = time.monotonic()
        self._videos = np.repeat(np.array(pasts.videos), np.diff(pasts.starts))

    def windows(self, videos: Iterable[str]) -> list[Any]:
        """Windows of some videos."""
        wanted = set(videos)
        return [window for window in self.pasts.windows() if self._videos[window.start] in wanted]

    def pairs(self, videos: Iterable[str]) -> dict[int, int]:
        """Verb * 1000 + noun of what was done in some videos, to how often; classes that are in the lists only."""
        classes, own = self.pasts.classes, np.isin(self._videos, list(videos))
        verb, noun = self.pasts.known_verb[own], self.pasts.known_noun[own]
        known = (verb < len(classes.verbs)) & (noun < len(classes.nouns))
        ids, counts = np.unique(1000 * verb[known] + noun[known], return_counts=True)
        return dict(zip(ids.tolist(), counts.tolist()))

    def data(self, videos: Iterable[str], pairs: Iterable[int]) -> HistoryWindows:
        """Windows of some videos for models that know some pairs."""
        return HistoryWindows(self.pasts, sorted(pairs), self.asking, self.windows(videos))

    def ngram(self, videos: Iterable[str], data: HistoryWindows) -> NGram:
        """Counts over the pairs of `data` in some videos."""
        places = np.flatnonzero(np.isin(self._videos, list(videos)))
        contexts = [self.pasts.context(place, data.pair, MEMORY) for place in places]
        return NGram(contexts, data.pair[places], data.pairs)

    def train(self, name: str, videos: Iterable[str], seed: int) -> HistoryModel:
        """A model that has learnt from some videos, or what was broken off and goes on."""
        pairs = self.pairs(videos)
        classes, folder = self.pasts.classes, self.folder / name
        config = replace(
            self.course.config,
            verbs=len(classes.verbs),
            nouns=len(classes.nouns),
            pairs=len(pairs),
            words=len(self.asking.words),
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = HistoryModel(config)
        data = self.data(videos, pairs)
        sitting = replace(
            self.sitting, minutes=self._minutes(), resume=self.sitting.resume and (folder / STATE).exists()
        )
        outcome, trained, _ = run(
            self.course.recipe,
            model,
            data,
            folder=folder,
            seed=seed,
            sitting=sitting,
            tell=lambda entry: self.tell(name, entry),
            stop=self.stop,
        )
        if outcome.step < outcome.steps:
            raise Interrupted
        return trained.eval()

    def _minutes(self) -> float | None:
        """Minutes that are left for the next run."""
        if self.sitting.minutes is None:
            return None
        left = self.sitting.minutes - (time.monotonic() - self._started) / 60
        if left <= 0:
            raise Interrupted
        return left
