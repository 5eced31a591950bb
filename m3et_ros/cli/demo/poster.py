"""The poster of a demo: a row for each moment, a column for each image, and captions below each row."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

COLUMNS = ('colour, from the camera', 'depth, from the camera', 'depth, completed', 'segmentation')
DEPTH_COLOURS = 'viridis_r'
UNKNOWN = '#ff4fa3'
INK, FAINT, RIGHT, WRONG = '#1d2430', '#77808c', '#1a7f37', '#c62828'
MARKS = {True: ('\N{CHECK MARK}', RIGHT), False: ('\N{BALLOT X}', WRONG), None: ('', INK)}
"""Mark and colour of an answer that is right, wrong, or has no truth to compare with."""
# Inches.
WIDTH, MARGIN, GAP, TOP, BOTTOM, LINE = 14.0, 0.35, 0.1, 1.12, 1.15, 0.215
DPI = 110
LEGEND_COLUMNS, LEGEND_ROWS = 3, 4


@dataclass(frozen=True)
class Caption:
    """One line of text below a row; '' leaves a column empty."""

    question: str = ''
    # The best answer and its probability.
    answer: str = ''
    # Whether that is right, and the true answer; None and '' where there is no true one.
    right: bool | None = None
    true_answer: str = ''
    # The anticipated action and its probability.
    anticipated: str = ''
    # Whether that is right; None where it is not known.
    expected: bool | None = None
    # The action in the simulator.
    truth: str = ''


@dataclass(frozen=True)
class PosterRow:
    """A row: one frame and its results."""

    # Colour image (H, W, 3) uint8.
    rgb: np.ndarray
    # Depth of the camera in metres (H, W) float32, NaN unknown.
    measured: np.ndarray
    # Depth of the model in metres (H, W) float32, NaN unknown.
    completed: np.ndarray
    # Segmentation over the colour image, (H, W, 3) uint8.
    overlay: np.ndarray
    # Class ids (H, W) uint8, 255 unlabelled.
    mask: np.ndarray
    # Seconds since the first moment of the demo.
    seconds: float
    captions: tuple[Caption, ...] = ()


@dataclass(frozen=True)
class Poster:
    """Everything on the poster."""

    title: str
    subtitle: str
    rows: tuple[PosterRow, ...]
    # Class id -> name and colour (R, G, B each in 0..1).
    classes: dict[int, tuple[str, tuple[float, float, float]]] = field(default_factory=dict)


def draw(poster: Poster, path: Path) -> None:
    """Write a poster as PNG.

    Args:
        poster: content of the poster.
        path: file to write; its folder is made.

    Raises:
        ValueError: the poster has no rows.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not poster.rows:
        raise ValueError('the poster has no rows; give at least one')
    layout = Layout.of(poster.rows)
    figure = Figure(figsize=(WIDTH, layout.height), dpi=DPI, facecolor='white')
    FigureCanvasAgg(figure)
    scale = _depth_scale(poster.rows)
    _draw_head(figure, layout, poster)
    for number, row in enumerate(poster.rows):
        depth_image = _draw_images(figure, layout, number, row, scale)
        _draw_captions(figure, layout, number, row)
    _draw_depth_bar(figure, layout, depth_image)
    for line, (right, meaning) in enumerate(
        ((True, 'right'), (False, 'wrong'), (None, 'no mark: the picture cannot tell'))
    ):
        mark, colour = MARKS[right]
        bottom = BOTTOM - 0.3 - 0.2 * line
        _text(figure, layout, MARGIN, bottom, mark, color=colour, fontweight='bold', fontsize=10)
        _text(figure, layout, MARGIN + 0.19 * bool(mark), bottom, meaning, fontsize=8.5, color=FAINT)
    _draw_legend(figure, layout, poster)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


@dataclass(frozen=True)
class Layout:
    """Positions and sizes in inches, from the lower left corner."""

    # Width and height of one image.
    column: float
    image: float
    # Height of a row with its captions.
    row: float
    # Height of the poster.
    height: float

    @classmethod
    def of(cls, rows: Sequence[PosterRow]) -> 'Layout':
        """Return the layout of rows whose images all have the shape of the first."""
        height, width = rows[0].rgb.shape[:2]
        column = (WIDTH - 2 * MARGIN - (len(COLUMNS) - 1) * GAP) / len(COLUMNS)
        image = column * height / width
        height_of_row = image + LINE * max(len(row.captions) for row in rows) + 0.32
        return cls(column, image, height_of_row, TOP + len(rows) * height_of_row + BOTTOM)

    def left(self, column: int) -> float:
        """Return the left edge of a column."""
        return MARGIN + column * (self.column + GAP)

    def top(self, row: int) -> float:
        """Return the upper edge of a row."""
        return self.height - TOP - row * self.row


def _axes(figure, layout: Layout, left: float, bottom: float, width: float, height: float):
    axes = figure.add_axes((left / WIDTH, bottom / layout.height, width / WIDTH, height / layout.height))
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _text(figure, layout: Layout, left: float, bottom: float, text: str, room: float = WIDTH, **style) -> None:
    """Draw a line of text, smaller if it is wider than `room` inches."""
    style = {'color': INK, 'fontsize': 9, 'va': 'baseline'} | style
    drawn = figure.text(left / WIDTH, bottom / layout.height, text, **style)
    wide = drawn.get_window_extent(figure.canvas.get_renderer()).width / figure.dpi
    if wide > room:
        drawn.set_fontsize(style['fontsize'] * room / wide)


