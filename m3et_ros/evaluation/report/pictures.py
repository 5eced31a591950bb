"""Contact sheets of an evaluation: frames with their reconstructions, and questions with their answers."""

import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from m3et_ros.data.frame import UNLABELLED
from m3et_ros.data.kitchen.sim.vocabulary import CLASS_COLOURS, CLASSES
from m3et_ros.evaluation.predictions import Prediction

COLUMNS = {
    'rgb': 'colour',
    'masked': '70 % of tokens hidden',
    'rebuilt': 'colour, rebuilt',
    'measured': 'depth, noisy',
    'completed': 'depth, completed',
    'depth': 'depth, true',
    'predicted': 'segmentation',
    'labels': 'segmentation, true',
}
"""Images of tasks.reconstruction.Frames and the titles of their columns, from left to right."""

ABREAST = 4
DEPTH_COLOURS, UNKNOWN_GREY = 'viridis_r', '#8c8c8c'
INK, FAINT, RIGHT, WRONG = '#1d2430', '#77808c', '#1a7f37', '#c0272d'
# Inches.
SIDE, GAP, TOP, BOTTOM, TEXT = 1.75, 0.06, 0.8, 0.95, 0.95
DPI = 100
LEGEND_COLUMNS = 8


def draw_frames(frames: Sequence[tuple[str, Mapping[str, np.ndarray]]], path: Path, title: str) -> None:
    """Draw one row of images for each frame.

    Args:
        frames: key and images of each frame, see tasks.reconstruction.Frames; images may be missing.
        path: PNG file to write.
        title: title of the sheet.

    Raises:
        ValueError: there are no frames.
    """
    if not frames:
        raise ValueError('there are no frames to draw; give at least one')
    shown = [name for name in COLUMNS if name in frames[0][1]]
    width, height = 0.4 + len(shown) * (SIDE + GAP), TOP + len(frames) * (SIDE + GAP) + BOTTOM
    figure = _figure(width, height, title)
    span = _span([images for _, images in frames])
    for row, (key, images) in enumerate(frames):
        bottom = height - TOP - (row + 1) * (SIDE + GAP)
        _text(figure, 0.2, bottom + SIDE / 2, key, rotation=90, ha='center', va='center', fontsize=7.5, color=FAINT)
        for column, name in enumerate(shown):
            left = 0.4 + column * (SIDE + GAP)
            if row == 0:
                _text(figure, left, height - TOP + 0.08, COLUMNS[name], fontsize=9, fontweight='bold')
            _image(_axes(figure, left, bottom, SIDE, SIDE), name, images[name], span)
    if 'depth' in shown:
        _depth_bar(figure, 0.4 + shown.index('depth') * (SIDE + GAP), span)
    _legend(figure, [images['labels'] for _, images in frames if 'labels' in images])
    _save(figure, path)


def draw_predictions(predictions: Sequence[tuple[Prediction, np.ndarray]], path: Path, title: str) -> None:
    """Draw questions with their images and answers, right ones in green and wrong ones in red.

    Args:
        predictions: each prediction with its image (H, W, 3) uint8.
        path: PNG file to write.
        title: title of the sheet.

    Raises:
        ValueError: there are no predictions.
    """
    if not predictions:
        raise ValueError('there are no predictions to draw; give at least one')
    side, rows = 2 * SIDE, math.ceil(len(predictions) / ABREAST)
    height = TOP + rows * (side + TEXT)
    figure = _figure(0.2 + ABREAST * (side + 0.15), height, title)
    for place, (prediction, image) in enumerate(predictions):
        row, column = divmod(place, ABREAST)
        left, bottom = 0.2 + column * (side + 0.15), height - TOP + 0.25 - row * (side + TEXT) - side
        _axes(figure, left, bottom, side, side).imshow(image, interpolation='nearest')
        question = '\n'.join(textwrap.wrap(prediction.question, 46)[:2])
        sure = '' if prediction.confidence is None else f' ({prediction.confidence:.0%})'
        answer = f'{prediction.predicted}{sure}'
        if prediction.written is not None:
            answer += f', written: {prediction.written or "nothing"}'
        colour = RIGHT if prediction.score else WRONG
        truth = f'true: {prediction.answer}   ({prediction.family}, {prediction.key})'
        _text(figure, left, bottom - 0.06, question, va='top', fontsize=9)
        _text(figure, left, bottom - 0.42, answer, va='top', fontsize=9, fontweight='bold', color=colour)
        _text(figure, left, bottom - 0.58, truth, va='top', fontsize=8, color=FAINT)
    _save(figure, path)


