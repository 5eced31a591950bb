"""`m3et bench`: measure both sides of every claim about speed on this machine, and write the results."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from m3et_ros.cli.options import Json
from m3et_ros.cli.output import Refused, print_json, print_line, print_status, print_table

SPEED = {
    'ssd': 'scans of Mamba-2 and Mamba-1 against the published listing and plain loops',
    'mixer': "the Mamba-2 mixer against transformers' CPU path",
    'models': 'named sizes against MultiMAE at equal tokens; --multimae PATH gives its code',
    'runtimes': 'the shipped model through torch, OpenVINO and, with --runtimes compile, compiled ahead',
    'decode': 'a token after a long context: all-Mamba, hybrids and a Transformer',
    'codec': 'images between messages and arrays',
    'node': 'the whole node on images made for it, or on those of a recording: --bag PATH',
    'age': 'age of results with a fast camera and a slow model',
    'fleet': 'frames of many robots, one robot at a time and in batches',
    'scaling': 'time and memory against tokens, batch, image size and number of robots',
}
"""Benchmarks by name and what each measures, in the order in which `all` runs them."""


def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help='all, or one of ' + ', '.join(SPEED) + '.')] = 'all',
    folder: Annotated[
        Path | None,
        typer.Option(
            '--benchmarks', show_default=False, help='Folder of the scripts; by default the one beside the package.'
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Run speed benchmarks, each in a process of its own with one thread; further options go to the script."""
    folder = folder or Path(__file__).resolve().parents[2] / 'benchmarks'
    if name not in ('all', *SPEED):
        raise Refused(f'There is no benchmark {name!r}; give all or one of {", ".join(SPEED)}.')
    if name == 'all' and context.args:
        raise Refused(f'{context.args[0]} is an option of one benchmark; name it instead of all.')
    chosen = [n for n in (SPEED if name == 'all' else [name]) if (folder / f'{n}.py').is_file()]
    if not chosen:
        raise Refused(
            f'There is no {name}.py in {folder}; benchmarks come with the source, not with the installed '
            'package: give their folder with --benchmarks.'
        )
    failed = [n for n in chosen if not _run_script(folder, n, context.args, quiet=as_json)]
    if as_json:
        print_json({'results': {n: _read_result(folder, n) for n in chosen if n not in failed}, 'failed': failed})
    elif name == 'all':
        rows = [(n, SPEED[n], 'failed' if n in failed else f'benchmarks/results/{n}.json') for n in chosen]
        print_line()
        print_table([('benchmark', 'measures', 'result'), *rows])
    return 1 if failed else 0


def _run_script(folder: Path, name: str, arguments: list[str], *, quiet: bool) -> bool:
    """Run one script to its end and return True if it succeeded; `quiet` sends its output to stderr."""
    print_status(f'm3et: {name}: {SPEED[name]}')
    # Set before Python starts: otherwise a pool of spinning threads would be measured.
    env = os.environ | {'OMP_NUM_THREADS': '1', 'OMP_WAIT_POLICY': 'PASSIVE'}
    done = subprocess.run(
        [sys.executable, str(folder / f'{name}.py'), *arguments],
        env=env,
        check=False,
        stdout=sys.stderr if quiet else None,
    )
    if done.returncode:
        print_status(f'm3et: {name} ended with code {done.returncode}.')
    return not done.returncode


def _read_result(folder: Path, name: str) -> Any:
    """Return the JSON result of a script, or None if it was written elsewhere."""
    path = folder / 'results' / f'{name}.json'
    return json.loads(path.read_text(encoding='utf-8')) if path.is_file() else None
