"""The messages of vision_msgs, generated from their definitions: PyPI has no wheel of them.

Their Python classes check every field, as those of an installation do; without compiled type support they are not sent.
"""

import importlib.util
import json
import sys
from contextlib import contextmanager
from pathlib import Path

import geometry_msgs
import rosidl_generator_py
from rosidl_adapter.msg import convert_msg_to_idl
from rosidl_generator_type_description import generate_type_hash

DEFINITIONS = {
    'Point2D': 'float64 x\nfloat64 y',
    'Pose2D': 'vision_msgs/Point2D position\nfloat64 theta',
    'BoundingBox2D': 'vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y',
    'BoundingBox3D': 'geometry_msgs/Pose center\ngeometry_msgs/Vector3 size',
    'ObjectHypothesis': 'string class_id\nfloat64 score',
    'ObjectHypothesisWithPose': 'vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose',
    'Detection2D': 'std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n'
    'vision_msgs/BoundingBox2D bbox\nstring id',
    'Detection2DArray': 'std_msgs/Header header\nvision_msgs/Detection2D[] detections',
    'Detection3D': 'std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n'
    'vision_msgs/BoundingBox3D bbox\nstring id',
    'Detection3DArray': 'std_msgs/Header header\nvision_msgs/Detection3D[] detections',
}


def generate(folder):
    """Write the package vision_msgs into a folder, as a build of it would."""
    share = Path(geometry_msgs.__file__).parents[4] / 'share'
    package, source = folder / 'vision_msgs', folder / 'definitions'
    for made in (package / 'msg', source / 'msg'):
        made.mkdir(parents=True)
    for name, text in DEFINITIONS.items():
        (source / 'msg' / f'{name}.msg').write_text(text + '\n')
        convert_msg_to_idl(source, 'vision_msgs', Path('msg', f'{name}.msg'), package / 'msg')
    arguments = {
        'package_name': 'vision_msgs',
        'output_dir': str(package),
        'template_dir': str(share / 'rosidl_generator_py' / 'resource'),
        'idl_tuples': [f'{package}:msg/{name}.idl' for name in DEFINITIONS],
        'include_paths': [f'{name}:{share / name}' for name in ('geometry_msgs', 'std_msgs', 'builtin_interfaces')],
        'type_description_tuples': [f'msg/{name}.idl:{package}/msg/{name}.json' for name in DEFINITIONS],
        'ros_interface_dependencies': [],
        'target_dependencies': [],
    }
    file = folder / 'arguments.json'
    file.write_text(json.dumps(arguments))
    generate_type_hash(str(file))
    rosidl_generator_py.generate_py(str(file), [])
    (package / '__init__.py').write_text('')


@contextmanager
def vision_messages(folder):
    """Yield vision_msgs.msg: the installed module, or one generated in an empty folder while the block lasts."""
    if importlib.util.find_spec('vision_msgs') is not None:
        yield importlib.import_module('vision_msgs.msg')
        return
    generate(folder)
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module('vision_msgs.msg')
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition('.')[0] == 'vision_msgs']:
            del sys.modules[name]