def _draw_head(figure, layout: Layout, poster: Poster) -> None:
    _text(figure, layout, MARGIN, layout.height - 0.42, poster.title, fontsize=16, fontweight='bold')
    _text(figure, layout, MARGIN, layout.height - 0.68, poster.subtitle, fontsize=9.5, color=FAINT)
    for column, name in enumerate(COLUMNS):
        _text(figure, layout, layout.left(column), layout.height - TOP + 0.08, name, fontweight='bold', fontsize=9.5)


def _draw_images(figure, layout: Layout, number: int, row: PosterRow, span: tuple[float, float]):
    """Draw the four images of a row and return a depth image, for the colour bar."""
    from matplotlib import colormaps

    colours, depth = colormaps[DEPTH_COLOURS].with_extremes(bad=UNKNOWN), None
    for column, pixels in enumerate((row.rgb, row.measured, row.completed, row.overlay)):
        axes = _axes(
            figure, layout, layout.left(column), layout.top(number) - layout.image, layout.column, layout.image
        )
        scale = {'cmap': colours, 'vmin': span[0], 'vmax': span[1]} if pixels.ndim == 2 else {}
        drawn = axes.imshow(pixels, aspect='auto', interpolation='antialiased', **scale)
        depth = drawn if scale else depth
    axes.text(
        0.99,
        0.02,
        f'{row.seconds:.1f} s',
        transform=axes.transAxes,
        ha='right',
        va='bottom',
        fontsize=8,
        color='white',
        bbox={'facecolor': 'black', 'alpha': 0.55, 'linewidth': 0, 'pad': 2},
    )
    return depth


def _draw_captions(figure, layout: Layout, number: int, row: PosterRow) -> None:
    for line, caption in enumerate(row.captions):
        bottom = layout.top(number) - layout.image - LINE * (line + 1)
        answer = caption.answer
        if caption.right is False:
            answer += f'   (in truth: {caption.true_answer})'
        cells = (
            (caption.question, None, {'color': FAINT}),
            (answer, caption.right, {'fontweight': 'bold'}),
            (caption.anticipated, caption.expected, {}),
            (caption.truth, None, {'color': FAINT}),
        )
        for column, (text, right, style) in enumerate(cells):
            mark, colour = MARKS[right]
            left, room = layout.left(column), layout.column
            if mark:
                _text(figure, layout, left, bottom, mark, color=colour, fontweight='bold', fontsize=11)
                left, room = left + 0.2, room - 0.2
            _text(figure, layout, left, bottom, text, room, **({'color': colour} | style))


def _draw_depth_bar(figure, layout: Layout, depth_image) -> None:
    _text(figure, layout, layout.left(1), BOTTOM - 0.3, 'metres', fontsize=8.5, color=FAINT)
    axes = _axes(figure, layout, layout.left(1) + 0.6, BOTTOM - 0.32, layout.column * 1.5, 0.13)
    bar = figure.colorbar(depth_image, cax=axes, orientation='horizontal')
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=2, colors=FAINT)
    edge = layout.left(1) + 0.6 + layout.column * 1.5 + 0.2
    _draw_swatch(figure, layout, edge, BOTTOM - 0.32, UNKNOWN, 'unknown')


def _draw_swatch(figure, layout: Layout, left: float, bottom: float, colour, name: str, room: float = WIDTH) -> None:
    axes = _axes(figure, layout, left, bottom, 0.13, 0.13)
    axes.set_facecolor(colour)
    _text(figure, layout, left + 0.19, bottom + 0.015, name, room - 0.19, fontsize=8.5)


def _draw_legend(figure, layout: Layout, poster: Poster) -> None:
    """Draw the classes that cover most of the masks, largest first."""
    counts = sum(np.bincount(row.mask.ravel(), minlength=256) for row in poster.rows)
    present = [n for n in np.argsort(counts)[::-1] if counts[n] and n in poster.classes]
    width = layout.column / LEGEND_COLUMNS
    for index, class_id in enumerate(present[: LEGEND_COLUMNS * LEGEND_ROWS]):
        row, column = divmod(index, LEGEND_COLUMNS)
        name, colour = poster.classes[int(class_id)]
        left = layout.left(3) + column * width
        _draw_swatch(figure, layout, left, BOTTOM - 0.32 - 0.2 * row, colour, name, width - 0.05)


def _depth_scale(rows: Sequence[PosterRow]) -> tuple[float, float]:
    """Return the ends of the depth scale in whole quarters of a metre, from the 1st and 99th percentile of depth."""
    known = np.concatenate([depth[np.isfinite(depth)] for row in rows for depth in (row.measured, row.completed)])
    if not known.size:
        return 0.0, 1.0
    near, far = np.percentile(known, (1, 99))
    near = math.floor(near * 4) / 4
    return near, max(near + 0.25, math.ceil(far * 4) / 4)
