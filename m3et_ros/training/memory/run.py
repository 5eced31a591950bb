"""Train an episode memory from caches in four steps: encode the frames, then train percepts, action log and reader.

The folder of a run holds frames/ (data.features), eye/, percepts/, diary/ and reader/. A run that was stopped resumes
where it stopped, and completed steps are not repeated.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.class_names import QuestionEncoder
from m3et_ros.data.features.episodes import PATCHES, TOKENS, EncodedEpisodes, encode_frames
from m3et_ros.data.files import write_atomically
from m3et_ros.data.kitchen.cache.episodes import EpisodeFrames, frame_rate, open_episodes
from m3et_ros.data.kitchen.cache.recipe import read_shards
from m3et_ros.data.kitchen.questions.episode_wordings import EQA_CATEGORIES
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.models.actions.frame_token import frame_width
from m3et_ros.models.episode.model import EpisodeConfig, EpisodeHead
from m3et_ros.models.episode.percepts import patch_width
from m3et_ros.training.loop import Outcome, train
from m3et_ros.training.memory.answers import (
    ActionLogEpisodes,
    ActionLogRecipe,
    AnswerRecipe,
    CollateQuestions,
    QuestionEpisodes,
    collate_action_logs,
)
from m3et_ros.training.memory.percepts import (
    EPISODE_FACTS,
    FACTS,
    LASTING,
    PerceptFrames,
    PerceptRecipe,
    TrainablePercepts,
    collate_percepts,
)
from m3et_ros.training.recipe import Recipe
from m3et_ros.training.run_state import TrainingSession

BATCH = 50
"""Frames per batch of the percept encoder."""

RESUMED = TrainingSession(resume=True)
"""The default session: it resumes every step that has a state."""


@dataclass(frozen=True)
class MemoryRecipe:
    """The recipes of the three trained steps."""

    see: PerceptRecipe = field(default_factory=PerceptRecipe)
    tell: ActionLogRecipe = field(default_factory=ActionLogRecipe)
    remember: AnswerRecipe = field(default_factory=AnswerRecipe)
    # Questions at a point in a batch, 1 to 40.
    each: int = 16


def episode_config(checkpoint: Checkpoint, answers: Sequence[str], **changes: Any) -> EpisodeConfig:
    """Build the config of a memory for a model, its labels and these answers.

    Args:
        checkpoint: the model that encodes the frames.
        answers: candidates, in the order of the memory's outputs.
        changes: fields of EpisodeConfig that differ from the default.
    """
    config, labels, tokenizer = checkpoint.model.config, checkpoint.labels, checkpoint.tokenizer
    positions = {answer: i for i, answer in enumerate(answers)}

    def pieces(texts: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        ids, mask = tokenizer.encode(texts, config.text_length)
        return tuple(tuple(row[valid][1:-1].tolist()) for row, valid in zip(ids, mask, strict=True))

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
                positions.get(word, -1) if name in EPISODE_FACTS else -1
                for name, words in FACTS.items()
                for word in words
            ),
        }
        | changes
    )


def answers_in(episodes: Sequence[EpisodeFrames]) -> tuple[str, ...]:
    """Return all answers to the questions about episodes, sorted."""
    return tuple(
        sorted({draft[1] for episode in episodes for point in episode.question_points for _, draft in point.drafts})
    )


def train_memory(
    checkpoint: Checkpoint,
    folders: Sequence[Path],
    out: Path,
    *,
    recipe: MemoryRecipe = MemoryRecipe(),
    session: TrainingSession = RESUMED,
    progress: Progress = no_progress,
    seed: int = 0,
    **changes: Any,
) -> tuple[EpisodeHead, dict[str, Outcome]]:
    """Train a memory on caches of training kitchens.

    Args:
        checkpoint: its model encodes the frames and does not change.
        folders: caches with question points, all of one frame rate.
        out: folder of the run.
        recipe: recipe of the three steps.
        session: its minutes count for each step anew.
        progress: reports the shards while they are encoded.
        seed: seed of weights, order and wordings.
        changes: fields of EpisodeConfig that differ from the default.

    Returns:
        The memory, and the outcome of each step, without the steps after one that was stopped.

    Raises:
        InputError: as encode_frames and loop.train.
        ValueError: the caches hold no questions, or differ in their rates.
    """
    episodes, answers = episodes_and_answers(folders)
    encoded = encode_frames(checkpoint, folders, out / 'frames', bf16=session.bf16, progress=progress)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = EpisodeHead(episode_config(checkpoint, answers, rate_hz=frame_rate(folders), **changes))
        percepts = TrainablePercepts(head.eye, head.config)
    shards = [path for folder in folders for path in read_shards(folder)]
    frames = PerceptFrames(shards, encoded, checkpoint.labels.classes)
    found = {'eye': _train_step(recipe.see, percepts, frames, collate_percepts, out / 'eye', seed, session)}
    if not found['eye'].finished:
        return head, found
    encoded_episodes = encode_percepts(head, episodes, encoded, out / 'percepts', progress)
    _train_only(head, [head.diarist])
    data = ActionLogEpisodes(encoded_episodes)
    found['diary'] = _train_step(recipe.tell, head, data, collate_action_logs, out / 'diary', seed, session)
    if found['diary'].finished:
        found['reader'] = train_reader(
            head, encoded_episodes, checkpoint, out / 'reader', recipe=recipe, session=session, seed=seed
        )
    return head, found


def train_reader(
    head: EpisodeHead,
    encoded: EncodedEpisodes,
    checkpoint: Checkpoint,
    out: Path,
    *,
    recipe: MemoryRecipe = MemoryRecipe(),
    session: TrainingSession = RESUMED,
    seed: int = 0,
) -> Outcome:
    """Do the last step alone: train slots and reader in place on questions about episodes.

    Args:
        head: a memory whose percepts and action log are trained.
        encoded: the episodes, from encode_percepts.
        checkpoint: has the tokenizer and the labels.
        out: folder of this step.
        recipe: as of train_memory.
        session: session of this step.
        seed: as of train_memory.

    Raises:
        InputError: as loop.train.
    """
    encoder = QuestionEncoder(checkpoint.tokenizer, checkpoint.labels.classes, head.config.length)
    _train_only(head, [part for part in head.children() if part not in (head.eye, head.diarist)])
    data = QuestionEpisodes(head.eval(), encoded, seed=seed)
    collate = CollateQuestions(encoder, recipe.each)
    outcome = _train_step(recipe.remember, head, data, collate, out, seed, session)
    _train_only(head, [head])
    return outcome


def _train_step(
    recipe: Recipe, model: nn.Module, data: Any, collate: Any, folder: Path, seed: int, session: TrainingSession
) -> Outcome:
    outcome, _, _ = train(recipe, model, data, collate, folder, seed=seed, session=session.of_stage(folder))
    model.eval()
    return outcome


def episodes_and_answers(folders: Sequence[Path]) -> tuple[list[EpisodeFrames], tuple[str, ...]]:
    """Open the episodes of caches and collect all answers to their questions.

    Raises:
        ValueError: the caches hold no questions about episodes.
    """
    episodes = open_episodes(folders)
    answers = answers_in(episodes)
    if not answers:
        raise ValueError(
            'the caches hold no questions about episodes; generate them with --stride 5 or less and '
            'episodes of more than 10 seconds'
        )
    return episodes, answers


def _train_only(head: EpisodeHead, parts: Sequence[nn.Module]) -> None:
    """Let only some parts of a memory learn; parameters outside any part learn with the slots."""
    head.requires_grad_(False)
    for part in parts:
        part.requires_grad_(True)
    if head.take in parts:
        for parameter in (head.own_keys, head.dt_bias, head.A_log):
            parameter.requires_grad_(True)


@torch.inference_mode()
def encode_percepts(
    head: EpisodeHead,
    episodes: Sequence[EpisodeFrames],
    encoded: Sequence[Path],
    out: Path,
    progress: Progress = no_progress,
) -> EncodedEpisodes:
    """Encode the patches of all frames to percepts; percepts that `out` already holds are read from there.

    Args:
        head: a memory whose percepts are trained.
        episodes: episodes of the caches.
        encoded: folders of data.features, one for each shard.
        out: folder of the percepts.
        progress: reports the shards.
    """
    head.eval()
    percepts = []
    for path in progress(encoded, len(encoded), 'encoding percepts', 'shard'):
        target = out / path.parent.name / f'{path.name}.npy'
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            patches = np.load(path / PATCHES, mmap_mode='r', allow_pickle=False)
            batches = (np.array(patches[start : start + BATCH]) for start in range(0, len(patches), BATCH))
            parts = [head.encode_percepts(torch.from_numpy(part).float()[None])[0].half().numpy() for part in batches]
            with write_atomically(target) as part, part.open('wb') as file:
                np.save(file, np.concatenate(parts))
        percepts.append(np.load(target, allow_pickle=False))
    tokens = np.concatenate([np.load(path / TOKENS, allow_pickle=False) for path in encoded])
    return EncodedEpisodes(episodes, np.concatenate(percepts), tokens)
