"""Released language models, Mamba-1, Mamba-2 and Phi, continue a text (docs/released.md)."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from m3et_ros.data.byte_pairs import BytePairs
from m3et_ros.data.checkpoints.released import load_language_model
from m3et_ros.data.errors import InputError
from m3et_ros.models.vlm.generation import Sampling, generate
from m3et_ros.runtime.devices import device_of
from m3et_ros.runtime.texts import texts

MAX_TOKENS = 2048
"""Most tokens of a text that is continued, as these models were trained."""


class LanguageWriter:
    """A released language model and its tokenizer.

    Args:
        folder: config.json, safetensors, and the files of a byte-level BPE tokenizer.
        device: torch device; 'auto' is CUDA when there is one.

    Raises:
        InputError: as load_language_model and BytePairs.load; model_config, the tokenizer has more tokens than the
            model has room for.
    """

    def __init__(self, folder: str | Path, *, device: str = 'auto'):
        self._device = device_of(device)
        self.tokenizer = BytePairs.load(folder)
        self.model = load_language_model(folder).to(self._device)
        if self.tokenizer.vocabulary > self.model.config.vocabulary:
            raise InputError(
                'model_config',
                f'The tokenizer has {self.tokenizer.vocabulary} tokens and the model room for '
                f'{self.model.config.vocabulary}; use the tokenizer that the model was made with.',
            )

    def write(self, text: str, sampling: Sampling, *, seed: int = 0) -> Iterator[tuple[str, float]]:
        """Continue a text token by token: yields (what was added so far, probability of its newest token).

        Args:
            text: the beginning.
            sampling: choice of tokens; the end token of the tokenizer ends the text too.
            seed: seed of the random draws.

        Raises:
            InputError: question_empty or question_long: the text has no token, or more than MAX_TOKENS.
        """
        ids = self.tokenizer.encode(text)
        if not ids:
            raise InputError('question_empty', 'The text is empty; give its beginning.')
        if len(ids) > MAX_TOKENS:
            raise InputError('question_long', f'The text has {len(ids)} tokens and at most {MAX_TOKENS} are read.')
        if self.tokenizer.end is not None:
            sampling = replace(sampling, stop=(*sampling.stop, self.tokenizer.end))
        generator = torch.Generator(self._device).manual_seed(seed)
        prompt = torch.tensor([ids], device=self._device)
        steps = generate(self.model, prompt, sampling=sampling, generator=generator)
        yield from texts(steps, self.tokenizer.decode)
