"""Intrinsics of an image on disk, as a person gives them: four numbers, or a calibration file of ROS."""

from pathlib import Path
from typing import Any

import numpy as np

from m3et_ros.cli.output import Refused
from m3et_ros.data.files import read_regular

MOST_BYTES = 1 << 20


def read_intrinsics(given: str, shape: tuple[int, ...]) -> np.ndarray:
    """Read pinhole intrinsics (3, 3) in pixels; distortion is not read.

    Args:
        given: 'FX,FY,CX,CY', or the path of a calibration file (.yaml or .yml) with image_width, image_height and
            camera_matrix, as camera_calibration_parsers writes it.
        shape: height and width of the image; further sizes are ignored.

    Raises:
        Refused: they cannot be read, or are for images of another size.
    """
    height, width = size = shape[:2]
    try:
        if Path(given).suffix in ('.yaml', '.yml'):
            found = _calibration(Path(given))
            K = np.array(found['camera_matrix']['data'], np.float64).reshape(3, 3)
            size = int(found['image_height']), int(found['image_width'])
        else:
            fx, fy, cx, cy = (float(word) for word in given.split(','))
            K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        if not (np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise Refused(
            f'{given} gives no intrinsics; give FX,FY,CX,CY in pixels with focal lengths above 0, or a calibration '
            'file of ROS (YAML) with image_width, image_height and camera_matrix.'
        ) from None
    if size != (height, width):
        raise Refused(
            f'{given} is for images of {size[1]}x{size[0]}, and the image is {width}x{height}; give that of the image.'
        )
    return K


def _calibration(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(read_regular(path, 'give the path of a calibration file', most=MOST_BYTES))
    except OSError as error:
        raise Refused(f'{path} cannot be read ({error.strerror}); give the path of a calibration file.') from None
    except (yaml.YAMLError, UnicodeError):
        return None
