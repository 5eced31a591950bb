"""The report on actions: one file that loads nothing, escapes texts, and shows every segment with its own values."""

import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from m3et_ros.data.epic.annotations import Segment
from m3et_ros.evaluation.jobs import times_of
from m3et_ros.evaluation.report.actions_html import best_and_worst, write_action_report
from m3et_ros.evaluation.tasks.actions_results import SegmentPrediction, SegmentResult
from m3et_ros.runtime.results import Ranked

MADE_BY = {
    'command': 'm3et evaluate actions a b',
    'settings': {'rate_hz': 2.5},
    'environment': {'torch': '2.13'},
    'model': {'id': 'tiny@1', 'trained': False, 'weights_sha256': 'ab' * 32},
    'segments': [{'name': 's.csv', 'sha256': 'cd' * 32}],
}


class Links(HTMLParser):
    """The elements of a page and the addresses that it loads."""

    def __init__(self):
        super().__init__()
        self.elements, self.links = [], []

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)
        self.links += [value for name, value in attributes if name in ('src', 'href', 'xlink:href')]


@pytest.fixture(scope='module')
def page(action_run):
    folder, _, _, results, found = action_run
    path = write_action_report(folder, found.document(MADE_BY), found, times_of(results), results)
    return path.read_text()


def test_the_page_loads_nothing_and_runs_nothing(page):
    links = Links()
    links.feed(page)
    assert 'script' not in links.elements and '&lt;script&gt;' in page
    assert sum(link.startswith('data:image/jpeg;base64,') for link in links.links) == 4
    assert all(link.startswith(('data:image/jpeg;base64,', '#')) for link in links.links)


def test_the_page_names_model_bags_and_checksums(page):
    text = re.sub(r'\s+', ' ', page)
    for words in (
        'The action under way',
        'as the robot asks',
        'c is left out',
        'The weights are random',
        'ab' * 32,
        'cd' * 32,
        'times real',
        '22 frames were encoded',
        'm3et evaluate actions a b',
    ):
        assert words in text, words


def test_each_recognised_segment_is_shown_with_its_own_values(action_run, page):
    found, text = action_run[4], re.sub(r'\s+', ' ', page)
    for row in found.rows:
        segment, recognition = row.labelled.segment, row.predictions.get('recognition')
        line = f'{segment.narration_id}, {segment.video}, {segment.start_s:.2f} to {segment.stop_s:.2f} s, asked at '
        if recognition is None:
            assert line not in text
            continue
        assert f'{line}{recognition.asked_at_s:.2f} s' in text
        assert f'<b>{found.labels.verbs[row.labelled.verb]} {found.labels.nouns[row.labelled.noun]}</b>' in text
        best = recognition.best[0]
        assert f'{best.label} {100 * best.score:.1f} %' in text
        if 'anticipation' in row.predictions:
            assert f'anticipated a second before: {row.predictions["anticipation"].best[0].label}' in text


def test_the_most_confident_come_first():
    def row(name, rank, score):
        labelled = SimpleNamespace(segment=Segment(name, 'a', 'P', 0, 1, 0, 0))
        prediction = SegmentPrediction(0, 0.0, {'action': rank}, (Ranked(0, 'x', score),))
        return SegmentResult(labelled, {'recognition': prediction})

    rows = [row(f'{n:02}', n % 2, n / 40) for n in range(30)] + [SegmentResult(None, {})]
    best, worst = ([one.labelled.segment.narration_id for one in some] for some in best_and_worst(rows))
    assert best == [f'{n:02}' for n in range(28, 8, -2)] and worst == [f'{n:02}' for n in range(29, 9, -2)]


def test_without_times_there_is_no_histogram(action_run, tmp_path):
    _, _, _, _, found = action_run
    text = write_action_report(tmp_path, found.document(MADE_BY), found, times_of([]), []).read_text()
    assert 'No frame was encoded.' in text
