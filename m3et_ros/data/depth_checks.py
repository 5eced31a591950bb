"""Find depth that has the right shape and cannot be right: another camera's frame, other stamps, another unit."""

import numpy as np

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import NANOSECONDS

NEAREST_M, FARTHEST_M = 0.05, 10.0
"""Median distances in metres beyond which a picture of a depth camera is implausible."""
EVERY_PIXEL = 8
"""Every so many rows and columns are looked at for a median."""
ALIGN = (
    'start the camera with aligned depth (realsense2_camera: launch argument align_depth.enable:=true, '
    'topic aligned_depth_to_color/image_raw; m3et cameras has the switch of other drivers) or register it with '
    'depth_image_proc'
)


def check_frame_id(rgb: str, depth: str) -> None:
    """Refuse depth that is not in the frame of the colours: its pixels are those of another lens.

    Args:
        rgb: frame_id of the colour image (REP 103, 105).
        depth: frame_id of the depth image. Where one of the two is empty, nothing can be said.

    Raises:
        InputError: 'depth_frame'.
    """
    rgb, depth = rgb.strip('/'), depth.strip('/')
    if rgb and depth and rgb != depth:
        raise InputError(
            'depth_frame',
            f'depth is in the frame {depth[:80]!r} but colour in {rgb[:80]!r}, so their pixels do not match; {ALIGN}',
        )


def median_m(depth: np.ndarray) -> float:
    """Return the median of some pixels of depth (H, W) in metres; NaN where all are unknown."""
    some = depth[::EVERY_PIXEL, ::EVERY_PIXEL]
    known = some[np.isfinite(some)]
    return float(np.median(known)) if known.size else float('nan')


def implausible(median: float) -> str:
    """Return a sentence with the fix if a median distance in metres is not one of a depth camera, else ''."""
    if median != median or NEAREST_M <= median <= FARTHEST_M:
        return ''
    side = f'beyond {FARTHEST_M:g} m' if median > FARTHEST_M else f'below {NEAREST_M:g} m'
    return (
        f'half of the depth is {side}, its median is {median:.4g} m: its unit is probably another than millimetres for '
        'integers and metres for floats (REP 118)'
    )


def offset_words(offset_ns: float) -> str:
    """Describe the stamp of depth minus that of colour in words, such as 'depth comes 60 ms after colour'."""
    seconds = abs(offset_ns) / NANOSECONDS
    if seconds < 1:
        amount = f'{1000 * seconds:.3g} ms'
    else:
        amount = f'{seconds:.3g} s' if seconds < 600 else f'{seconds / 3600:.3g} h'
    return f'depth is stamped {amount} {"after" if offset_ns > 0 else "before"} colour'
