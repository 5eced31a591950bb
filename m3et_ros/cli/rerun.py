"""`m3et rerun`: a recording with results as a file for the viewer of Rerun.

m3et rerun walk.mcap -o walk.rrd --ask "What is on the table?"
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m3et_ros.cli.options import expand_options
from m3et_ros.cli.output import Refused, print_line, print_status
from m3et_ros.cli.processes import StopEvent, stop_code, stop_signals, use_ros
from m3et_ros.cli.progress import track
from m3et_ros.data.checkpoints import DEFAULT_MODEL

if TYPE_CHECKING:
    from m3et_ros.cli.view.rerun_log import RobotLog
    from m3et_ros.data.bags.reader import BagReader
    from m3et_ros.data.bags.topics import CameraTopics
    from m3et_ros.runtime.session import Session

HORIZON_S = 1.0
"""Seconds ahead for which actions are anticipated, as by the model node."""
NODE = '/model/'
"""Part of the names of results: the name of the model node."""


@dataclass(frozen=True, kw_only=True)
class ModelRun:
    """A model that runs over a recording."""

    model: Annotated[
        str,
        typer.Option(
            help='Named size, checkpoint folder or hf:owner/name to run over the recording. By default the results in '
            f'the recording are shown, and {DEFAULT_MODEL} runs where it has none.',
            show_default=False,
        ),
    ] = ''
    device: Annotated[str, typer.Option(help='auto, cpu, cuda or cuda:N.')] = 'auto'
    ask: Annotated[
        list[str] | None,
        typer.Option(
            help='Question that the model answers about every frame; may be given several times.', show_default=False
        ),
    ] = None
    every: Annotated[int, typer.Option(min=1, help='Run over every n-th frame only.')] = 1


@expand_options()
def rerun(
    bag: Annotated[Path, typer.Argument(metavar='BAG', help='Recording: a rosbag2 folder, .mcap or .db3.')],
    out: Annotated[Path, typer.Option('-o', '--out', help='File to create, such as walk.rrd.')],
    run: ModelRun,
    rgb: Annotated[str | None, typer.Option(help='Topic of the colours; found by default.', show_default=False)] = None,
    depth: Annotated[
        str | None, typer.Option(help='Topic of the depth; by default one that is aligned.', show_default=False)
    ] = None,
) -> int:
    """Write a recording with results as a file for Rerun: those that it holds, or those of a model."""
    from m3et_ros.data.bags.reader import BagReader
    from m3et_ros.data.extras import require

    require('rerun')
    use_ros()
    from m3et_ros.cli.view.rerun_log import RobotLog, blueprint
    from m3et_ros.cli.view.rerun_sinks import recording_to_file

    with BagReader(bag) as reader, stop_signals() as stopped:
        camera = _camera(reader, rgb, depth)
        results = _results(reader)
        from_bag = bool(results) and not (run.model or run.ask)
        roots = sorted({root for root, _ in results.values()}) if from_bag else ['robot']
        with recording_to_file(out) as recording:
            logs = {root: RobotLog(recording, root) for root in roots}
            recording.send_blueprint(blueprint(roots, health=False))
            if from_bag:
                frames = _show_results(reader, camera, results, logs, stopped)
            else:
                frames = _run_model(reader, camera, run, logs['robot'], stopped)
            if not frames:
                raise Refused(f'{bag} has no readable frame on {camera.rgb}; nothing is written.')
    source = 'the results that it holds' if from_bag else f'results of {run.model or DEFAULT_MODEL}'
    print_line(f'{out}: {frames} frames with {source}. Open it: rerun {out}')
    return 0


def _camera(reader: 'BagReader', rgb: str | None, depth: str | None) -> 'CameraTopics':
    """Find the camera; the images of the model node are none."""
    from m3et_ros.data.bags.topics import find_camera

    topics = reader.topics
    reader.topics = {name: topic for name, topic in topics.items() if NODE not in name}
    try:
        camera = find_camera(reader, rgb=rgb, depth=depth)
    finally:
        reader.topics = topics
    if camera.note:
        print_status(f'm3et: {camera.note}')
    return camera


def _results(reader: 'BagReader') -> dict[str, tuple[str, str]]:
    """Return the results of model nodes in a bag: root of the robot and name of the stream, by topic."""
    from m3et_ros.cli.view.messages import RESULTS
    from m3et_ros.cli.view.rerun_log import SHOWN

    found = {}
    for stream in sorted(set(RESULTS) & set(SHOWN)):
        result = RESULTS[stream]
        tail = f'{NODE.rstrip("/")}{result.name[1:]}'
        for topic in reader.topics.values():
            if topic.name.endswith(tail) and topic.type == result.type_name and topic.count:
                found[topic.name] = topic.name.removesuffix(tail).strip('/') or 'robot', stream
    return found


def _info_topic(reader: 'BagReader', rgb: str) -> str | None:
    """Return the intrinsics beside the colours; None where the bag has none."""
    from m3et_ros.data.bags.reader import CAMERA_INFO

    beside = f'{rgb.rpartition("/image")[0]}/camera_info'
    infos = [topic.name for topic in reader.topics.values() if topic.type == CAMERA_INFO and topic.count]
    return beside if beside in infos else None


def _show_results(
    reader: 'BagReader',
    camera: 'CameraTopics',
    results: dict[str, tuple[str, str]],
    logs: dict[str, 'RobotLog'],
    stopped: StopEvent,
) -> int:
    """Log the messages of the camera and of the model node; return the number of colour images."""
    from m3et_ros.data.bags.reader import decode
    from m3et_ros.data.errors import InputError

    info = _info_topic(reader, camera.rgb)
    streams = {name: 'depth' for name in [camera.depth] if name}
    streams |= {camera.rgb: 'rgb'} | ({info: 'info'} if info else {})
    total = sum(reader.topics[name].count for name in (*streams, *results))
    frames = 0
    damaged: InputError | None = None
    for message in track(_readable(reader, [*streams, *results]), total, str(reader.path), 'message'):
        _end_if(stopped)
        root, stream = results.get(message.topic, ('', streams.get(message.topic, '')))
        try:
            for log in [logs[root]] if root else logs.values():
                log.message(stream, decode(message))
            frames += stream == 'rgb'
        except InputError as error:
            damaged = error
    if damaged is not None:
        print_status(f'm3et: messages are left out, the last because {damaged}.')
    return frames


def _readable(reader: 'BagReader', topics: list[str]) -> Iterator[Any]:
    """Yield the messages up to the damage of a bag, which is printed."""
    from m3et_ros.data.errors import InputError

    try:
        yield from reader.messages(topics)
    except InputError as error:
        print_status(f'm3et: {error}; what comes before that is shown.')


def _run_model(reader: 'BagReader', camera: 'CameraTopics', run: ModelRun, log: 'RobotLog', stopped: StopEvent) -> int:
    """Run a model over the frames and log its results; return their number."""
    from m3et_ros.data.bags.frames import frames
    from m3et_ros.data.errors import InputError
    from m3et_ros.runtime.engine import Engine
    from m3et_ros.runtime.open_model import open_checkpoint
    from m3et_ros.runtime.places import Locator
    from m3et_ros.runtime.session import Session, checked_question

    questions = [checked_question(question, parameter='') for question in run.ask or ()]
    session = Session(Engine(open_checkpoint(run.model or DEFAULT_MODEL), device=run.device))
    session.locator = Locator(session.engine)
    labels = session.engine.labels
    log.labels(labels.classes, labels.colors)
    damaged: list[InputError] = []
    read = frames(
        reader,
        rgb_topic=camera.rgb,
        depth_topic=camera.depth,
        info_topic=_info_topic(reader, camera.rgb),
        every=run.every,
        on_damaged=damaged.append,
    )
    total = max(1, -(-reader.topics[camera.rgb].count // run.every))
    done = 0
    try:
        for frame in track(read, total, str(reader.path)):
            _end_if(stopped)
            _log_frame(session, frame, questions, log)
            done += 1
    except InputError as error:  # the bag is cut off
        print_status(f'm3et: {error}; the {done} frames before that are shown.')
    if damaged:
        print_status(f'm3et: {len(damaged)} frames are left out, the last because {damaged[-1]}.')
    return done


def _log_frame(session: 'Session', frame: Any, questions: list[str], log: 'RobotLog') -> None:
    """Log one frame and the results of the model for it."""
    from std_msgs.msg import Header

    from m3et_ros.cli.view.messages import SeenBox, encode_jpeg
    from m3et_ros.ros.space_outputs import SpaceFrame, things_of

    view = session.observe(frame)
    if frame.K is not None:
        log.intrinsics(frame.K, frame.rgb.shape[1], frame.rgb.shape[0])
    log.rgb(frame.stamp_ns, encode_jpeg(frame.rgb))
    if frame.depth is not None:
        log.depth(frame.stamp_ns, frame.depth)
    result = session.engine.reconstruct(view)
    if result.depth is not None:
        log.completed(frame.stamp_ns, result.depth)
    if result.mask is not None:
        log.mask(frame.stamp_ns, result.mask)
    if result.mask is not None:
        scene = SpaceFrame(frame, Header(), result.depth, result.mask)
        log.boxes(
            frame.stamp_ns,
            [
                SeenBox(thing.name, thing.color, thing.box.position, thing.box.size)
                for thing in things_of(scene, session.engine.labels)
                if thing.box is not None
            ],
        )
    for question in questions:
        reply = session.ask(question, [view], scope='frame', top_k=1)
        log.answer(frame.stamp_ns, reply, reply.places)
    anticipation = session.anticipate(view, horizon_s=HORIZON_S, top_k=1)
    if anticipation is not None:
        log.anticipation(frame.stamp_ns, anticipation.now.actions, anticipation.next.actions)


def _end_if(stopped: StopEvent) -> None:
    """Raise Refused after a signal, so that nothing is left of the file."""
    if stopped.is_set():
        raise Refused('stopped before the end; nothing is written.', stop_code(stopped))
