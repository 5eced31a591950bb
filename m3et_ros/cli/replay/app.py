"""`m3et replay`: a rosbag2 recording in the place of a camera, with or without the robot on it, which can be scored."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from m3et_ros.cli.output import Json, Refused, emit, note
from m3et_ros.cli.processes import Child, running, stop_signals, watch
from m3et_ros.cli.robot import MODEL_NODE, CameraPrefix, Device, Model, Namespace, ParamsFile, model_arguments
from m3et_ros.cli.ros_names import assignments, namespace, ros_arguments

REPLAY_NODE = 'm3et_ros.ros.replay_node'
TRANSPORTS = {
    'rgb_transport': ('color/image_raw', {'raw': '', 'compressed': '/compressed'}),
    'depth_transport': ('aligned_depth_to_color/image_raw', {'raw': '', 'compressedDepth': '/compressedDepth'}),
}
"""Parameters of the model node, the topic below the camera's prefix, and what a transport puts behind its name."""


def replay(
    bag: Annotated[Path, typer.Argument(help='rosbag2 folder, .mcap or .db3 file.')],
    rate: Annotated[float, typer.Option(min=0.1, max=100, help='2 plays twice as fast as recorded.')] = 1.0,
    loop: Annotated[bool, typer.Option('--loop', help='Start over at the end, until Ctrl-C.')] = False,
    start: Annotated[float, typer.Option(min=0, help='Seconds after the first message to begin at.')] = 0.0,
    topics: Annotated[
        list[str] | None, typer.Option(help='Play this topic only; may be repeated.', show_default=False)
    ] = None,
    remaps: Annotated[
        list[str] | None,
        typer.Option(
            '--remap', '-r', metavar='FROM:=TO', show_default=False, help='Publish a topic under another name.'
        ),
    ] = None,
    restamp: Annotated[bool, typer.Option('--restamp', help='Move stamps to now, as if the camera ran.')] = False,
    robot: Annotated[bool, typer.Option('--robot', help='Run the robot on it, in the time of the recording.')] = False,
    below: Namespace = '/m3et',
    camera: CameraPrefix = '/camera/camera',
    model: Model = '',
    device: Device = '',
    params_file: ParamsFile = None,
    evaluate: Annotated[
        bool,
        typer.Option(
            '--evaluate', help='Run the robot on it, count what it serves and drops, and ask it --questions at the end.'
        ),
    ] = False,
    questions: Annotated[
        list[Path] | None, typer.Option(help="With --evaluate: question file in OpenEQA's schema.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help='With --evaluate: folder for live.json and results.json.', show_default=False)
    ] = None,
    rates: Annotated[
        list[float] | None,
        typer.Option(help='With --evaluate: a rate to try; may be repeated.', min=0.1, max=100, show_default=False),
    ] = None,
    as_json: Json = False,
) -> int:
    """Play a recording onto its topics, with /clock."""
    facts = contents(bag)
    if evaluate:
        if out is None or loop or restamp:
            raise Refused('--evaluate needs --out, and goes with neither --loop nor --restamp.')
    elif questions or out or rates:
        raise Refused('--questions, --out and --rates go with --evaluate.')
    chosen = {'topics': topics} if topics else {}
    player = ros_arguments(
        remaps=remaps or (),
        parameters=assignments(
            path=str(bag),
            rate=rate,
            loop=loop,
            start_s=start,
            restamp=restamp,
            wait_for_subscribers=robot or evaluate,
            **chosen,
        ),
    )
    robot_arguments = (
        model_arguments(
            below,
            camera,
            model=model,
            device=device,
            params_file=params_file,
            sim_time=not restamp,
            parameters=transports(facts, camera, remaps or ()),
        )
        if robot or evaluate
        else None
    )
    if evaluate:
        _evaluate(
            facts, out, below, robot_arguments, player, rates or [rate], questions or [], remaps or (), as_json=as_json
        )
        return 0
    begin = time.monotonic()
    code = _play(player, robot_arguments)
    if as_json:
        emit(facts | {'played_s': time.monotonic() - begin, 'exit_code': code})
    return code


def _evaluate(
    facts: dict,
    out: Path,
    below: str,
    robot: list[str],
    player: list[str],
    rates: Sequence[float],
    questions: list[Path],
    remaps: Sequence[str],
    *,
    as_json: bool,
) -> None:
    """Score the live robot on a recording."""
    from m3et_ros.cli.evaluate.common import _make
    from m3et_ros.cli.replay.live_score import Live, evaluate_live
    from m3et_ros.data.datasets.openeqa import episode_name, read_question_files

    path = Path(facts['bag'])
    asked = [question for question in read_question_files(questions) if question.episode == episode_name(path)]
    if questions and not asked:
        raise Refused(f'No question is about {episode_name(path)}; give questions of this recording.')
    renamed = dict(rule.split(':=', 1) for rule in remaps if ':=' in rule)
    images = max(
        topic['messages'] for name, topic in facts['topics'].items() if '/color/image_raw' in renamed.get(name, name)
    )
    _make(out)
    evaluate_live(Live(path, out, namespace(below), robot, player, images, rates, asked), as_json=as_json)


def contents(bag: Path) -> dict:
    """What a recording holds: path, seconds, and per topic its type and number of messages.

    Raises:
        InputError: there is no such bag, or it cannot be read at all.
    """
    from m3et_ros.data.bags.reader import BagReader

    with BagReader(bag) as reader:
        return {
            'bag': str(bag),
            'seconds': reader.duration_s,
            'topics': {name: {'type': topic.type, 'messages': topic.count} for name, topic in reader.topics.items()},
        }


def transports(facts: dict, camera: str, remaps: Sequence[str]) -> list[str]:
    """Parameters that tell the model node how the recorded images come, so that it need not wait and see.

    Args:
        facts: as from `contents`.
        camera: prefix of the camera's topics.
        remaps: 'from:=to' of the replay.

    Raises:
        Refused: the recording has no colour images below that prefix.
    """
    renamed = dict(rule.split(':=', 1) for rule in remaps if ':=' in rule)
    published = {renamed.get(topic, topic) for topic in facts['topics']}
    prefix, found = namespace(camera, '--camera'), {}
    for parameter, (topic, kinds) in TRANSPORTS.items():
        kind = next((kind for kind, suffix in kinds.items() if f'{prefix}/{topic}{suffix}' in published), None)
        if kind is None and parameter == 'rgb_transport':
            raise Refused(
                f'{facts["bag"]} has no colour images on {prefix}/{topic} or {prefix}/{topic}/compressed; it '
                f'has {", ".join(sorted(published)) or "no topics"}: give --camera, or --remap one of them.'
            )
        found[parameter] = kind or 'none'
    return assignments(**found)


def _play(player: list[str], robot_arguments: list[str] | None) -> int:
    """Run the nodes until the recording has ended, one of them fails, or a signal comes."""
    with stop_signals() as stopped:
        nodes = [Child('replay', REPLAY_NODE, player)]
        with running(*nodes):
            if robot_arguments is not None:
                nodes.append(Child('model', MODEL_NODE, robot_arguments))
                with running(nodes[1]):
                    ended = watch(nodes, stopped)
            else:
                ended = watch(nodes, stopped)
    if ended is None or ended.code == 0:
        if ended is not None and ended.name == 'model':
            note('m3et: the model node has ended, and with it the replay.')
        return 0
    raise ended.failure()
