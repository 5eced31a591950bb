"""`m3et push`: send a checkpoint to the Hugging Face Hub."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from m3et_ros.cli.options import Json
from m3et_ros.cli.output import print_json, print_line


def push(
    checkpoint: Annotated[Path, typer.Argument(help='Checkpoint folder.')],
    name: Annotated[str, typer.Argument(help='hf:owner/name; made where there is no such model.')],
    private: Annotated[bool, typer.Option('--private', help='Make a new model private.')] = False,
    message: Annotated[str, typer.Option(help='Message of the commit; names the model by default.')] = '',
    as_json: Json = False,
) -> None:
    """Send a checkpoint to the Hub, with a model card that the Hub can list.

    The token is that of hf auth login, or HF_TOKEN.
    """
    from huggingface_hub.utils import disable_progress_bars

    from m3et_ros.data import hub

    if not sys.stderr.isatty():
        disable_progress_bars()
    address, files = hub.push(checkpoint, name, private=private, message=message)
    if as_json:
        print_json({'name': name, 'commit': address, 'files': list(files)})
    else:
        print_line(f'{len(files)} files are at {address}')
