"""`m3et robot`: the nodes of launch/robot.launch.py with the same parameter file, without `launch`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from m3et_ros.cli.options import expand_options
from m3et_ros.cli.output import Refused, print_status
from m3et_ros.cli.processes import Child, StopEvent, running, stop_signals, use_ros
from m3et_ros.cli.ros_names import assignments, camera_remaps, chosen_preset, full_namespace, ros_arguments
from m3et_ros.cli.source import CAMERA_VIDEO, CameraSource, SourceEnd, check_source, source_arguments
from m3et_ros.cli.supervision import supervise
from m3et_ros.ros.camera.presets import DEFAULT, PRESETS

MODEL_NODE = 'm3et_ros.ros.model_node'


@dataclass(frozen=True, kw_only=True)
class NodeOptions:
    """The model node: its namespace, camera, model and parameter file."""

    panel: ClassVar[str] = 'Model node'

    namespace: Annotated[str, typer.Option('--namespace', help='Namespace of the robot; one for each robot.')] = '/m3et'
    camera: Annotated[str, typer.Option('--camera', help='Prefix of the topics of the camera.')] = '/camera/camera'
    model: Annotated[
        str,
        typer.Option(
            '--model',
            help='Named size, checkpoint folder or hf:owner/name; by default that of the parameter file.',
            show_default=False,
        ),
    ] = ''
    device: Annotated[
        str,
        typer.Option(
            '--device', help='auto, cpu, cuda or cuda:N; by default that of the parameter file.', show_default=False
        ),
    ] = ''
    params_file: Annotated[
        Path | None,
        typer.Option(
            '--params-file', show_default=False, help='Parameters of the model node; by default config/robot.yaml.'
        ),
    ] = None


def model_arguments(
    node: NodeOptions,
    *,
    runtime: str = '',
    sim_time: bool = False,
    parameters: Sequence[str] = (),
    remaps: Sequence[str] = (),
    preset: str = DEFAULT,
) -> list[str]:
    """Return the arguments of the model node, as robot.launch.py would give them.

    Args:
        node: namespace, camera, model and parameter file.
        runtime: runtime of the model; '' leaves it to the parameter file.
        sim_time: take the time from /clock.
        parameters: further 'name:=value'; they override all others.
        remaps: further 'from:=to'; they override the camera's.
        preset: camera whose topics are read; `node.camera` replaces its prefix unless it is ''.

    Raises:
        Refused: a name is not a ROS name, there is no such preset, or the parameter file is missing.
    """
    from m3et_ros.ros import process

    file = node.params_file or process.share('config', 'robot.yaml')
    if not file.is_file():
        raise Refused(f'{file} is not a file; give the parameter file of the model node with --params-file.')
    given: dict[str, str | bool] = {
        name: value for name, value in (('model', node.model), ('device', node.device), ('runtime', runtime)) if value
    }
    if sim_time:
        given['use_sim_time'] = True
    return ros_arguments(
        namespace=full_namespace(node.namespace),
        files=[str(file)],
        parameters=[*assignments(autostart=True, **given), *parameters],
        # Of two rules for one topic ROS takes the first.
        remaps=[*remaps, *camera_remaps(node.camera, preset)],
    )


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The way in which the model node runs."""

    runtime: Annotated[
        str,
        typer.Option(
            '--runtime',
            help='auto, torch, compile, openvino or cuda; by default that of the parameter file.',
            show_default=False,
        ),
    ] = ''
    sim_time: Annotated[bool, typer.Option('--sim-time', help='Take the time from /clock.')] = False
    respawn: Annotated[
        bool, typer.Option('--respawn/--no-respawn', help='Start the node again when it dies or stops answering.')
    ] = True
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            '--param',
            '-p',
            metavar='NAME:=VALUE',
            show_default=False,
            help='Parameter of the model node; may be given several times.',
        ),
    ] = None
    remaps: Annotated[
        list[str] | None,
        typer.Option(
            '--remap',
            '-r',
            metavar='FROM:=TO',
            show_default=False,
            help='Remapping of a topic, stronger than --camera; may be given several times.',
        ),
    ] = None


@expand_options(
    'webcam video pictures rate loop preset namespace camera model device runtime params_file sim_time respawn '
    'parameters remaps'
)
def robot(
    context: typer.Context,
    source: CameraSource,
    node: NodeOptions,
    run: RunOptions,
    preset: Annotated[
        str,
        typer.Option(
            '--preset',
            metavar='CAMERA',
            help=f'Camera with a ROS driver: {", ".join(PRESETS)}; m3et cameras describes them.',
        ),
    ] = DEFAULT,
) -> int:
    """Run the robot on a camera until Ctrl-C, or until the end of a clip."""
    camera_given, preset_given = (
        (found := context.get_parameter_source(name)) is not None and found.name != 'DEFAULT'
        for name in ('camera', 'preset')
    )
    if source.given and (run.sim_time or preset_given):
        raise Refused('--sim-time and --preset are for a camera with a driver; leave them out with other cameras.')
    check_source(source)
    if preset_given and not camera_given:
        node = replace(node, camera='')
    camera = chosen_preset(preset)
    # In front of what the user gives, so that it overrides this.
    own = {'depth_transport': 'none'} if source.given else camera.parameters
    arguments = model_arguments(
        node,
        runtime=run.runtime,
        sim_time=run.sim_time,
        parameters=[*assignments(**own), *(run.parameters or ())],
        remaps=run.remaps or (),
        preset=preset,
    )
    namespace = full_namespace(node.namespace)
    use_ros()
    with stop_signals() as stopped:
        if source.given:
            return _run_on_source(source, node.camera, namespace, arguments, stopped, respawn=run.respawn)
        topic = camera.topics(node.camera and full_namespace(node.camera))['rgb/image_raw']
        print_status(f'm3et: robot in {namespace} on the camera topic {topic}; Ctrl-C ends it.')
        if preset_given:
            print_status(f'm3et: {preset}: {camera.alignment}')
        return _exit_code(supervise('model', MODEL_NODE, arguments, stopped, respawn=run.respawn))


def _run_on_source(
    source: CameraSource, camera: str, namespace: str, arguments: list[str], stopped: StopEvent, *, respawn: bool
) -> int:
    """Run the model node beside a source until that ends, a node fails or a signal comes; return the exit code.

    Raises:
        Refused: a node has failed.
    """
    print_status(
        f'm3et: robot in {namespace} on {source.name}; Ctrl-C ends it. It has colour alone: the model predicts depth, '
        'and there is no camera_info.'
    )
    device = Child('camera', CAMERA_VIDEO, source_arguments(source, camera, namespace))
    with running(device):
        ended = supervise('model', MODEL_NODE, arguments, SourceEnd(stopped, device), respawn=respawn)
    if ended is not None or stopped.is_set():
        return _exit_code(ended)
    if device.code:
        raise device.failure()
    print_status(f'm3et: {source.name} has ended and its last image is served; so the robot ends.')
    return 0


def _exit_code(ended: Child | None) -> int:
    """Return 0 for a robot that a signal or its own node ended in order.

    Raises:
        Refused: the model node failed.
    """
    if ended is None:
        return 0
    if ended.code:
        raise ended.failure()
    print_status('m3et: the model node has ended.')
    return 0
