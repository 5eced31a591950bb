"""Measure the conversion between image messages and arrays, at 1080p and 640x480: the node's copying cost.

    python benchmarks/codec.py                   # writes benchmarks/results/codec.json

The figures are CPU time of this process. "In" converts a message as rclpy delivers it (array.array) to the input of the
preprocessing; "out" converts an array to a message ready for publishing. Every array is first checked to survive the
round trip.
"""

from collections.abc import Callable

import numpy as np
from std_msgs.msg import Header
from timing import finish, interleaved, one_thread, options

from m3et_ros.data.images.messages import depth_from_msg, depth_to_mm, rgb_from_msg
from m3et_ros.ros import process
from m3et_ros.ros.convert import to_image_msg

SIZES = {'1080p': (1080, 1920), '640x480': (480, 640)}


def work(height: int, width: int) -> dict[str, Callable]:
    """Return the conversions to time, by name, after checking the round trips."""
    rng, header = np.random.default_rng(0), Header()
    rgb = rng.integers(0, 256, (height, width, 3), np.uint8)
    metres = rng.uniform(0.5, 5, (height, width)).astype(np.float32)
    mask = rng.integers(0, 47, (height, width)).astype(np.uint8)
    colour, reverse = to_image_msg(rgb, 'rgb8', header), to_image_msg(rgb[..., ::-1].copy(), 'bgr8', header)
    far, near = to_image_msg(metres, '32FC1', header), to_image_msg(depth_to_mm(metres), '16UC1', header)
    if not (
        np.array_equal(rgb_from_msg(colour), rgb)
        and np.array_equal(rgb_from_msg(reverse), rgb)
        and np.array_equal(depth_from_msg(far), metres)
        and np.abs(depth_from_msg(near) - metres).max() <= 1e-3
    ):
        raise SystemExit('an image does not survive its message; nothing is timed')
    return {
        'rgb8 in': lambda: rgb_from_msg(colour),
        'bgr8 in': lambda: rgb_from_msg(reverse),
        '16UC1 in': lambda: depth_from_msg(near),
        '32FC1 in': lambda: depth_from_msg(far),
        'rgb8 out': lambda: to_image_msg(rgb, 'rgb8', header),
        'mono8 out': lambda: to_image_msg(mask, 'mono8', header),
        '32FC1 out': lambda: to_image_msg(metres, '32FC1', header),
    }


def main() -> None:
    """Measure and write the figures."""
    asked = options(__doc__, rounds=31).parse_args()
    process.prepare()
    one_thread()
    import cv2

    cv2.setNumThreads(1)
    cases = {}
    for name, size in SIZES.items():
        cases[name] = {'cpu_ms': interleaved(work(*size), asked.rounds), 'times_as_fast': {}}
    finish('codec', {'rounds': asked.rounds, 'cases': cases}, asked.results)


if __name__ == '__main__':
    main()
