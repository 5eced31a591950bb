"""Robots as models of OpenAI's chat completions, over HTTP on loopback."""

import base64
import http.client
import json
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from starlette.applications import Starlette

from m3et_ros.cli.mcp.chat_completions import MOST_BYTES, ChatCompletions

PATH = '/v1/chat/completions'


@pytest.fixture
def port(tools, calls, served):
    with served(Starlette(routes=ChatCompletions(tools, calls).routes()), calls) as port:
        yield port


@contextmanager
def connection(port):
    link = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
    try:
        yield link
    finally:
        link.close()


def exchange(port, method, path, body=None):
    """Send a request; return status and text of the response."""
    with connection(port) as link:
        link.request(method, path, body if body is None or isinstance(body, bytes) else json.dumps(body))
        response = link.getresponse()
        return response.status, response.read().decode()


def chat(content='What is it?', **fields):
    return {'model': 'known', 'messages': [{'role': 'user', 'content': content}]} | fields


def ask(port, request):
    status, text = exchange(port, 'POST', PATH, request)
    return status, json.loads(text)


def events(text):
    lines = [line for line in text.split('\n\n') if line]
    assert lines[-1] == 'data: [DONE]'
    return [json.loads(line.removeprefix('data: ')) for line in lines[:-1]]


def test_every_robot_is_two_models(port):
    status, text = exchange(port, 'GET', '/v1/models')
    listed = json.loads(text)
    assert status == 200 and listed['object'] == 'list'
    assert [(one['id'], one['object'], one['owned_by']) for one in listed['data']] == [
        ('known', 'model', 'm3et'),
        ('known:episode', 'model', 'm3et'),
    ]
    assert json.loads(exchange(port, 'GET', '/v1/models/known:episode')[1]) == listed['data'][1]
    status, text = exchange(port, 'GET', '/v1/models/nobody')
    assert (status, json.loads(text)['error']['code']) == (404, 'model_not_found')


def test_a_question_is_answered(port, known):
    status, response = ask(port, chat())
    assert status == 200 and response['choices'][0]['message']['content'] == 'a cup'
    assert response['model'] == 'known' and response['m3et']['scope'] == 'frame' and known.goals[-1] == 'What is it?'


def test_the_memory_and_the_only_robot_answer(port):
    _, response = ask(port, chat(model=':episode'))
    assert response['m3et']['scope'] == 'episode' and response['model'] == 'known:episode'


def test_an_answer_comes_in_parts(port):
    status, text = exchange(port, 'POST', PATH, chat(stream=True))
    found = events(text)
    assert status == 200
    assert ''.join(one['choices'][0]['delta'].get('content', '') for one in found) == 'a cup'
    assert found[-1]['choices'][0]['finish_reason'] == 'stop' and found[-1]['m3et']['text'] == 'a cup'


@pytest.mark.parametrize('stream', [False, True], ids=['whole', 'stream'])
def test_an_image_in_the_request_is_what_the_question_is_about(port, known, stream):
    data = base64.b64encode(cv2.imencode('.png', np.full((3, 5, 3), (1, 2, 3), np.uint8))[1]).decode()
    parts = [
        {'type': 'text', 'text': 'What is it?'},
        {'type': 'image_url', 'image_url': {'url': f'data:image/png;base64,{data}'}},
    ]
    status, text = exchange(port, 'POST', PATH, chat(parts, stream=stream))
    assert status == 200 and '5 x 3, [3, 2, 1]' in text and known.asked[-1].image.encoding == 'rgb8'


@pytest.mark.parametrize('stream', [False, True], ids=['whole', 'stream'])
def test_an_answer_that_is_none_says_why(port, stream):
    status, text = exchange(port, 'POST', PATH, chat('Where is the moon?', stream=stream))
    assert status == 200 and 'The model was never taught' in text and 'Did you mean: Where is the cup?' in text


@pytest.mark.parametrize('stream', [False, True], ids=['whole', 'stream'])
@pytest.mark.parametrize(
    ('request_fields', 'status', 'code', 'sentence'),
    [
        ({'model': 'nobody'}, 404, 'model_not_found', 'No robot answers in /nobody'),
        ({'model': 'no body'}, 400, 'refused', 'use letters'),
        ({'content': 'x' * 10_001}, 400, 'refused', 'has 10001 characters'),
        ({'n': 2}, 400, 'invalid_request', 'n is not 1'),
    ],
    ids=['model', 'name', 'long', 'n'],
)
def test_errors_have_the_form_of_openai(port, calls, monkeypatch, stream, request_fields, status, code, sentence):
    monkeypatch.setattr('m3et_ros.cli.mcp.robot_tools.FOUND_S', 0.2)
    found, response = ask(port, chat(**request_fields, stream=stream))
    assert (found, response['error']['code']) == (status, code) and sentence in response['error']['message']
    assert calls.counters['refused'] == 1


def test_a_body_beyond_the_limit_is_refused(port):
    whole = json.dumps(chat()).encode()
    assert exchange(port, 'POST', PATH, whole + b' ' * (MOST_BYTES - len(whole)))[0] == 200
    with connection(port) as link:
        link.request('POST', PATH, b' ' * (MOST_BYTES + 1))
        response = link.getresponse()
        assert response.status == 413 and json.loads(response.read())['error']['code'] == 'body_large'


def test_an_error_that_was_not_foreseen_is_not_shown(port, tools, calls, monkeypatch):
    monkeypatch.setattr(tools, 'ask', lambda *_: 1 // 0)
    status, response = ask(port, chat())
    assert status == 500 and 'division' not in response['error']['message']
    assert (response['error']['type'], calls.counters['internal_errors']) == ('server_error', 1)


def test_too_many_calls_are_told_to_come_again(port, calls, monkeypatch):
    monkeypatch.setattr(calls, '_most', 0)
    status, response = ask(port, chat())
    assert (status, response['error']['code'], response['error']['type']) == (429, 'busy', 'rate_limit_error')


@pytest.mark.parametrize('stream', [False, True], ids=['whole', 'stream'])
def test_a_client_that_leaves_cancels_its_question_and_no_other(port, calls, known, robots, stream):
    cancelled, begun = known.cancelled, len(known.goals)
    with connection(port) as link:
        link.request('POST', PATH, json.dumps(chat(known.WAIT, stream=stream)))
        assert robots.node.wait(lambda: len(known.goals) > begun, 60)
    assert robots.node.wait(lambda: known.cancelled == cancelled + 1, 60)
    assert robots.node.wait(lambda: calls.counters['cancelled'] == 1, 60)
    assert ask(port, chat())[0] == 200
