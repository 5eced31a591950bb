"""Figures over bags are those of what the robot itself would have said; written the same way twice."""

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.epic.annotations import NO_CLASS, Annotations, Segment
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.progress import no_progress
from m3et_ros.evaluation.jobs import PARTS, run_jobs
from m3et_ros.evaluation.report.actions_html import best_and_worst, write_action_report
from m3et_ros.evaluation.tasks.actions_in_bags import ActionJobRunner, ActionTask, match_segments
from m3et_ros.evaluation.tasks.actions_results import ActionResults, SegmentPrediction, SegmentResult, way_of, write_run
from m3et_ros.runtime.results import Ranked

START = 1_700_000_000 * 10**9
NASTY = '<script>alert(1)</script>'
MADE_BY = {
    'command': 'm3et evaluate actions a b',
    'settings': {'rate_hz': 2.5},
    'environment': {'torch': '2.13'},
    'model': {'id': 'tiny@1', 'trained': False, 'weights_sha256': 'ab' * 32},
    'segments': [{'name': 's.csv', 'sha256': 'cd' * 32}],
}


@pytest.fixture(scope='module')
def shots():
    rng = np.random.default_rng(0)
    return {name: [rng.integers(0, 255, (24, 32, 3), dtype=np.uint8) for _ in range(41)] for name in 'ab'}


@pytest.fixture(scope='module')
def run(tmp_path_factory, shots):
    """Two bags of four seconds at ten frames a second, and a third that is damaged."""
    folder = tmp_path_factory.mktemp('bags')
    for name in 'abc':
        with BagWriter(folder / name) as bag:
            for at, shot in enumerate(shots.get(name, shots['a'][:1])):
                bag.write_frame(Frame(shot, None, START + at * 10**8))
    (folder / 'c' / 'c.mcap').write_bytes(b'no bag')
    worker = ActionJobRunner('tiny', 'cpu', ActionTask(), folder / PARTS)
    verbs, nouns = worker.engine.labels.verbs, worker.engine.labels.nouns
    # The first two are over at 1.0 and 3.3 s, the third before a frame has come, the last after the bag.
    spans = ((0.5, 1.0), (2.5, 3.3), (0, 0), (9, 10))
    segments = [
        Segment(f'{bag}_{n}', bag, 'P', *span, NO_CLASS, NO_CLASS, NASTY, verbs[n % 2], nouns[n])
        for bag in 'abc'
        for n, span in enumerate(spans)
    ]
    asked = match_segments(
        [folder / name for name in 'abc'], [Annotations(None, tuple(segments), ())], worker.engine.labels
    )
    done = run_jobs(worker, asked.jobs, 1, 'tiny', 'cpu', no_progress)
    return folder, worker, asked, done, ActionResults(worker.engine.checkpoint, asked, done, folder / PARTS)


def test_what_is_said_is_what_the_robot_says_at_that_frame(run, shots):
    """The robot sees every frame; here only those were looked at that its stream took in."""
    _, worker, _, _, found = run
    told = {(row.one.segment.narration_id, task): said for row in found.told for task, said in row.said.items()}
    assert set(told) == {
        (f'{bag}_{n}', task)
        for bag in 'ab'
        for n, task in ((0, 'recognition'), (1, 'recognition'), (1, 'anticipation'))
    }
    for bag in 'ab':
        worker.engine.reset_actions()
        for at, shot in enumerate(shots[bag]):
            heard = worker.engine.anticipate(
                worker.engine.encode(Frame(shot, None, START + at * 10**8)), horizon_s=1, top_k=5
            )
            for (name, task), said in told.items():
                if name[0] == bag and round(10 * said.asked_at_s) == at:
                    live = heard.now if task == 'recognition' else heard.next
                    assert [one.label for one in said.best] == [one.label for one in live.actions]
                    assert [one.score for one in said.best] == pytest.approx(
                        [one.score for one in live.actions], abs=2e-3
                    )
    assert [told[f'a_{n}', 'recognition'].asked_at_s for n in (0, 1)] == pytest.approx([0.8, 3.2])
    assert told['a_1', 'anticipation'].asked_at_s == pytest.approx(1.2)


