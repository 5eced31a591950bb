"""`m3et ask`: a question to a running robot, or about an image on disk without any ROS."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import typer

from m3et_ros.cli.options import Json, expand_options
from m3et_ros.cli.output import Refused, print_json, print_line, print_status, visible
from m3et_ros.cli.processes import stop_signals, use_ros
from m3et_ros.cli.ros_names import full_namespace
from m3et_ros.data.checkpoints import DEFAULT_MODEL

RANDOM = '-random-'
"""Part of the model id of untrained weights."""
FILLED = 0.5
"""Share of measured depth below which a distance is called one of filled depth."""
TOP_K = 5
"""Alternatives about an image unless --top-k is given."""


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """The scope of a question, the robot that answers it, and the form of the answer."""

    panel: ClassVar[str] = 'Robot'

    scope: Annotated[Literal['frame', 'episode'], typer.Option(help='Newest frame, or the whole episode.')] = 'frame'
    top_k: Annotated[int, typer.Option(min=0, max=100, help='Number of alternatives; 0 leaves it to the node.')] = 0
    max_age: Annotated[float, typer.Option(min=0, help='Oldest frame to answer from, in s; 0 means any.')] = 0.0
    namespace: Annotated[str, typer.Option('--namespace', help='Namespace of the model node.')] = '/m3et'
    timeout: Annotated[float, typer.Option(min=0.1, help='Longest wait in s.')] = 10.0
    frame: Annotated[
        str,
        typer.Option(help='Frame of the places of an answer, such as base_link, by TF; by default that of the image.'),
    ] = ''
    stream: Annotated[bool, typer.Option('--stream', help='Print the answer as it is written; Ctrl-C stops it.')] = (
        False
    )


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """The image that a question is about, and the models that answer it."""

    panel: ClassVar[str] = 'An image instead of a robot'

    answerer: Annotated[
        Literal['m3et', 'ml_mamba', 'emma', 'matvlm', 'vlm', 'router'],
        typer.Option(
            help='With --image: model that answers; a robot has its own parameter. vlm is an image-text model of '
            'transformers, router is m3et where it is sure and vlm otherwise.'
        ),
    ] = 'm3et'
    answerer_checkpoint: Annotated[
        Path | None,
        typer.Option(
            '--answerer-checkpoint',
            help='With --image: checkpoint folder of the answerer; the shipped one by default. For vlm and router a '
            'folder of transformers or hf:owner/name[@revision].',
        ),
    ] = None
    image: Annotated[Path | None, typer.Option(help='Image to ask about; no ROS is used.')] = None
    depth: Annotated[
        Path | None, typer.Option(help='Depth of that image: integers in mm or floats in m, as PNG, TIFF or .npy.')
    ] = None
    intrinsics: Annotated[
        str,
        typer.Option(
            help='Intrinsics of that image, for places in metres: FX,FY,CX,CY in pixels, or the path of a calibration '
            'file of ROS (YAML).'
        ),
    ] = ''
    model: Annotated[str, typer.Option(help='With --image: named size, checkpoint folder or Hub id.')] = DEFAULT_MODEL
    device: Annotated[str, typer.Option(help='With --image: auto, cpu, cuda, ...')] = 'auto'


@expand_options()
def ask(
    question: Annotated[str, typer.Argument(help='The question.')],
    options: AnswerOptions,
    picture: ImageOptions,
    as_json: Json = False,
) -> None:
    """Ask a running robot, or ask about an image with --image; m3et questions lists what can be asked.

    "I cannot tell", with the reason, is an answer too: the exit code is 0. Programs read `answerable` and `reason` of
    --json.
    """
    _refuse_combinations(question, options, picture)
    if picture.image is None:
        answer = _ask_robot(question, options, as_json=as_json)
    else:
        answer = _ask_about_image(question, options, picture, as_json=as_json)
    if as_json:
        print_json(answer)
        return
    print_answer(answer, with_text=not options.stream)
    # For an image, opening the model has printed this already.
    if picture.image is None and RANDOM in answer['model_id']:
        print_status(f'm3et: {untrained_warning(answer["model_id"])}')


def _refuse_combinations(question: str, options: AnswerOptions, picture: ImageOptions) -> None:
    """Refuse an empty question, and options that have no meaning together.

    Raises:
        Refused: the message names the option to change.
    """
    if not question.strip():
        raise Refused('The question is empty; ask something, such as "What is on the table?".')
    if picture.image is None:
        if picture.depth is not None:
            raise Refused('--depth needs the image it belongs to; give --image too, or leave --depth out.')
        if picture.intrinsics:
            raise Refused('A robot has its own camera info; give --intrinsics only with --image.')
        if picture.answerer != 'm3et' or picture.answerer_checkpoint is not None:
            raise Refused(
                'A robot answers with the model that its parameter answerer names; give --answerer only with --image, '
                'or start the robot with another answerer.'
            )
    elif options.frame:
        raise Refused('An image from a file has no TF; leave out --frame, or ask a robot.')
    elif options.scope == 'episode' or (options.stream and picture.answerer == 'm3et'):
        raise Refused(
            'An image has no episode, and m3et chooses whole answers; leave out --scope and --stream, '
            'give another --answerer, or ask a robot.'
        )


def _ask_robot(question: str, options: AnswerOptions, *, as_json: bool) -> dict[str, Any]:
    """Ask through the service of the model node, or through its action with --stream."""
    use_ros()
    from m3et_ros.action import AskQuestion as AskStreaming
    from m3et_ros.cli.ask import client
    from m3et_ros.srv import AskQuestion

    namespace = full_namespace(options.namespace)
    fields = {'question': question, 'scope': options.scope, 'top_k': options.top_k, 'max_age_s': options.max_age}
    with stop_signals() as stopped, client.client(stopped) as node:
        if not options.stream:
            answer = client.ask(node, namespace, AskQuestion.Request(**fields), options.timeout)
        else:
            write = _discard if as_json else _print_part
            answer = client.ask_streaming(node, namespace, AskStreaming.Goal(**fields), options.timeout, write)
            if not as_json:
                print_line()
        found = answer_dict(answer)
        if options.frame and any(place['position_m'] for place in found['places']):
            _move_places(node, found, options)
        return found


def _move_places(node: Any, answer: dict[str, Any], options: AnswerOptions) -> None:
    """Give the places of an answer in the frame that was asked for."""
    from m3et_ros.cli.ask.transform import moved, transform_to

    transform = transform_to(node, options.frame, answer['frame_id'], answer['stamp_ns'], options.timeout)
    answer['places_frame_id'] = options.frame
    for place in answer['places']:
        if place['position_m']:
            place['position_m'] = moved(place['position_m'], transform)
            place['size_m'] = None  # along the axes of the image's frame


def _ask_about_image(question: str, options: AnswerOptions, picture: ImageOptions, *, as_json: bool) -> dict[str, Any]:
    from m3et_ros.cli.ask.picture import ask_picture, read_frame

    write: Callable[[str], None] | None = _print_part if options.stream and not as_json else None
    answer = ask_picture(
        question,
        read_frame(picture.image, picture.depth, picture.intrinsics),
        model=picture.model,
        device=picture.device,
        top_k=options.top_k or TOP_K,
        answerer=picture.answerer,
        checkpoint=picture.answerer_checkpoint,
        write=write,
    )
    if write:
        print_line()
    return answer


def _print_part(text: str) -> None:
    print(visible(text), end='', flush=True)


def _discard(text: str) -> None:
    del text


def print_answer(answer: dict[str, Any], *, with_text: bool = True) -> None:
    """Print an answer for a person, without its text if that was streamed."""
    if with_text:
        print_line(answer['text'] or '(no words)')
    if not answer['answerable']:
        print_line(f'  {answer["explanation"]}')
        if answer['suggestions']:
            print_line(f'  Did you mean: {" ".join(answer["suggestions"])}')
    elif answer['read_as'] not in ('', answer['question']):
        print_line(f'  read as: {answer["read_as"]}')
    for place in answer['places']:
        print_line(f'  {describe_place(place, answer["places_frame_id"])}')
    age = '' if answer['age_s'] is None else f', image {answer["age_s"]:.2f} s old'
    sure = f'confidence {format_probability(answer["confidence"])}, ' if answer['answerable'] else ''
    print_line(
        f'  {sure}{describe_frames(answer)}{age}, took {1e3 * answer["latency_s"]:.0f} ms, model {answer["model_id"]}'
    )
    others = [
        f'{other["label"]} {format_probability(other["score"])}'
        for other in answer['alternatives']
        if other['label'] != answer['text']
    ]
    if others:
        print_line(f'  {"or" if answer["answerable"] else "guesses"}: {", ".join(others)}')


def describe_place(place: dict[str, Any], frame_id: str) -> str:
    """Return a place in words; of what is unknown it says what is missing."""
    u, v = place['pixel']
    words = f'{place["label"]} at pixel {u:.0f} {v:.0f}'
    if place['distance_m'] is None:
        return f'{words}; there is no depth, so its distance is unknown'
    words += '' if place['measured'] >= FILLED else ', by filled depth'
    if place['position_m'] is None:
        return f'{words}, depth {place["distance_m"]:.2f} m; without intrinsics of the camera it has no point in space'
    x, y, z = place['position_m']
    frame = f' in {frame_id}' if frame_id else ''
    return f'{words}, {place["distance_m"]:.2f} m away: x {x:.2f} y {y:.2f} z {z:.2f} m{frame}'


def format_probability(value: float) -> str:
    """Return a probability with two decimals."""
    return f'{value:.2f}' if value >= 0.005 else '<0.01'


def describe_frames(answer: dict[str, Any]) -> str:
    """Return the number of frames that an answer rests on, in words."""
    count = answer['frames_used']
    return 'one frame' if count == 1 else f'{count} frames of the episode'


def untrained_warning(model_id: str) -> str:
    """Return the sentence that warns that a model has random weights."""
    return (
        f'{model_id.partition(RANDOM)[0]} has no trained weights yet: this is {model_id}, so answers, depth, '
        'segmentation and anticipation mean nothing.'
    )


def answer_dict(answer: Any) -> dict[str, Any]:
    """Return an Answer message as plain Python, with stamps in nanoseconds."""
    from m3et_ros.ros.convert import place_of, stamp_ns

    return {
        'question': answer.question,
        'text': answer.text,
        'confidence': answer.confidence,
        'alternatives': [{'id': a.id, 'label': a.label, 'score': a.score} for a in answer.alternatives],
        'answerable': answer.answerable,
        'reason': answer.reason,
        'explanation': answer.explanation,
        'suggestions': list(answer.suggestions),
        'read_as': answer.read_as,
        'scope': answer.scope,
        'frames_used': answer.frames_used,
        'stamp_ns': stamp_ns(answer.header.stamp),
        'span_start_ns': stamp_ns(answer.span_start),
        'frame_id': answer.header.frame_id,
        'places_frame_id': answer.header.frame_id,
        'places': [asdict(place_of(place)) for place in answer.places],
        'model_id': answer.model_id,
        'latency_s': answer.latency_s,
        'age_s': answer.age_s if answer.age_s == answer.age_s else None,
    }
