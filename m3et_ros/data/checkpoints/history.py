"""Checkpoints of models.actions.history: config.json, member_0.safetensors and so on, counts.safetensors, README.md.

config.json holds sizes, class keys, words, the counts of training pairs, the corrections of scores, the videos of
training and those held out, and the SHA-256 of every weight file. counts.safetensors holds how often pairs followed
each other in training, for the n-gram whose probabilities are mixed in.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from m3et_ros.data.checkpoints.cards import with_head
from m3et_ros.data.checkpoints.json_files import AGAIN, CONFIG, read_config_of, write_json
from m3et_ros.data.checkpoints.m3et import CARD, read_weights, write_weights
from m3et_ros.data.epic.class_lists import Classes
from m3et_ros.data.epic.history import QuestionWords
from m3et_ros.data.errors import InputError
from m3et_ros.data.files import read_regular
from m3et_ros.models.actions.history import HistoryConfig, HistoryModel
from m3et_ros.models.actions.ngram import NGram, NGramSettings

KIND, FORMAT = 'history', 1
TASKS = ('verb', 'noun', 'action')
MEMBER, COUNTS = 'member_{}.safetensors', 'counts.safetensors'
FIELDS = {
    'kind': str,
    'format': int,
    'model_id': str,
    'model': dict,
    'members': int,
    'classes': dict,
    'words': list,
    'pairs': list,
    'corrections': dict,
    'expert': dict,
    'gap_s': float,
    'participants': list,
    'learnt': list,
    'held_out': list,
    'sha256': dict,
}


@dataclass(frozen=True)
class Correction:
    """Correction of a score for the frequency of its class: log p - tau * log(count + floor).

    Raises:
        ValueError: a field is out of range; the message names field, value and range.
    """

    # 0 leaves scores as they are, 1 divides by the prior.
    tau: float = 0.0
    # Added to the count of every class, so that classes without training samples do not win.
    floor: float = 1.0

    def __post_init__(self):
        if isinstance(self.tau, bool) or not 0 <= self.tau <= 4:
            raise ValueError(f'tau is {self.tau!r}; give a number from 0 to 4')
        if isinstance(self.floor, bool) or not 0 < self.floor <= 1e9:
            raise ValueError(f'floor is {self.floor!r}; give a number above 0 and at most 1e9')

    def penalty(self, counts: np.ndarray) -> np.ndarray:
        """Return the penalty of classes with these counts, float32 of the same shape."""
        return (self.tau * np.log(counts + self.floor)).astype(np.float32)


@dataclass(frozen=True)
class Expert:
    """The n-gram that is mixed with the members: p = (1 - share) p_members + share p_ngram.

    Raises:
        ValueError: the share is out of range.
    """

    # Counts over pairs; a class is the position of a pair in their sorted list.
    counts: NGram
    # Its settings.
    line: NGramSettings
    # Its share of the probability, from 0 to less than 1.
    share: float

    def __post_init__(self):
        if isinstance(self.share, bool) or not 0 <= self.share < 1:
            raise ValueError(f'share is {self.share!r}; give a number from 0 to less than 1')


@dataclass(frozen=True)
class HistoryCheckpoint:
    """Models whose predictions are averaged, and all that is needed to use them.

    Raises:
        ValueError: members, classes, words or pairs do not match, or a correction is missing.
    """

    # Models of one config whose probabilities are averaged.
    members: tuple[HistoryModel, ...]
    # Verbs and nouns.
    classes: Classes
    # Of the questions, padding first.
    words: tuple[str, ...]
    # verb * 1000 + noun to its number of segments in the training videos.
    pairs: Mapping[int, int]
    # The n-gram that is mixed with them.
    expert: Expert
    # By task; chosen for mean top-5 recall on held-out videos.
    corrections: Mapping[str, Correction]
    # Seconds between the end of the visible actions in training and the target.
    gap_s: float
    # Participants and videos of training.
    participants: tuple[str, ...]
    learnt: tuple[str, ...]
    # Videos of the training split that were held out.
    held_out: tuple[str, ...]
    # 'history@first 8 of the SHA-256 of the first member'; 'history-untrained' before it is saved.
    model_id: str = 'history-untrained'

    def __post_init__(self):
        configs = {member.config for member in self.members}
        if len(configs) != 1:
            raise ValueError(
                f'members are {len(self.members)} models of {len(configs)} configs; give at least one, all alike'
            )
        sizes = (len(self.classes.verbs), len(self.classes.nouns), len(self.pairs), len(self.words))
        config = self.config
        if sizes != (config.verbs, config.nouns, config.pairs, config.words):
            raise ValueError(
                f'classes, pairs and words are {sizes} and the model has '
                f'{(config.verbs, config.nouns, config.pairs, config.words)}; give those it was made for'
            )
        if self.expert.counts.classes != len(self.pairs):
            raise ValueError(
                f'the n-gram has {self.expert.counts.classes} classes and there are {len(self.pairs)} '
                'pairs; give one over these pairs'
            )
        if set(self.corrections) != set(TASKS):
            raise ValueError(f'corrections are of {sorted(self.corrections)}; give one of each of {", ".join(TASKS)}')
        if not 0 <= self.gap_s < math.inf:
            raise ValueError(f'gap_s is {self.gap_s}; give seconds from 0')

    @property
    def config(self) -> HistoryConfig:
        """Sizes of the members."""
        return self.members[0].config

    def counts(self, task: str) -> np.ndarray:
        """Return the training segments of each class of a task: (V,) verbs, (M,) nouns, (M, V) actions, float64."""
        found = np.zeros((self.config.nouns, self.config.verbs))
        for pair, count in self.pairs.items():
            found[pair % 1000, pair // 1000] = count
        return {'verb': found.sum(0), 'noun': found.sum(1), 'action': found}[task]


def save_history(folder: str | Path, checkpoint: HistoryCheckpoint, *, card: str) -> str:
    """Write a checkpoint folder, which need not exist.

    Args:
        folder: the folder.
        checkpoint: the models and all that goes with them.
        card: text of the model card, Markdown; it gets the YAML head of the Hub where it has none.

    Returns:
        The model id that load_history will report.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sums = {
        MEMBER.format(i): write_weights(folder / MEMBER.format(i), member, torch.float32)
        for i, member in enumerate(checkpoint.members)
    }
    data = save_tensors({'counts': checkpoint.expert.counts.table})
    (folder / COUNTS).write_bytes(data)
    sums[COUNTS] = hashlib.sha256(data).hexdigest()
    model_id = f'{KIND}@{sums[MEMBER.format(0)][:8]}'
    (folder / CARD).write_text(with_head(card, KIND), encoding='utf-8', errors='backslashreplace')
    write_json(
        folder / CONFIG,
        {
            'kind': KIND,
            'format': FORMAT,
            'model_id': model_id,
            'model': checkpoint.config.to_dict(),
            'members': len(checkpoint.members),
            'classes': asdict(checkpoint.classes),
            'words': list(checkpoint.words),
            'pairs': [[int(pair), int(count)] for pair, count in sorted(checkpoint.pairs.items())],
            'corrections': {task: asdict(correction) for task, correction in checkpoint.corrections.items()},
            'expert': {'share': checkpoint.expert.share, **asdict(checkpoint.expert.line)},
            'gap_s': float(checkpoint.gap_s),
            'participants': list(checkpoint.participants),
            'learnt': list(checkpoint.learnt),
            'held_out': list(checkpoint.held_out),
            'sha256': sums,
        },
    )
    return model_id


