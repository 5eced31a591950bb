"""Is a runtime right? Every graph against eager float32 on the golden frame, with words and without."""

import torch
from torch import Tensor

from m3et_ros.data import preprocess
from m3et_ros.data.frame import Frame
from m3et_ros.models.m3et.encoding import Encoded
from m3et_ros.models.m3et.model import M3ET
from m3et_ros.runtime.backends.graphs import DENSE, flat_sight
from m3et_ros.runtime.backends.probe import golden_frame

TOLERANCES = {'float32': 1e-3, 'bfloat16': 5e-2}
"""Largest accepted difference from eager float32 by precision, as a share of the largest value of each output.

Measured on the shipped model: 2e-5 in float32, 2e-2 in bfloat16, which rounds each product to 8 bits.
"""


def largest(candidate, model: M3ET, plan: tuple[tuple[str, ...], ...]) -> float:
    """Largest difference of all outputs, each as a share of its largest value; inf where one is not finite.

    Args:
        candidate: Prepared, or whatever sees, listens and decodes as an M3ET does.
        model: in float32, on the device of the candidate.
        plan: sets of image modalities.
    """
    frame, worst = golden_frame(), 0.0
    with torch.inference_mode():
        for modalities in plan:
            wanted, found = (_outputs(which, model, frame, modalities) for which in (model, candidate))
            worst = max(worst, *(difference(f, w) for f, w in zip(found, wanted, strict=True)))
    return worst


def _outputs(which, model: M3ET, frame: Frame, modalities: tuple[str, ...]) -> list[Tensor]:
    """Everything that one of the two makes of a frame."""
    config, device = model.config, model.positions.device
    inputs, _ = preprocess.image_inputs(frame, config)
    size = config.image_size
    zeros = {'depth': torch.zeros(1, 1, size, size), 'rgb': torch.zeros(1, 3, size, size)}
    sight = which.encode_images({m: inputs.get(m, zeros[m]).to(device) for m in modalities})
    ids = (torch.arange(config.text_length, device=device)[None] * 7 + 1) % config.vocabulary
    mask = torch.arange(config.text_length, device=device)[None] < max(2, config.text_length // 2)
    said: list[dict] = [{}, {'text': ids, 'text_mask': mask}]
    encoded = [which.add_text(sight, **words) for words in (said if 'text' in config.modalities else said[:1])]
    return [*flat_sight(sight), *(t for one in encoded for t in _read(which, model, one))]


def _read(which, model: M3ET, encoded: Encoded) -> list[Tensor]:
    """What is read from an encoding: what counts of its context, dense outputs, answers."""
    context = encoded.context
    if encoded.valid is not None:
        context = context * encoded.valid[..., None]  # pads come out as they like
    dense = [which.decode(encoded, task) for task in DENSE if task in model.config.tasks]
    return [context, *dense, *([model.answer_logits(encoded)] if model.answer_head is not None else [])]


def difference(found: Tensor, wanted: Tensor) -> float:
    """Largest difference as a share of the largest wanted value; inf where a value is not finite."""
    off = float((found.float() - wanted.float()).abs().max() / wanted.float().abs().max().clamp(min=1e-6))
    return off if off == off else float('inf')
