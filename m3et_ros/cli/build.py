"""`m3et build kernels`: what a machine may build for itself to be faster; nothing needs it."""

import typer

from m3et_ros.cli.output import Json, emit, note, say

app = typer.Typer(help='Build what makes this machine faster; nothing needs it.', no_args_is_help=True)


@app.callback()
def group() -> None:
    """Keep the verbs below `build` even while there is one only."""


@app.command()
def kernels(as_json: Json = False) -> None:
    """Compile the scans of Mamba-1 and Mamba-2 for the CPU (C++; some seconds) and check them."""
    from m3et_ros.ops.dispatch import describe
    from m3et_ros.runtime.kernels import build, use_built

    note('m3et: compiling the scans; this takes some seconds.')
    path = build()
    use_built()
    choices = describe('cpu')
    if as_json:
        emit({'library': str(path), 'kernels': [vars(choice) for choice in choices]})
        return
    say(f'Built {path}')
    for choice in choices:
        say(f'{choice.op}: {choice.name} ({choice.reason})')
