"""`m3et models`: the named sizes and their cost."""

from dataclasses import replace
from typing import Annotated, Any

import typer

from m3et_ros.cli.options import Json
from m3et_ros.cli.output import format_table, print_json, print_line

TOKENS = (98, 176, 588)
"""Numbers of visible tokens for which multiply-accumulates are given (docs/papers.md 2.2)."""
HEADER = ('size', 'parameters', 'image part', 'of MultiMAE', 'image', 'width', 'layers', 'mixer')


def describe_sizes() -> list[dict[str, Any]]:
    """Return parameters, multiply-accumulates and shape of every named size, without allocating weights."""
    from m3et_ros.models.m3et.config import IMAGE_MODALITIES
    from m3et_ros.models.m3et.cost import MULTIMAE_PARAMETERS, macs, multimae_macs, parameters_of
    from m3et_ros.models.m3et.sizes import SIZES

    described = []
    for name, config in SIZES.items():
        parts = parameters_of(config)
        images = tuple(m for m in config.modalities if m in IMAGE_MODALITIES)
        tasks = tuple(m for m in config.tasks if m in IMAGE_MODALITIES)
        answerless = replace(config, answers=0, places=False, answer_parts=0, look_parts=0)
        image_part = sum(parameters_of(replace(answerless, modalities=images, tasks=tasks)).values())
        cost = {tokens: macs(config, tokens) for tokens in TOKENS if tokens <= len(images) * config.image_tokens}
        described.append(
            {
                'name': name,
                'parameters': sum(parts.values()),
                'image_parameters': image_part,
                'ratio_to_multimae': image_part / MULTIMAE_PARAMETERS,
                'image_size': config.image_size,
                'patch': config.patch,
                'width': config.d,
                'schedule': config.schedule,
                'mixer': config.mixer,
                'macs': {str(tokens): value for tokens, value in cost.items()},
                'macs_ratio_to_multimae': {
                    str(tokens): value / multimae_macs(tokens) for tokens, value in cost.items()
                },
                'parts': parts,
            }
        )
    return described


def models(
    details: Annotated[bool, typer.Option('--parts', help='List the parameters part by part.')] = False,
    as_json: Json = False,
) -> None:
    """List the named sizes: parameters, multiply-accumulates, image size, ratio to MultiMAE."""
    sizes = describe_sizes()
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
    print_line(format_table([header, *rows], right=(1, 2, 3, 4, 5, *range(len(HEADER), len(header)))))
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
