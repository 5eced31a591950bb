"""`m3et bench`: measure both sides of every claim of speed on this machine, and write what came out."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from m3et_ros.cli.output import Json, Refused, emit, note, say, table

SPEED = {
    'ssd': 'scans of Mamba-2 and Mamba-1 against the published listing and plain loops',
    'mixer': "the Mamba-2 mixer against transformers' CPU path",
    'models': 'named sizes against MultiMAE at equal tokens; --multimae PATH gives its code',
    'runtimes': 'the shipped model through torch, OpenVINO and, with --runtimes compile, compiled ahead',
    'decode': 'a token behind a long context: all-Mamba, hybrids and a Transformer',
    'codec': 'images between messages and arrays',
    'node': 'the whole node on a bag; --bag PATH gives another',
    'age': 'age of results behind a fast camera and a slow model',
    'fleet': 'frames of many robots each by itself and in batches',
    'scaling': 'time and memory against tokens, batch, image size and number of robots',
}
"""Benchmarks by name and what each measures, in the order in which `all` runs them."""

Name = Annotated[str, typer.Argument(help='all, or one of ' + ', '.join(SPEED) + '.')]
Folder = Annotated[
    Path | None,
    typer.Option('--benchmarks', show_default=False, help='Folder of the scripts; else beside the package.'),
]


def bench(context: typer.Context, name: Name = 'all', folder: Folder = None, as_json: Json = False) -> int:
    """Run benchmarks of speed, each in a process of its own with one thread; further options go to the script."""
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
    failed = [n for n in chosen if not _ran(folder, n, context.args, quiet=as_json)]
    found = {n: _result(folder, n) for n in chosen if n not in failed}
    if as_json:
        emit({'results': found, 'failed': failed})
    elif name == 'all':
        say()
        say(
            table(
                [
                    ('benchmark', 'measures', 'result'),
                    *((n, SPEED[n], 'failed' if n in failed else f'benchmarks/results/{n}.json') for n in chosen),
                ]
            )
        )
    return 1 if failed else 0


def _ran(folder: Path, name: str, arguments: list[str], *, quiet: bool) -> bool:
    """Run one script to its end; whether it succeeded."""
    note(f'm3et: {name}: {SPEED[name]}')
    # Set before Python starts: a waiting thread pool that spins would be measured instead of us.
    env = os.environ | {'OMP_NUM_THREADS': '1', 'OMP_WAIT_POLICY': 'PASSIVE'}
    done = subprocess.run(
        [sys.executable, str(folder / f'{name}.py'), *arguments],
        env=env,
        check=False,
        stdout=sys.stderr if quiet else None,
    )
    if done.returncode:
        note(f'm3et: {name} ended with code {done.returncode}.')
    return not done.returncode


def _result(folder: Path, name: str):
    """What a script left behind; None where it wrote elsewhere."""
    path = folder / 'results' / f'{name}.json'
    return json.loads(path.read_text(encoding='utf-8')) if path.is_file() else None
