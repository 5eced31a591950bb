"""`m3et models`: the named sizes and what they cost."""

from dataclasses import replace
from typing import Annotated

import typer

from m3et_ros.cli.output import Json, emit, say, table

TOKENS = (98, 176, 588)
"""Visible tokens for which multiply-accumulates are given (docs/papers.md 2.2)."""


def sizes() -> list[dict]:
    """One entry per named size; nothing is allocated for the weights."""
    from m3et_ros.models.m3et.config import IMAGE_MODALITIES
    from m3et_ros.models.m3et.cost import MULTIMAE_PARAMETERS, macs, multimae_macs, parameters_of
    from m3et_ros.models.m3et.sizes import SIZES

    found = []
    for name, config in SIZES.items():
        parts = parameters_of(config)
        images = tuple(m for m in config.modalities if m in IMAGE_MODALITIES)
        tasks = tuple(m for m in config.tasks if m in IMAGE_MODALITIES)
        image_part = sum(parameters_of(replace(config, modalities=images, tasks=tasks, answers=0)).values())
        cost = {tokens: macs(config, tokens) for tokens in TOKENS if tokens <= len(images) * config.image_tokens}
        found.append(
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
    return found


def models(
    details: Annotated[bool, typer.Option('--parts', help='List the parameters part by part.')] = False,
    as_json: Json = False,
) -> None:
    """List the named sizes: parameters, multiply-accumulates, image size, ratio to MultiMAE."""
    found = sizes()
    if as_json:
        emit({'models': found, 'tokens': TOKENS})
        return
    heads = (
        'size',
        'parameters',
        'image part',
        'of MultiMAE',
        'image',
        'width',
        'layers',
        'mixer',
        *(f'MACs at {tokens}' for tokens in TOKENS),
    )
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
        for m in found
    ]
    say(table([heads, *rows], right=(1, 2, 3, 4, 5, *range(8, 8 + len(TOKENS)))))
    say(
        '\nimage part: without text, text decoder and answer head; MultiMAE: the released image model of 97,917,072 '
        'parameters.\nMACs: multiply-accumulates of one image reconstruction with so many visible tokens and all image '
        'decoders;\n- where an image has fewer tokens. Against MultiMAE with the same tokens: '
        + ', '.join(
            f'{m["name"]} {ratio:.2f}' for m in found if (ratio := m['macs_ratio_to_multimae'].get(str(TOKENS[0])))
        )
        + '.'
    )
    if details:
        for model in found:
            say(f'\n{model["name"]}')
            say(table([(f'  {part}', f'{count:,}') for part, count in model['parts'].items()], right=(1,)))


def _giga(value: float | None) -> str:
    return '-' if value is None else f'{value / 1e9:.2f} G'
