"""NEW FILE."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from m3et_ros.cli.evaluate.common import (
    CPUS,
    Bags,
    Batch,
    Data,
    Device,
    Model,
    Out,
    Seed,
    Workers,
    _interval,
    _make,
    _open,
    _prepare,
    _refusing,
    _write,
)
from m3et_ros.cli.output import Json, emit, note, say, table
from m3et_ros.cli.progress import track
from m3et_ros.cli.training_session import command_line


# MERGED from m3et_ros/cli/evaluate
def reconstruction(
    context: typer.Context,
    model: Model,
    out: Out,
    bags: Bags = None,
    data: Data = 'test',
    frames: Annotated[
        int, typer.Option(min=1, help='Frames, evenly apart in the cache or in each bag; all if it has fewer.')
    ] = 500,
    look: Annotated[
        bool,
        typer.Option(
            '--cross-attention/--no-cross-attention',
            help='Let decoders attend to what the encoder saw, or switch that off, to compare.',
        ),
    ] = True,
    seed: Seed = 0,
    batch: Batch = 32,
    device: Device = 'cpu',
    workers: Workers = CPUS,
    as_json: Json = False,
) -> None:
    """Rebuild hidden patches, fill holes in depth, label what is seen: PSNR, depth errors and mIoU."""
    from torch.utils.data import Subset

    from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
    from m3et_ros.data.kitchen.sim.vocabulary import CLASSES
    from m3et_ros.evaluation.report.files import PICTURES
    from m3et_ros.evaluation.report.pictures import draw_frames, spread
    from m3et_ros.evaluation.tasks.reconstruction import NOISE, measure_frames
    from m3et_ros.evaluation.tasks.reconstruction_scores import frame_rows, reconstruction_scores

    _make(out)
    if bags:
        subject = _looking(_open(model, device), look)
        metrics = reconstruction_of_bags(
            context, bags, subject, out, frames=frames, seed=seed, batch=batch, as_json=as_json
        )
        return None if as_json else _tell_reconstruction(metrics, out)
    opened, folder, recipe = _prepare(model, data, device, workers)
    subject = _looking(opened, look)
    kitchens = _refusing(KitchenSamples, folder, questions=False)
    chosen = spread(len(kitchens), frames)
    seen = spread(len(chosen), 8)
    found = _refusing(
        measure_frames, subject.model, Subset(kitchens, chosen), seed=seed, batch=batch, pictures=seen, progress=track
    )
    metrics = reconstruction_scores(found, CLASSES)
    settings = {'seed': seed, 'frames': len(chosen), 'batch': batch, 'noise': asdict(NOISE), 'cross_attention': look}
    document = _write(out, context, subject, recipe, settings, metrics, frame_rows(found))
    shown = [(found.keys[i], found.images[i]) for i in seen if found.images[i]]
    if shown:
        draw_frames(shown, out / PICTURES / 'frames.png', f'{subject.model_id} on {recipe.split} kitchens')
    emit(document) if as_json else _tell_reconstruction(metrics, out)


def _looking(checkpoint: Any, look: bool) -> Any:
    """The checkpoint, or one whose decoders see nothing of the encoder."""
    from m3et_ros.evaluation.tasks.reconstruction import without_context

    return checkpoint if look else replace(checkpoint, model=without_context(checkpoint.model))


def _tell_reconstruction(metrics: dict[str, Any], out: Path) -> None:
    rows: list[tuple] = [('measure', 'value', '95 % interval')]

    def add(name: str, scores: dict[str, Any] | None, digits: int = 3) -> None:
        if scores and scores['value'] is not None:
            rows.append((name, f'{scores["value"]:.{digits}f}', _interval(scores, digits)))

    hidden, full, colour = (metrics[name] for name in ('hidden', 'full', 'rgb_only'))
    add('PSNR of hidden patches, dB', hidden.get('psnr_hidden_db'), 2)
    add('PSNR of the picture, rest pasted in, dB', hidden.get('psnr_pasted_db'), 2)
    for name, part in (('hidden patches', hidden), ('colour and noisy depth', full), ('colour alone', colour)):
        add(f'mIoU, {name}', part.get('segmentation', {}).get('miou'))
        add(f'depth RMSE, {name}, m', part.get('depth', {}).get('rmse_m'))
    for name, scores in full.get('depth_in_holes', {}).items():
        if isinstance(scores, dict):
            add(f'depth RMSE in holes, {name.replace("_", " ")}, m', scores['rmse_m'])
            add(f'share by which the model is below {name.replace("_", " ")}', scores.get('model_below'))
    say(table(rows, right=(1,)))
    say(f'\n{metrics["frames"]:,} frames; all of it in {out}.')


# MERGED m3et_ros/cli/evaluate_bags: `m3et evaluate reconstruction BAG...`: recordings in the place of a cache of kitchens.
FRAMES = 'frames'
"""Folder below --out for the decoded frames."""


def reconstruction_of_bags(
    context: typer.Context,
    bags: list[Path],
    checkpoint: Any,
    out: Path,
    *,
    frames: int,
    seed: int,
    batch: int,
    as_json: bool,
) -> dict[str, Any]:
    """Measure bags, write metrics.json, per_sample.csv and pictures, and return the metrics.

    Raises:
        InputError: none of the bags can be measured.
    """
    from m3et_ros.cli.evaluate.common import UNTOLD
    from m3et_ros.evaluation.report.files import PICTURES, environment, weights_digest, write_metrics, write_samples
    from m3et_ros.evaluation.report.pictures import draw_frames
    from m3et_ros.evaluation.tasks.reconstruction_scores import measure_bags

    found = measure_bags(checkpoint, bags, out / FRAMES, frames=frames, seed=seed, batch=batch, progress=track)
    for name, bag in found.metrics['bags'].items():
        if 'failed' in bag:
            note(f'{name}: {bag["failed"]}')
    device = next(checkpoint.model.parameters()).device
    document = {
        'made_by': {
            'command': command_line(context, UNTOLD),
            'settings': {'seed': seed, 'frames': frames, 'batch': batch},
            'model': {
                'id': checkpoint.model_id,
                'trained': checkpoint.trained,
                'weights_sha256': weights_digest(checkpoint.model),
            },
            'environment': environment(device),
        },
        'metrics': found.metrics,
    }
    write_metrics(out, document)
    write_samples(out, found.rows)
    if found.images and found.images[0][1]:
        draw_frames(found.images[:8], out / PICTURES / 'frames.png', f'{checkpoint.model_id} on recordings')
    if as_json:
        emit(document)
    return found.metrics
