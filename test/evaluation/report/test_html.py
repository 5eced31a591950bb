"""The report: one file, no network, no text taken for markup; drawn by a browser where there is one."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from m3et_ros.data.datasets.openeqa import EqaQuestion
from m3et_ros.data.errors import InputError
from m3et_ros.evaluation.jobs import PARTS, JobResult
from m3et_ros.evaluation.report.html import TEMPLATES, best_and_worst, facts, write_comparison, write_report
from m3et_ros.evaluation.tasks.eqa_results import EqaRun, document, scored_answers, write_run

MADE_BY = {
    'command': 'm3et evaluate eqa a b --questions q.json',
    'settings': {'scope': 'episode', 'threads': 1},
    'model': {'id': 'kitchen@1', 'trained': True, 'weights_sha256': 'ab' * 32},
    'environment': {'torch': '2.13'},
}
NASTY = '<script>alert(1)</script> & "x"'
BROWSER = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)


def made(answers, bags=3):
    """A run over a few bags of 20 questions, the last bag damaged."""
    rng = np.random.default_rng(0)
    questions, done = [], []
    for bag in map(str, range(bags)):
        own = [
            EqaQuestion(f'Where is thing {n}? {NASTY}', 'on the table', ('state', 'place')[n % 2], f'{bag}-{n:02}', bag)
            for n in range(20)
        ]
        questions += own
        said = [
            {
                'question_id': q.question_id,
                'answer': answers(n),
                'confidence': n / 20,
                'frames_used': 8,
                'first_ns': 1,
                'last_ns': 2,
            }
            for n, q in enumerate(own)
        ]
        part = {
            'bag': bag,
            'files': {'bag.mcap': 'cd' * 32},
            'troubles': [],
            'answers': said,
            'frames': 9,
            'seconds': 3.0,
            'spoilt_frames': 0,
            'longest_gap_s': 0.1,
            'camera': {'rgb': '/c', 'depth': None},
        }
        times = {'encode_ms': rng.gamma(3, 5, 50).tolist(), 'answer_ms': [4.0] * 20, 'wall_s': 1.0}
        done.append(JobResult(part, times))
    done[-1] = JobResult(
        {'bag': str(bags - 1), 'failed': f'{NASTY} is damaged', 'answers': [], 'files': {}, 'troubles': []}, {}
    )
    return EqaRun(MADE_BY, tuple(questions), tuple(done))


def report(folder, run, **options):
    (folder / PARTS).mkdir(parents=True, exist_ok=True)
    strip = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (96, 2, 3))
    cv2.imwrite(str(folder / PARTS / '0.jpg'), strip)
    rows = scored_answers(run)
    return write_report(folder, run, rows, document(run, rows), **options)


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    answers = ['on the table', 'table', 'x', None]
    return report(tmp_path_factory.mktemp('run'), made(lambda n: answers[n % 4]))


class Tags(HTMLParser):
    """The elements and links of a page, and its open elements."""

    def __init__(self):
        super().__init__()
        self.seen, self.open, self.links = [], [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.links += [value for name, value in attributes if name in ('src', 'href', 'xlink:href')]
        if tag not in ('meta', 'img', 'br', 'link'):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_loads_nothing(page):
    text, tags = page.read_text(), Tags()
    tags.feed(text)
    assert tags.open == [] and tags.seen.count('svg') == 2
    assert all(link.startswith(('data:image/jpeg;base64,', '#')) for link in tags.links)
    assert not re.search(r'@import|url\(\s*[\'"]?(?!#)', text) and 'script' not in tags.seen
    assert sum(link.startswith('data:') for link in tags.links) > 5


def test_the_page_has_scores_times_and_checksums(page):
    text = re.sub(r'\s+', ' ', page.read_text())
    # 5 of 20 are right and 5 of 20 nearly, in two of three bags.
    assert '<b>16.7 %</b>exact match' in text and 'm3et evaluate eqa a b --questions q.json' in text
    assert '2 cannot be used, so its questions are unanswered: &lt;script&gt;alert(1)' in text
    for words in ('Best answers', 'Worst answers', 'times real time', 'ab' * 32, 'cd' * 32, '95 % below', '50.0 %'):
        assert words in text, words


def test_the_ten_best_and_worst(page):
    rows = [
        {
            'question_id': f'{n:02}',
            'exact_match': float(n < 15),
            'best_f1': float(n < 15),
            'confidence': n / 30,
            'answer': None if n == 29 else 'x',
        }
        for n in range(30)
    ]
    best, worst = best_and_worst(rows)
    assert [row['question_id'] for row in best] == [f'{n:02}' for n in range(14, 4, -1)]
    assert [row['question_id'] for row in worst] == [f'{n:02}' for n in range(28, 18, -1)]


def test_a_run_without_any_frame_has_a_report(tmp_path):
    run = made(lambda n: 'x', bags=1)
    text = report(tmp_path, run, judge_failed='nobody is there').read_text()
    assert 'No frame was encoded' in text and 'nobody is there' in text and 'Best answers' not in text


def test_facts_list_everything_that_a_run_depends_on():
    made_by = MADE_BY | {
        'questions': {'asked': 7, 'sha256': 'ef' * 32},
        'judge': {'model': 'marker', 'url': 'http://localhost/v1', 'temperature': 0.2, 'seed': 1234},
        'segments': [{'name': 's.csv', 'sha256': '12' * 32}],
    }
    found = facts(made_by, {'bags': {'a': {'files': {'a.mcap': 'cd' * 32}}}})
    assert found == [
        ('model', 'kitchen@1'),
        ('SHA-256 of the weights', 'ab' * 32),
        ('questions', f'7 asked, SHA-256 {"ef" * 32}'),
        ('SHA-256 of s.csv', '12' * 32),
        ('judge', 'marker at http://localhost/v1, temperature 0.2, seed 1234'),
        ('setting scope', 'episode'),
        ('setting threads', '1'),
        ('torch', '2.13'),
        ('SHA-256 of a/a.mcap', 'cd' * 32),
    ]
    random = {'model': {'id': 'm', 'trained': False, 'weights_sha256': None}, 'settings': {}, 'environment': {}}
    assert facts(random, {'bags': {}}) == [('model', 'm (random weights)')]


def test_a_report_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / 'file').write_text('')
    run = made(lambda n: 'x')
    rows = scored_answers(run)
    with pytest.raises(InputError, match='report.html cannot be written'):
        write_report(tmp_path / 'file', run, rows, document(run, rows))


def test_two_runs_are_compared_on_a_page(tmp_path):
    for name, answer in (('one', 'table'), ('two', 'on the table')):
        run = made(lambda n, answer=answer: answer if n % 2 else 'x', bags=2)
        report(tmp_path / name, run)
        for done in run.results:
            (tmp_path / name / PARTS / f'{done.part["bag"]}.json').write_text(json.dumps(done.part))
        rows = scored_answers(run)
        write_run(tmp_path / name, run, rows, document(run, rows))
    found = write_comparison(tmp_path / 'both', (tmp_path / 'one', tmp_path / 'two'))
    text, tags = (tmp_path / 'both' / 'report.html').read_text(), Tags()
    tags.feed(text)
    assert found['all']['better'] == 10 and found['categories']['place']['exact_match']['difference'] == 0.5
    assert '+25.0' in text and 'Better in the second' in text and 'Worse in the second' not in text and tags.open == []


@pytest.mark.skipif(BROWSER is None, reason='no Chromium on this machine to look at the page with')
def test_a_browser_draws_the_page(page, tmp_path):
    picture = tmp_path / 'page.png'
    subprocess.run(
        [
            BROWSER,
            '--headless',
            '--no-sandbox',
            '--disable-gpu',
            f'--screenshot={picture}',
            '--window-size=1200,3000',
            '--hide-scrollbars',
            f'--user-data-dir={tmp_path / "profile"}',
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    drawn = cv2.imread(str(picture))
    assert drawn.shape[:2] == (3000, 1200)
    orange, blue = (
        (cv2.absdiff(drawn, np.array(colour, np.uint8)).max(2) < 8).sum() for colour in ((43, 130, 217), (178, 111, 47))
    )
    # The bars and the histogram are blue; text stands all over the page.
    assert blue > 5000 and (drawn.min(2) < 100).mean() > 0.01 and orange < blue


def test_nothing_but_our_own_charts_reaches_a_page_unescaped():
    unescaped = {
        name
        for path in TEMPLATES.glob('*.html')
        for name in re.findall(r'\{\{([^}]*)\|\s*safe\s*\}\}', path.read_text())
    }
    assert {name.strip() for name in unescaped} == {'chart', 'plot', 'categories_plot', 'times_plot'}
    assert not any(word in path.read_text() for path in TEMPLATES.glob('*.html') for word in ('autoescape', 'Markup'))