def load_history(folder: str | Path) -> HistoryCheckpoint:
    """Read a checkpoint folder; weights are read only after their header matches the config.

    Raises:
        InputError: model_missing, model_truncated, model_checksum, model_tensor, or model_config (anything in
            config.json, or a checkpoint of another kind).
    """
    folder = Path(folder)
    stored = read_config_of(
        folder, KIND, FIELDS, FORMAT, what='model of past actions', command='m3et train actions --history'
    )
    try:
        return _rebuilt(folder, stored)
    except InputError:
        raise
    except (TypeError, ValueError, KeyError) as error:
        raise InputError('model_config', f'{CONFIG} is refused: {error}; correct it, or {AGAIN}.') from error


def _rebuilt(folder: Path, stored: dict[str, Any]) -> HistoryCheckpoint:
    config = HistoryConfig.from_dict(stored['model'])
    classes = Classes(**{name: tuple(map(str, keys)) for name, keys in stored['classes'].items()})
    words = QuestionWords(classes, tuple(map(str, stored['words']))).words
    pairs = {int(pair): int(count) for pair, count in stored['pairs']}
    wrong = [pair for pair in pairs if not (0 <= pair // 1000 < config.verbs and 0 <= pair % 1000 < config.nouns)]
    if wrong:
        raise ValueError(f'the pair {wrong[0]} is of no class')
    members = tuple(
        read_weights(folder / MEMBER.format(i), partial(HistoryModel, config), stored['sha256'])
        for i in range(stored['members'])
    )
    corrections = {task: Correction(**values) for task, values in stored['corrections'].items()}
    settings = dict(stored['expert'])
    share = settings.pop('share')
    expert = Expert(
        NGram.from_table(_read_counts(folder / COUNTS, stored['sha256']), len(pairs)), NGramSettings(**settings), share
    )
    return HistoryCheckpoint(
        members=members,
        classes=classes,
        words=words,
        pairs=pairs,
        expert=expert,
        corrections=corrections,
        gap_s=stored['gap_s'],
        participants=tuple(map(str, stored['participants'])),
        learnt=tuple(map(str, stored['learnt'])),
        held_out=tuple(map(str, stored['held_out'])),
        model_id=stored['model_id'],
    )


def _read_counts(path: Path, sums: Mapping[str, Any]) -> np.ndarray:
    """Read counts (R, 4) of a file after checking its checksum."""
    try:
        data = read_regular(path, AGAIN)
    except OSError as error:
        raise InputError('model_missing', f'There is no {path}; {AGAIN}.') from error
    if (digest := hashlib.sha256(data).hexdigest()) != sums.get(path.name):
        raise InputError(
            'model_checksum',
            f'{path.name} has SHA-256 {digest[:8]}... but {CONFIG} says {str(sums.get(path.name))[:8]}...; {AGAIN}.',
        )
    try:
        return load_tensors(data)['counts']
    except (SafetensorError, KeyError) as error:
        raise InputError('model_truncated', f'{path.name} is damaged ({error}); {AGAIN}.') from error
