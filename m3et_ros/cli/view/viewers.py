"""Rerun and Foxglove in the place of the page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from m3et_ros.cli.output import Refused
from m3et_ros.cli.processes import stop_signals, use_ros
from m3et_ros.cli.ros_names import full_namespace

PAGE_ONLY = ('host', 'browse', 'rate', 'width', 'out')
"""Parameters of `m3et view` that mean nothing to other viewers."""


@dataclass(frozen=True, kw_only=True)
class ViewerOptions:
    """A program that shows the robots in the place of the page."""

    rerun: Annotated[
        bool, typer.Option('--rerun', help='Show the robots in Rerun: its window, or a page where there is no display.')
    ] = False
    save: Annotated[
        Path | None,
        typer.Option(help='With --rerun: write a file such as robot.rrd instead, until Ctrl-C.', show_default=False),
    ] = None
    foxglove: Annotated[
        bool, typer.Option('--foxglove', help='Serve the robots to Foxglove, on port 8765 unless --port is given.')
    ] = False

    @property
    def given(self) -> bool:
        """True where one of the programs, or a file for it, was asked for."""
        return self.rerun or self.foxglove or self.save is not None


def show_in_viewer(context: typer.Context, viewer: ViewerOptions, namespace: str, port: int) -> int:
    """Show robots in Rerun or Foxglove until Ctrl-C.

    Args:
        context: says which options were given.
        viewer: the program.
        namespace: the robot; '' for all.
        port: port for Foxglove, if it was given.

    Raises:
        Refused: options do not go together, a file exists already, or a port is in use.
        InputError: 'needs_extra'.
    """
    from m3et_ros.data.extras import require

    def was_given(name: str) -> bool:
        found = context.get_parameter_source(name)
        return found is not None and found.name != 'DEFAULT'

    if viewer.rerun and viewer.foxglove:
        raise Refused('--rerun and --foxglove are two viewers; give one of them.')
    if viewer.save is not None and not viewer.rerun:
        raise Refused('--save writes a file for Rerun; give --rerun too.')
    page_only = PAGE_ONLY if viewer.foxglove else (*PAGE_ONLY, 'port')
    if wrong := ['open' if name == 'browse' else name for name in page_only if was_given(name)]:
        raise Refused(f'--{wrong[0]} is for the page; leave it out with --{"rerun" if viewer.rerun else "foxglove"}.')
    require('rerun' if viewer.rerun else 'foxglove')
    namespaces = [full_namespace(namespace)] if namespace else []
    use_ros()
    from m3et_ros.cli.robots import connect
    from m3et_ros.cli.view.foxglove import PORT, run_foxglove
    from m3et_ros.cli.view.rerun import run_rerun

    with stop_signals() as stopped, connect(stopped) as robots:
        if viewer.rerun:
            run_rerun(robots, stopped, namespaces=namespaces, save=viewer.save)
        else:
            run_foxglove(robots, stopped, namespaces=namespaces, port=port if was_given('port') else PORT)
    return 0
