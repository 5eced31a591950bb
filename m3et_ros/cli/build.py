"""`m3et build kernels`: compile optional kernels that make this machine faster."""

import typer

from m3et_ros.cli.options import Json
from m3et_ros.cli.output import print_json, print_line, print_status

app = typer.Typer(help='Build optional parts that make this machine faster.', no_args_is_help=True)


@app.callback()
def group() -> None:
    """Keep `build` a group of verbs while it has only one."""


@app.command('kernels')
def kernels(as_json: Json = False) -> None:
    """Compile the scans of Mamba-1 and Mamba-2 for the CPU (C++; a few seconds) and check them."""
    from m3et_ros.ops.dispatch import describe
    from m3et_ros.runtime.kernels import build, use_built

    print_status('m3et: compiling the scans; this takes a few seconds.')
    path = build()
    use_built()
    choices = describe('cpu')
    if as_json:
        print_json({'library': str(path), 'kernels': [vars(choice) for choice in choices]})
        return
    print_line(f'Built {path}')
    for choice in choices:
        print_line(f'{choice.op}: {choice.name} ({choice.reason})')
