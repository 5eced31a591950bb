"""`m3et convert weights`: files of torch.save to safetensors."""

from pathlib import Path
from typing import Annotated

import typer

from m3et_ros.cli.options import Json
from m3et_ros.cli.output import print_json, print_line


def weights(
    files: Annotated[list[Path], typer.Argument(help='Files of torch.save (.pt, .pth, .bin) of one model.')],
    out: Annotated[Path, typer.Option('--out', '-o', help='Folder for model.safetensors, or for shards of it.')],
    timeout: Annotated[float, typer.Option(min=1, help='Longest time for a file in s.')] = 1800.0,
    as_json: Json = False,
) -> None:
    """Convert weights to safetensors.

    Each file is read by a process of its own with limited memory and time, and with torch's reader that builds tensors
    alone. A file that would run code is refused.
    """
    from m3et_ros.data.torch_files.convert import convert_weights

    done = convert_weights(files, out, timeout_s=timeout)
    if as_json:
        print_json(
            {
                'folder': str(out),
                'files': list(done.files),
                'tensors': done.tensors,
                'parts': list(done.parts),
                'left_out': list(done.left_out),
            }
        )
        return
    for file, part in zip(files, done.parts, strict=True):
        if part:
            print_line(f'{file} holds the state of training; only its {part!r} was converted.')
    if done.left_out:
        print_line(f'{len(done.left_out)} values are no tensors and were left out: {", ".join(done.left_out[:5])}')
    print_line(f'{done.tensors} tensors in {", ".join(str(out / name) for name in done.files)}')
