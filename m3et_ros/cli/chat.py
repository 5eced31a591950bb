"""`m3et chat`: questions and answers one after the other, with a running robot or about one image."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from m3et_ros.cli.ask.app import (
    RANDOM,
    TOP_K,
    ImageOptions,
    answer_dict,
    format_probability,
    print_answer,
    untrained_warning,
)
from m3et_ros.cli.options import expand_options
from m3et_ros.cli.output import Refused, print_line, print_status, visible
from m3et_ros.cli.processes import StopEvent, stop_signals, use_ros
from m3et_ros.cli.ros_names import full_namespace
from m3et_ros.data.errors import InputError

PROMPT = '> '
COMMANDS = {
    ':history': 'every question of this conversation with its answer',
    ':last': 'the last answer with all details',
    ':help': 'these commands',
    ':quit': 'end; Ctrl-D does too',
}

Ask = Callable[[str, Callable[[str], None]], dict[str, Any]]
"""Answers a question; parts of a written answer go to the function."""


@dataclass(frozen=True, kw_only=True)
class ChatOptions:
    """The robot that answers."""

    panel: ClassVar[str] = 'Robot'

    namespace: Annotated[str, typer.Option('--namespace', help='Namespace of the model node.')] = '/m3et'
    timeout: Annotated[float, typer.Option(min=0.1, help='Longest wait for an answer in s.')] = 30.0


@expand_options()
def chat(options: ChatOptions, picture: ImageOptions) -> int:
    """Ask a running robot, or ask about an image with --image, question after question.

    Every question is answered alone, from the newest frame: of M3ET "and on the right?" gets "I cannot tell", so ask
    whole questions; m3et questions lists them. The commands :history, :last, :help and :quit are for the conversation;
    Ctrl-D ends it. On a pipe each question gets one line:

    m3et chat; m3et chat --image kitchen.jpg; echo "Is there a cup in view?" | m3et chat
    """
    image = picture.image
    with _robot(options, picture) if image is None else _picture(image, picture) as ask:
        Conversation(ask, plain=not (sys.stdin.isatty() and sys.stdout.isatty())).run()
    return 0


@contextmanager
def _picture(image: Path, picture: ImageOptions) -> Iterator[Ask]:
    """Yield a function that asks about an image."""
    from m3et_ros.cli.ask.picture import Picture, read_frame

    opened = Picture(
        read_frame(image, picture.depth, picture.intrinsics),
        model=picture.model,
        device=picture.device,
        answerer=picture.answerer,
        checkpoint=picture.answerer_checkpoint,
    )
    yield lambda question, write: opened.ask(question, top_k=TOP_K, write=write)


@contextmanager
def _robot(options: ChatOptions, picture: ImageOptions) -> Iterator[Ask]:
    """Yield a function that asks a running robot; one node lasts for the whole conversation.

    Raises:
        Refused: no robot answers, or an option needs an image.
    """
    given = picture.depth is not None or picture.intrinsics or picture.answerer_checkpoint is not None
    if given or picture.answerer != 'm3et':
        raise Refused(
            '--depth, --intrinsics, --answerer and --answerer-checkpoint go with --image; a robot has its own camera '
            'and parameters.'
        )
    use_ros()
    from m3et_ros.cli.ask import client

    namespace = full_namespace(options.namespace)
    with client.client(StopEvent()) as node:

        def ask(question: str, write: Callable[[str], None]) -> dict[str, Any]:
            # A signal cancels the question and ends the conversation; while the user types it ends the process.
            with stop_signals() as node.stopped:
                return answer_dict(client.ask_as_configured(node, namespace, question, options.timeout, write))

        with stop_signals() as node.stopped:
            client.read_parameters(node, namespace, ['answerer'], options.timeout)
        yield ask


class Conversation:
    """Questions read from stdin, their answers on stdout, and what was said so far.

    Args:
        ask: answers a question.
        plain: one line for each answer, without a prompt, for programs.
    """

    def __init__(self, ask: Ask, *, plain: bool):
        self._ask, self._plain = ask, plain
        self._history: list[dict[str, Any]] = []

    def run(self) -> None:
        """Converse until the end of stdin or :quit.

        Raises:
            Refused, InputError: a question on a pipe got no answer; a person is told, and asks on.
            KeyboardInterrupt: Ctrl-C.
        """
        if not self._plain:
            import readline  # noqa: F401 - input() then has a history and arrow keys

            print_status('m3et: ask whole questions; :help lists the commands, Ctrl-D ends.')
        elif isinstance(sys.stdin, TextIOWrapper):
            sys.stdin.reconfigure(errors='replace')
        while (line := self._read()) is not None and line != ':quit':
            if line.startswith(':'):
                self._command(line)
            elif line:
                self._answer(line)

    def _read(self) -> str | None:
        """Return the next line without blanks around it; None at the end of stdin."""
        try:
            return input('' if self._plain else PROMPT).strip()
        except EOFError:
            if not self._plain:
                print_line()
            return None

    def _answer(self, question: str) -> None:
        parts: list[str] = []
        try:
            answer = self._ask(question, parts.append if self._plain else lambda part: self._stream(part, parts))
        except (Refused, InputError) as error:
            if self._plain or (isinstance(error, Refused) and error.code > 128):
                raise
            print_status(f'm3et: {error}')
            return
        if not self._history and RANDOM in answer['model_id']:
            print_status(f'm3et: {untrained_warning(answer["model_id"])}')
        self._history.append(answer)
        if self._plain:
            print_line(' '.join(answer['text'].split()))
            return
        if parts:
            print_line()
        print_answer(answer, with_text=not parts)

    @staticmethod
    def _stream(part: str, parts: list[str]) -> None:
        parts.append(part)
        print(visible(part), end='', flush=True)

    def _command(self, line: str) -> None:
        if line == ':help':
            for name, text in COMMANDS.items():
                print_line(f'{name:9} {text}')
        elif line not in COMMANDS:
            print_status(f'm3et: there is no command {line[:40]!r}; there are {", ".join(COMMANDS)}.')
        elif not self._history:
            print_status('m3et: nothing was asked yet.')
        elif line == ':last':
            print_line(self._history[-1]['question'])
            print_answer(self._history[-1])
        else:
            for number, answer in enumerate(self._history, 1):
                sure = f' ({format_probability(answer["confidence"])})' if answer['answerable'] else ''
                print_line(f'{number}  {answer["question"]}  {" ".join(answer["text"].split())}{sure}')
