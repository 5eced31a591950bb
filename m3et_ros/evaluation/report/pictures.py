"""Contact sheets of an evaluation, to be looked at: frames and what was made of them, questions and their answers."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from m3et_ros.data.frame import UNLABELLED
from m3et_ros.data.kitchen.sim.vocabulary import CLASS_COLOURS, CLASSES
from m3et_ros.evaluation.tasks.vqa import Prediction

COLUMNS = {
    'rgb': 'colour',
    'masked': '70 % of tokens hidden',
    'rebuilt': 'colour, rebuilt',
    'measured': 'depth, noisy',
    'completed': 'depth, completed',
    'depth': 'depth, true',
    'said': 'segmentation',
    'labels': 'segmentation, true',
}
"""Images of dense.Frames and what stands above them, from left to right."""

ABREAST = 4
DEPTH_COLOURS, UNKNOWN_GREY = 'viridis_r', '#8c8c8c'
INK, FAINT, RIGHT, WRONG = '#1d2430', '#77808c', '#1a7f37', '#c0272d'
# Inches.
SIDE, GAP, TOP, BOTTOM, TEXT = 1.75, 0.06, 0.8, 0.95, 0.95
DPI = 100
LEGEND_COLUMNS = 8


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` places in 0..count - 1, evenly apart."""
    return sorted(set(np.linspace(0, count - 1, min(count, wanted)).round().astype(int).tolist()))


def draw_frames(frames: Sequence[tuple[str, Mapping[str, np.ndarray]]], path: Path, title: str) -> None:
    """Write one row for each frame as PNG.

    Args:
        frames: key and images of each, see dense.Frames; an image that a model does not make is left out.
        path: where to.
        title: what stands above all.

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


def draw_replies(replies: Sequence[tuple[Prediction, np.ndarray]], path: Path, title: str) -> None:
    """Write questions with their pictures (H, W, 3) uint8 as PNG, what was said in green or red.

    Raises:
        ValueError: there are no replies.
    """
    if not replies:
        raise ValueError('there are no replies to draw; give at least one')
    side, rows = 2 * SIDE, math.ceil(len(replies) / ABREAST)
    height = TOP + rows * (side + TEXT)
    figure = _figure(0.2 + ABREAST * (side + 0.15), height, title)
    for place, (reply, picture) in enumerate(replies):
        row, column = divmod(place, ABREAST)
        left, bottom = 0.2 + column * (side + 0.15), height - TOP + 0.25 - row * (side + TEXT) - side
        _axes(figure, left, bottom, side, side).imshow(picture, interpolation='nearest')
        question = '\n'.join(textwrap.wrap(reply.question, 46)[:2])
        _text(figure, left, bottom - 0.06, question, va='top', fontsize=9)
        said = f'{reply.predicted} ({reply.confidence:.0%})'
        said += '' if reply.written is None else f', written: {reply.written or "nothing"}'
        _text(
            figure,
            left,
            bottom - 0.42,
            said,
            va='top',
            fontsize=9,
            fontweight='bold',
            color=RIGHT if reply.score else WRONG,
        )
        _text(
            figure,
            left,
            bottom - 0.58,
            f'true: {reply.answer}   ({reply.family}, {reply.key})',
            va='top',
            fontsize=8,
            color=FAINT,
        )
    _save(figure, path)


def choose_replies(replies: Sequence[Prediction], wanted: int = 16) -> list[Prediction]:
    """Right and wrong replies, as near to half and half as there are, each from as many families as possible."""
    right, wrong = (_varied([reply for reply in replies if bool(reply.score) is good]) for good in (True, False))
    half = min(len(wrong), max(wanted // 2, wanted - len(right)))
    return right[: wanted - half] + wrong[:half]


def _varied(replies: Sequence[Prediction]) -> list[Prediction]:
    """The first reply of each family, then the second of each, and so on."""
    met: dict[str, int] = {}
    turns = []
    for reply in replies:
        turns.append(met.get(reply.family, 0))
        met[reply.family] = turns[-1] + 1
    return [replies[i] for i in sorted(range(len(replies)), key=lambda i: turns[i])]


def _figure(width: float, height: float, title: str):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor='white')
    FigureCanvasAgg(figure)
    _text(figure, 0.2, height - 0.35, title, fontsize=13, fontweight='bold')
    return figure


def _save(figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _text(figure, left: float, bottom: float, text: str, **style) -> None:
    width, height = figure.get_size_inches()
    figure.text(left / width, bottom / height, text, **({'color': INK, 'va': 'baseline'} | style))


def _axes(figure, left: float, bottom: float, width: float, height: float):
    whole, high = figure.get_size_inches()
    axes = figure.add_axes((left / whole, bottom / high, width / whole, height / high))
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _image(axes, name: str, image: np.ndarray, span: tuple[float, float]) -> None:
    from matplotlib import colormaps

    if name in ('said', 'labels'):
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


def _depth_bar(figure, left: float, span: tuple[float, float]) -> None:
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


def _legend(figure, masks: Sequence[np.ndarray]) -> None:
    """The classes that cover most of the true label maps, largest first, in two lines."""
    counts = sum((np.bincount(mask.ravel(), minlength=256) for mask in masks), np.zeros(256, int))
    present = [i for i in np.argsort(-counts, kind='stable') if counts[i] and i != UNLABELLED]
    for place, number in enumerate(present[: 2 * LEGEND_COLUMNS]):
        row, column = divmod(place, LEGEND_COLUMNS)
        left, bottom = 0.4 + column * 1.05, 0.32 - 0.2 * row
        _axes(figure, left, bottom, 0.13, 0.13).set_facecolor(np.array(CLASS_COLOURS[number]) / 255)
        _text(figure, left + 0.18, bottom + 0.015, CLASSES[number], fontsize=8)


def _span(frames: Sequence[Mapping[str, np.ndarray]]) -> tuple[float, float]:
    """Ends of the depth scale: the truth less a hundredth of its pixels at either end."""
    known = np.concatenate(
        [images['depth'][np.isfinite(images['depth'])] for images in frames if 'depth' in images] or [np.zeros(0)]
    )
    if not known.size:
        return 0.0, 1.0
    near, far = np.percentile(known, (1, 99))
    return float(near), float(max(far, near + 0.25))
