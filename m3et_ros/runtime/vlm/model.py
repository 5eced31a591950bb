"""A vision-language model of transformers that answers questions about images.

    model = open_vlm('SmolVLM-256M', device='cpu')
    answer = model.answer('What is on the table?', [rgb], max_tokens=64, on_text=print)

Answers are greedy, so the same question about the same images has the same answer.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.runtime.devices import device_of
from m3et_ros.runtime.model_folder import ModelFolder
from m3et_ros.runtime.results import Ranked, Reply
from m3et_ros.runtime.vlm.folder import find_vlm
from m3et_ros.runtime.vlm.processor import TEMPLATE_FIX, load_processor

DTYPES = {'auto': None, 'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
"""Data types by name; auto leaves the weights as they are stored."""
GREEDY = {'do_sample': False, 'num_beams': 1, 'temperature': None, 'top_p': None, 'top_k': None}
SEVERAL = 'These {} pictures show one episode, the oldest first and the newest last. {}'
"""Words around a question about several images."""


@dataclass(frozen=True)
class VlmAnswer:
    """An answer of a vision-language model."""

    text: str
    # Product of the probabilities of its tokens, 0..1.
    confidence: float
    # Ids of the tokens that were written, the stop token included.
    tokens: tuple[int, ...]
    # Seconds of preprocessing and writing.
    latency_s: float

    def reply(self, question: str, frames: Sequence[Frame], scope: str) -> Reply:
        """Return the reply to a question about these frames, oldest first."""
        return Reply(
            question,
            self.text,
            self.confidence,
            (Ranked(-1, self.text, self.confidence),),
            scope,
            len(frames),
            frames[0].stamp_ns,
            frames[-1].stamp_ns,
            self.latency_s,
            read_as=question,
        )


def ignore_text(text: str) -> None:
    """Take the text of an answer so far and do nothing."""
    del text


def never() -> bool:
    """Return False: nobody cancels."""
    return False


class VisionLanguageModel:
    """A model and its processor on one device. One answer at a time; `cancelled` may be asked from any thread.

    Attributes:
        model_id: id for answers: name@checksum, or owner--name@commit of the Hub.
        device: where the model is.
        dtype: data type of its weights.
        weight_bytes: size of its weights.
        weights_sha256: SHA-256 of the files of its weights.
    """

    def __init__(self, folder: ModelFolder, model: Any, processor: Any):
        """Take a loaded model and check that its prompt has room for an image.

        Raises:
            InputError: vlm_template, the chat template cannot write a question, or leaves the image out.
        """
        self.model_id, self.weights_sha256 = folder.model_id, folder.weights_sha256
        self._model, self._processor = model.eval(), processor
        self.device, self.dtype = model.device, model.dtype
        self.weight_bytes = sum(one.numel() * one.element_size() for one in model.parameters())
        self._cancelled: Callable[[], bool] = never
        # Before each layer, so that a cancelled question ends within a layer even while a long prompt is read.
        for module in model.modules():
            if isinstance(module, nn.ModuleList):
                for layer in module:
                    layer.register_forward_pre_hook(self._stop_if_cancelled)
        self._check_template(folder)

    @property
    def memory_bytes(self) -> int:
        """Memory that the model takes in this process."""
        return self.weight_bytes

    def close(self) -> None:
        """Drop the weights; the model does not answer any more."""
        self._model = None

    def prompt(self, question: str, images: Sequence[np.ndarray]) -> Any:
        """Return the inputs of the model for a question about images.

        Args:
            question: any text; control tokens in it are read as text, that of an image with a blank in it.
            images: (H, W, 3) uint8 RGB, oldest first, at least one.

        Returns:
            A mapping of names to tensors, `input_ids` (1, L) among them.
        """
        # The processor of PaliGemma would count it as an image.
        if token := getattr(self._processor, 'image_token', None):
            question = question.replace(token, f'{token[0]} {token[1:]}')
        text = question if len(images) == 1 else SEVERAL.format(len(images), question)
        return self._processor.apply_chat_template(
            _messages(text, images),
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors='pt',
            sanitize_control_tokens=True,
        )

    def answer(
        self,
        question: str,
        images: Sequence[np.ndarray],
        *,
        max_tokens: int,
        on_text: Callable[[str], None] = ignore_text,
        cancelled: Callable[[], bool] = never,
    ) -> VlmAnswer:
        """Answer a question about images.

        Args:
            question: any text.
            images: (H, W, 3) uint8 RGB, oldest first, at least one.
            max_tokens: longest answer in tokens, at least 1.
            on_text: called with the text so far whenever it has grown.
            cancelled: asked before every layer; True ends the answer.

        Raises:
            ValueError: max_tokens is below 1, or there is no image.
            CancelledError: `cancelled` returned True.
            InputError: model_memory, the device ran out of memory.
        """
        if max_tokens < 1 or not images:
            raise ValueError(f'max_tokens is {max_tokens} with {len(images)} images; give at least one of each')
        start = time.perf_counter()
        writer = _Writer(self._processor.tokenizer, on_text)
        self._cancelled = cancelled
        try:
            with torch.inference_mode():
                inputs = self.prompt(question, images).to(self.device, self.dtype)
                self._model.generate(
                    **inputs, **GREEDY, max_new_tokens=max_tokens, streamer=writer, logits_processor=[writer.measure]
                )
        except torch.OutOfMemoryError as error:
            raise InputError(
                'model_memory', f'{self.model_id} ran out of memory on {self.device}; choose a smaller model or image.'
            ) from error
        finally:
            self._cancelled = never
        tokens = tuple(writer.tokens)
        return VlmAnswer(writer.whole(), writer.confidence, tokens, time.perf_counter() - start)

    def _stop_if_cancelled(self, module: nn.Module, inputs: Any) -> None:
        del module, inputs
        if self._cancelled():
            raise CancelledError

    def _check_template(self, folder: ModelFolder) -> None:
        """Refuse a chat template that fails, or that writes the same with and without an image."""
        question, black = 'What is it?', [np.zeros((56, 56, 3), np.uint8)]
        try:
            self.prompt(question, black)
            written = [self._processor.apply_chat_template(_messages(question, some)) for some in ([], black)]
        except Exception as error:  # a template is a program of its own
            raise InputError(
                'vlm_template',
                f'The processor of {folder.path} cannot write a question about an image ({type(error).__name__}: '
                f'{str(error)[:200]}); {TEMPLATE_FIX}.',
            ) from error
        if written[0] == written[1]:
            raise InputError(
                'vlm_template', f'The chat template of {folder.path} leaves the image out; {TEMPLATE_FIX}.'
            )


def _messages(text: str, images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Return a conversation of one turn: the images, then the text."""
    from PIL import Image

    pictures = [{'type': 'image', 'image': Image.fromarray(np.ascontiguousarray(one))} for one in images]
    return [{'role': 'user', 'content': [*pictures, {'type': 'text', 'text': text}]}]


