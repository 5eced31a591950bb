"""The picture of a demo: a row per moment, a column per image, and under each row what was asked, said and true."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

COLUMNS = ('colour, from the camera', 'depth, from the camera', 'depth, completed', 'segmentation')
DEPTH_COLOURS = 'viridis_r'
UNKNOWN_GREY = '#8c8c8c'
INK, FAINT = '#1d2430', '#77808c'
# Inches.
WIDTH, MARGIN, GAP, TOP, BOTTOM, LINE = 14.0, 0.35, 0.1, 1.12, 1.15, 0.215
DPI = 110
LEGEND_COLUMNS, LEGEND_ROWS = 3, 4


@dataclass(frozen=True)
class Caption:
    """One line of text under a row."""

    # What was asked.
    question: str = ''
    # The best answer and its probability, '' for none.
    answer: str = ''
    # What was anticipated, with its probability.
    anticipated: str = ''
    # What the simulator knows.
    truth: str = ''


@dataclass(frozen=True)
class PosterRow:
    """A row: one frame and everything that was made of it."""

    # Colour image (H, W, 3) uint8.
    rgb: np.ndarray
    # Depth of the camera in metres (H, W) float32, NaN unknown.
    measured: np.ndarray
    # Depth of the model in metres (H, W) float32, NaN unknown.
    completed: np.ndarray
    # Segmentation laid over the colour image, (H, W, 3) uint8.
    overlay: np.ndarray
    # Class ids (H, W) uint8, 255 unlabelled.
    mask: np.ndarray
    # Seconds since the first moment of the demo.
    seconds: float
    # Lines of text below.
    said: tuple[Caption, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """Everything on the picture."""

    title: str
    subtitle: str
    moments: tuple[PosterRow, ...]
    # Class id -> name and colour (R, G, B each in 0..1).
    classes: dict[int, tuple[str, tuple[float, float, float]]] = field(default_factory=dict)


def draw(sheet: Sheet, path: Path) -> None:
    """Write the picture as PNG.

    Raises:
        ValueError: there is no moment to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not sheet.moments:
        raise ValueError('the sheet has no moments; give at least one')
    layout = Layout.of(sheet.moments)
    figure = Figure(figsize=(WIDTH, layout.height), dpi=DPI, facecolor='white')
    FigureCanvasAgg(figure)
    span = _span(sheet.moments)
    _head(figure, layout, sheet)
    for row, moment in enumerate(sheet.moments):
        shown = _images(figure, layout, row, moment, span)
        _words(figure, layout, row, moment)
    _depth_bar(figure, layout, shown)
    _legend(figure, layout, sheet)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


@dataclass(frozen=True)
class Layout:
    """Where things stand, in inches from the lower left corner."""

    # Size of one image.
    column: float
    image: float
    # Height of a row with its text.
    row: float
    # Height of the whole.
    height: float

    @classmethod
    def of(cls, moments: Sequence[PosterRow]) -> 'Layout':
        """The layout of these rows; all images have the shape of the first."""
        height, width = moments[0].rgb.shape[:2]
        column = (WIDTH - 2 * MARGIN - (len(COLUMNS) - 1) * GAP) / len(COLUMNS)
        image = column * height / width
        row = image + LINE * max(len(moment.said) for moment in moments) + 0.32
        return cls(column, image, row, TOP + len(moments) * row + BOTTOM)

    def left(self, column: int) -> float:
        """Left edge of a column."""
        return MARGIN + column * (self.column + GAP)

    def top(self, row: int) -> float:
        """Upper edge of a row."""
        return self.height - TOP - row * self.row


def _axes(figure, layout: Layout, left: float, bottom: float, width: float, height: float):
    axes = figure.add_axes((left / WIDTH, bottom / layout.height, width / WIDTH, height / layout.height))
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _text(figure, layout: Layout, left: float, bottom: float, text: str, **style) -> None:
    figure.text(left / WIDTH, bottom / layout.height, text, **({'color': INK, 'fontsize': 9, 'va': 'baseline'} | style))


