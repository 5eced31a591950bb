"""The m3et command.

    m3et demo                       the simulated kitchen and the robot, with a picture at the end
    m3et ask "What is on the table?"
    m3et --help

Exit codes: 0 good, 1 wrong usage or failure (one sentence on stderr says what, why and the fix). 2 is reserved for
results below a threshold that was asked for.
"""

import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from m3et_ros import __version__
from m3et_ros.cli import bench, build, generate, models, robot
from m3et_ros.cli.ask.app import ask
from m3et_ros.cli.demo.app import demo
from m3et_ros.cli.doctor.app import doctor
from m3et_ros.cli.evaluate.app import app as evaluate_app
from m3et_ros.cli.output import report, say
from m3et_ros.cli.record.app import record
from m3et_ros.cli.replay.app import replay
from m3et_ros.cli.train.app import app as train_app

app = typer.Typer(
    name='m3et',
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={'help_option_names': ['-h', '--help']},
    help='Embodied vision-language on ROS 2: camera topics in; depth, segmentation, answers and anticipation out.',
)
for verb in (demo, robot.robot, ask, record, replay, models.models, generate.generate, doctor):
    app.command(verb.__name__)(verb)
app.command('bench', context_settings={'allow_extra_args': True, 'ignore_unknown_options': True})(bench.bench)
app.add_typer(train_app, name='train')
app.add_typer(evaluate_app, name='evaluate')
app.add_typer(build.app, name='build')


def _show_version(wanted: bool) -> None:
    if wanted:
        say(__version__)
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option('--version', callback=_show_version, is_eager=True, help='Print the version and end.')
    ] = False,
) -> None:
    """Take the options that stand before a verb."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the arguments are those of the process unless given. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv) or ['--help']
    logging.basicConfig(level=logging.WARNING, format='m3et: %(message)s')
    verbs = {known.name for known in (*app.registered_commands, *app.registered_groups)}
    verb = next((word for word in arguments if word in verbs), '')
    try:
        return app(args=arguments, prog_name='m3et', standalone_mode=False) or 0
    except typer.Abort:
        return 1
    except BrokenPipeError:
        # Whoever read us has gone; the interpreter must not trip over the pipe once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return report(error, verb)


if __name__ == '__main__':
    sys.exit(main())
