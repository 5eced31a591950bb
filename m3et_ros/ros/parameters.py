"""Parameters of a node in one table: declaration, checks, a typed snapshot, the YAML file and the documentation.

python -m m3et_ros.ros.parameters > config/robot.yaml    # after a change of the table
"""

import dataclasses
import difflib
import functools
import itertools
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from m3et_ros.data.checkpoints import DEFAULT_MODEL
from m3et_ros.data.depth_fill import FILLS
from m3et_ros.data.errors import InputError
from m3et_ros.runtime.limits import PRECISIONS, QUESTION_CHARS, ROUTER_CONFIDENCE, TOKENS

KINDS = {bool: 'bool', int: 'int', float: 'float', str: 'string'}
MAX_TEXT = 100_000


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter.

    Raises:
        ValueError: a number without a range, a default that is not allowed, or no description.
    """

    # Name as in the YAML file.
    name: str
    # Value unless the user sets it; its type is the type of the parameter.
    default: bool | int | float | str
    # One or two sentences for `ros2 param describe`, the YAML file and the documentation.
    description: str
    # Smallest value of a number.
    low: float | None = None
    # Largest value of a number.
    high: float | None = None
    # Allowed values of a string; empty allows any.
    choices: tuple[str, ...] = ()
    # The parameter may be changed while the node runs.
    live: bool = False

    def __post_init__(self):
        number = self.kind in (int, float)
        if self.kind not in KINDS or not self.description:
            raise ValueError(f'{self.name}: default is {self.default!r}; give bool, int, float or str, and describe it')
        if number and (self.low is None or self.high is None):
            raise ValueError(f'{self.name}: range is {self.low}..{self.high}; a number needs both ends')
        if reason := self.why_not(self.default):
            raise ValueError(f'default: {reason}')

    @property
    def kind(self) -> type:
        """Type of the value."""
        return type(self.default)

    @property
    def allowed(self) -> str:
        """Allowed values in words: '0..64', 'auto, raw or compressed', or '' for any."""
        if self.low is not None:
            return f'{self.low:g}..{self.high:g}' if self.kind is float else f'{self.low}..{self.high}'
        return f'{", ".join(self.choices[:-1])} or {self.choices[-1]}' if self.choices else ''

    def why_not(self, value: Any) -> str:
        """Return the reason for refusing the value, in one sentence with the fix; '' if it is allowed."""
        if type(value) is not self.kind:
            hint = f'; write {float(value)}' if self.kind is float and type(value) is int else ''
            return f'{self.name} is {value!r} but must be a {KINDS[self.kind]}{hint}'
        if self.low is not None and not self.low <= value <= self.high:
            return f'{self.name} is {value}; give {self.allowed}'
        if self.choices and value not in self.choices:
            return f'{self.name} is {value[:60]!r}; give {self.allowed}'
        if self.kind is str and len(value) > MAX_TEXT:
            return f'{self.name} has {len(value)} characters; give at most {MAX_TEXT}'
        return ''

    def descriptor(self) -> ParameterDescriptor:
        """Return the descriptor, which rqt and `ros2 param describe` show."""
        descriptor = ParameterDescriptor(description=self.description, read_only=not self.live)
        if self.choices:
            descriptor.additional_constraints = f'One of {self.allowed}.'
        if self.kind is int:
            descriptor.integer_range = [IntegerRange(from_value=self.low, to_value=self.high, step=0)]
        if self.kind is float:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(self.low), to_value=float(self.high), step=0.0)
            ]
        return descriptor


Table = tuple[ParameterSpec, ...]
P = ParameterSpec

PARAMETERS: Table = (
    P(
        'model',
        DEFAULT_MODEL,
        'Model: a named size, a checkpoint folder or hf:owner/name (Hugging Face Hub). The service ~/load_model '
        'replaces it while the node runs.',
    ),
    P('device', 'auto', 'Device of the model: auto (CUDA if there is one), cpu, cuda or cuda:N.'),
    P(
        'runtime',
        'auto',
        'Runtime of the model: torch; compile, torch compiled ahead of time, which takes minutes on first use; '
        'openvino, if installed; cuda, CUDA graphs; auto takes cuda on CUDA and, on a CPU, openvino if installed, with '
        'torch until its graphs are built. '
        'A runtime that fails, or disagrees with eager float32, is replaced by torch.',
        choices=('auto', 'torch', 'compile', 'openvino', 'cuda'),
    ),
    P(
        'precision',
        'float32',
        'Arithmetic of the model. int8 needs runtime openvino, and graphs that m3et build openvino has built.',
        choices=PRECISIONS,
    ),
    P(
        'tokens',
        'full',
        'Patches of a frame that are encoded: full, all of them; adaptive, those that changed and '
        'the others in turn, which saves time while the camera stands still. For a question the newest frame is '
        'encoded in full; for the standing instruction it is not.',
        choices=TOKENS,
    ),
    P(
        'tokens_threshold',
        0.1,
        'Mean difference, in standardised units, above which adaptive tokens encode a patch again: 0.1 is about six '
        'of 255 grey levels, or 8 cm of depth with the shipped model.',
        0,
        10,
    ),
    P('threads', 0, 'CPU threads of the model; 0 leaves the choice to torch.', 0, 64),
    P(
        'rgb_transport',
        'auto',
        'Transport of the colour images; auto takes whichever of rgb/image_raw and rgb/image_raw/compressed is '
        'published.',
        choices=('auto', 'raw', 'compressed'),
    ),
    P(
        'depth_transport',
        'auto',
        'Transport of the depth images; auto takes whichever is published, none runs on colour alone.',
        choices=('auto', 'raw', 'compressedDepth', 'compressed', 'none'),
    ),
    P(
        'reliability',
        'auto',
        'Reliability of the image subscriptions; auto follows the publishers.',
        choices=('auto', 'reliable', 'best_effort'),
    ),
    P(
        'sync_slop_s',
        0.02,
        'Largest difference in seconds between the stamps of a colour and a depth image of a pair; 0 pairs equal '
        'stamps.',
        0,
        1,
    ),
    P('depth_wait_s', 0.1, 'Longest time in seconds that a colour image waits for its depth.', 0, 10),
    P(
        'depth_stall',
        'leave_out',
        'Action when depth stops: leave depth out, wait for it, or reuse the last depth image.',
        choices=('leave_out', 'wait', 'reuse'),
    ),
    P(
        'depth_unit_m',
        0.0,
        'Metres of one unit of the depth images, such as 0.0001 for a camera that sends tenths of a millimetre; 0 goes '
        'by the encoding: millimetres for integers, metres for floats (REP 118).',
        0,
        1,
        live=True,
    ),
    P(
        'depth_fill',
        'auto',
        'Fills holes of the measured depth: smooth continues the depth around them, always takes the prediction of the '
        'model, never leaves them open; auto mixes smooth and model by their errors on measured pixels that it hides, '
        'and is smooth with untrained weights. The diagnostics say what it chose.',
        choices=FILLS,
        live=True,
    ),
    P(
        'depth_model',
        '',
        'Depth network of transformers that serves ~/depth/image in the place of the model: a folder or '
        'hf:owner/name[@revision]. Its depth is aligned to the measured depth; empty leaves depth to the model.',
    ),
    P(
        'segmentation_model',
        '',
        'Segmentation network of transformers that serves ~/segmentation/* with its own classes, likewise.',
    ),
    P('instruction', '', 'Instruction that holds until another one arrives by topic.', live=True),
    P(
        'answer_mode',
        'classify',
        'Way of answering questions: classify picks one of the known answers, generate writes word by word.',
        choices=('classify', 'generate'),
        live=True,
    ),
    P(
        'answerer',
        'm3et',
        'Model that answers questions about a frame: m3et itself; one trained with m3et train talk, which answers in '
        'sentences; vlm, an image-text model of transformers, which also answers questions about the episode; or '
        'router, m3et where it is sure and vlm otherwise.',
        choices=('m3et', 'ml_mamba', 'emma', 'matvlm', 'vlm', 'router'),
    ),
    P(
        'answerer_checkpoint',
        '',
        'Checkpoint folder of the answerer; empty takes the one shipped with the package. For vlm and router a folder '
        'of transformers or hf:owner/name[@revision].',
    ),
    P('answerer_device', 'auto', 'Device of vlm: auto (CUDA if there is one), cpu, cuda or cuda:N.'),
    P(
        'answerer_dtype',
        'auto',
        'Data type of vlm; auto is that of its weights.',
        choices=('auto', 'float32', 'bfloat16', 'float16'),
    ),
    P('answerer_threads', 0, 'CPU threads of vlm; 0 takes half of the processors.', 0, 64),
    P(
        'router_confidence',
        ROUTER_CONFIDENCE,
        'Calibrated confidence from which on the router leaves a question to m3et.',
        0,
        1,
        live=True,
    ),
    P(
        'instruction_answerer',
        'm3et',
        'Model that answers the standing instruction: m3et for every frame, or vlm at its own pace.',
        choices=('m3et', 'vlm'),
    ),
    P('max_sentence_tokens', 64, 'Longest answer in tokens of an answerer other than m3et.', 1, 1024),
    P(
        'min_confidence',
        -1.0,
        'Probability below which an answer is unsure and reads "I cannot tell"; -1 takes that of the checkpoint.',
        -1,
        1,
        live=True,
    ),
    P(
        'domain_check',
        10,
        'Every so many frames the node checks that they are like those that the model was trained on; answers about '
        'others read "I cannot tell". 0 never checks.',
        0,
        10_000,
        live=True,
    ),
    P('top_k', 5, 'Number of candidates listed in answers and anticipations.', 1, 50, live=True),
    P('horizon_s', 1.0, 'Seconds ahead for which actions are anticipated.', 0.1, 10, live=True),
    P('max_answer_tokens', 8, 'Longest generated answer in tokens.', 1, 256),
    P(
        'max_question_chars',
        QUESTION_CHARS,
        'Longest accepted question or instruction in characters.',
        1,
        100_000,
        live=True,
    ),
    P(
        'memory',
        True,
        'Remembers the episode. Off, questions about the episode are refused, actions are anticipated only while '
        'somebody subscribes to them, and no image is encoded while nobody subscribes to a result or asks.',
    ),
    P('memory_frames', 8, 'Number of frames stored of an episode, spread evenly over all of it.', 2, 64),
    P(
        'memory_file',
        '',
        'File of the services ~/save_memory and ~/restore_memory, such as ~/kitchen.safetensors; empty refuses them.',
    ),
    P(
        'silent_topic_s',
        5.0,
        'Seconds without a message after which a topic is reported as silent; 0 never reports.',
        0,
        3600,
        live=True,
    ),
    P('overlay_alpha', 0.5, 'Opacity of the segmentation overlay.', 0, 1, live=True),
    P('autostart', False, 'Configures and activates the node at once, without a lifecycle manager.'),
    P('seed', 0, 'Seed of random weights, for a model without trained ones.', 0, 2**31 - 1),
)
"""Parameters of the model node."""


@functools.cache
def settings_type(table: Table) -> type:
    """Return a frozen dataclass with one field per parameter of the table."""
    fields = [(spec.name, spec.kind, dataclasses.field(default=spec.default)) for spec in table]
    return dataclasses.make_dataclass('Settings', fields, frozen=True)


Settings = settings_type(PARAMETERS)
"""Snapshot of the model node's parameters: settings.top_k, settings.device, ..."""


