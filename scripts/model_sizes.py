#!/usr/bin/env python3
"""Count parameters and multiply-accumulates of every named size into m3et_ros/cli/model_sizes.json.

.venv/bin/python scripts/model_sizes.py            # after a change of a size
"""

import json
from dataclasses import replace
from typing import Any

from m3et_ros.cli.models import SIZES as FILE
from m3et_ros.cli.models import TOKENS
from m3et_ros.models.m3et.config import IMAGE_MODALITIES
from m3et_ros.models.m3et.cost import MULTIMAE_PARAMETERS, macs, multimae_macs, parameters_of
from m3et_ros.models.m3et.sizes import SIZES


def describe_sizes() -> list[dict[str, Any]]:
    """Return parameters, multiply-accumulates and shape of every named size, without allocating weights."""
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


if __name__ == '__main__':
    FILE.write_text(json.dumps(describe_sizes(), indent=1) + '\n')
