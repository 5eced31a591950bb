"""`m3et evaluate reconstruction BAG...`: recordings in the place of a cache of kitchens."""

from pathlib import Path
from typing import Any

import typer

from m3et_ros.cli.output import emit, note
from m3et_ros.cli.progress import track
from m3et_ros.cli.sittings import command_line

FRAMES = 'frames'
"""Folder below --out for the decoded frames."""


def reconstruction_of_bags(context: typer.Context, bags: list[Path], checkpoint: Any, out: Path, *, frames: int,
                           seed: int, batch: int, as_json: bool) -> dict[str, Any]:
    """Measure bags, write metrics.json, per_sample.csv and pictures, and return the metrics.

    Raises:
        InputError: none of the bags can be measured.
    """
    from m3et_ros.cli.evaluate import UNTOLD
    from m3et_ros.evaluation.runs.bag_dense import measure_bags
    from m3et_ros.evaluation.runs.pictures import draw_frames
    from m3et_ros.evaluation.runs.report import PICTURES, environment, weights_digest, write_metrics, write_samples

    found = measure_bags(checkpoint, bags, out / FRAMES, frames=frames, seed=seed, batch=batch, watch=track)
    for name, bag in found.metrics['bags'].items():
        if 'failed' in bag:
            note(f'{name}: {bag["failed"]}')
    device = next(checkpoint.model.parameters()).device
    document = {'made_by': {
        'command': command_line(context, UNTOLD), 'settings': {'seed': seed, 'frames': frames, 'batch': batch},
        'model': {'id': checkpoint.model_id, 'trained': checkpoint.trained,
                  'weights_sha256': weights_digest(checkpoint.model)},
        'environment': environment(device)}, 'metrics': found.metrics}
    write_metrics(out, document)
    write_samples(out, found.rows)
    if found.images and found.images[0][1]:
        draw_frames(found.images[:8], out / PICTURES / 'frames.png', f'{checkpoint.model_id} on recordings')
    if as_json:
        emit(document)
    return found.metrics
