"""Namespaces and remappings as text, so that a slip of the pen is refused before a node meets it."""

import json
import re
from collections.abc import Sequence

from m3et_ros.cli.output import Refused

NAMESPACE = re.compile(r'(/[A-Za-z_][A-Za-z0-9_]*)+')
CAMERA_INPUTS = {
    'rgb/image_raw': 'color/image_raw',
    'rgb/image_raw/compressed': 'color/image_raw/compressed',
    'rgb/camera_info': 'color/camera_info',
    'depth/image_raw': 'aligned_depth_to_color/image_raw',
    'depth/image_raw/compressedDepth': 'aligned_depth_to_color/image_raw/compressedDepth',
}
"""Inputs of the model node, and what a RealSense driver calls them below the name of the camera."""


def namespace(name: str, option: str = '--namespace') -> str:
    """The name with a slash in front and none behind.

    Raises:
        Refused: it is not a ROS name.
    """
    full = '/' + name.strip('/')
    if not NAMESPACE.fullmatch(full):
        raise Refused(f'{option} is {name!r}; use letters, digits and _ with slashes between, such as /m3et')
    return full


def camera_remaps(prefix: str) -> list[str]:
    """Remappings of the model node's inputs onto the topics of a camera."""
    below = namespace(prefix, '--camera')
    return [f'{topic}:={below}/{source}' for topic, source in CAMERA_INPUTS.items()]


def assignments(**values: bool | float | str | Sequence[str]) -> list[str]:
    """Parameters as 'name:=value', texts in quotes so that a folder called 2024 or no stays a text."""
    return [f'{name}:={json.dumps(value)}' for name, value in values.items()]


def ros_arguments(
    *, parameters: Sequence[str] = (), remaps: Sequence[str] = (), files: Sequence[str] = (), below: str = ''
) -> list[str]:
    """Command line of a node behind --ros-args.

    Args:
        parameters: 'name:=value', later ones winning.
        remaps: 'from:=to'.
        files: parameter files, weaker than `parameters`.
        below: namespace of the node; '' for none.

    Raises:
        Refused: a parameter or remapping lacks its ':='.
    """
    for option, entries in (('-p', parameters), ('-r', remaps)):
        wrong = next((entry for entry in entries if not all(entry.partition(':=')[::2])), None)
        if wrong is not None:
            raise Refused(f'{option} {wrong} has no value; write it as name:=value')
    arguments = ['--ros-args']
    if below:
        arguments += ['-r', f'__ns:={below}']
    for option, entries in (('--params-file', files), ('-p', parameters), ('-r', remaps)):
        for entry in entries:
            arguments += [option, entry]
    return arguments
