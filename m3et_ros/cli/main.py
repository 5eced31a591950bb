"""The m3et command.

    m3et demo                       the simulated kitchen and the robot, with a picture at the end
    m3et ask "What is on the table?"
    m3et --help

Exit codes: 0 success; 1 failure, with one sentence on stderr that says what, why and how to fix it; 2 wrong usage,
likewise, or results below a threshold that was asked for; 130 after Ctrl-C, and 128 + n after another signal n, where
the work was cut short.
"""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from m3et_ros import __version__
from m3et_ros.cli.ask.app import ask
from m3et_ros.cli.bench import bench
from m3et_ros.cli.build import app as build
from m3et_ros.cli.cameras import cameras
from m3et_ros.cli.chat import chat
from m3et_ros.cli.convert.app import app as convert
from m3et_ros.cli.demo.app import demo
from m3et_ros.cli.doctor.app import doctor
from m3et_ros.cli.evaluate.app import app as evaluate
from m3et_ros.cli.examples import add_examples
from m3et_ros.cli.features import features
from m3et_ros.cli.generate import generate
from m3et_ros.cli.label import label
from m3et_ros.cli.mcp.app import mcp
from m3et_ros.cli.models import models
from m3et_ros.cli.output import VisibleFormatter, check_text, print_line, report_error
from m3et_ros.cli.processes import INTERRUPTED
from m3et_ros.cli.pull import pull
from m3et_ros.cli.push import push
from m3et_ros.cli.questions import questions
from m3et_ros.cli.record.app import record
from m3et_ros.cli.replay.app import replay
from m3et_ros.cli.rerun import rerun
from m3et_ros.cli.robot import robot
from m3et_ros.cli.teach import teach
from m3et_ros.cli.train.app import app as train
from m3et_ros.cli.view.app import view
from m3et_ros.cli.write import write

PANELS: dict[str, dict[str, Callable[..., Any] | typer.Typer]] = {
    'Run': {
        'demo': demo,
        'robot': robot,
        'cameras': cameras,
        'ask': ask,
        'chat': chat,
        'view': view,
        'questions': questions,
        'mcp': mcp,
    },
    'Recordings': {
        'record': record,
        'replay': replay,
        'rerun': rerun,
        'convert': convert,
        'label': label,
        'teach': teach,
    },
    'Train and measure': {
        'models': models,
        'generate': generate,
        'features': features,
        'train': train,
        'evaluate': evaluate,
        'write': write,
        'push': push,
        'pull': pull,
    },
    'This machine': {'doctor': doctor, 'bench': bench, 'build': build},
}
"""Every verb, a function or a group of verbs, by the panel of --help in which it stands."""
VERBS = {name: verb for verbs in PANELS.values() for name, verb in verbs.items()}
SETTINGS = {'bench': {'allow_extra_args': True, 'ignore_unknown_options': True}}
"""Settings of typer for single verbs: `bench` hands unknown options on to its script."""

app = typer.Typer(
    name='m3et',
    pretty_exceptions_enable=False,
    context_settings={'help_option_names': ['-h', '--help']},
    help='Embodied vision-language on ROS 2: from camera topics to depth, segmentation, answers and anticipation.',
)
for panel, verbs in PANELS.items():
    for name, verb in verbs.items():
        if isinstance(verb, typer.Typer):
            app.add_typer(verb, name=name, rich_help_panel=panel)
        else:
            app.command(name, context_settings=SETTINGS.get(name), rich_help_panel=panel)(verb)
add_examples(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        print_line(__version__)
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option('--version', '-V', callback=_show_version, is_eager=True, help='Print the version and end.')
    ] = False,
) -> None:
    """Take the options before the verb."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments after the program's name; None takes those of the process.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv) or ['--help']
    handler = logging.StreamHandler()
    handler.setFormatter(VisibleFormatter('m3et: %(message)s'))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    as_json = '--json' in arguments
    verb = next((word for word in arguments if word in VERBS), '')
    try:
        check_text(arguments)
        return app(args=arguments, prog_name='m3et', standalone_mode=False) or 0
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our pipe has gone; without this the interpreter would fail on it again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return report_error(error, verb, as_json=as_json)


if __name__ == '__main__':
    sys.exit(main())
