"""`m3et replay`: play a rosbag2 recording instead of a camera, with or without the robot on it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from m3et_ros.cli.options import Json, expand_options
from m3et_ros.cli.output import Refused, print_json, print_status
from m3et_ros.cli.processes import Child, running, stop_signals, use_ros, wait_for_end
from m3et_ros.cli.replay.live_score import REPLAY_NODE, LiveRun, evaluate_live
from m3et_ros.cli.robot import MODEL_NODE, NodeOptions, model_arguments
from m3et_ros.cli.ros_names import assignments, full_namespace, parse_remaps, ros_arguments

TRANSPORTS = {
    'rgb_transport': ('color/image_raw', {'raw': '', 'compressed': '/compressed'}),
    'depth_transport': (
        'aligned_depth_to_color/image_raw',
        {'raw': '', 'compressedDepth': '/compressedDepth', 'compressed': '/compressed'},
    ),
}
"""Parameters of the model node: topic below the camera's prefix, and the suffix that each transport adds to it."""


@dataclass(frozen=True, kw_only=True)
class PlayOptions:
    """Options of the playback."""

    rate: Annotated[
        float, typer.Option(min=0.1, max=100, help='Speed of the playback; 2 plays twice as fast as recorded.')
    ] = 1.0
    loop: Annotated[bool, typer.Option('--loop', help='Start again at the end, until Ctrl-C.')] = False
    start: Annotated[float, typer.Option(min=0, help='Begin this many seconds after the first message.')] = 0.0
    topics: Annotated[
        list[str] | None, typer.Option(help='Play this topic only; may be given several times.', show_default=False)
    ] = None
    remaps: Annotated[
        list[str] | None,
        typer.Option(
            '--remap', '-r', metavar='FROM:=TO', show_default=False, help='Publish a topic under another name.'
        ),
    ] = None
    restamp: Annotated[bool, typer.Option('--restamp', help='Set stamps to now, as if the camera were live.')] = False


@dataclass(frozen=True, kw_only=True)
class LiveOptions:
    """Evaluation of the live robot."""

    evaluate: Annotated[
        bool,
        typer.Option(
            '--evaluate', help='Run the robot on it, count served and dropped images, and ask --questions at the end.'
        ),
    ] = False
    questions: Annotated[
        list[Path] | None, typer.Option(help="With --evaluate: question file in OpenEQA's schema.", show_default=False)
    ] = None
    out: Annotated[
        Path | None, typer.Option(help='With --evaluate: folder for live.json and results.json.', show_default=False)
    ] = None
    rates: Annotated[
        list[float] | None,
        typer.Option(
            help='With --evaluate: a rate to try; may be given several times.', min=0.1, max=100, show_default=False
        ),
    ] = None


@expand_options()
def replay(
    bag: Annotated[Path, typer.Argument(help='rosbag2 folder, .mcap or .db3 file.')],
    play: PlayOptions,
    robot: Annotated[bool, typer.Option('--robot', help='Run the robot on it, in the time of the recording.')] = False,
    *,
    node: NodeOptions,
    live: LiveOptions,
    as_json: Json = False,
) -> int:
    """Play a recording onto its topics, with /clock."""
    contents = read_contents(bag)
    if live.evaluate:
        if live.out is None or play.loop or play.restamp:
            raise Refused('--evaluate needs --out, and goes with neither --loop nor --restamp.')
    elif live.questions or live.out or live.rates:
        raise Refused('--questions, --out and --rates go with --evaluate.')
    with_robot = robot or live.evaluate
    use_ros()
    player = player_arguments(bag, play, wait=with_robot)
    robot_arguments = None
    if with_robot:
        transports = transport_parameters(contents, node.camera, play.remaps or ())
        robot_arguments = model_arguments(node, sim_time=not play.restamp, parameters=transports)
    if live.evaluate:
        _evaluate(contents, play, node, live, robot_arguments, player, as_json=as_json)
        return 0
    begin = time.monotonic()
    code = _play(player, robot_arguments)
    if play.loop:
        code = 0  # only a signal ends it
    if as_json:
        print_json(contents | {'played_s': time.monotonic() - begin, 'exit_code': code})
    return code


def player_arguments(bag: Path, play: PlayOptions, *, wait: bool) -> list[str]:
    """Return the arguments of the replay node.

    Args:
        bag: recording to play.
        play: rate, topics and remappings.
        wait: wait for subscribers before the first message.

    Raises:
        Refused: a remapping lacks one of its sides.
    """
    topics = {'topics': play.topics} if play.topics else {}
    return ros_arguments(
        remaps=play.remaps or (),
        parameters=assignments(
            path=str(bag),
            rate=play.rate,
            loop=play.loop,
            start_s=play.start,
            restamp=play.restamp,
            wait_for_subscribers=wait,
            **topics,
        ),
    )


