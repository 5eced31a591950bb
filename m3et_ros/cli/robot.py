"""`m3et robot`: the nodes of launch/robot.launch.py with the same parameter file, without `launch`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from m3et_ros.cli.options import expand_options
from m3et_ros.cli.output import Refused, print_status
from m3et_ros.cli.processes import stop_signals, use_ros
from m3et_ros.cli.ros_names import assignments, camera_remaps, full_namespace, ros_arguments
from m3et_ros.cli.supervision import supervise

MODEL_NODE = 'm3et_ros.ros.model_node'


@dataclass(frozen=True, kw_only=True)
class NodeOptions:
    """The model node: its namespace, camera, model and parameter file."""

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
) -> list[str]:
    """Return the arguments of the model node, as robot.launch.py would give them.

    Args:
        node: namespace, camera, model and parameter file.
        runtime: runtime of the model; '' leaves it to the parameter file.
        sim_time: take the time from /clock.
        parameters: further 'name:=value'; they override all others.
        remaps: further 'from:=to'; they override the camera's.

    Raises:
        Refused: a name is not a ROS name, or the parameter file is missing.
    """
    from m3et_ros.ros import process

    file = node.params_file or process.share('config', 'robot.yaml')
    if not file.is_file():
        raise Refused(f'{file} is not a file; give the parameter file of the model node with --params-file.')
    given = {
        name: value for name, value in (('model', node.model), ('device', node.device), ('runtime', runtime)) if value
    }
    if sim_time:
        given['use_sim_time'] = True
    return ros_arguments(
        namespace=full_namespace(node.namespace),
        files=[str(file)],
        parameters=[*assignments(autostart=True, **given), *parameters],
        # Of two rules for one topic ROS takes the first.
        remaps=[*remaps, *camera_remaps(node.camera)],
    )


@expand_options('namespace camera model device runtime params_file sim_time respawn parameters remaps')
def robot(
    node: NodeOptions,
    runtime: Annotated[
        str,
        typer.Option(
            '--runtime',
            help='auto, torch, compile, openvino or cuda; by default that of the parameter file.',
            show_default=False,
        ),
    ] = '',
    sim_time: Annotated[bool, typer.Option('--sim-time', help='Take the time from /clock.')] = False,
    respawn: Annotated[
        bool, typer.Option('--respawn/--no-respawn', help='Start the node again when it dies or stops answering.')
    ] = True,
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            '--param',
            '-p',
            metavar='NAME:=VALUE',
            show_default=False,
            help='Parameter of the model node; may be given several times.',
        ),
    ] = None,
    remaps: Annotated[
        list[str] | None,
        typer.Option(
            '--remap',
            '-r',
            metavar='FROM:=TO',
            show_default=False,
            help='Remapping of a topic, stronger than --camera; may be given several times.',
        ),
    ] = None,
) -> int:
    """Run the robot on a camera until Ctrl-C."""
    arguments = model_arguments(
        node, runtime=runtime, sim_time=sim_time, parameters=parameters or (), remaps=remaps or ()
    )
    namespace, camera = full_namespace(node.namespace), full_namespace(node.camera, '--camera')
    use_ros()
    with stop_signals() as stopped:
        print_status(f'm3et: robot in {namespace} on the camera {camera}; Ctrl-C ends it.')
        ended = supervise('model', MODEL_NODE, arguments, stopped, respawn=respawn)
    if ended is None:
        return 0
    if ended.code:
        raise ended.failure()
    print_status('m3et: the model node has ended.')
    return 0
