"""Checkpoints of MambaVL for clips of EPIC-KITCHENS-100: config.json, mambavl.safetensors, tokenizer.json, README.md.

config.json holds sizes, class keys, what a clip observes, the origin of its features and of its questions, the
participants and videos of training and those held out, and the SHA-256 of the weights.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from m3et_ros.data.checkpoints.cards import with_head
from m3et_ros.data.checkpoints.json_files import AGAIN, CONFIG, read_config_of, write_json
from m3et_ros.data.checkpoints.m3et import CARD, TOKENIZER, read_weights, write_weights
from m3et_ros.data.epic.class_lists import Classes
from m3et_ros.data.epic.frames import ObservedClip
from m3et_ros.data.errors import InputError
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.actions.mambavl import MambaVL, MambaVLConfig

KIND, FORMAT = 'video', 1
WEIGHTS = 'mambavl.safetensors'
FIELDS = {
    'kind': str,
    'format': int,
    'model_id': str,
    'model': dict,
    'classes': dict,
    'observation': dict,
    'features': dict,
    'questions': str,
    'participants': list,
    'learnt': list,
    'held_out': list,
    'sha256': dict,
}


@dataclass(frozen=True)
class VideoCheckpoint:
    """A head for clips and all that is needed to use it.

    Raises:
        ValueError: the head has other numbers of classes than the lists.
    """

    head: MambaVL
    tokenizer: Tokenizer
    # Verbs and nouns.
    classes: Classes
    # The part of a video that the head sees.
    observation: ObservedClip
    # Origin of the features: features.json of their folder; empty where that has none.
    features: Mapping[str, Any]
    # 'made' for questions without hints, 'file' for those of a file.
    questions: str
    # Participants and videos of training, and videos held out of it.
    participants: tuple[str, ...]
    learnt: tuple[str, ...]
    held_out: tuple[str, ...]
    model_id: str = ''

    def __post_init__(self):
        given = self.head.config.verbs, self.head.config.nouns
        wanted = len(self.classes.verbs), len(self.classes.nouns)
        if given != wanted:
            raise ValueError(
                f'the head has {given} verbs and nouns and the lists {wanted}; give lists that belong to it'
            )

    @property
    def config(self) -> MambaVLConfig:
        """Sizes of the head."""
        return self.head.config


def save_video(folder: str | Path, checkpoint: VideoCheckpoint, *, card: str) -> str:
    """Write a checkpoint folder, which need not exist; return the model id that load_video will report."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    digest = write_weights(folder / WEIGHTS, checkpoint.head, torch.float32)
    checkpoint.tokenizer.save(folder / TOKENIZER)
    (folder / CARD).write_text(with_head(card, KIND), encoding='utf-8', errors='backslashreplace')
    model_id = f'{KIND}@{digest[:8]}'
    write_json(
        folder / CONFIG,
        {
            'kind': KIND,
            'format': FORMAT,
            'model_id': model_id,
            'model': asdict(checkpoint.head.config),
            'classes': asdict(checkpoint.classes),
            'observation': asdict(checkpoint.observation),
            'features': dict(checkpoint.features),
            'questions': checkpoint.questions,
            'participants': list(checkpoint.participants),
            'learnt': list(checkpoint.learnt),
            'held_out': list(checkpoint.held_out),
            'sha256': {WEIGHTS: digest},
        },
    )
    return model_id


def load_video(folder: str | Path) -> VideoCheckpoint:
    """Read a checkpoint folder; weights are read only after their header matches the config.

    Raises:
        InputError: model_missing, model_truncated, model_checksum, model_tensor, or model_config (anything in
            config.json, or a checkpoint of another kind).
    """
    folder = Path(folder)
    stored = read_config_of(
        folder, KIND, FIELDS, FORMAT, what='model of clips', command='m3et train actions --features'
    )
    try:
        config = MambaVLConfig(**stored['model'])
        return VideoCheckpoint(
            head=read_weights(folder / WEIGHTS, partial(MambaVL, config), stored['sha256']),
            tokenizer=Tokenizer.load(folder / TOKENIZER),
            classes=Classes(**{name: tuple(map(str, keys)) for name, keys in stored['classes'].items()}),
            observation=ObservedClip(**stored['observation']),
            features=stored['features'],
            questions=stored['questions'],
            participants=tuple(map(str, stored['participants'])),
            learnt=tuple(map(str, stored['learnt'])),
            held_out=tuple(map(str, stored['held_out'])),
            model_id=stored['model_id'],
        )
    except InputError:
        raise
    except (TypeError, ValueError, KeyError) as error:
        raise InputError('model_config', f'{CONFIG} is refused: {error}; correct it, or {AGAIN}.') from error
