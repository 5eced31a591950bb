#!/usr/bin/env python3
"""Write the tables of README.md, docs/reference.md and docs/results.md from the node and from benchmarks/results/.

.venv/bin/python scripts/readme_tables.py

The node's own tables hold its topics, services and parameters; the results hold the figures of the shipped weights.
"""

import json
from pathlib import Path
from typing import Any

from m3et_ros.evaluation.report.markdown import (
    actions_table,
    number,
    plain,
    reconstruction_table,
    replace_block,
    share,
    table,
    vqa_table,
)
from m3et_ros.ros import interfaces, parameters

ROOT = Path(__file__).resolve().parents[1]
WAYS = (('recognition', 'chain'), ('anticipation', 'follow'))
"""Tasks, and the ways in which the robot asks."""


def main() -> None:
    """Replace the text between each pair of markers."""
    for page, name, text in (
        ('README.md', 'summary', summary()),
        ('docs/reference.md', 'interfaces', interfaces.as_markdown()),
        ('docs/reference.md', 'parameters', parameters.as_markdown()),
        ('docs/results.md', 'vqa', vqa_table(measured('kitchen2_vqa_own')['metrics'])),
        ('docs/results.md', 'reconstruction', reconstruction_table(measured('kitchen2_reconstruction_own')['metrics'])),
        ('docs/results.md', 'actions', actions_table(measured('kitchen2_actions')['metrics'])),
        ('docs/results.md', 'cameras', cameras()),
    ):
        path = ROOT / page
        text = replace_block(path.read_text(encoding='utf-8'), name, 'scripts/readme_tables.py', text)
        path.write_text(text, encoding='utf-8')


def measured(name: str) -> dict[str, Any]:
    """Read a result of benchmarks/results/."""
    return json.loads((ROOT / f'benchmarks/results/{name}.json').read_text(encoding='utf-8'))


def summary() -> str:
    """Return the table of the README: a figure for each thing that the shipped weights do, and one to compare."""
    vqa = measured('kitchen2_vqa_own')['metrics']['subsets']
    frame = vqa['all']['answerable_from_one_frame']
    unlike = measured('kitchen2_vqa_other')['metrics']['subsets']['all']['answerable_from_one_frame']
    episode = measured('kitchen2_eqa')['accuracy']['last_moments']
    actions = measured('kitchen2_actions')['metrics']
    now, following = (actions[task][way]['all']['action']['top1'] for task, way in WAYS)
    bigram = actions['references']['bigram']['action']['top1']
    full = measured('kitchen2_reconstruction_own')['metrics']['full']
    holes = {way: number(full['depth_in_holes'][way]['rmse_m'], 'm') for way in ('auto', 'navier_stokes')}
    last, blind = (plain(episode[way]['all']['value']) for way in ('memory_of_the_last_frame', 'blind_reader'))
    rows = [
        ('questions about one frame', share(frame['accuracy']), f'best blind guess {plain(frame["best_blind"])}'),
        (
            'the same, by cameras unlike any of training',
            share(unlike['accuracy']),
            f'best blind guess {plain(unlike["best_blind"])}',
        ),
        (
            'questions about an episode of 40 s',
            share(episode['memory']['all']),
            f'last frame alone {last}, blind reader {blind}',
        ),
        ('current action, verb and noun, top-1', share(now), ''),
        ('action one second ahead, top-1', share(following), f'bigram over the true past {plain(bigram["value"])}'),
        ('segmentation, 47 classes, mIoU', share(full['segmentation']['miou']), ''),
        ('depth RMSE in the holes of the sensor', holes['auto'], f'Navier-Stokes inpainting {holes["navier_stokes"]}'),
        (
            'pairs of colour and thing that training never combined',
            share(vqa['held_out']['accuracy']),
            f'best blind guess {plain(vqa["held_out"]["best_blind"])}',
        ),
    ]
    return table(('Measured', 'Shipped weights', 'To compare'), rows)


def cameras() -> str:
    """Return the table of both shipped models, seen by cameras of the second model's training and by others."""
    columns = [(model, camera) for model in ('kitchen', 'kitchen2') for camera in ('own', 'other')]
    asked = [measured(f'{model}_vqa_{camera}')['metrics']['subsets'] for model, camera in columns]
    seen = [measured(f'{model}_reconstruction_{camera}')['metrics']['full'] for model, camera in columns]
    rows = [
        ('questions, all families', *(share(found['all']['accuracy']) for found in asked)),
        (
            'answerable from one frame',
            *(share(found['all']['answerable_from_one_frame']['accuracy']) for found in asked),
        ),
        ('best blind guess', *(plain(found['all']['best_blind']) for found in asked)),
        ('segmentation mIoU, 47 classes', *(share(found['segmentation']['miou']) for found in seen)),
        ('segmentation pixel accuracy', *(share(found['segmentation']['pixel_accuracy']) for found in seen)),
    ]
    for way in ('auto', 'model', 'navier_stokes'):
        holes = (number(found['depth_in_holes'][way]['rmse_m'], 'm') for found in seen)
        rows.append((f'depth RMSE in the holes of the sensor, {way.replace("_", " ")}', *holes))
    return table(('Measure', *(f'`{model}`, {camera} cameras' for model, camera in columns)), rows)


if __name__ == '__main__':
    main()