def declare(node: Node, table: Table = PARAMETERS) -> Any:
    """Declare every parameter of the table on a node and check the values that the user set.

    Returns:
        A snapshot, as from `snapshot`.

    Raises:
        InputError: 'parameter', a value from the YAML file or the command line is of the wrong type or out of range.
    """
    node.add_on_set_parameters_callback(functools.partial(validate, table))
    for spec in table:
        try:
            node.declare_parameter(spec.name, spec.default, spec.descriptor())
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            given = node._parameter_overrides[spec.name].value
            raise InputError('parameter', f'parameter {spec.why_not(given) or error}') from None
    return snapshot(node, table)


def validate(table: Table, parameters: Sequence[Parameter]) -> SetParametersResult:
    """Check new values, as on-set callback; a refusal names parameter, value and allowed values in one sentence.

    rclpy itself refuses numbers out of range and read-only parameters before it calls this.
    """
    specs = {spec.name: spec for spec in table}
    for parameter in parameters:
        spec = specs.get(parameter.name)
        reason = spec.why_not(parameter.value) if spec else ''
        if reason:
            return SetParametersResult(successful=False, reason=reason)
    return SetParametersResult(successful=True)


def snapshot(node: Node, table: Table = PARAMETERS) -> Any:
    """Return the current values: a frozen dataclass with one field per parameter, Settings for the model node."""
    return settings_type(table)(**{spec.name: node.get_parameter(spec.name).value for spec in table})


