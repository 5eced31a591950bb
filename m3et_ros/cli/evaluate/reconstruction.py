"""`m3et evaluate reconstruction`: depth, segmentation and hidden patches, on a cache of kitchens or on recordings.

m3et evaluate reconstruction --data test-own --out results/reconstruction
m3et evaluate reconstruction my_bag --out results/my_bag
m3et evaluate reconstruction --data nyu:nyu_depth_v2_labeled.mat --out results/nyu
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m3et_ros.cli.evaluate.common import (
    CPUS,
    Bags,
    Batch,
    Data,
    Device,
    Model,
    Seed,
    format_interval,
    make_out,
    open_model,
    prepare,
    recorded_command,
    refusing,
    write_results,
)
from m3et_ros.cli.evaluate.public import check_kind, kind_of, open_public, origin
from m3et_ros.cli.options import Json, expand_options
from m3et_ros.cli.output import print_json, print_line, print_status, print_table
from m3et_ros.cli.progress import track
from m3et_ros.data.checkpoints import DEFAULT_MODEL

if TYPE_CHECKING:
    from m3et_ros.data.checkpoints.m3et import Checkpoint

FRAMES = 'frames'
"""Folder below --out for the decoded frames of recordings."""
PICTURE = 'frames.png'
SHOWN_FRAMES = 8
UNITS = {'nyu': 'm', 'imagenet': '1,000 steps of the pseudo depth'}
"""Unit of the depth of public data; that of a network is not in metres, whatever the names of the scores say."""


@dataclass(frozen=True, kw_only=True)
class FrameOptions:
    """The frames to measure and the decoders that are measured."""

    data: Data = 'test-own'
    frames: Annotated[
        int,
        typer.Option(min=1, help='Number of frames, evenly spaced in the cache or in each bag; all if it has fewer.'),
    ] = 500
    cross_attention: Annotated[
        bool,
        typer.Option(
            '--cross-attention/--no-cross-attention',
            help='Let the decoders attend to the encoder, or switch that off for comparison.',
        ),
    ] = True
    seed: Seed = 0
    batch: Batch = 32


@expand_options()
def reconstruction(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help='Folder for metrics.json, per_sample.csv and pictures.')],
    bags: Bags = None,
    *,
    model: Model = DEFAULT_MODEL,
    options: FrameOptions,
    device: Device = 'cpu',
    workers: Annotated[
        int, typer.Option(min=0, max=256, help='Number of processes that render a standard cache.')
    ] = CPUS,
    as_json: Json = False,
) -> None:
    """Reconstruct hidden patches, fill holes in depth and segment: PSNR, depth errors and mIoU."""
    make_out(out)
    if bags:
        checkpoint = open_model(model, device)
        document = measure_recordings(context, bags, _with_decoders(checkpoint, options), out, options)
    elif kind_of(options.data):
        check_kind(options.data, 'nyu', 'imagenet')
        checkpoint = open_model(model, device)
        document = measure_public(context, _with_decoders(checkpoint, options), out, options)
    else:
        checkpoint, folder, recipe = prepare(model, options.data, device, workers)
        document = measure_kitchens(context, folder, recipe, _with_decoders(checkpoint, options), out, options)
    if as_json:
        print_json(document)
    else:
        _print_metrics(document['metrics'], out, document['metrics'].get('depth_unit', 'm'))


def measure_kitchens(
    context: typer.Context, folder: Path, recipe: Any, checkpoint: 'Checkpoint', out: Path, options: FrameOptions
) -> dict[str, Any]:
    """Measure frames of a cache, and write metrics.json, per_sample.csv and pictures.

    Args:
        context: typer context of the verb, for the recorded command.
        folder: folder of the cache.
        recipe: recipe of the cache.
        checkpoint: the model.
        out: folder of the results.
        options: number of frames, seed and batch.

    Returns:
        The content of metrics.json.

    Raises:
        Refused: the cache cannot be read.
    """
    from torch.utils.data import Subset

    from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
    from m3et_ros.data.kitchen.sim.vocabulary import CLASSES
    from m3et_ros.evaluation.batches import cluster_of, spread
    from m3et_ros.evaluation.files import PICTURES
    from m3et_ros.evaluation.report.pictures import draw_frames
    from m3et_ros.evaluation.tasks.cut_holes import FRAMES, cut_holes, noisy_frame
    from m3et_ros.evaluation.tasks.reconstruction import NOISE, measure_frames
    from m3et_ros.evaluation.tasks.reconstruction_scores import frame_rows, reconstruction_scores

    kitchens = refusing(KitchenSamples, folder, questions=False)
    chosen = spread(len(kitchens), options.frames)
    drawn = spread(len(chosen), SHOWN_FRAMES)
    frames = refusing(
        measure_frames,
        checkpoint.model,
        Subset(kitchens, chosen),
        seed=options.seed,
        batch=options.batch,
        pictures=drawn,
        progress=track,
    )
    settings = {
        'seed': options.seed,
        'frames': len(chosen),
        'batch': options.batch,
        'noise': asdict(NOISE),
        'cross_attention': options.cross_attention,
    }
    cut = spread(len(kitchens), min(options.frames, FRAMES))
    noisy = [noisy_frame(kitchens[i], NOISE, options.seed, i) for i in cut]
    clusters = [cluster_of(kitchens[i]) for i in cut]
    metrics = reconstruction_scores(frames, CLASSES) | cut_holes(checkpoint, noisy, clusters, options.seed, track)
    document = write_results(out, context, checkpoint, recipe, settings, metrics, frame_rows(frames))
    images = [(frames.keys[i], frames.images[i]) for i in drawn if frames.images[i]]
    if images:
        draw_frames(images, out / PICTURES / PICTURE, f'{checkpoint.model_id} on {recipe.split} kitchens')
    return document


def measure_recordings(
    context: typer.Context, bags: list[Path], checkpoint: 'Checkpoint', out: Path, options: FrameOptions
) -> dict[str, Any]:
    """Measure frames of recordings, and write metrics.json, per_sample.csv and pictures.

    Args:
        context: typer context of the verb, for the recorded command.
        bags: the recordings.
        checkpoint: the model.
        out: folder of the results.
        options: number of frames of each bag, seed and batch.

    Returns:
        The content of metrics.json.

    Raises:
        InputError: none of the bags can be measured.
    """
    from m3et_ros.evaluation.files import PICTURES, environment, weights_digest, write_metrics, write_samples
    from m3et_ros.evaluation.report.pictures import draw_frames
    from m3et_ros.evaluation.tasks.reconstruction_in_bags import measure_bags

    settings = {'seed': options.seed, 'frames': options.frames, 'batch': options.batch}
    measured = measure_bags(checkpoint, bags, out / FRAMES, **settings, progress=track)
    for name, bag in measured.metrics['bags'].items():
        if 'failed' in bag:
            print_status(f'{name}: {bag["failed"]}')
    document = {
        'made_by': {
            'command': recorded_command(context),
            'settings': settings,
            'model': {
                'id': checkpoint.model_id,
                'trained': checkpoint.trained,
                'weights_sha256': weights_digest(checkpoint.model),
            },
            'environment': environment(next(checkpoint.model.parameters()).device),
        },
        'metrics': measured.metrics,
    }
    write_metrics(out, document)
    write_samples(out, measured.rows)
    if measured.images and measured.images[0][1]:
        draw_frames(measured.images[:SHOWN_FRAMES], out / PICTURES / PICTURE, f'{checkpoint.model_id} on recordings')
    return document


def measure_public(
    context: typer.Context, checkpoint: 'Checkpoint', out: Path, options: FrameOptions
) -> dict[str, Any]:
    """Measure pictures of NYU Depth V2 or of ImageNet with pseudo labels, and write the files of a measurement.

    The camera's own depth is the input, and depth without holes the truth where the data set has it.

    Args:
        context: typer context of the verb, for the recorded command.
        checkpoint: the model.
        out: folder of the results.
        options: data set, number of pictures, seed and batch.

    Returns:
        The content of metrics.json.

    Raises:
        InputError: the data set cannot be read.
    """
    from torch.utils.data import Subset

    from m3et_ros.evaluation.batches import spread
    from m3et_ros.evaluation.files import PICTURES, environment, weights_digest, write_metrics, write_samples
    from m3et_ros.evaluation.report.pictures import draw_frames
    from m3et_ros.evaluation.tasks.reconstruction import measure_frames
    from m3et_ros.evaluation.tasks.reconstruction_scores import frame_rows, reconstruction_scores

    data = open_public(options.data, out, checkpoint.labels, checkpoint.model.config)
    chosen = spread(len(data), options.frames)
    drawn = spread(len(chosen), SHOWN_FRAMES)
    settings = {'seed': options.seed, 'batch': options.batch}
    frames = refusing(
        measure_frames, checkpoint.model, Subset(data, chosen), noise=None, pictures=drawn, progress=track, **settings
    )
    facts = {
        'id': checkpoint.model_id,
        'trained': checkpoint.trained,
        'weights_sha256': weights_digest(checkpoint.model),
    }
    machine = environment(next(checkpoint.model.parameters()).device)
    settings |= {'frames': len(chosen), 'cross_attention': options.cross_attention}
    document = {
        'made_by': origin(context, options.data, len(data), facts, machine, **settings),
        'metrics': reconstruction_scores(frames, checkpoint.labels.classes)
        | {'depth_unit': UNITS[kind_of(options.data)]},
    }
    write_metrics(out, document)
    write_samples(out, frame_rows(frames))
    images = [(frames.keys[i], frames.images[i]) for i in drawn if frames.images[i]]
    if images:
        draw_frames(images, out / PICTURES / PICTURE, f'{checkpoint.model_id} on {kind_of(options.data)}')
    return document


def _with_decoders(checkpoint: 'Checkpoint', options: FrameOptions) -> 'Checkpoint':
    """Return the checkpoint, or with --no-cross-attention one whose decoders get nothing from the encoder."""
    from m3et_ros.evaluation.tasks.reconstruction import without_context

    if options.cross_attention:
        return checkpoint
    return replace(checkpoint, model=without_context(checkpoint.model))


def _print_metrics(metrics: dict[str, Any], out: Path, unit: str) -> None:
    rows: list[tuple[str, ...]] = [('measure', 'value', '95 % interval')]

    def add(name: str, scores: dict[str, Any] | None, digits: int = 3) -> None:
        if scores and scores['value'] is not None:
            rows.append((name, f'{scores["value"]:.{digits}f}', format_interval(scores, digits)))

    hidden, full, colour = (metrics[name] for name in ('hidden', 'full', 'rgb_only'))
    add('PSNR of hidden patches, dB', hidden.get('psnr_hidden_db'), 2)
    add('PSNR of the image with visible patches pasted in, dB', hidden.get('psnr_pasted_db'), 2)
    for name, part in (('hidden patches', hidden), ('colour and noisy depth', full), ('colour alone', colour)):
        add(f'mIoU, {name}', part.get('segmentation', {}).get('miou'))
        add(f'depth RMSE, {name}, {unit}', part.get('depth', {}).get('rmse_m'))
    for name, scores in full.get('depth_in_holes', {}).items():
        if isinstance(scores, dict):
            add(f'depth RMSE in holes, {name.replace("_", " ")}, {unit}', scores['rmse_m'])
            add(f'reduction of the RMSE by the model, against {name.replace("_", " ")}', scores.get('model_below'))
    for size, ways in metrics.get('cut_holes', {}).get('rmse_m', {}).items():
        for name, scores in ways.items():
            if isinstance(scores, dict) and name != 'auto_below_navier_stokes':
                add(f'depth RMSE in cut holes of {float(size):.1%} of the width, {name.replace("_", " ")}, m', scores)
    print_table(rows, right=(1,))
    print_line(f'\n{metrics["frames"]:,} frames; all results are in {out}.')
