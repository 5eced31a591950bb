"""The check that a runtime passes before it serves: every output against eager float32, with text and without."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from m3et_ros.data import preprocess
from m3et_ros.models.m3et.config import M3ETConfig
from m3et_ros.models.m3et.encoding import Encoded, HeldEncoding, ImageEncoding
from m3et_ros.models.m3et.model import M3ET
from m3et_ros.runtime.backends.graphs import DENSE, flat_encoding, flat_scans
from m3et_ros.runtime.backends.probe import probe_frame

TOLERANCES = {'float32': 1e-3, 'bfloat16': 5e-2, 'int8': 0.5}
"""Largest accepted difference from eager float32 by precision, as a share of the largest value of each output.

Measured on the shipped model: 2e-5 in float32, 2e-2 in bfloat16, which rounds each product to 8 bits. In int8 2e-1
on a CPU without VNNI: it rounds what enters a product to 8 bits, too, so single values are far off. This limit finds a
graph that is wrong and cannot vouch for answers and depth, which benchmarks/int8.py measures.
"""


class Candidate(Protocol):
    """An object that encodes and decodes as an M3ET does."""

    def encode_images(self, images: dict[str, Tensor]) -> ImageEncoding:
        """Encode images as M3ET.encode_images does."""

    def encode_changed(
        self, images: dict[str, Tensor], indices: Tensor | None = None, held: HeldEncoding | None = None, /
    ) -> HeldEncoding:
        """Encode some patches of images anew as M3ET.encode_changed does."""

    def add_text(
        self, image_encoding: ImageEncoding, text: Tensor | None = None, text_mask: Tensor | None = None
    ) -> Encoded:
        """Encode text after images as M3ET.add_text does."""

    def encode_text(self, image_encoding: ImageEncoding, text: Tensor, text_mask: Tensor, /) -> Encoded:
        """Encode words after images as M3ET.encode_text does."""

    def decode(self, encoded: Encoded, task: str) -> Tensor:
        """Predict as M3ET.decode does."""


def largest_difference(
    candidate: Candidate, model: M3ET, modality_sets: Sequence[Sequence[str]], guides: tuple[int, int] | None = None
) -> float:
    """Return the largest difference of all outputs, each as a share of its largest value; inf where one is not finite.

    Args:
        candidate: runner to check.
        model: in float32, on the device of the candidate.
        modality_sets: sets of image modalities.
        guides: number and length of the texts that heads read of every frame; None = there are none.
    """
    worst = 0.0
    with torch.inference_mode():
        for modalities in modality_sets:
            wanted, found = (all_outputs(runner, model, modalities, guides) for runner in (model, candidate))
            worst = max(worst, *(difference(f, w) for f, w in zip(found, wanted, strict=True)))
    return worst


def all_outputs(
    runner: Candidate, model: M3ET, modalities: Sequence[str], guides: tuple[int, int] | None = None
) -> list[Tensor]:
    """Return every tensor that a runner makes of the probe frame.

    These are the image encoding, and without text and with text the context, the dense predictions and the answers, and
    the global tokens of the guides.
    """
    config, device = model.config, next(model.parameters()).device
    image_encoding = runner.encode_images(probe_images(model, modalities))
    texts: list[dict[str, Tensor]] = [{}]
    if 'text' in config.modalities:
        ids, mask = probe_texts((1, config.text_length), config, device)
        texts.append({'text': ids, 'text_mask': mask})
    outputs = flat_encoding(image_encoding, config)
    if guides is not None:
        outputs.append(runner.encode_text(image_encoding, *probe_texts(guides, config, device)).context[:, -1])
    for text in texts:
        encoded = runner.add_text(image_encoding, **text)
        context = encoded.context
        if encoded.valid is not None:
            context = context * encoded.valid[..., None]  # values at pads are arbitrary
        outputs += [context, *(runner.decode(encoded, task) for task in DENSE if task in config.tasks)]
        if model.answer_head is not None:
            outputs.append(model.answer_logits(encoded))
    return outputs


def difference_of_part(candidate: Candidate, model: M3ET, modalities: Sequence[str], count: int) -> float:
    """Return the largest difference, as largest_difference counts it, where some patches of a frame are encoded anew.

    Args:
        candidate: runner to check.
        model: in float32, on the device of the candidate.
        modalities: image modalities of the frame.
        count: number of patches that are encoded anew; they are spread over the frame.
    """
    found: list[Tensor] = []
    wanted: list[Tensor] = []
    with torch.inference_mode():
        images = probe_images(model, modalities)
        for runner, outputs in ((candidate, found), (model, wanted)):
            held = runner.encode_changed({m: -image for m, image in images.items()})
            total = held.image_encoding.source.shape[1]
            ids = torch.arange(count, device=held.image_encoding.source.device) * total // count
            held = runner.encode_changed(images, ids, held)
            outputs += [*flat_encoding(held.image_encoding, model.config), *flat_scans(held, model.config)]
            outputs.append(runner.add_text(held.image_encoding).context)
    return max(difference(f, w) for f, w in zip(found, wanted, strict=True))


def probe_images(model: M3ET, modalities: Sequence[str]) -> dict[str, Tensor]:
    """Return the probe frame as a model on its device takes it; zeros for modalities that it has not."""
    config, device = model.config, next(model.parameters()).device
    inputs, _ = preprocess.image_inputs(probe_frame(), config)
    size = config.image_size
    zeros = {m: torch.zeros(1, channels, size, size) for m, channels in config.image_channels.items()}
    return {m: inputs.get(m, zeros[m]).to(device) for m in modalities}


def probe_texts(shape: tuple[int, int], config: M3ETConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids (Q, T) int64 and mask (Q, T) bool of texts of which half are pads."""
    place = torch.arange(shape[0] * shape[1], device=device).view(shape)
    return (place * 7 + 1) % config.vocabulary, place % shape[1] < max(2, shape[1] // 2)


def difference(found: Tensor, wanted: Tensor) -> float:
    """Return the largest difference as a share of the largest wanted value.

    It is inf where a value is not finite, or the shapes differ.
    """
    if found.shape != wanted.shape:
        return float('inf')
    off = float((found.float() - wanted.float()).abs().max() / wanted.float().abs().max().clamp(min=1e-6))
    return off if off == off else float('inf')
