"""Every topic, service and action of the model node in one table: the node opens them from it, the README prints it.

python scripts/readme_tables.py            # after a change to the table
"""

from typing import NamedTuple

from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String
from std_srvs.srv import Trigger

from m3et_ros.action import AskQuestion as AskStreaming
from m3et_ros.msg import ActionAnticipation, Answer, Instruction, LabelMap
from m3et_ros.srv import AskQuestion, LoadModel


class Interface(NamedTuple):
    """One topic, service or action; relative names follow the namespace, '~' is the node."""

    name: str
    kind: type
    # What it carries, for the README.
    about: str

    @property
    def type_name(self) -> str:
        """ROS name of the type, for example 'sensor_msgs/msg/Image'."""
        package, folder, *_ = self.kind.__module__.split('.')
        return f'{package}/{folder}/{self.kind.__name__}'


RGB = Interface('rgb/image_raw', Image, 'Colour: rgb8, bgr8, rgba8, bgra8, mono8, yuv422; any step, either endianness.')
RGB_COMPRESSED = Interface(
    'rgb/image_raw/compressed', CompressedImage, 'Colour as JPEG or PNG, where nobody publishes it raw.'
)
RGB_INFO = Interface('rgb/camera_info', CameraInfo, 'Optional; goes out again beside the completed depth.')
DEPTH = Interface(
    'depth/image_raw',
    Image,
    'Optional, aligned to colour: 16UC1 in mm (0 and 65535 unknown) or 32FC1 '
    'in m. Without it depth is a missing modality.',
)
DEPTH_COMPRESSED = Interface(
    'depth/image_raw/compressedDepth',
    CompressedImage,
    'Depth as PNG of the compressedDepth transport, where nobody publishes it raw.',
)
INSTRUCTION = Interface('instruction', Instruction, 'Holds from its stamp until the next one.')
INSTRUCTION_TEXT = Interface(
    'instruction/text', String, 'The same without a stamp: holds from now on; empty clears it.'
)
INPUTS = (RGB, RGB_COMPRESSED, RGB_INFO, DEPTH, DEPTH_COMPRESSED, INSTRUCTION, INSTRUCTION_TEXT)

DEPTH_COMPLETED = Interface(
    '~/depth/image',
    Image,
    '32FC1 in m, NaN unknown: measured pixels as they came, holes filled by the model (parameter depth_fill).',
)
DEPTH_INFO = Interface('~/depth/camera_info', CameraInfo, 'Intrinsics for it.')
MASK = Interface('~/segmentation/mask', Image, 'mono8 class ids, 255 unlabelled.')
OVERLAY = Interface('~/segmentation/overlay', Image, 'rgb8, drawn only when somebody listens.')
LABELS = Interface(
    '~/segmentation/labels',
    LabelMap,
    'Names and colours of the classes; latched. Where '
    'vision_msgs is installed, ~/segmentation/label_info has them as LabelInfo.',
)
ANSWER = Interface('~/answer', Answer, 'Every answer given, and the answer to the standing instruction for each image.')
ANTICIPATION = Interface(
    '~/anticipation', ActionAnticipation, 'What is being done and what comes next, for each image.'
)
OUTPUTS = (DEPTH_COMPLETED, DEPTH_INFO, MASK, OVERLAY, LABELS, ANSWER, ANTICIPATION)

ASK = Interface('~/ask', AskQuestion, 'Answers a question about the newest image, the episode or an image sent along.')
LOAD_MODEL = Interface(
    '~/load_model', LoadModel, 'Replaces the model; the old one serves until the new one has passed its self-test.'
)
RESET_MEMORY = Interface('~/reset_memory', Trigger, 'Begins a new episode.')
SAVE_MEMORY = Interface(
    '~/save_memory', Trigger, 'Writes what is remembered of the episode to the file of the parameter memory_file.'
)
RESTORE_MEMORY = Interface(
    '~/restore_memory',
    Trigger,
    'Goes on from what was saved there by this model; questions about the episode are answered once an image has come.',
)
SERVICES = (ASK, LOAD_MODEL, RESET_MEMORY, SAVE_MEMORY, RESTORE_MEMORY)

ASK_STREAMING = Interface(
    '~/ask_streaming', AskStreaming, 'Writes an answer; tokens come as feedback, cancelling works.'
)
ACTIONS = (ASK_STREAMING,)


def as_markdown() -> str:
    """The tables for the README."""
    parts = []
    for title, rows in (('Topics in', INPUTS), ('Topics out', OUTPUTS), ('Services', SERVICES), ('Actions', ACTIONS)):
        parts += [
            f'| {title} | Type | |',
            '|---|---|---|',
            *(f'| `{row.name}` | `{row.type_name}` | {row.about} |' for row in rows),
            '',
        ]
    return '\n'.join(parts)
