"""`m3et models`: the named sizes and their cost."""

import json
from pathlib import Path
from typing import Annotated

import typer

from m3et_ros.cli.options import Json
from m3et_ros.cli.output import format_table, print_json, print_line, print_table

TOKENS = (98, 176, 588)
"""Numbers of visible tokens for which multiply-accumulates are given (docs/papers.md 2.2)."""
SIZES = Path(__file__).parent / 'model_sizes.json'
"""The sizes as scripts/model_sizes.py counted them: counting imports torch, which takes seconds."""
HEADER = ('size', 'parameters', 'image part', 'of MultiMAE', 'image', 'width', 'layers', 'mixer')


def models(
    details: Annotated[bool, typer.Option('--parts', help='List the parameters part by part.')] = False,
    as_json: Json = False,
) -> None:
    """List the named sizes: parameters, multiply-accumulates, image size, ratio to MultiMAE."""
    sizes = json.loads(SIZES.read_text())
    if as_json:
        print_json({'models': sizes, 'tokens': TOKENS})
        return
    rows = [
        (
            m['name'],
            f'{m["parameters"]:,}',
            f'{m["image_parameters"]:,}',
            f'{m["ratio_to_multimae"]:.1%}',
            f'{m["image_size"]} px',
            m['width'],
            m['schedule'],
            m['mixer'],
            *(_giga(m['macs'].get(str(tokens))) for tokens in TOKENS),
        )
        for m in sizes
    ]
    header = (*HEADER, *(f'MACs at {tokens}' for tokens in TOKENS))
    print_table([header, *rows], right=(1, 2, 3, 4, 5, *range(len(HEADER), len(header))))
    first = str(TOKENS[0])
    ratios = [
        f'{m["name"]} {m["macs_ratio_to_multimae"][first]:.2f}' for m in sizes if first in m['macs_ratio_to_multimae']
    ]
    print_line(
        '\nimage part: without text, text decoder and answer head; MultiMAE: the released image model of 97,917,072 '
        'parameters.\nMACs: multiply-accumulates of one image reconstruction with that many visible tokens and all '
        'image decoders;\n- where an image has fewer tokens. Ratio to MultiMAE with the same tokens: '
        f'{", ".join(ratios)}.'
    )
    if details:
        for model in sizes:
            print_line(f'\n{model["name"]}')
            parts = [(f'  {part}', f'{count:,}') for part, count in model['parts'].items()]
            print_line(format_table(parts, right=(1,)))


def _giga(value: float | None) -> str:
    return '-' if value is None else f'{value / 1e9:.2f} G'