def read_contents(bag: Path) -> dict[str, Any]:
    """Return path and seconds of a recording, and type and number of messages of each topic.

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


def transport_parameters(contents: dict[str, Any], camera: str, remaps: Sequence[str]) -> list[str]:
    """Return parameters that give the model node the transports of the images, so that it need not detect them.

    Args:
        contents: as from `read_contents`.
        camera: prefix of the camera's topics.
        remaps: 'from:=to' of the replay.

    Raises:
        Refused: the recording has no colour images below that prefix, or a remapping lacks one of its sides.
    """
    renamed = parse_remaps(remaps)
    published = {renamed.get(topic, topic) for topic in contents['topics']}
    prefix, transports = full_namespace(camera, '--camera'), {}
    for parameter, (topic, suffixes) in TRANSPORTS.items():
        found = [kind for kind, suffix in suffixes.items() if f'{prefix}/{topic}{suffix}' in published]
        if not found and parameter == 'rgb_transport':
            raise Refused(
                f'{contents["bag"]} has no colour images on {prefix}/{topic} or {prefix}/{topic}/compressed; it '
                f'has {", ".join(sorted(published)) or "no topics"}: give --camera, or --remap one of them.'
            )
        transports[parameter] = found[0] if found else 'none'
    return assignments(**transports)


def played_images(bag: Path, contents: dict[str, Any], play: PlayOptions, camera: str) -> int:
    """Count the colour images that the robot should receive: those of its camera, from --start on.

    Args:
        bag: the recording.
        contents: as from `read_contents`; it has colour images of the camera (see `transport_parameters`).
        play: start, topics and remappings.
        camera: prefix of the camera's topics.

    Raises:
        Refused: --topics leaves the colour images out, or there are none from --start on.
        InputError: the start lies outside the recording.
    """
    from m3et_ros.data.bags.reader import BagReader
    from m3et_ros.data.errors import InputError

    renamed, prefix = parse_remaps(play.remaps or ()), full_namespace(camera, '--camera')
    topic, suffixes = TRANSPORTS['rgb_transport']
    names = {renamed.get(name, name): name for name in contents['topics']}
    name = next(names[own] for suffix in suffixes.values() if (own := f'{prefix}/{topic}{suffix}') in names)
    if play.topics and name not in play.topics:
        raise Refused(f'--topics leaves out the colour images on {name}; give --topics {name} too.')
    images = 0
    with BagReader(bag) as reader:
        try:
            for _ in reader.messages([name], play.start):
                images += 1
        except InputError as error:
            # The replay node plays what can be read, and says the same.
            if error.reason != 'bag_truncated':
                raise
    if not images:
        raise Refused(f'{bag} has no colour image on {name} from --start {play.start:g} on; begin earlier.')
    return images


def _evaluate(
    contents: dict[str, Any],
    play: PlayOptions,
    node: NodeOptions,
    live: LiveOptions,
    robot: list[str],
    player: list[str],
    *,
    as_json: bool,
) -> None:
    """Score the live robot on the recording.

    Raises:
        Refused: none of the questions is about the recording, or as `evaluate_live`.
    """
    from m3et_ros.cli.evaluate.common import make_out
    from m3et_ros.data.datasets.openeqa import episode_name, read_question_files

    bag = Path(contents['bag'])
    questions = [one for one in read_question_files(live.questions or []) if one.episode == episode_name(bag)]
    if live.questions and not questions:
        raise Refused(f'No question is about {episode_name(bag)}; give questions of this recording.')
    images = played_images(bag, contents, play, node.camera)
    make_out(live.out)
    evaluate_live(
        LiveRun(
            bag, live.out, full_namespace(node.namespace), robot, player, images, live.rates or [play.rate], questions
        ),
        as_json=as_json,
    )


def _play(player: list[str], robot_arguments: list[str] | None) -> int:
    """Run the nodes until the recording has ended, one of them fails, or a signal comes; return the exit code.

    Raises:
        Refused: a node failed.
    """
    with stop_signals() as stopped:
        nodes = [Child('replay', REPLAY_NODE, player)]
        with running(*nodes):
            if robot_arguments is not None:
                nodes.append(Child('model', MODEL_NODE, robot_arguments))
            with running(*nodes[1:]):
                ended = wait_for_end(nodes, stopped)
    if ended is None:
        return stopped.code
    if ended.code:
        raise ended.failure()
    if ended.name == 'model':
        print_status('m3et: the model node has ended, and with it the replay.')
    return 0
