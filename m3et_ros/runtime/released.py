r"""Released models as answerers: they read the image themselves, and any question (docs/released.md).

    MaTVLM          "A chat ... questions. USER: " | visual tokens | "\n{question} ASSISTANT:" -> answer
    ML-Mamba, EMMA  visual tokens | "<|user|>\n{question}<|endoftext|>\n<|assistant|>\n" -> answer

Symbols: n visual tokens of an image.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch

from m3et_ros.data.checkpoints.cobra import ReleasedCobra
from m3et_ros.data.checkpoints.image_encoders import encode_images
from m3et_ros.data.checkpoints.released import ReleasedMaTVLM
from m3et_ros.data.preprocess import bicubic_square
from m3et_ros.runtime.texts import texts
from m3et_ros.runtime.view import View

BEFORE = (
    'A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, '
    "and polite answers to the user's questions. USER: "
)
AFTER = '\n{} ASSISTANT:'
"""Words around the picture, as the released model was trained; its blanks and line break belong to it."""
CHAT, PLAIN = '<|user|>\n{}<|endoftext|>\n<|assistant|>\n', 'In: {}\nOut: '
"""Words behind the picture for language models that were trained on chats, and for others."""
PICTURE = '<image>'
"""Mark of the picture in the authors' code, which a question cannot set."""
SEED = 0
"""Seed of every answer, where a model samples: the same question about the same image has the same answer."""


class ReleasedAnswerer:
    """A released model that answers questions about frames.

    Attributes:
        open_questions: True: questions go to it as they are asked, for it was taught in no fixed wordings.
    """

    open_questions = True

    def __init__(self, released: ReleasedMaTVLM | ReleasedCobra, device: str | torch.device = 'cpu'):
        """Take a model.

        Args:
            released: model, image encoders and tokenizer.
            device: where they run.
        """
        self.model_id, self._released, self._device = released.model_id, released, torch.device(device)
        released.model.to(self._device)
        released.tower.to(self._device)

    def prompt(self, question: str) -> tuple[torch.Tensor, int]:
        """Return the words of a question (1, T) int64, and how many of them precede the picture."""
        released, text = self._released, question.replace(PICTURE, '').strip()
        encode = released.tokenizer.encode
        before: list[int] = []
        if isinstance(released, ReleasedMaTVLM):
            before, after = encode(BEFORE), encode(AFTER.format(text))
        else:
            after = encode((CHAT if released.chat else PLAIN).format(text))
        return torch.tensor([before + after], device=self._device), len(before)

    def visual_tokens(self, view: View) -> torch.Tensor:
        """Return the visual tokens (1, n, d_vision) of a view."""
        released, rgb = self._released, view.frame.rgb
        if isinstance(released, ReleasedMaTVLM):
            pixels = bicubic_square(rgb, released.tower.config.image_size, pad=released.pad)
            weight = next(released.tower.parameters())
            return released.tower(torch.from_numpy(pixels)[None].to(weight.device, weight.dtype))
        return encode_images(released.tower, [rgb])

    def write(self, question: str, view: View, *, max_tokens: int) -> Iterator[tuple[str, float]]:
        """Answer about a view token by token: yields (text so far, probability of its newest token).

        Raises:
            ValueError: max_tokens is below 1.
        """
        released = self._released
        sampling = replace(released.sampling, max_tokens=max_tokens)
        ids, before = self.prompt(question)
        with torch.inference_mode():
            features = self.visual_tokens(view)
        steps = released.model.generate(
            features, ids, before=before, sampling=sampling, generator=torch.Generator(self._device).manual_seed(SEED)
        )
        yield from texts(steps, lambda tokens: released.tokenizer.decode(tokens).strip())
