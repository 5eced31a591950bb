"""Charts of a report as SVG, to stand in a page: scores of categories with their intervals, and times."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

BARS = ('#2f6fb2', '#d9822b')
INK, FAINT, GUESS = '#1d2430', '#8a939d', ('#b3261e', '#6f42c1', '#1a7f37', '#57606a')
WIDTH = 9.6
BINS = 40


def category_bars(
    parts: Sequence[tuple[str, Sequence[Mapping[str, Any]]]],
    names: Sequence[str],
    guesses: Mapping[str, Sequence[float]] | None = None,
    what: str = 'exact match',
) -> str:
    """Horizontal bars of shares in per cent, several runs beside one another.

    Args:
        parts: category and, for each run, its value, low and high in 0..1; low and high may be None.
        names: of the runs.
        guesses: line to its value for each category, drawn as marks.
        what: the share that is drawn.

    Returns:
        An SVG element.

    Raises:
        ValueError: there are no categories.
    """
    if not parts:
        raise ValueError('there is nothing to draw; give at least one category')
    figure = _figure(0.9 + 0.5 * len(parts))
    axes = figure.subplots()
    places, thick = np.arange(len(parts))[::-1], 0.72 / len(names)
    for number, name in enumerate(names):
        rows = [scores[number] for _, scores in parts]
        at = places + 0.36 - thick * (number + 0.5)
        axes.barh(at, [100 * row['value'] for row in rows], thick * 0.92, color=BARS[number % 2], label=name, zorder=2)
        for y, row in zip(at, rows):
            if row['low'] is not None:
                axes.plot([100 * row['low'], 100 * row['high']], [y, y], color=INK, linewidth=1.2, zorder=3)
    for number, (name, values) in enumerate((guesses or {}).items()):
        axes.plot(
            [100 * value for value in values],
            places,
            linestyle='none',
            marker='|',
            markersize=17,
            markeredgewidth=2,
            color=GUESS[number % len(GUESS)],
            label=f'guessing: {name}',
            zorder=4,
        )
    axes.set_yticks(places, [name for name, _ in parts])
    axes.set_xlim(0, 100)
    axes.set_xlabel(f'{what}, %')
    axes.grid(axis='x', color='#e6eaee', zorder=0)
    axes.legend(loc='upper left', bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)
    return _svg(figure)


def time_histogram(milliseconds: Sequence[float], what: str) -> str:
    """How often something took how long; the slowest hundredth is drawn at the right end.

    Args:
        milliseconds: at least one, not negative.
        what: what was timed, for the axis.

    Returns:
        An SVG element.

    Raises:
        ValueError: there are no times.
    """
    times = np.asarray(milliseconds, dtype=np.float64)
    if not times.size:
        raise ValueError('there are no times to draw; give at least one')
    figure = _figure(2.6)
    axes = figure.subplots()
    end = float(np.percentile(times, 99)) * 1.05 or 1.0
    axes.hist(times.clip(max=end), bins=BINS, range=(0, end), color=BARS[0], zorder=2)
    for share, style in ((50, '-'), (95, '--')):
        value = float(np.percentile(times, share))
        axes.axvline(value, color=INK, linestyle=style, linewidth=1, label=f'{share} % below {value:.1f} ms', zorder=3)
    axes.set_xlabel(f'{what}, ms')
    axes.set_ylabel('count')
    axes.grid(axis='y', color='#e6eaee', zorder=0)
    axes.legend(loc='upper left', bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)
    return _svg(figure)


def _figure(height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure((WIDTH, height), layout='constrained')


def _svg(figure: Any) -> str:
    """The figure as an SVG element, letters as shapes so that it looks alike everywhere."""
    import matplotlib

    for axes in figure.axes:
        axes.spines[['top', 'right']].set_visible(False)
        axes.tick_params(colors=INK)
    out = io.StringIO()
    with matplotlib.rc_context({'svg.hashsalt': 'm3et', 'svg.fonttype': 'path'}):
        figure.savefig(out, format='svg', metadata={'Date': None, 'Creator': None})
    return re.sub(r'^.*?(?=<svg)', '', out.getvalue(), flags=re.DOTALL)