class _Writer:
    """Receives the tokens of generate, decodes them and adds up their probability."""

    def __init__(self, tokenizer: Any, on_text: Callable[[str], None]):
        self._tokenizer, self._on_text = tokenizer, on_text
        self.tokens: list[int] = []
        self.confidence = 1.0
        self._prompt, self._text = True, ''

    def measure(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Multiply the confidence by the probability of the likeliest token; a logits processor of transformers."""
        self.confidence *= float(scores[0].float().softmax(-1).max())
        return scores

    def put(self, ids: torch.Tensor) -> None:
        """Take the prompt, and after it one token at a time; a streamer of transformers."""
        if self._prompt:
            self._prompt = False
            return
        self.tokens += ids.flatten().tolist()
        # Half of a character may be waiting for its next token.
        text = self.whole()
        if not text.endswith('\ufffd') and text != self._text and text.startswith(self._text):
            self._text = text
            self._on_text(text)

    def end(self) -> None:
        """Do nothing: the answer has been taken token by token."""

    def whole(self) -> str:
        """Return the text of all tokens."""
        text = self._tokenizer.decode(self.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text.strip()


def open_vlm(name: str, *, device: str = 'auto', dtype: str = 'auto') -> VisionLanguageModel:
    """Open a vision-language model by name.

    Args:
        name: a folder, or hf:owner/name[@revision]; see find_vlm.
        device: 'auto' (CUDA when there is one), or a torch device.
        dtype: one of DTYPES.

    Raises:
        InputError: it cannot be used; the sentence says why. See find_vlm and load_processor; also model_memory,
            model_tensor (weights that do not fit the configuration) and device.
    """
    where = device_of(device)
    folder = find_vlm(name, DTYPES[dtype])
    folder.check_memory(DTYPES[dtype], where)
    processor = load_processor(folder)
    from transformers import AutoModelForImageTextToText

    try:
        load: Any = AutoModelForImageTextToText.from_pretrained
        model, report = load(
            folder.path,
            dtype='auto' if DTYPES[dtype] is None else DTYPES[dtype],
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # files of a user: transformers raises anything
        raise InputError(
            'model_tensor',
            f'{folder.path} cannot be loaded ({type(error).__name__}: {str(error)[:200]}); copy the model again.',
        ) from error
    if missing := sorted(report['missing_keys']):
        raise InputError(
            'model_tensor', f'{folder.path} lacks the weights {missing[0]} ({len(missing)} in all); copy it again.'
        )
    return VisionLanguageModel(folder, model.to(where), processor)
