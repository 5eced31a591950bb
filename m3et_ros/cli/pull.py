"""`m3et pull`: fetch a model of the Hugging Face Hub."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from m3et_ros.cli.options import Json
from m3et_ros.cli.output import print_json, print_line, print_status


def pull(
    name: Annotated[str, typer.Argument(help='hf:owner/name[@revision].')],
    out: Annotated[
        Path | None, typer.Option('--out', '-o', help='Folder for the files; the cache of the Hub by default.')
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help='Longest time for all files in s.')] = 3600.0,
    as_json: Json = False,
) -> None:
    """Fetch a model of the Hub: safetensors, JSON and text, nothing that is executed.

    Without --out the files stay in the cache, and hf:owner/name is read from there without a network too.
    """
    from tqdm import tqdm

    from m3et_ros.data import hub

    with tqdm(unit='B', unit_scale=True, desc=name, leave=False, disable=not sys.stderr.isatty()) as bar:

        def begin(files: int, size: int) -> None:
            print_status(f'm3et: fetching {files} files of {name}, {size / 1e6:.1f} MB.')
            bar.reset(size)

        folder = hub.pull(name, out, timeout_s=timeout, progress=bar.update, begin=begin)
    if as_json:
        print_json({'name': name, 'folder': str(folder)})
    else:
        print_line(f'{name} is in {folder}')
