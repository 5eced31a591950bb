"""A memory from cached episodes, in four steps: frames encoded, eye, diarist, reader. A run that was stopped goes on.

A folder of a run holds frames/ (training.remembered), eye/, percepts/, diary/ and reader/; a step that is complete is
not done again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.class_names import Reading
from m3et_ros.data.features import PATCHES, TOKENS, EncodedEpisodes, remember_frames
from m3et_ros.data.kitchen.cache.episodes import EpisodeFrames, frame_rate, open_episodes
from m3et_ros.data.kitchen.cache.recipe import read_shards
from m3et_ros.data.kitchen.questions.episode_wordings import EQA_CATEGORIES
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.models.actions.frame_token import frame_width
from m3et_ros.models.episode.model import EpisodeConfig, EpisodeHead
from m3et_ros.models.episode.percepts import patch_width
from m3et_ros.training.loop import Outcome, Trainer, TrainingSession
from m3et_ros.training.memory.answers import CollateLessons, Doings, Lessons, Remember, Tell, collate_doings
from m3et_ros.training.memory.percepts import (
    FACTS,
    LASTING,
    SPOKEN,
    Glances,
    PerceptRecipe,
    TrainablePercepts,
    collate_glances,
)
from m3et_ros.training.recipe import Recipe
from m3et_ros.training.run_state import STATE

BATCH = 50


@dataclass(frozen=True)
class MemoryRecipe:
    """How a memory is trained."""

    see: PerceptRecipe = field(default_factory=PerceptRecipe)
    tell: Tell = field(default_factory=Tell)
    remember: Remember = field(default_factory=Remember)
    # Questions of a moment that are learnt from at a time, 1 to 40.
    each: int = 16


@dataclass(frozen=True)
class Ways:
    """How a run goes on this machine, without a say in its result but for the last digits."""

    # Matrix products in bfloat16.
    bf16: bool = False
    # Minutes of each step; None goes on to its end.
    minutes: float | None = None
    progress: Progress = no_progress
    tell: Callable[[dict], None] = lambda entry: None
    stop: Callable[[], bool] = lambda: False


def episode_config(checkpoint: Checkpoint, answers: Sequence[str], **changes: Any) -> EpisodeConfig:
    """The memory that goes with a model and its labels, for these answers."""
    config, labels, tokenizer = checkpoint.model.config, checkpoint.labels, checkpoint.tokenizer

    places = {answer: i for i, answer in enumerate(answers)}

    def pieces(texts: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        ids, mask = tokenizer.encode(texts, config.text_length)
        return tuple(tuple(row[here][1:-1].tolist()) for row, here in zip(ids, mask))

    return EpisodeConfig(
        **{
            'd_patch': patch_width(config),
            'd_in': frame_width(config),
            'grid': config.grid,
            'vocabulary': config.vocabulary,
            'length': config.text_length,
            'verbs': len(labels.verbs),
            'nouns': len(labels.nouns),
            'classes': pieces(labels.classes),
            'answers': tuple(answers),
            'answer_pieces': pieces(answers),
            'categories': EQA_CATEGORIES,
            'facts': tuple(map(len, FACTS.values())),
            'lasting': LASTING,
            'fact_answers': tuple(
                places.get(word, -1) if name in SPOKEN else -1 for name, words in FACTS.items() for word in words
            ),
        }
        | changes
    )


def answers_in(episodes: Sequence[EpisodeFrames]) -> tuple[str, ...]:
    """All answers to the questions about episodes, sorted."""
    return tuple(sorted({draft[1] for episode in episodes for moment in episode.moments for _, draft in moment.drafts}))


def train_memory(
    checkpoint: Checkpoint,
    folders: Sequence[Path],
    out: Path,
    *,
    recipe: MemoryRecipe = MemoryRecipe(),
    ways: Ways = Ways(),
    seed: int = 0,
    **changes: Any,
) -> tuple[EpisodeHead, dict[str, Outcome]]:
    """Train a memory on caches of training kitchens.

    Args:
        checkpoint: whose model sees; it stays as it is.
        folders: caches with moments, of one rate.
        out: folder of the run.
        recipe: how.
        ways: how it goes here.
        seed: of weights, order and wordings.
        changes: of the config (EpisodeConfig).

    Returns:
        The memory, and how each step ended; those after a step that was stopped are missing.

    Raises:
        InputError: as remember_frames and Trainer.run.
        ValueError: the caches ask nothing, or differ in rate.
    """
    episodes, answers = episodes_with(folders)
    encoded = remember_frames(checkpoint, folders, out / 'frames', bf16=ways.bf16, progress=ways.progress)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = EpisodeHead(episode_config(checkpoint, answers, rate_hz=frame_rate(folders), **changes))
        pupil = TrainablePercepts(head.eye, head.config)
    shards = [path for folder in folders for path in read_shards(folder)]
    found: dict[str, Outcome] = {}
    found['eye'] = _step(
        out / 'eye', recipe.see, pupil, Glances(shards, encoded, checkpoint.labels.classes), collate_glances, ways, seed
    )
    if _unfinished(found):
        return head, found
    watched = watch_encoded(head, episodes, encoded, out / 'percepts', ways.progress)
    _only(head, [head.diarist])
    found['diary'] = _step(out / 'diary', recipe.tell, head, Doings(watched), collate_doings, ways, seed)
    if not _unfinished(found):
        found['reader'] = teach_reader(head, watched, checkpoint, out / 'reader', recipe=recipe, ways=ways, seed=seed)
    return head, found


def teach_reader(
    head: EpisodeHead,
    watched: EncodedEpisodes,
    checkpoint: Checkpoint,
    out: Path,
    *,
    recipe: MemoryRecipe = MemoryRecipe(),
    ways: Ways = Ways(),
    seed: int = 0,
) -> Outcome:
    """The last step alone: slots and reader learn, in place, from questions about episodes that were looked at.

    Args:
        head: whose eye and diarist have learnt.
        watched: the episodes, as watch_encoded gives them.
        checkpoint, out, recipe, ways, seed: as of train_memory; `out` is the folder of this step.

    Raises:
        InputError: as Trainer.run.
    """
    reading = Reading(checkpoint.tokenizer, checkpoint.labels.classes, head.config.length)
    _only(head, [part for part in head.children() if part not in (head.eye, head.diarist)])
    outcome = _step(
        out,
        recipe.remember,
        head,
        Lessons(head.eval(), watched, reading, seed=seed),
        CollateLessons(reading, recipe.each),
        ways,
        seed,
    )
    _only(head, [head])
    return outcome


def _step(folder: Path, plan: Recipe, model: nn.Module, data: Any, collate: Any, ways: Ways, seed: int) -> Outcome:
    """One step of a run, from where it was left; one that is complete is not gone on with."""
    sitting = TrainingSession(minutes=ways.minutes, bf16=ways.bf16, resume=(folder / STATE).exists())
    outcome = Trainer(plan, model, data, collate, folder, seed=seed, sitting=sitting).run(ways.tell, ways.stop)
    model.eval()
    return outcome


def _unfinished(found: Mapping[str, Outcome]) -> bool:
    return any(outcome.step < outcome.steps for outcome in found.values())


def episodes_with(folders: Sequence[Path]) -> tuple[list[EpisodeFrames], tuple[str, ...]]:
    """The episodes of caches, and all answers to their questions.

    Raises:
        ValueError: they ask nothing.
    """
    episodes = open_episodes(folders)
    answers = answers_in(episodes)
    if not answers:
        raise ValueError(
            'the caches hold no questions about episodes; generate them with --stride 5 or less and '
            'episodes of more than 10 seconds'
        )
    return episodes, answers


def _only(head: EpisodeHead, learns: Sequence[nn.Module]) -> None:
    """Let some parts of a memory learn; what is no module of its own learns with the slots."""
    head.requires_grad_(False)
    for part in learns:
        part.requires_grad_(True)
    if head.take in learns:
        for parameter in (head.own_keys, head.dt_bias, head.A_log):
            parameter.requires_grad_(True)


@torch.inference_mode()
def watch_encoded(
    head: EpisodeHead,
    episodes: Sequence[EpisodeFrames],
    encoded: Sequence[Path],
    out: Path,
    progress: Progress = no_progress,
) -> EncodedEpisodes:
    """Let the eye of a memory look at all encoded frames; what it has looked at before is read from `out`."""
    head.eval()
    percepts = []
    for path in progress(encoded, len(encoded), 'shards looked at', 'shard'):
        target = out / path.parent.name / f'{path.name}.npy'
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            patches = np.load(path / PATCHES, mmap_mode='r', allow_pickle=False)
            looks = [
                head.look(torch.from_numpy(np.array(patches[start : start + BATCH])).float()[None])[0].half().numpy()
                for start in range(0, len(patches), BATCH)
            ]
            part = target.with_name(f'part-{target.name}')
            np.save(part, np.concatenate(looks))
            part.replace(target)
        percepts.append(np.load(target, allow_pickle=False))
    tokens = np.concatenate([np.load(path / TOKENS, allow_pickle=False) for path in encoded])
    return EncodedEpisodes(episodes, np.concatenate(percepts), tokens)