def _head(figure, layout: Layout, sheet: Sheet) -> None:
    _text(figure, layout, MARGIN, layout.height - 0.42, sheet.title, fontsize=16, fontweight='bold')
    _text(figure, layout, MARGIN, layout.height - 0.68, sheet.subtitle, fontsize=9.5, color=FAINT)
    for column, name in enumerate(COLUMNS):
        _text(figure, layout, layout.left(column), layout.height - TOP + 0.08, name, fontweight='bold', fontsize=9.5)


def _images(figure, layout: Layout, row: int, moment: PosterRow, span: tuple[float, float]):
    """Draw the four images of a row; returns a depth image, for the colour bar."""
    from matplotlib import colormaps

    colours, depth = colormaps[DEPTH_COLOURS].with_extremes(bad=UNKNOWN_GREY), None
    for column, pixels in enumerate((moment.rgb, moment.measured, moment.completed, moment.overlay)):
        axes = _axes(figure, layout, layout.left(column), layout.top(row) - layout.image, layout.column, layout.image)
        scale = {'cmap': colours, 'vmin': span[0], 'vmax': span[1]} if pixels.ndim == 2 else {}
        drawn = axes.imshow(pixels, aspect='auto', interpolation='antialiased', **scale)
        depth = drawn if scale else depth
    axes.text(
        0.99,
        0.02,
        f'{moment.seconds:.1f} s',
        transform=axes.transAxes,
        ha='right',
        va='bottom',
        fontsize=8,
        color='white',
        bbox={'facecolor': 'black', 'alpha': 0.55, 'linewidth': 0, 'pad': 2},
    )
    return depth


def _words(figure, layout: Layout, row: int, moment: PosterRow) -> None:
    for line, said in enumerate(moment.said):
        bottom = layout.top(row) - layout.image - LINE * (line + 1)
        cells = zip(
            (said.question, said.answer, said.anticipated, said.truth),
            ({'color': FAINT}, {'fontweight': 'bold'}, {}, {'color': FAINT}),
        )
        for column, (text, style) in enumerate(cells):
            _text(figure, layout, layout.left(column), bottom, text, **style)


def _depth_bar(figure, layout: Layout, shown) -> None:
    _text(figure, layout, layout.left(1), BOTTOM - 0.3, 'metres', fontsize=8.5, color=FAINT)
    axes = _axes(figure, layout, layout.left(1) + 0.6, BOTTOM - 0.32, layout.column * 1.5, 0.13)
    bar = figure.colorbar(shown, cax=axes, orientation='horizontal')
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=2, colors=FAINT)
    edge = layout.left(1) + 0.6 + layout.column * 1.5 + 0.2
    _swatch(figure, layout, edge, BOTTOM - 0.32, UNKNOWN_GREY, 'unknown')


def _swatch(figure, layout: Layout, left: float, bottom: float, colour, name: str) -> None:
    axes = _axes(figure, layout, left, bottom, 0.13, 0.13)
    axes.set_facecolor(colour)
    _text(figure, layout, left + 0.19, bottom + 0.015, name, fontsize=8.5)


def _legend(figure, layout: Layout, sheet: Sheet) -> None:
    """The classes that cover most of the masks, largest first."""
    counts = sum(np.bincount(moment.mask.ravel(), minlength=256) for moment in sheet.moments)
    present = [n for n in np.argsort(counts)[::-1] if counts[n] and n in sheet.classes]
    width = layout.column / LEGEND_COLUMNS
    for place, number in enumerate(present[: LEGEND_COLUMNS * LEGEND_ROWS]):
        row, column = divmod(place, LEGEND_COLUMNS)
        name, colour = sheet.classes[int(number)]
        _swatch(figure, layout, layout.left(3) + column * width, BOTTOM - 0.32 - 0.2 * row, colour, name)


def _span(moments: Sequence[PosterRow]) -> tuple[float, float]:
    """Ends of the depth scale in quarters of a metre; a hundredth of the known pixels at either end may lie outside."""
    known = np.concatenate(
        [depth[np.isfinite(depth)] for moment in moments for depth in (moment.measured, moment.completed)]
    )
    if not known.size:
        return 0.0, 1.0
    near, far = np.percentile(known, (1, 99))
    near = math.floor(near * 4) / 4
    return near, max(near + 0.25, math.ceil(far * 4) / 4)