def unknown_overrides(node: Node, table: Table = PARAMETERS, others: Table = ()) -> list[str]:
    """Return one sentence per parameter that the user set and nobody declared; rclpy ignores those silently.

    Call it after the node has declared everything. `others` are parameters of other nodes of the process.
    """
    # rclpy has no public access to the overrides with which a node was started.
    given = [name for name in node._parameter_overrides if not name.startswith('qos_overrides.')]
    known = [spec.name for spec in table]
    sentences = []
    for name in sorted(given):
        if node.has_parameter(name) or name in {spec.name for spec in others}:
            continue
        near = difflib.get_close_matches(name, known, 1)
        hint = f'did you mean {near[0]}?' if near else 'remove it from the parameter file or the command line.'
        sentences.append(f'Parameter {name} does not exist in {node.get_fully_qualified_name()} and is ignored; {hint}')
    return sentences


def unmatched_files(node: Node, arguments: Sequence[str]) -> list[str]:
    """Return one sentence per parameter file none of whose keys is this node; rcl ignores such a file silently.

    Args:
        node: the node.
        arguments: command line of the process; files follow --params-file.
    """
    name = node.get_fully_qualified_name()
    files = [file for option, file in itertools.pairwise(arguments) if option == '--params-file']
    sentences = []
    for file in dict.fromkeys(files):
        try:
            keys = list(_node_keys(yaml.safe_load(Path(file).read_text(encoding='utf-8'))))
        except (OSError, ValueError, yaml.YAMLError):
            continue  # rcl refuses such a file itself
        if not any(_matches(key, name) for key in keys):
            sentences.append(
                f'None of the keys of {file} ({", ".join(keys[:5]) or "it has none"}) is {name}, so its parameters are '
                f"ignored; write '/**:' or '{name}:' above ros__parameters."
            )
    return sentences


