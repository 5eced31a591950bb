"""What travels between files, topics and models: frames and label sets."""

from dataclasses import dataclass, field

import numpy as np

UNLABELLED = 255
"""Pixel value of a segmentation mask that belongs to no class."""


@dataclass(frozen=True)
class Frame:
    """One look of the camera.

    Raises:
        ValueError: a shape or type is not as listed.
    """

    # Colours, (H, W, 3) uint8, R G B.
    rgb: np.ndarray
    # Metres along the optical axis, (H, W) float32, NaN where unknown; None when there is no depth camera (REP 118).
    depth: np.ndarray | None = None
    # Time of exposure in nanoseconds since the epoch.
    stamp_ns: int = 0
    # What the robot was asked to attend to when the frame was taken; empty for nothing.
    instruction: str = ''
    # Optical frame of the camera (REP 105), for example 'camera_color_optical_frame'.
    frame_id: str = ''
    # Pinhole intrinsics (3, 3) of the colour camera, or None.
    K: np.ndarray | None = field(default=None)

    def __post_init__(self):
        if self.rgb.ndim != 3 or self.rgb.shape[2] != 3 or self.rgb.dtype != np.uint8:
            raise ValueError(f'rgb is {self.rgb.dtype} {self.rgb.shape}; give uint8 (H, W, 3)')
        if self.depth is not None and self.depth.shape != self.rgb.shape[:2]:
            raise ValueError(f'depth is {self.depth.shape} beside rgb {self.rgb.shape[:2]}; give the same size')


@dataclass(frozen=True)
class Labels:
    """The label sets of a model; the position of a name is its class id unless ids say otherwise."""

    # Segmentation classes in the order of the model's outputs.
    classes: tuple[str, ...]
    # Overlay colours of the classes, R G B in 0..255.
    colors: tuple[tuple[int, int, int], ...]
    # Candidate answers in the order of the answer head.
    answers: tuple[str, ...]
    # Verbs and nouns of the action heads.
    verbs: tuple[str, ...]
    nouns: tuple[str, ...]
    # Ids published for verbs and nouns (EPIC-KITCHENS-100 where the set has them); empty means positions.
    verb_ids: tuple[int, ...] = ()
    noun_ids: tuple[int, ...] = ()

    def __post_init__(self):
        if len(self.colors) != len(self.classes):
            raise ValueError(f'{len(self.colors)} colors for {len(self.classes)} classes; give one each')
        if len(self.classes) > UNLABELLED:
            raise ValueError(f'{len(self.classes)} classes do not fit a mono8 mask; at most {UNLABELLED}')
        for name, ids, labels in (('verb', self.verb_ids, self.verbs), ('noun', self.noun_ids, self.nouns)):
            if ids and len(ids) != len(labels):
                raise ValueError(f'{len(ids)} {name}_ids for {len(labels)} {name}s; give one each or none')
