"""`m3et build`: compile ahead what makes this machine faster, kernels and the graphs of a model."""

from pathlib import Path
from typing import Annotated

import typer

from m3et_ros.cli.options import Json
from m3et_ros.cli.output import print_json, print_line, print_status
from m3et_ros.data.checkpoints import DEFAULT_MODEL
from m3et_ros.data.errors import InputError
from m3et_ros.data.extras import require
from m3et_ros.runtime.limits import PRECISIONS, TOKENS

app = typer.Typer(help='Build optional parts that make this machine faster.', no_args_is_help=True)


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


@app.command('openvino')
def openvino(
    model: Annotated[str, typer.Option(help='Named size, checkpoint folder or hf:owner/name.')] = DEFAULT_MODEL,
    precision: Annotated[str, typer.Option(help='float32, bfloat16 or int8, as the robot will run.')] = 'float32',
    tokens: Annotated[str, typer.Option(help='full or adaptive, as the robot will run.')] = 'full',
    threads: Annotated[int, typer.Option(min=0, help='CPU threads, as the robot will run; 0: as torch does.')] = 0,
    calibrate: Annotated[
        Path | None, typer.Option(help='For int8: a cache of training kitchens (m3et generate cache) to fit it on.')
    ] = None,
    as_json: Json = False,
) -> None:
    """Build the graphs of a model for OpenVINO, so that a robot's first start need not, and check them."""
    import torch

    from m3et_ros.runtime.backends.int8 import check_possible, open_calibration
    from m3et_ros.runtime.backends.openvino import without_telemetry
    from m3et_ros.runtime.backends.prepared import artefact_folder, prepare
    from m3et_ros.runtime.frame_tokens import guides_shape
    from m3et_ros.runtime.kernels import use_built
    from m3et_ros.runtime.open_model import open_checkpoint

    if precision not in PRECISIONS:
        raise InputError('parameter', f'--precision is {precision[:40]!r}; give {", ".join(PRECISIONS)}.')
    if (precision == 'int8') != (calibrate is not None):
        raise InputError(
            'parameter',
            f'--precision is {precision} and --calibrate is {calibrate}; int8 and no other precision is fitted on a '
            'cache: give both or neither.',
        )
    if tokens not in TOKENS:
        raise InputError('parameter', f'--tokens is {tokens[:40]!r}; give {" or ".join(TOKENS)}.')
    if precision == 'int8':
        without_telemetry()
        require('int8')
        check_possible(tokens == 'adaptive')
    if threads:
        torch.set_num_threads(threads)
    use_built()  # the graphs of Mamba-1 need the native scans
    checkpoint = open_checkpoint(model)
    opened, guides = checkpoint.model.eval(), guides_shape(checkpoint)
    found, serving = prepare(
        opened,
        'openvino',
        precision=precision,
        guides=guides,
        calibration=open_calibration(calibrate, checkpoint.tokenizer) if calibrate else None,
        adaptive=tokens == 'adaptive',
        report=lambda line: print_status(f'm3et: {line}'),
    )
    if found is None:
        raise InputError('runtime_fallback', f'The graphs of {model} were not built: {serving.reason}.')
    folder = artefact_folder(opened, 'openvino', precision)
    if as_json:
        print_json({'folder': str(folder), 'precision': precision, 'checked': serving.reason})
        return
    print_line(f'Built {folder} ({serving.reason})')
