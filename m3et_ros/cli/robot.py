"""`m3et robot`: the nodes of launch/robot.launch.py on the same parameter file, without `launch`."""

from pathlib import Path
from typing import Annotated

import typer

from m3et_ros.cli.output import Refused, note
from m3et_ros.cli.processes import Child, running, stop_signals, watch
from m3et_ros.cli.ros_names import assignments, camera_remaps, namespace, ros_arguments

MODEL_NODE = 'm3et_ros.ros.model_node'

Namespace = Annotated[str, typer.Option('--namespace', help='Namespace of the robot; one per robot.')]
CameraPrefix = Annotated[str, typer.Option('--camera', help='Prefix of the topics of the camera.')]
Model = Annotated[
    str,
    typer.Option(
        '--model', help='Named size, checkpoint folder or Hub id; as in the file if not given.', show_default=False
    ),
]
Device = Annotated[
    str, typer.Option('--device', help='auto, cpu, cuda or cuda:N; as in the file if not given.', show_default=False)
]
Runtime = Annotated[
    str,
    typer.Option(
        '--runtime', help='auto, torch, compile, openvino or cuda; as in the file if not given.', show_default=False
    ),
]
ParamsFile = Annotated[
    Path | None,
    typer.Option('--params-file', show_default=False, help='Parameters of the model node; else config/robot.yaml.'),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        '--param', '-p', metavar='NAME:=VALUE', show_default=False, help='One more parameter of the model node.'
    ),
]
Remaps = Annotated[
    list[str] | None,
    typer.Option(
        '--remap', '-r', metavar='FROM:=TO', show_default=False, help='One more remapping; it wins over --camera.'
    ),
]


def model_arguments(
    below: str,
    camera: str,
    *,
    model: str = '',
    device: str = '',
    runtime: str = '',
    params_file: Path | None = None,
    sim_time: bool = False,
    parameters: list[str] | None = None,
    remaps: list[str] | None = None,
) -> list[str]:
    """Command line of the model node, as robot.launch.py would give it.

    Raises:
        Refused: a name is no ROS name, or the parameter file is not there.
    """
    from m3et_ros.ros import process

    file = params_file or process.share('config', 'robot.yaml')
    if not file.is_file():
        raise Refused(f'{file} is not a file; give the parameter file of the model node with --params-file.')
    given = {name: value for name, value in (('model', model), ('device', device), ('runtime', runtime)) if value}
    clock = {'use_sim_time': True} if sim_time else {}
    return ros_arguments(
        below=namespace(below),
        files=[str(file)],
        parameters=[*assignments(autostart=True, **given, **clock), *(parameters or ())],
        # Of two rules for one topic ROS takes the first.
        remaps=[*(remaps or ()), *camera_remaps(camera)],
    )


def robot(
    below: Namespace = '/m3et',
    camera: CameraPrefix = '/camera/camera',
    model: Model = '',
    device: Device = '',
    runtime: Runtime = '',
    params_file: ParamsFile = None,
    sim_time: Annotated[bool, typer.Option('--sim-time', help='Take the time from /clock.')] = False,
    parameters: Parameters = None,
    remaps: Remaps = None,
) -> int:
    """Run the robot on a camera until Ctrl-C."""
    arguments = model_arguments(
        below,
        camera,
        model=model,
        device=device,
        runtime=runtime,
        params_file=params_file,
        sim_time=sim_time,
        parameters=parameters,
        remaps=remaps,
    )
    with stop_signals() as stopped:
        note(f'm3et: robot in {namespace(below)} on the camera {namespace(camera, "--camera")}; Ctrl-C ends it.')
        node = Child('model', MODEL_NODE, arguments)
        with running(node):
            ended = watch([node], stopped)
    if ended is None:
        return 0
    if ended.code:
        raise ended.failure()
    note('m3et: the model node has ended.')
    return 0
