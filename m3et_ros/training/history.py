"""Train next-action anticipation from past labels: the recipe, the split of the videos, and the runs of a checkpoint.

The loss is the cross-entropy of the next noun, and of the verb with and without the noun (docs/papers.md 3, 9.2).

The training videos form three sets. Held-out videos (80) are for results; nothing is learnt or chosen on them. An inner
set is for choosing the corrections for mean top-5 recall and the n-gram's share, with as many models as the checkpoint
has members, because the best share of an n-gram is smaller for several models than for one. They have not learnt from
it. All models learn from the rest. The members of the checkpoint then learn from the inner set as well (docs/papers.md
9.2, lesson 3). The official validation split is not used.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.data.checkpoints.history import TASKS, Correction, Expert, HistoryCheckpoint
from m3et_ros.data.epic.annotations import HELD_OUT, held_out_videos
from m3et_ros.data.epic.history import ActionHistories, HistoryWindows, QuestionWords
from m3et_ros.data.errors import InputError
from m3et_ros.evaluation.tasks.epic_forecast import TOP1, Ensemble, choose_corrections, choose_share, tune
from m3et_ros.models.actions.history import HistoryConfig, HistoryModel
from m3et_ros.models.actions.ngram import MEMORY, NGram
from m3et_ros.models.config_checks import check_whole
from m3et_ros.training.loop import train
from m3et_ros.training.recipe import Recipe, check_share
from m3et_ros.training.run_state import WHOLE_RUN, Interrupted, StageSessions, TrainingSession

INNER = 60
"""Number of videos for choosing the corrections."""

INNER_PEOPLE = 6
"""Number of participants for choosing them, where whole participants are held out."""


@dataclass(frozen=True)
class Anticipate(Recipe):
    """Predict the next action from the labels of the past. A sample is a window of a video."""

    samples: int = 6_400
    batch: int = 4
    lr: float = 2e-3
    # Label smoothing of nouns; without it the model memorises the nouns of the training kitchens.
    smooth_noun: float = 0.1
    # Label smoothing of verbs; more would hide the rare ones when scores are divided by the prior.
    smooth_verb: float = 0.02
    # Share of the past actions whose verb is hidden from the scan, and of those whose noun is.
    hide: float = 0.1
    # Share of the past actions whose pair is hidden, so that pairs absent from training do no harm.
    hide_pair: float = 0.3

    def __post_init__(self):
        super().__post_init__()
        check_share(self, 'smooth_noun', 'smooth_verb', 'hide', 'hide_pair', one=False)

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return noun, verb_of_noun and verb: cross-entropies over the targets with known classes."""
        seed = int(torch.randint(2**62, (), generator=generator))
        batch = dict(batch) | self._hidden(model, batch, generator)
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # of dropout, so that a resumed run repeats the same draws
            context = model.context(batch)
            known = (batch['noun'] >= 0) & (batch['verb'] >= 0)
            noun, verb = batch['noun'].where(known, -1), batch['verb'].where(known, -1)
            of_noun = model.verbs_of(context, noun.clamp(min=0))
            return {
                'noun': _cross_entropy(model.nouns(context), noun, self.smooth_noun),
                'verb_of_noun': _cross_entropy(of_noun, verb, self.smooth_verb),
                'verb': _cross_entropy(model.verbs(context), verb, self.smooth_verb),
            }

    def _hidden(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the past actions with a random share of them replaced by the id for unknown."""
        found = {}
        for name, size, share in (
            ('verbs', model.config.verbs, self.hide),
            ('nouns', model.config.nouns, self.hide),
            ('pairs', model.config.pairs, self.hide_pair),
        ):
            drawn = torch.rand(batch[name].shape, generator=generator) < share
            found[name] = batch[name].masked_fill(drawn.to(batch[name].device), size)
        return found


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Return the mean over the targets with a label from 0 on; 0 if there are none."""
    total = F.cross_entropy(logits.float(), labels, ignore_index=-1, reduction='sum', label_smoothing=smoothing)
    return total / (labels >= 0).sum().clamp(min=1)


@dataclass(frozen=True)
class Videos:
    """The purpose of each video; no video has two.

    Raises:
        ValueError: a set to learn from or to choose on is empty, or a video is in two sets.
    """

    # All models learn from these.
    learnt: tuple[str, ...]
    # The members learn from these, the model that chooses the corrections does not.
    inner: tuple[str, ...]
    # No model learns from these.
    held_out: tuple[str, ...]

    def __post_init__(self):
        together = [*self.learnt, *self.inner, *self.held_out]
        if not self.learnt or not self.inner or len(set(together)) < len(together):
            raise ValueError(
                f'{len(self.learnt)} videos to learn from, {len(self.inner)} to choose on and '
                f'{len(self.held_out)} held out; give at least one of the first two and none twice'
            )


def split_videos(videos: Iterable[str], *, held_out: int = HELD_OUT, inner: int | None = None) -> Videos:
    """Split videos by the hash of their names; the split does not depend on the seed of the training.

    Args:
        videos: names.
        held_out: number of videos to hold out.
        inner: number of videos for choosing the corrections; None takes 60, or a quarter of the rest if that is fewer.

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


def split_people(participants: Mapping[str, str], held_out: int, inner: int | None = None) -> Videos:
    """Split videos by the hash of who recorded them: whoever is held out or chosen on is met nowhere in training.

    Args:
        participants: participant of each video.
        held_out: number of participants to hold out.
        inner: number of participants for choosing the corrections; None takes 6, or a quarter of the rest if that is
            fewer.

    Raises:
        InputError: there are too few participants.
    """
    people = set(participants.values())
    inner = max(1, min(INNER_PEOPLE, (len(people) - held_out) // 4)) if inner is None else inner
    try:
        out, chosen = held_out_videos(people, held_out), held_out_videos(people, inner, skip=held_out)
    except ValueError as error:
        raise InputError(
            'training',
            f'There are {len(people)} participants, too few to hold out {held_out} and to choose on {inner}; '
            'hold out fewer.',
        ) from error

    def of(group: Iterable[str]) -> tuple[str, ...]:
        return tuple(video for video, person in participants.items() if person in group)

    return Videos(of(people - {*out, *chosen}), of(chosen), of(out))


@dataclass(frozen=True)
class HistoryRecipe:
    """The recipe of a checkpoint.

    Raises:
        ValueError: members is out of range.
    """

    # Recipe of every run.
    recipe: Anticipate = Anticipate()
    # Sizes and switches; the data decide the numbers of classes, pairs and words.
    config: HistoryConfig = field(default_factory=HistoryConfig)
    # Number of models whose probabilities are averaged, 1 to 64; as many more are trained to choose the corrections.
    members: int = 3
    # Seed of the first member; each further member has the next seed.
    seed: int = 0

    def __post_init__(self):
        check_whole(self, {'members': (1, 64)})


def train_history(
    pasts: ActionHistories,
    videos: Videos,
    folder: str | Path,
    recipe: HistoryRecipe = HistoryRecipe(),
    *,
    session: TrainingSession = WHOLE_RUN,
) -> HistoryCheckpoint:
    """Train the models that choose the corrections, then the members, each in its own folder.

    Args:
        pasts: the past of every action of the training file, all videos.
        videos: purpose of each video.
        folder: folder of the runs.
        recipe: recipe of the checkpoint.
        session: its minutes count for all runs together.

    Raises:
        Interrupted: continue with session.resume.
        InputError: as training.loop.Trainer.
    """
    runs = _Runs(pasts, Path(folder), recipe, session)
    whole, numbers = (*videos.learnt, *videos.inner), range(recipe.members)
    choosing = tuple(runs.train(f'choice_{i}', videos.learnt, recipe.seed + i) for i in numbers)
    expert, corrections = _choose_corrections(runs, choosing, videos)
    members = tuple(runs.train(f'member_{i}', whole, recipe.seed + i) for i in numbers)
    pairs = runs.pairs(whole)
    expert = replace(expert, counts=runs.ngram(whole, runs.data(whole, pairs)))
    people = sorted({segment.participant for segment in pasts.segments if segment.video in set(whole)})
    return HistoryCheckpoint(
        members,
        pasts.classes,
        runs.asking.words,
        pairs,
        expert,
        corrections,
        pasts.gap_s,
        tuple(people),
        tuple(sorted(whole)),
        videos.held_out,
    )


def _choose_corrections(
    runs: '_Runs', models: tuple[HistoryModel, ...], videos: Videos
) -> tuple[Expert, dict[str, Correction]]:
    """Choose the n-gram's settings and share and the corrections on the inner videos."""
    pairs = runs.pairs(videos.learnt)
    inner = runs.data(videos.inner, pairs)
    counts = runs.ngram(videos.learnt, inner)
    places = np.concatenate([window.targets for window in inner.windows])
    line = tune(counts, [runs.pasts.context(place, inner.pair, MEMORY) for place in places], inner.pair[places], TOP1)
    ensemble = Ensemble(models, Expert(counts, line, 0.0), sorted(pairs))
    ensemble.expert = replace(ensemble.expert, share=choose_share(ensemble, inner))
    numbers = HistoryCheckpoint(
        models,
        runs.pasts.classes,
        runs.asking.words,
        pairs,
        ensemble.expert,
        dict.fromkeys(TASKS, Correction()),
        runs.pasts.gap_s,
        (),
        (),
        (),
    )
    return ensemble.expert, choose_corrections(ensemble, inner, {task: numbers.counts(task) for task in TASKS})


class _Runs:
    """Data and session that all runs of a checkpoint share."""

    def __init__(self, pasts: ActionHistories, folder: Path, recipe: HistoryRecipe, session: TrainingSession):
        self.pasts, self.folder, self.recipe, self.asking = pasts, folder, recipe, QuestionWords(pasts.classes)
        self._sessions = StageSessions(session)
        self._videos = np.repeat(np.array(pasts.videos), np.diff(pasts.starts))

    def windows(self, videos: Iterable[str]) -> list[Any]:
        """Return the windows of some videos."""
        wanted = set(videos)
        return [window for window in self.pasts.windows() if self._videos[window.start] in wanted]

    def pairs(self, videos: Iterable[str]) -> dict[int, int]:
        """Count the pairs in some videos: verb * 1000 + noun to its count, for classes in the class lists only."""
        classes, own = self.pasts.classes, np.isin(self._videos, list(videos))
        verb, noun = self.pasts.known_verb[own], self.pasts.known_noun[own]
        known = (verb < len(classes.verbs)) & (noun < len(classes.nouns))
        ids, counts = np.unique(1000 * verb[known] + noun[known], return_counts=True)
        return dict(zip(ids.tolist(), counts.tolist(), strict=True))

    def data(self, videos: Iterable[str], pairs: Iterable[int]) -> HistoryWindows:
        """Return the windows of some videos for models that know these pairs."""
        return HistoryWindows(self.pasts, sorted(pairs), self.asking, self.windows(videos))

    def ngram(self, videos: Iterable[str], data: HistoryWindows) -> NGram:
        """Count the pairs of `data` in some videos."""
        places = np.flatnonzero(np.isin(self._videos, list(videos)))
        contexts = [self.pasts.context(place, data.pair, MEMORY) for place in places]
        return NGram(contexts, data.pair[places], data.pairs)

    def train(self, name: str, videos: Iterable[str], seed: int) -> HistoryModel:
        """Train a model on some videos, or resume its training."""
        pairs = self.pairs(videos)
        classes, folder = self.pasts.classes, self.folder / name
        config = replace(
            self.recipe.config,
            verbs=len(classes.verbs),
            nouns=len(classes.nouns),
            pairs=len(pairs),
            words=len(self.asking.words),
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = HistoryModel(config)
        data = self.data(videos, pairs)
        session = self._sessions.of_stage(folder)
        outcome, trained, _ = train(self.recipe.recipe, model, data, data.collate, folder, seed=seed, session=session)
        if not outcome.finished:
            raise Interrupted
        return trained.eval()
