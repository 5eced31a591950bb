"""Answerers: ML-Mamba, EMMA or MaTVLM beside M3ET, writing sentences about a frame.

An Answerer reads the visual tokens of the engine's M3ET, or of image encoders of its own, and writes token by token,
each computed when it is asked for. Like the engine it runs on the inference thread. Models as released read the image
themselves (runtime.released).
"""

import os
import re
from collections.abc import Iterator
from typing import Protocol

import torch

from m3et_ros.data.checkpoints import SHIPPED
from m3et_ros.data.checkpoints.cobra import is_cobra, load_cobra
from m3et_ros.data.checkpoints.released import is_matvlm, load_matvlm
from m3et_ros.data.checkpoints.safetensor_files import check_memory
from m3et_ros.data.checkpoints.talk import TalkCheckpoint, load_talk
from m3et_ros.data.errors import InputError
from m3et_ros.data.hub import HUB, pull
from m3et_ros.models.m3et.sizes import SIZES
from m3et_ros.models.vlm.generation import Sampling
from m3et_ros.models.vlm.variants import VARIANTS, vision_width
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import shipped
from m3et_ros.runtime.released import ReleasedAnswerer
from m3et_ros.runtime.texts import texts
from m3et_ros.runtime.view import View

M3ET, VLM, ROUTER = 'm3et', 'vlm', 'router'
BESIDE = (VLM, ROUTER)
"""Answerers that runtime.vlm opens: a model of transformers, alone or behind M3ET."""
ANSWERERS = (M3ET, *VARIANTS, *BESIDE)
"""Values of the parameter `answerer`."""

SHIPPED_TALK = SHIPPED / 'm3et_talk'
SENTENCE_START = re.compile(r'(?:^|(?<=[.?!] ))[a-z]')


class TextAnswerer(Protocol):
    """A model beside an engine that writes answers about frames.

    Attributes:
        model_id: its id, in every answer.
        open_questions: True hands it questions as they are asked; False those in wordings that M3ET was taught.
    """

    model_id: str
    open_questions: bool

    def write(self, question: str, view: View, *, max_tokens: int) -> Iterator[tuple[str, float]]:
        """Answer about a view token by token: yields (text so far, probability of its newest token)."""


class Answerer:
    """A vision-language model beside an engine.

    Args:
        checkpoint: checkpoint of the vision-language model.
        engine: whose M3ET encodes the frames, unless the model reads DINOv2 and SigLIP.

    Raises:
        InputError: answerer_sight: it was trained on another M3ET.
    """

    open_questions = False

    def __init__(self, checkpoint: TalkCheckpoint, engine: Engine):
        self._encoders = checkpoint.encoders
        if self._encoders is None:
            checkpoint.check_encoder(engine.model_id, vision_width(engine.config))
        self.model_id, self._engine, self._tokenizer = checkpoint.model_id, engine, checkpoint.tokenizer
        self._model = checkpoint.model.eval()
        self._grid = (checkpoint.config.model.connector.rows, checkpoint.config.model.connector.cols)

    def write(self, question: str, view: View, *, max_tokens: int) -> Iterator[tuple[str, float]]:
        """Answer about a view token by token: yields (text so far, probability of its newest token).

        Raises:
            ValueError: max_tokens is below 1.
        """
        self._model.to(self._engine.device)  # the engine may have moved
        features = self._visual_tokens(view)
        ids, mask = self._tokenizer.encode([question], len(self._tokenizer.spans(question)) + 3)
        prompt = ids[:, : int(mask.sum())].to(self._engine.device)
        steps = self._model.generate(features, prompt, sampling=Sampling(max_tokens, (self._tokenizer.sep,)))
        yield from texts(steps, lambda tokens: capitalised(self._tokenizer.decode(tokens)))

    def _visual_tokens(self, view: View) -> torch.Tensor:
        if self._encoders is None:
            return self._engine.visual_tokens(view, *self._grid)
        self._encoders.tower.to(self._engine.device)
        with torch.inference_mode():
            return self._encoders.encode([view.frame.rgb], rows=self._grid[0], cols=self._grid[1])


def capitalised(text: str) -> str:
    """Begin every sentence with a capital letter; the tokenizer has lower case only."""
    return SENTENCE_START.sub(lambda found: found[0].upper(), text)


def open_talk(name: str = '') -> TalkCheckpoint:
    """Open a talking model by name.

    Args:
        name: a checkpoint folder, a shipped one such as m3et_talk, or the variant that it holds; '' for the shipped
            one.

    Raises:
        InputError: there is no such checkpoint, or it is damaged.
    """
    if name and os.path.exists(name):
        return load_talk(name)
    if name and (folder := shipped(name)) is not None:
        return load_talk(folder)
    if name and name not in VARIANTS:
        what = f'{name} is an M3ET, which does not talk' if name in SIZES else f'There is no {name}'
        raise InputError(
            'model_missing', f'{what}; give a checkpoint folder of m3et train talk, or one of {", ".join(VARIANTS)}.'
        )
    if not SHIPPED_TALK.is_dir():
        raise InputError(
            'model_missing',
            f'No {name or "talking model"} is shipped with this version; train one with m3et train talk and give its '
            'folder.',
        )
    checkpoint = load_talk(SHIPPED_TALK)
    if name and checkpoint.config.variant != name:
        raise InputError(
            'model_missing',
            f'No {name} is shipped with this version, which has a {checkpoint.config.variant}; train one with m3et '
            'train talk and give its folder.',
        )
    return checkpoint


def open_answerer(name: str, where: str, engine: Engine) -> TextAnswerer | None:
    """Open the answerer called `name`; None for M3ET itself, which the engine holds, and for those in BESIDE.

    Args:
        name: one of ANSWERERS.
        where: its checkpoint folder, ours or one as its authors released it, or hf:owner/name[@revision]; '' is the one
            shipped with the package.
        engine: whose M3ET encodes the frames.

    Raises:
        InputError: there is no such checkpoint, it is damaged, of another variant, or of another M3ET; as hub.pull.
    """
    if name not in ANSWERERS:
        raise InputError('answerer', f'There is no answerer {name!r}; give one of {", ".join(ANSWERERS)}.')
    if name in BESIDE:
        return None
    if name == M3ET:
        if where:
            raise InputError(
                'answerer',
                f'The answerer is m3et, which has no checkpoint of its own; leave {where} '
                'out or name the variant that it holds.',
            )
        return None
    if where.startswith(HUB):
        asked = where
        where = str(pull(asked, begin=lambda files, size: check_memory(asked, size)))
    if name == 'matvlm' and where and is_matvlm(where):
        return ReleasedAnswerer(load_matvlm(where), engine.device)
    if name in ('ml_mamba', 'emma') and where and is_cobra(where):
        released = load_cobra(where)
        if released.variant != name:
            raise InputError(
                'answerer', f'{where} holds a {released.variant} and {name} was asked for; give that name.'
            )
        return ReleasedAnswerer(released, engine.device)
    checkpoint = open_talk(where)
    if checkpoint.config.variant != name:
        what = where or 'The shipped checkpoint'
        raise InputError(
            'answerer',
            f'{what} holds a {checkpoint.config.variant} and {name} was asked for; give that name or another folder.',
        )
    return Answerer(checkpoint, engine)
