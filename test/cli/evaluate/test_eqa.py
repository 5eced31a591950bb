"""m3et evaluate eqa, merge and compare on small recorded kitchens: the same bytes twice, and what is refused."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from m3et_ros.cli.main import main
from m3et_ros.data.datasets.openeqa import read_questions, read_results, write_questions

SMALL = ('--eqa', '--width', 32, '--height', 32, '--backend', 'raycast', '--fps', 2, '--frames', 50)


@pytest.fixture(scope='module')
def kitchens(tmp_path_factory):
    """Three recorded kitchens of half a minute with their questions, and a fourth bag that is none."""
    pytest.importorskip('mujoco')
    folder = tmp_path_factory.mktemp('kitchens') / 'k'
    assert main([*map(str, ('record', folder, *SMALL, '--seed', 20_000, '--episodes', 3, '--questions', 10))]) == 0
    (folder / 'bad.mcap').write_bytes(b'\x89MCAP0\r\n')
    return folder


def evaluate(verb, *arguments):
    return main(['evaluate', verb, *map(str, arguments)])


def eqa(kitchens, out, *more, bags=None, questions=None):
    bags = sorted(kitchens.glob('2*')) if bags is None else bags
    return evaluate(
        'eqa', *bags, '--questions', questions or kitchens / 'questions.json', '--model', 'tiny', '--out', out, *more
    )


@pytest.fixture(scope='module')
def run(kitchens, tmp_path_factory):
    """A finished run over all of them."""
    out = tmp_path_factory.mktemp('run') / 'out'
    assert eqa(kitchens, out) == 0
    return out


def test_a_run_leaves_all_of_it(kitchens, run):
    found = json.loads((run / 'metrics.json').read_text())
    asked = read_questions(kitchens / 'questions.json')
    assert found['metrics']['all']['questions'] == len(asked) == found['made_by']['questions']['asked'] > 20
    bags = ' '.join(str(kitchens / name) for name in ('20000', '20001', '20002'))
    assert found['made_by']['command'] == (
        f'm3et evaluate eqa {bags} --questions {kitchens / "questions.json"} --model tiny'
    )
    assert set(found['metrics']['bags']) == {'20000', '20001', '20002'} and found['metrics']['failed_bags'] == 0
    assert set(read_results(run / 'results.json')) == {question.question_id for question in asked}
    assert len((run / 'per_sample.csv').read_text().splitlines()) == 1 + len(asked)
    assert '<svg' in (run / 'report.html').read_text() and (run / 'parts' / '20000.jpg').exists()


def test_merged_halves_are_the_whole_and_a_run_goes_on(kitchens, run, tmp_path, capsys):
    bags = sorted(kitchens.glob('2*'))
    assert eqa(kitchens, tmp_path / 'a', bags=bags[:1]) == 0 and eqa(kitchens, tmp_path / 'b', bags=bags[1:]) == 0
    assert evaluate('merge', tmp_path / 'b', tmp_path / 'a', '--out', tmp_path / 'both') == 0
    whole, both = (json.loads((folder / 'metrics.json').read_text()) for folder in (run, tmp_path / 'both'))
    assert both['metrics'] == whole['metrics'] and both['made_by']['questions'] == whole['made_by']['questions']
    part = tmp_path / 'a' / 'parts' / '20000.json'
    before = part.stat().st_mtime_ns
    assert eqa(kitchens, tmp_path / 'a') == 0
    assert part.stat().st_mtime_ns == before  # what was finished was kept
    assert (tmp_path / 'a' / 'metrics.json').read_bytes() == (run / 'metrics.json').read_bytes()
    assert 'Read ' in capsys.readouterr().out


def test_one_bad_bag_is_told_and_the_rest_scored(kitchens, tmp_path, capsys):
    asked = read_questions(kitchens / 'questions.json')
    write_questions(tmp_path / 'q.json', [*asked, type(asked[0])('Is it on?', 'yes', 'state', 'bad-0', 'bad')])
    bags = [kitchens / '20000', kitchens / 'bad.mcap', kitchens / '20001']
    assert eqa(kitchens, tmp_path / 'out', '--json', '--scope', 'frame', bags=bags, questions=tmp_path / 'q.json') == 0
    told = capsys.readouterr()
    found = json.loads(told.out)['metrics']
    assert found['failed_bags'] == 1 and 'bad.mcap' in found['bags']['bad']['failed']
    assert found['categories']['state']['unanswered'] == 1 and found['categories']['action history']['unanswered'] == 0
    assert found['not_asked'] == sum(question.episode == '20002' for question in asked)
    assert any(line.startswith('bad: ') for line in told.err.splitlines())


def test_two_runs_are_compared_and_thresholds_are_exit_code_two(kitchens, run, tmp_path, capsys):
    assert eqa(kitchens, tmp_path / 'blind', '--scope', 'blind', '--at-least', 1) == 2
    assert 'below 1.0' in capsys.readouterr().err
    assert evaluate('compare', tmp_path / 'blind', run, '--out', tmp_path / 'both', '--json') == 0
    found = json.loads(capsys.readouterr().out)
    assert found['common'] > 20 and (tmp_path / 'both' / 'report.html').exists()
    assert evaluate('compare', run, run, '--out', tmp_path / 'both', '--at-least', 0.1) == 2
    assert '+0.0000' in capsys.readouterr().err


def test_a_judge_is_asked_only_when_named(kitchens, run, tmp_path, capsys):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers['Content-Length']))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"choices": [{"message": {"content": "Your mark: 3"}}]}')

        def log_message(self, *_):
            pass

    server = HTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    where = ('--judge-url', f'http://127.0.0.1:{server.server_port}/v1', '--judge-model', 'marker')
    options = ('--scope', 'blind', '--json')
    assert eqa(kitchens, tmp_path, *options, *where) == 0
    server.shutdown()
    server.server_close()
    found = json.loads(capsys.readouterr().out)
    assert found['metrics']['all']['llm_match']['percent']['value'] == 50
    assert found['metrics']['all']['llm_match']['mean_mark'] == 3
    assert found['made_by']['judge']['model'] == 'marker' and '{question}' in found['made_by']['judge']['prompt']
    assert eqa(kitchens, tmp_path / 'alone', *options, *where) == 0  # nobody is there any longer
    told = capsys.readouterr()
    assert 'llm_match' not in json.loads(told.out)['metrics']['all'] and 'cannot be asked' in told.err
    assert 'There is no LLM-match' in (tmp_path / 'alone' / 'report.html').read_text()
    assert 'judge' not in json.loads((run / 'metrics.json').read_text())['made_by']


def test_answers_from_elsewhere_are_scored(kitchens, run, tmp_path, capsys):
    given = (kitchens / 'questions.json', run / 'results.json')
    assert evaluate('answers', given[1], '--questions', given[0], '--out', tmp_path / 'same', '--json') == 0
    found, whole = json.loads(capsys.readouterr().out), json.loads((run / 'metrics.json').read_text())
    assert found['metrics']['all'] == whole['metrics']['all'] and found['metrics']['bags'] == {}
    assert found['made_by']['model']['id'] == 'results' and (tmp_path / 'same' / 'report.html').exists()
    assert evaluate('compare', tmp_path / 'same', run, '--out', tmp_path / 'both', '--json') == 0
    change = json.loads(capsys.readouterr().out)['all']
    assert change['better'] == change['worse'] == 0
    assert change['exact_match']['first'] == whole['metrics']['all']['exact_match']['value']
    some = json.loads(given[1].read_text())[2:]
    (tmp_path / 'some.json').write_text(json.dumps(some))
    assert evaluate('answers', tmp_path / 'some.json', '--questions', given[0], '--out', tmp_path) == 0
    assert read_results(tmp_path / 'results.json').keys() == read_results(given[1]).keys()
    assert list(read_results(tmp_path / 'results.json').values()).count(None) == 2
    (tmp_path / 'some.json').write_text(json.dumps([*some, {'question_id': 'strange', 'answer': 'x'}]))
    assert evaluate('answers', tmp_path / 'some.json', '--questions', given[0], '--out', tmp_path) == 1
    assert "'strange'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'questions': 'wrong'}, ['record 2', "'category'"]),
        ({'bags': 'other'}, ['there is no bag at', 'other']),
        ({'more': ('--remap', '/a')}, ['-r /a', 'FROM:=TO']),
        ({'more': ('--judge-url', 'http://x')}, ['--judge-model']),
        ({'more': ('--device', 'warp')}, ["'warp'"]),
        ({'out': 'file'}, ['file', '--out']),
    ],
)
def test_what_cannot_be_done_is_one_sentence(kitchens, tmp_path, capsys, caplog, options, words):
    (tmp_path / 'file').write_text('')
    records = json.loads((kitchens / 'questions.json').read_text())
    del records[1]['category']
    (tmp_path / 'wrong').write_text(json.dumps(records))
    code = eqa(
        kitchens,
        tmp_path / options.get('out', 'out'),
        *options.get('more', ()),
        bags=[tmp_path / options['bags']] if 'bags' in options else None,
        questions=tmp_path / options['questions'] if 'questions' in options else None,
    )
    told = [line for line in capsys.readouterr().err.splitlines() if 'random ones' not in line]
    assert code == 1 and len(told) == 1 and all(word in told[0] for word in words), told
    assert 'M3ET_TRACEBACK' not in told[0]


def test_topics_that_are_missing_are_named_with_those_there(kitchens, tmp_path, capsys):
    bag = kitchens / '20000'
    assert eqa(kitchens, tmp_path, '--camera', '/head', bags=[bag]) == 0
    told = capsys.readouterr().err
    assert '/head/color/image_raw' in told and '/camera/camera/color/image_raw (sensor_msgs/msg/Image)' in told
    rename = '/camera/camera/color/image_raw:=/head/color/image_raw'
    assert eqa(kitchens, tmp_path, '--camera', '/head', '--remap', rename, bags=[bag]) == 0
    assert json.loads((tmp_path / 'metrics.json').read_text())['metrics']['failed_bags'] == 0
