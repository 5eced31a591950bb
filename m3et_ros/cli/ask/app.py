"""`m3et ask`: a question to a running robot, or about a picture on disk without any ROS."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from m3et_ros.cli.output import Json, Refused, emit, note, say
from m3et_ros.cli.processes import stop_signals
from m3et_ros.cli.ros_names import namespace

RANDOM = '-random-'
"""Part of the model id of untrained weights."""


def ask(
    question: Annotated[str, typer.Argument(help='What to ask.')],
    scope: Annotated[Literal['frame', 'episode'], typer.Option(help='Newest frame, or all that was seen.')] = 'frame',
    top_k: Annotated[int, typer.Option(min=0, max=100, help='Alternatives wanted; 0 leaves it to the node.')] = 0,
    max_age: Annotated[float, typer.Option(min=0, help='Oldest frame to speak of, in s; 0 means any.')] = 0.0,
    below: Annotated[str, typer.Option('--namespace', help='Where the model node lives.')] = '/m3et',
    timeout: Annotated[float, typer.Option(min=0.1, help='Longest wait in s.')] = 10.0,
    stream: Annotated[bool, typer.Option('--stream', help='Print it as it is written; Ctrl-C stops it.')] = False,
    answerer: Annotated[
        Literal['m3et', 'ml_mamba', 'emma', 'matvlm'],
        typer.Option(help='With --image: who answers; a robot has its own parameter.'),
    ] = 'm3et',
    talker: Annotated[
        Path | None,
        typer.Option('--answerer-checkpoint', help='With --image: folder of the answerer; else the one shipped.'),
    ] = None,
    image: Annotated[Path | None, typer.Option(help='Ask about this picture; no ROS is used.')] = None,
    depth: Annotated[Path | None, typer.Option(help='Depth of that picture: 16-bit PNG in mm, or .npy in m.')] = None,
    model: Annotated[str, typer.Option(help='With --image: named size, checkpoint folder or Hub id.')] = 'kitchen',
    device: Annotated[str, typer.Option(help='With --image: auto, cpu, cuda, ...')] = 'auto',
    as_json: Json = False,
) -> None:
    """Ask a running robot, or ask about a picture with --image."""
    if not question.strip():
        raise Refused('The question is empty; ask something, such as "What is on the table?".')
    if image is None:
        if depth is not None:
            raise Refused('--depth needs the picture it belongs to; give --image too, or leave --depth out.')
        if answerer != 'm3et' or talker is not None:
            raise Refused(
                'A robot answers as its parameter answerer says; give --answerer with --image only, or start '
                'the robot with another.'
            )
        answer = _ask_robot(question, scope, top_k, max_age, namespace(below), timeout, stream, as_json)
    else:
        if scope == 'episode' or (stream and answerer == 'm3et'):
            raise Refused(
                'A picture has no episode, and m3et picks its answers whole; leave out --scope and --stream, '
                'give another --answerer, or ask a robot.'
            )
        from m3et_ros.cli.ask.picture import ask_picture

        write = (lambda token: print(token, end='', flush=True)) if stream and not as_json else None
        answer = ask_picture(
            question,
            image,
            depth,
            model=model,
            device=device,
            top_k=top_k or 5,
            answerer=answerer,
            checkpoint=talker,
            write=write,
        )
        if write:
            say()
    if as_json:
        emit(answer)
        return
    show(answer, told=stream)
    # About a picture the model itself has said so when it was opened.
    if image is None and RANDOM in answer['model_id']:
        note(f'm3et: {untrained(answer["model_id"])}')


def show(answer: dict, *, told: bool = False) -> None:
    """Print an answer for a person; `told` when its text was printed as it came."""
    if not told:
        say(answer['text'] or '(no words)')
    age = '' if answer['age_s'] is None else f', image {answer["age_s"]:.2f} s old'
    say(
        f'  confidence {probability(answer["confidence"])}, {frames(answer)}{age}, '
        f'took {1e3 * answer["latency_s"]:.0f} ms, model {answer["model_id"]}'
    )
    others = [
        f'{other["label"]} {probability(other["score"])}'
        for other in answer['alternatives']
        if other['label'] != answer['text']
    ]
    if others:
        say(f'  or: {", ".join(others)}')


def probability(value: float) -> str:
    """A probability with two decimals."""
    return f'{value:.2f}' if value >= 0.005 else '<0.01'


def frames(answer: dict) -> str:
    """What an answer rests on."""
    count = answer['frames_used']
    return 'one frame' if count == 1 else f'{count} frames of the episode'


def untrained(model_id: str) -> str:
    """The sentence that says that nothing a model answers means anything."""
    return (
        f'{model_id.partition(RANDOM)[0]} has no trained weights yet: this is {model_id}, so answers, depth, '
        'segmentation and anticipation mean nothing.'
    )


def answer_dict(answer) -> dict:
    """An Answer message in plain Python; stamps in nanoseconds."""

    def stamp_ns(stamp) -> int:
        return stamp.sec * 10**9 + stamp.nanosec

    return {
        'question': answer.question,
        'text': answer.text,
        'confidence': answer.confidence,
        'alternatives': [{'id': a.id, 'label': a.label, 'score': a.score} for a in answer.alternatives],
        'scope': answer.scope,
        'frames_used': answer.frames_used,
        'stamp_ns': stamp_ns(answer.header.stamp),
        'span_start_ns': stamp_ns(answer.span_start),
        'frame_id': answer.header.frame_id,
        'model_id': answer.model_id,
        'latency_s': answer.latency_s,
        'age_s': answer.age_s,
    }


def _ask_robot(
    question: str, scope: str, top_k: int, max_age: float, below: str, timeout: float, stream: bool, as_json: bool
) -> dict:
    from m3et_ros.action import AskQuestion as AskStreaming
    from m3et_ros.cli.ask import client
    from m3et_ros.srv import AskQuestion

    fields = {'question': question, 'scope': scope, 'top_k': top_k, 'max_age_s': max_age}
    with stop_signals() as stopped, client.client(stopped) as node:
        if not stream:
            return answer_dict(client.ask(node, below, AskQuestion.Request(**fields), timeout))
        write = (lambda token: None) if as_json else (lambda token: print(token, end='', flush=True))
        answer = client.ask_streaming(node, below, AskStreaming.Goal(**fields), timeout, write)
        if not as_json:
            say()
        return answer_dict(answer)
