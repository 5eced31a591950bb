"""A camera frame together with everything the encoder computed from it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch

from m3et_ros.data import preprocess
from m3et_ros.data.frame import Frame
from m3et_ros.models.m3et.encoding import Encoded, ImageEncoding

ResultT = TypeVar('ResultT')


@dataclass(frozen=True)
class View:
    """A frame, its input tensors and its encodings."""

    frame: Frame
    # Standardised image tensors of batch 1, without text.
    inputs: dict[str, torch.Tensor]
    # Converts standardised depth back to metres; None when it cannot be converted.
    scale: preprocess.DepthScale | None
    # Encoder outputs of the images alone, reusable for any question; None in a stored view.
    image_encoding: ImageEncoding | None = field(default=None, repr=False)
    # Encoder outputs of the images and the frame's instruction; None in a stored view.
    encoded: Encoded | None = field(default=None, repr=False)
    # Seconds of preprocessing and encoding.
    latency_s: float = 0.0
    # Share of the image tokens that was encoded for this frame, 0..1; the others are older (runtime.adaptive).
    share: float = 1.0
    # What was decoded so far, by name; empty in a stored view.
    decoded: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def once(self, name: str, decode: Callable[[], ResultT]) -> ResultT:
        """Return what was decoded under a name, and decode it the first time: several outputs share it."""
        if name not in self.decoded:
            self.decoded[name] = decode()
        return self.decoded[name]

    def without_encodings(self) -> 'View':
        """Return a copy on the CPU without encoder outputs, small enough to store."""
        inputs = {name: tensor.cpu() for name, tensor in self.inputs.items()}
        return replace(self, image_encoding=None, encoded=None, inputs=inputs, decoded={})
