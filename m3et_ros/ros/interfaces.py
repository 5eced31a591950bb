"""Every topic, service and action of the model node in one table, from which the node and the README take them.

python scripts/readme_tables.py            # after a change of the table
"""

from typing import NamedTuple

from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import String
from std_srvs.srv import Trigger
from visualization_msgs.msg import MarkerArray

from m3et_ros.action import AskQuestion as AskStreaming
from m3et_ros.msg import ActionAnticipation, Answer, Instruction, LabelMap
from m3et_ros.srv import AskQuestion, LoadModel


class Interface(NamedTuple):
    """One topic, service or action; relative names follow the namespace, '~' is the node."""

    name: str
    kind: type
    # Contents, for the README.
    about: str

    @property
    def type_name(self) -> str:
        """ROS name of the type, for example 'sensor_msgs/msg/Image'."""
        package, folder, *_ = self.kind.__module__.split('.')
        return f'{package}/{folder}/{self.kind.__name__}'


RGB = Interface(
    'rgb/image_raw',
    Image,
    'Colour: rgb, bgr, rgba, bgra and mono of 8 or 16 bits, 8UC1, 8UC3, 8UC4, Bayer, yuv422, yuyv, nv12, nv21, nv24; '
    'any step, either endianness.',
)
RGB_COMPRESSED = Interface(
    'rgb/image_raw/compressed', CompressedImage, 'Colour as JPEG, PNG or TIFF, if nobody publishes it raw.'
)
RGB_INFO = Interface('rgb/camera_info', CameraInfo, 'Optional; published again beside the completed depth.')
DEPTH = Interface(
    'depth/image_raw',
    Image,
    'Optional, aligned to colour: 16UC1 in mm (0 and 65535 unknown) or 32FC1 '
    'in m. Without it depth is a missing modality.',
)
DEPTH_COMPRESSED = Interface(
    'depth/image_raw/compressedDepth',
    CompressedImage,
    'Depth as PNG or RVL of the compressedDepth transport, if nobody publishes it raw.',
)
DEPTH_PICTURE = Interface(
    'depth/image_raw/compressed',
    CompressedImage,
    'Depth as a PNG or TIFF of the compressed transport, if nobody publishes it otherwise.',
)
INSTRUCTION = Interface('instruction', Instruction, 'Instruction that holds from its stamp until the next one.')
INSTRUCTION_TEXT = Interface(
    'instruction/text', String, 'The same without a stamp: it holds from now on; an empty one clears it.'
)
INPUTS = (RGB, RGB_COMPRESSED, RGB_INFO, DEPTH, DEPTH_COMPRESSED, DEPTH_PICTURE, INSTRUCTION, INSTRUCTION_TEXT)

DEPTH_COMPLETED = Interface(
    '~/depth/image',
    Image,
    '32FC1 in m, NaN unknown: measured pixels unchanged, holes filled as the parameter depth_fill says.',
)
DEPTH_INFO = Interface('~/depth/camera_info', CameraInfo, 'Intrinsics of the completed depth.')
MASK = Interface('~/segmentation/mask', Image, 'mono8 class ids, 255 unlabelled.')
OVERLAY = Interface('~/segmentation/overlay', Image, 'rgb8, drawn only while somebody subscribes.')
LABELS = Interface(
    '~/segmentation/labels',
    LabelMap,
    'Names and colours of the classes; latched. If '
    'vision_msgs is installed, ~/segmentation/label_info has them as LabelInfo.',
)
POINTS = Interface(
    '~/points',
    PointCloud2,
    'Completed depth as points, organised as the image: x y z in m, rgb, label (class id), measured (1, or 0 filled).',
)
MARKERS = Interface(
    '~/markers',
    MarkerArray,
    'Boxes and names of what is seen, and the newest answer at its place. If vision_msgs is installed, ~/detections '
    '(Detection2DArray) and ~/detections_3d (Detection3DArray) have the boxes.',
)
DETECTIONS, DETECTIONS_3D = '~/detections', '~/detections_3d'
"""Topics that are there only where vision_msgs is."""
ANSWER = Interface('~/answer', Answer, 'Every answer, and for each image the answer to the standing instruction.')
ANTICIPATION = Interface('~/anticipation', ActionAnticipation, 'Current and next action, for each image.')
OUTPUTS = (DEPTH_COMPLETED, DEPTH_INFO, MASK, OVERLAY, LABELS, POINTS, MARKERS, ANSWER, ANTICIPATION)

ASK = Interface(
    '~/ask', AskQuestion, 'Answers a question about the newest image, the episode or an image in the request.'
)
LOAD_MODEL = Interface(
    '~/load_model', LoadModel, 'Replaces the model; the old one serves until the new one has passed its self-test.'
)
RESET_MEMORY = Interface('~/reset_memory', Trigger, 'Begins a new episode.')
SAVE_MEMORY = Interface(
    '~/save_memory', Trigger, 'Writes the memory of the episode to the file of the parameter memory_file.'
)
RESTORE_MEMORY = Interface(
    '~/restore_memory',
    Trigger,
    'Restores a memory that this model saved there; questions about the episode are answered after the next image.',
)
SERVICES = (ASK, LOAD_MODEL, RESET_MEMORY, SAVE_MEMORY, RESTORE_MEMORY)

ASK_STREAMING = Interface(
    '~/ask_streaming', AskStreaming, 'Writes an answer token by token, as feedback; may be cancelled.'
)
ACTIONS = (ASK_STREAMING,)


def as_markdown() -> str:
    """Return the tables for the README."""
    parts = []
    for title, rows in (('Topics in', INPUTS), ('Topics out', OUTPUTS), ('Services', SERVICES), ('Actions', ACTIONS)):
        parts += [
            f'| {title} | Type | |',
            '|---|---|---|',
            *(f'| `{row.name}` | `{row.type_name}` | {row.about} |' for row in rows),
            '',
        ]
    return '\n'.join(parts)
