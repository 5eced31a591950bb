"""Camera frames and label sets, which travel between files, topics and models."""

from dataclasses import dataclass, field

import numpy as np

from m3et_ros.data.calibration import Calibration
from m3et_ros.data.errors import InputError
from m3et_ros.data.questions.taught import Taught
from m3et_ros.models.m3et.config import UNLABELLED

NANOSECONDS = 1_000_000_000
"""Nanoseconds of one second; stamps count them from the epoch."""


@dataclass(frozen=True)
class Frame:
    """One image of the camera, with depth where there is any.

    Raises:
        ValueError: a shape or type is not as listed.
    """

    # Colours, (H, W, 3) uint8, R G B.
    rgb: np.ndarray
    # Metres along the optical axis, (H, W) float32, NaN where unknown; None without a depth camera (REP 118).
    depth: np.ndarray | None = None
    # Time of exposure in nanoseconds since the epoch.
    stamp_ns: int = 0
    # Instruction the robot was following when the frame was taken; empty for none.
    instruction: str = ''
    # Optical frame of the camera (REP 105), for example 'camera_color_optical_frame'.
    frame_id: str = ''
    # Pinhole intrinsics (3, 3) of the colour camera, or None.
    K: np.ndarray | None = None

    def __post_init__(self):
        check_arrays(self.rgb, depth=self.depth)


def check_arrays(rgb: np.ndarray, **depths: np.ndarray | None) -> None:
    """Check the arrays of one view, which a program made.

    Args:
        rgb: colours, (H, W, 3) uint8.
        depths: arrays (H, W) by name, for the message; None for one that is absent.

    Raises:
        ValueError: a shape or type is wrong.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f'rgb is {rgb.dtype} {rgb.shape}; give uint8 (H, W, 3)')
    for name, depth in depths.items():
        if depth is not None and depth.shape != rgb.shape[:2]:
            raise ValueError(f'{name} is {depth.shape} beside rgb {rgb.shape[:2]}; give the same size')


def check_aligned(rgb: tuple[int, ...], depth: tuple[int, ...], fix: str) -> None:
    """Refuse depth that is not aligned to colour, as far as sizes show it.

    Args:
        rgb: height and width of the colour image; further sizes are ignored, so that the shape of an array will do.
        depth: height and width of the depth image, likewise.
        fix: the way to get aligned depth; the end of the error's sentence.

    Raises:
        InputError: 'depth_size'.
    """
    if rgb[:2] != depth[:2]:
        raise InputError(
            'depth_size',
            f'depth is {depth[1]}x{depth[0]} but colour is {rgb[1]}x{rgb[0]}, so their pixels do not match; {fix}',
        )


@dataclass(frozen=True)
class Labels:
    """The label sets of a model; the position of a name is its class id unless ids say otherwise.

    Raises:
        ValueError: colours or ids differ in number from what they belong to, or classes do not fit a mono8 mask.
    """

    # Segmentation classes in the order of the model's outputs.
    classes: tuple[str, ...]
    # Overlay colours of the classes, R G B in 0..255.
    colors: tuple[tuple[int, int, int], ...]
    # Candidate answers in the order of the answer head.
    answers: tuple[str, ...]
    # Verbs and nouns of the action heads.
    verbs: tuple[str, ...]
    nouns: tuple[str, ...]
    # Published ids of verbs and nouns (EPIC-KITCHENS-100 where the set has them); empty means positions.
    verb_ids: tuple[int, ...] = ()
    noun_ids: tuple[int, ...] = ()
    # Questions that the model was taught; None where the checkpoint does not say.
    taught: Taught | None = field(default=None, compare=False)
    # How sure the model may be of its answers.
    calibration: Calibration = field(default=Calibration(), compare=False)

    def __post_init__(self):
        if len(self.colors) != len(self.classes):
            raise ValueError(f'{len(self.colors)} colors for {len(self.classes)} classes; give one each')
        if len(self.classes) > UNLABELLED:
            raise ValueError(f'{len(self.classes)} classes do not fit a mono8 mask; at most {UNLABELLED}')
        for name, ids, labels in (('verb', self.verb_ids, self.verbs), ('noun', self.noun_ids, self.nouns)):
            if ids and len(ids) != len(labels):
                raise ValueError(f'{len(ids)} {name}_ids for {len(labels)} {name}s; give one each or none')
