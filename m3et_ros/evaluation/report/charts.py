"""Charts of a report as SVG: scores of categories with their intervals, and times."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from m3et_ros.data.errors import printable

BARS = ('#2f6fb2', '#d9822b')
INK, GUESS = '#1d2430', ('#b3261e', '#6f42c1', '#1a7f37', '#57606a')
WIDTH = 9.6
BINS = 40


def category_bars(
    parts: Sequence[tuple[str, Sequence[Mapping[str, Any]]]],
    names: Sequence[str],
    guesses: Mapping[str, Sequence[float]] | None = None,
    what: str = 'exact match',
) -> str:
    """Draw horizontal bars of shares in per cent, one for each run, by category.

    Args:
        parts: category and, for each run, its value, low and high in 0..1; low and high may be None.
        names: names of the runs.
        guesses: blind baseline to its value for each category, drawn as marks.
        what: name of the share, for the axis.

    Returns:
        An SVG element.

    Raises:
        ValueError: there are no categories.
    """
    if not parts:
        raise ValueError('there is nothing to draw; give at least one category')
    figure = _figure(0.9 + 0.5 * len(parts))
    axes = figure.subplots()
    rows, thickness = np.arange(len(parts))[::-1], 0.72 / len(names)
    for number, name in enumerate(names):
        scores = [of_runs[number] for _, of_runs in parts]
        y = rows + 0.36 - thickness * (number + 0.5)
        values = [100 * score['value'] for score in scores]
        axes.barh(y, values, thickness * 0.92, color=BARS[number % 2], label=_label(name), zorder=2)
        for at, score in zip(y, scores, strict=True):
            if score['low'] is not None:
                axes.plot([100 * score['low'], 100 * score['high']], [at, at], color=INK, linewidth=1.2, zorder=3)
    for number, (name, values) in enumerate((guesses or {}).items()):
        axes.plot(
            [100 * value for value in values],
            rows,
            linestyle='none',
            marker='|',
            markersize=17,
            markeredgewidth=2,
            color=GUESS[number % len(GUESS)],
            label=_label(f'guessing: {name}'),
            zorder=4,
        )
    axes.set_yticks(rows, [_label(name) for name, _ in parts])
    axes.set_xlim(0, 100)
    axes.set_xlabel(f'{what}, %')
    axes.grid(axis='x', color='#e6eaee', zorder=0)
    axes.legend(loc='upper left', bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)
    return _svg(figure)


def time_histogram(milliseconds: Sequence[float], what: str) -> str:
    """Draw a histogram of times; the slowest hundredth is drawn at the right end.

    Args:
        milliseconds: at least one time, not negative.
        what: description of the times, for the axis.

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


def _label(text: str) -> str:
    """Return a word of a data set as matplotlib draws it: a dollar begins no formula, nothing breaks the line."""
    return printable(text).replace('$', r'\$')


def _figure(height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure((WIDTH, height), layout='constrained')


def _svg(figure: Any) -> str:
    """Return a figure as an SVG element, with text as paths so that it looks the same everywhere."""
    import matplotlib

    for axes in figure.axes:
        axes.spines[['top', 'right']].set_visible(False)
        axes.tick_params(colors=INK)
    out = io.StringIO()
    with matplotlib.rc_context({'svg.hashsalt': 'm3et', 'svg.fonttype': 'path'}):
        figure.savefig(out, format='svg', metadata={'Date': None, 'Creator': None})
    return re.sub(r'^.*?(?=<svg)', '', out.getvalue(), flags=re.DOTALL)
