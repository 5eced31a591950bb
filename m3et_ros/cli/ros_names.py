"""ROS namespaces, remappings and parameters as text, checked before a node reads them."""

import json
import re
from collections.abc import Sequence

from m3et_ros.cli.output import Refused
from m3et_ros.ros.camera.presets import DEFAULT, CameraPreset, find_preset

NAMESPACE = re.compile(r'(/[A-Za-z_][A-Za-z0-9_]*)+')


def full_namespace(name: str, option: str = '--namespace') -> str:
    """Return a namespace with a slash in front and none at the end.

    Args:
        name: namespace as the user wrote it.
        option: option that gave it, for the error.

    Raises:
        Refused: it is not a ROS name.
    """
    full = '/' + name.strip('/')
    if not NAMESPACE.fullmatch(full):
        raise Refused(f'{option} is {name!r}; use letters, digits and _ with slashes between, such as /m3et')
    return full


def camera_remaps(prefix: str = '', preset: str = DEFAULT) -> list[str]:
    """Return the remapping rules from the inputs of the model node to the topics of a camera.

    Args:
        prefix: prefix of the topics; '' takes that of the preset.
        preset: name of the camera, see ros/camera/presets.py.

    Raises:
        Refused: the prefix is not a ROS name, or there is no such preset.
    """
    topics = chosen_preset(preset).topics(full_namespace(prefix, '--camera') if prefix else '')
    return [f'{topic}:={source}' for topic, source in topics.items()]


def chosen_preset(name: str) -> CameraPreset:
    """Return a camera preset.

    Raises:
        Refused: there is none of this name.
    """
    try:
        return find_preset(name)
    except ValueError as error:
        raise Refused(str(error)) from None


def parse_remaps(rules: Sequence[str]) -> dict[str, str]:
    """Parse remapping rules FROM:=TO into a dictionary; of two rules for one topic the first counts, as in ROS.

    Raises:
        Refused: a rule lacks one of its sides.
    """
    remaps: dict[str, str] = {}
    for rule in rules:
        source, _, target = rule.partition(':=')
        if not source or not target:
            raise Refused(f'-r {rule} has no value; write it as FROM:=TO')
        remaps.setdefault(source, target)
    return remaps


def assignments(**values: bool | float | str | Sequence[str]) -> list[str]:
    """Return parameters as 'name:=value', text in quotes so that YAML reads '2024' and 'no' as text."""
    return [f'{name}:={json.dumps(value)}' for name, value in values.items()]


def ros_arguments(
    *, parameters: Sequence[str] = (), remaps: Sequence[str] = (), files: Sequence[str] = (), namespace: str = ''
) -> list[str]:
    """Return the arguments of a node from --ros-args on.

    Args:
        parameters: 'name:=value'; the last one for a name counts.
        remaps: 'from:=to'; the first one for a topic counts.
        files: parameter files; `parameters` override them.
        namespace: namespace of the node; '' for none.

    Raises:
        Refused: a parameter or a remapping lacks one of its sides.
    """
    parse_remaps(remaps)
    for parameter in parameters:
        name, _, value = parameter.partition(':=')
        if not name or not value:
            raise Refused(f'-p {parameter} has no value; write it as NAME:=VALUE')
    arguments = ['--ros-args']
    if namespace:
        arguments += ['-r', f'__ns:={namespace}']
    for option, entries in (('--params-file', files), ('-p', parameters), ('-r', remaps)):
        for entry in entries:
            arguments += [option, entry]
    return arguments