def test_metrics_tell_what_was_scored_and_what_was_not(run):
    metrics = run[4].metrics
    assert metrics['recognition']['chain']['all']['samples'] == 4
    assert metrics['recognition']['left_out'] == {'outside_the_frames': 4}
    assert metrics['anticipation']['follow']['all']['action']['top1']['kitchens'] == 2
    assert metrics['failed_bags'] == 1 and 'damaged' in metrics['bags']['c']['failed']
    assert metrics['bags']['a']['frames_taken_in'] == 11 and metrics['bags']['a']['streams'] == 1
    assert metrics['segments'] == {
        'asked_for': 12,
        'elsewhere': 0,
        'unknown': {'segments': 0, 'verbs': {}, 'nouns': {}},
    }
    verbs = metrics['by_verb']['recognition']
    assert sum(part['samples'] for part in verbs.values()) == 4
    right = sum(part['samples'] * part['action']['top1']['value'] for part in verbs.values())
    assert right / 4 == pytest.approx(metrics['recognition']['chain']['all']['action']['top1']['value'])


class Links(HTMLParser):
    """What a page asks for, and its elements."""

    def __init__(self):
        super().__init__()
        self.seen, self.links = [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.links += [value for name, value in attributes if name in ('src', 'href', 'xlink:href')]


def test_everything_is_written_and_the_page_asks_nobody(run, tmp_path):
    folder, _, _, done, found = run
    document = found.document(MADE_BY)
    page = write_action_report(folder, document, found, write_run(folder, document, found, done), done)
    assert json.loads((folder / 'metrics.json').read_text()) == document
    rows = list(csv.DictReader((folder / 'per_sample.csv').open()))
    assert [row['narration_id'] for row in rows[:3]] == ['a_2', 'a_0', 'a_1'] and len(rows) == 8
    assert rows[0]['recognition_1'] == '' and 0 < float(rows[1]['recognition_1_p']) <= 1
    assert rows[1]['verb'] == found.labels.verbs[0] and rows[1]['recognition_1'].split()[0] in found.labels.verbs
    text, links = page.read_text(), Links()
    links.feed(text)
    assert 'script' not in links.seen and '&lt;script&gt;' in text
    assert sum(link.startswith('data:image/jpeg;base64,') for link in links.links) == 4
    assert all(link.startswith(('data:image/jpeg;base64,', '#')) for link in links.links)
    for words in ('What is done', 'as the robot does', 'c is left out', 'ab' * 32, 'cd' * 32, 'times real'):
        assert words in re.sub(r'\s+', ' ', text), words


def test_the_surest_come_first():
    def row(name, rank, score):
        one = type('One', (), {'segment': Segment(name, 'a', 'P', 0, 1, 0, 0)})()
        return SegmentResult(
            one, {'recognition': SegmentPrediction(0, 0.0, {'action': rank}, (Ranked(0, 'x', score),))}
        )

    rows = [row(f'{n:02}', n % 2, n / 40) for n in range(30)] + [SegmentResult(None, {})]
    best, worst = ([told.one.segment.narration_id for told in some] for some in best_and_worst(rows))
    assert best == [f'{n:02}' for n in range(28, 8, -2)] and worst == [f'{n:02}' for n in range(29, 9, -2)]


def test_nothing_to_score_is_a_sentence(run):
    folder, worker, asked, done, _ = run
    with pytest.raises(InputError, match='none of the bags can be used; the first: .*damaged'):
        ActionResults(worker.engine.checkpoint, asked, done[2:], folder / PARTS)
    late = replace(asked, segments={bag: own[3:] for bag, own in asked.segments.items()})
    with pytest.raises(InputError, match='count from the first colour frame'):
        ActionResults(worker.engine.checkpoint, late, done, folder / PARTS)


def test_a_head_without_a_table_is_asked_as_the_robot_asks_it(run):
    head = run[4].head
    assert way_of('recognition', head) == 'chain' and way_of('anticipation', head) == 'follow'
    assert way_of('anticipation', type('Head', (), {'follows': None})()) == 'chain'