def choose_predictions(predictions: Sequence[Prediction], wanted: int = 16) -> list[Prediction]:
    """Choose right and wrong predictions, as near to half and half as possible, each from many families."""
    right = _by_turns([prediction for prediction in predictions if prediction.score])
    wrong = _by_turns([prediction for prediction in predictions if not prediction.score])
    half = min(len(wrong), max(wanted // 2, wanted - len(right)))
    return right[: wanted - half] + wrong[:half]


def _by_turns(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Order predictions: the first of each family, then the second of each, and so on."""
    counts: Counter[str] = Counter()
    turns = []
    for prediction in predictions:
        turns.append(counts[prediction.family])
        counts[prediction.family] += 1
    return [predictions[i] for i in sorted(range(len(predictions)), key=lambda i: turns[i])]


def _figure(width: float, height: float, title: str) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor='white')
    FigureCanvasAgg(figure)
    _text(figure, 0.2, height - 0.35, title, fontsize=13, fontweight='bold')
    return figure


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _text(figure: Any, left: float, bottom: float, text: str, **style: Any) -> None:
    width, height = figure.get_size_inches()
    figure.text(left / width, bottom / height, text, **({'color': INK, 'va': 'baseline'} | style))


def _axes(figure: Any, left: float, bottom: float, width: float, height: float) -> Any:
    whole, high = figure.get_size_inches()
    axes = figure.add_axes((left / whole, bottom / high, width / whole, height / high))
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _image(axes: Any, name: str, image: np.ndarray, span: tuple[float, float]) -> None:
    from matplotlib import colormaps

    if name in ('predicted', 'labels'):
        colours = np.full((256, 3), 255, np.uint8)
        colours[: len(CLASS_COLOURS)] = CLASS_COLOURS
        axes.imshow(colours[image.astype(np.uint8)], interpolation='nearest')
    elif image.ndim == 2:
        axes.imshow(
            image,
            cmap=colormaps[DEPTH_COLOURS].with_extremes(bad=UNKNOWN_GREY),
            vmin=span[0],
            vmax=span[1],
            interpolation='nearest',
        )
    else:
        axes.imshow(image.clip(0, 1), interpolation='nearest')


def _depth_bar(figure: Any, left: float, span: tuple[float, float]) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    axes = _axes(figure, left, BOTTOM - 0.22, SIDE, 0.12)
    bar = figure.colorbar(
        ScalarMappable(Normalize(*span), colormaps[DEPTH_COLOURS]), cax=axes, orientation='horizontal'
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=2, colors=FAINT)
    _text(figure, left, BOTTOM - 0.52, 'metres; grey: unknown', fontsize=7.5, color=FAINT)


def _legend(figure: Any, masks: Sequence[np.ndarray]) -> None:
    """Draw the classes that cover most of the true label maps, largest first, in two lines."""
    counts = sum((np.bincount(mask.ravel(), minlength=256) for mask in masks), np.zeros(256, int))
    present = [i for i in np.argsort(-counts, kind='stable') if counts[i] and i != UNLABELLED]
    for place, number in enumerate(present[: 2 * LEGEND_COLUMNS]):
        row, column = divmod(place, LEGEND_COLUMNS)
        left, bottom = 0.4 + column * 1.05, 0.32 - 0.2 * row
        _axes(figure, left, bottom, 0.13, 0.13).set_facecolor(np.array(CLASS_COLOURS[number]) / 255)
        _text(figure, left + 0.18, bottom + 0.015, CLASSES[number], fontsize=8)


def _span(frames: Sequence[Mapping[str, np.ndarray]]) -> tuple[float, float]:
    """Return the ends of the depth scale: the 1st and the 99th percentile of the true depth."""
    known = np.concatenate(
        [images['depth'][np.isfinite(images['depth'])] for images in frames if 'depth' in images] or [np.zeros(0)]
    )
    if not known.size:
        return 0.0, 1.0
    near, far = np.percentile(known, (1, 99))
    return float(near), float(max(far, near + 0.25))