def _node_keys(tree: Any, prefix: str = '') -> Iterator[str]:
    """Yield the full node name of each ros__parameters in a parameter file, with its wildcards."""
    for key, below in tree.items() if isinstance(tree, dict) else ():
        if key == 'ros__parameters':
            yield prefix or '/'
        else:
            yield from _node_keys(below, f'{prefix}/{str(key).strip("/")}')


def _matches(key: str, name: str) -> bool:
    """Return True if a key of a parameter file is for a node: * stands for one part of its name, ** for any (rcl)."""
    pattern = '/'.join({'*': '[^/]+', '**': '.*'}.get(part, re.escape(part)) for part in key.split('/'))
    return re.fullmatch(pattern.replace('/.*', '(/.*)?'), name) is not None


def as_yaml(table: Table = PARAMETERS) -> str:
    """Return the parameter file that sets every parameter of the table to its default."""
    lines = [
        '# ros2 launch m3et_ros robot.launch.py    # or, without a ROS installation: m3et robot',
        '# Every parameter of the model node at its default, written by `python -m m3et_ros.ros.parameters`.',
        "# '/**' matches the node in every namespace. [live] may be changed while the node runs (ros2 param set).",
        '/**:',
        '  ros__parameters:',
    ]
    for spec in table:
        notes = [spec.description, f'[{spec.allowed}]' if spec.allowed else '', '[live]' if spec.live else '']
        lines += textwrap.wrap(
            ' '.join(note for note in notes if note),
            110,
            initial_indent='    # ',
            subsequent_indent='    # ',
            break_long_words=False,
        )
        lines.append(f'    {spec.name}: {_literal(spec.default)}')
    return '\n'.join(lines) + '\n'


def as_markdown(table: Table = PARAMETERS) -> str:
    """Return the table for the documentation."""
    lines = ['| Parameter | Type | Default | Allowed | Live | Meaning |', '|---|---|---|---|---|---|']
    for spec in table:
        lines.append(
            f'| `{spec.name}` | {KINDS[spec.kind]} | `{_literal(spec.default)}` | {spec.allowed or "any"} | '
            f'{"yes" if spec.live else "no"} | {spec.description} |'
        )
    return '\n'.join(lines) + '\n'


def _literal(value: bool | int | float | str) -> str:
    if isinstance(value, str):
        return f"'{value}'"
    return str(value).lower()


if __name__ == '__main__':
    print(as_yaml(), end='')
