"""Charts: their texts as drawn, the same bytes twice, and bars in the colours of the runs."""

import re

import pytest
from matplotlib.figure import Figure

from m3et_ros.evaluation.report import charts
from m3et_ros.evaluation.report.charts import BARS, GUESS, INK, category_bars, time_histogram

BARS_OF_TWO = [
    ('all', [{'value': 0.5, 'low': 0.4, 'high': 0.6}, {'value': 0.25, 'low': None, 'high': None}]),
    ('x & <y>', [{'value': 0.125, 'low': None, 'high': None}, {'value': 1, 'low': 0.9, 'high': 1}]),
]


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, so that their parts can be read."""
    made = []
    original = charts._svg
    monkeypatch.setattr(charts, '_svg', lambda figure: (made.append(figure), original(figure))[1])
    return made


def test_each_run_has_its_bars_intervals_and_name(figures):
    text = category_bars(BARS_OF_TWO, ['one', 'two'], {'majority': [0.1, 0.2]}, what='actions right')
    (figure,) = figures
    assert isinstance(figure, Figure) and text.startswith('<svg') and text.rstrip().endswith('</svg>')
    (axes,) = figure.axes
    assert axes.get_xlabel() == 'actions right, %' and axes.get_xlim() == (0, 100)
    assert [label.get_text() for label in axes.get_yticklabels()] == ['all', 'x & <y>']
    assert [[bar.get_width() for bar in bars] for bars in axes.containers] == [[50, 12.5], [25, 100]]
    assert [bars.get_label() for bars in axes.containers] == ['one', 'two']
    intervals = [list(line.get_xdata()) for line in axes.lines]
    assert intervals[:2] == [[40, 60], [90, 100]] and intervals[2] == [10, 20]
    assert axes.lines[2].get_label() == 'guessing: majority'
    assert all(colour in text for colour in (*BARS, INK, GUESS[0]))
    # The first category is on top, and the first run is above the second.
    (first, _), (second, _) = ([bar.get_y() for bar in bars] for bars in axes.containers)
    assert first > second and axes.containers[0][0].get_y() > axes.containers[0][1].get_y()


def test_charts_are_the_same_twice_and_load_nothing():
    one, two = (category_bars(BARS_OF_TWO, ['one', 'two']) for _ in range(2))
    assert one == two and not re.search(r'href="(?!#)', one)
    assert time_histogram([1.0, 2.0], 'time') == time_histogram([1.0, 2.0], 'time')


def test_a_histogram_shows_median_and_slow_times(figures):
    assert time_histogram([float(n) for n in range(101)], 'time of a frame').startswith('<svg')
    (axes,) = figures[0].axes
    assert axes.get_xlabel() == 'time of a frame, ms' and axes.get_ylabel() == 'count'
    assert [line.get_label() for line in axes.lines] == ['50 % below 50.0 ms', '95 % below 95.0 ms']
    assert sum(bar.get_height() for bar in axes.patches) == 101


def test_times_of_zero_can_be_drawn():
    assert time_histogram([0.0], 'time').startswith('<svg')


def test_a_chart_of_nothing_is_refused():
    for call in (lambda: category_bars([], ['one']), lambda: time_histogram([], 'time')):
        with pytest.raises(ValueError, match='at least one'):
            call()


def test_words_of_a_data_set_are_no_formulas_and_break_no_line(figures):
    """An unknown command between two dollars would end the report with an error of matplotlib."""
    part = {'value': 0.5, 'low': None, 'high': None}
    category_bars([('$\\frac{$', [part]), ('a\nb', [part])], ['$\\x$'], {'$\\y$': [0.5, 0.5]})
    (axes,) = figures[0].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ['\\$\\frac{\\$', 'a\\nb']
    assert axes.containers[0].get_label() == '\\$\\x\\$' and axes.lines[0].get_label() == 'guessing: \\$\\y\\$'
