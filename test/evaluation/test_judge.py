"""The judge against a small server: its requests, its marks, and its errors."""

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from m3et_ros.data.datasets.openeqa import EqaQuestion
from m3et_ros.data.errors import InputError
from m3et_ros.evaluation.judge import Judge, cut, fill, mark_answers, read_prompt
from m3et_ros.evaluation.tasks.eqa_scores import score_answer

QUESTION = EqaQuestion('Where is {it}?', 'on the hob', 'object localization', 'q1', 'one', ('stove', 'cooker'))


@pytest.fixture
def service():
    """A chat server that records its requests and gives a prepared reply."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
            server.requests.append((self.path, dict(self.headers), body))
            server.go_on.wait(60)
            self.send_response(server.status)
            self.send_header('Location', '/elsewhere')
            self.end_headers()
            self.wfile.write(server.reply.encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(('127.0.0.1', 0), Handler)
    server.requests, server.status, server.go_on = [], 200, threading.Event()
    server.go_on.set()
    server.says = lambda text: setattr(server, 'reply', json.dumps({'choices': [{'message': {'content': text}}]}))
    server.url = f'http://127.0.0.1:{server.server_port}/v1'
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.go_on.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ('said', 'mark'), [('Your mark: 4', 4), ('5', 5), ('Well.\nYour mark: 2\n', 2), ('your mark:1', 1)]
)
def test_a_mark_is_read(service, said, mark):
    service.says(said)
    assert Judge(service.url, 'm').mark(QUESTION, 'on the stove') == mark


def test_the_request_has_the_recorded_settings(service, monkeypatch):
    monkeypatch.setenv('JUDGE_KEY', 'secret-words')
    service.says('3')
    judge = Judge(service.url.replace('http://', 'http://user:pass@'), 'some-model', key_variable='JUDGE_KEY')
    assert '@' not in json.dumps(judge.recorded()['url'])
    judge = Judge(service.url, 'some-model', key_variable='JUDGE_KEY')
    judge.mark(QUESTION, 'By the wall. I think')
    ((path, headers, body),) = service.requests
    assert path == '/v1/chat/completions' and headers['Authorization'] == 'Bearer secret-words'
    recorded = judge.recorded()
    assert {name: body[name] for name in ('model', 'temperature', 'seed', 'max_tokens')} == {
        name: recorded[name] for name in ('model', 'temperature', 'seed', 'max_tokens')
    }
    (text,) = (message['content'] for message in body['messages'])
    assert text == fill(recorded['prompt'], QUESTION, 'By the wall.')
    assert 'Where is {it}?' in text and 'stove; cooker' in text
    assert 'secret-words' not in json.dumps(recorded)


def test_a_missing_answer_needs_no_request(service):
    assert Judge(service.url, 'm').mark(QUESTION, ' ') is None and Judge(service.url, 'm').mark(QUESTION, None) is None
    assert service.requests == []


@pytest.mark.parametrize(
    ('status', 'reply', 'words'),
    [
        (401, '{}', ['401', 'OPENAI_API_KEY']),
        (302, '{}', ['302']),
        (200, 'no json', ['chat protocol']),
        (200, '{"choices": []}', ['protocol']),
        (200, json.dumps({'choices': [{'message': {'content': 'Your mark: 12'}}]}), ['no mark', 'q1', '12']),
        (200, json.dumps({'choices': [{'message': {'content': 'great'}}]}), ['no mark', 'great']),
    ],
)
def test_a_judge_that_fails_is_named_with_the_reason(service, status, reply, words):
    service.status, service.reply = status, reply
    with pytest.raises(InputError) as refused:
        Judge(service.url, 'm').mark(QUESTION, 'answer')
    assert [path for path, _, _ in service.requests] == ['/v1/chat/completions']
    assert refused.value.reason == 'judge' and all(word in str(refused.value) for word in words), refused.value


def test_an_address_without_a_service_is_refused(service):
    service.server_close()
    with pytest.raises(InputError, match='cannot be asked.*(refused|reset)'):
        Judge(service.url, 'm').mark(QUESTION, 'answer')


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'url': 'file:///etc/passwd'}, 'http'),
        ({'prompt': 'Mark {answer}.'}, '{prediction}, {question}'),
        ({'timeout_s': 0}, 'timeout_s 0'),
        ({'temperature': -0.1}, 'temperature -0.1'),
        ({'temperature': 2.1}, 'temperature 2.1'),
        ({'max_tokens': 0}, 'max_tokens 0'),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        Judge(**{'url': 'http://localhost', 'model': 'm'} | options)


def test_the_limits_of_the_settings_are_allowed():
    for options in ({'temperature': 0.0}, {'temperature': 2.0}, {'max_tokens': 1}, {'timeout_s': 0.001}):
        assert Judge('http://localhost', 'm', **options).model == 'm'


def test_a_slow_judge_is_given_up_after_the_timeout(service):
    service.says('5')
    service.go_on.clear()
    with pytest.raises(InputError, match='timed out'):
        Judge(service.url, 'm', timeout_s=0.2).mark(QUESTION, 'on the stove')


def test_answers_are_cut_and_prompts_are_read(tmp_path):
    assert (cut('A cup. And'), cut('a cup'), cut('a cup.')) == ('A cup.', 'a cup', 'a cup.')
    (tmp_path / 'prompt.txt').write_text('{question}{answer}{prediction}')
    assert read_prompt(tmp_path / 'prompt.txt').startswith('{question}')
    with pytest.raises(InputError, match='none.txt'):
        read_prompt(tmp_path / 'none.txt')


def test_saved_marks_are_not_asked_for_again(service, tmp_path):
    rows = [
        score_answer(replace(QUESTION, question_id=f'q{n}'), answer)
        for n, answer in enumerate(('on the hob', 'in the sink', None))
    ]
    service.says('Your mark: 4')
    judge = Judge(service.url, 'm')
    marks = mark_answers(tmp_path, rows[:1], judge)
    assert marks == {'q0': 4.0} and len(service.requests) == 1
    service.reply = 'broken'
    with pytest.raises(InputError, match='chat protocol'):
        mark_answers(tmp_path, rows, judge)
    service.says('Your mark: 2')
    assert mark_answers(tmp_path, rows, judge) == {'q0': 4.0, 'q1': 2.0, 'q2': None}
    assert len(service.requests) == 3
    assert mark_answers(tmp_path, rows[:1], replace(judge, model='other')) == {'q0': 2.0}
    (tmp_path / 'marks.json').write_text('[')
    assert mark_answers(tmp_path, rows[:1], judge) == {'q0': 2.0}
    with pytest.raises(InputError, match='cannot be written'):
        mark_answers(tmp_path / 'none', rows[:1], judge)
