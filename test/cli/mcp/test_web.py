"""The server over HTTP: its token, its names and the pages that may use it."""

import asyncio
import http.client
import json
import socket
import threading
from functools import partial

import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from m3et_ros.cli.mcp.web import (
    MOST_TOOL_BYTES,
    agent_app,
    choose_token,
    is_loopback,
    listening_socket,
    print_addresses,
    security,
)
from m3et_ros.cli.output import Refused

HOST, TOKEN = '127.0.0.1', 'a-secret-of-this-test'
JSON = {'Content-Type': 'application/json', 'Accept': 'application/json, text/event-stream'}


@pytest.fixture
def port(tools, calls, served):
    with served(agent_app(tools, calls, HOST, TOKEN), calls) as port:
        yield port


def get(port, path='/v1/models', *, method='GET', body=None, **headers):
    link = http.client.HTTPConnection(HOST, port, timeout=60)
    try:
        link.request(method, path, body, {'Authorization': f'Bearer {TOKEN}'} | headers)
        response = link.getresponse()
        return response.status, response.read().decode()
    finally:
        link.close()


def test_the_token_of_the_user_is_taken_and_a_random_one_made_on_loopback():
    assert choose_token('127.0.0.1', {'M3ET_TOKEN': 'x' * 16}) == 'x' * 16
    random = {choose_token(host, {}) for host in ('127.0.0.1', '::1', 'localhost')}
    assert len(random) == 3 and all(len(token) >= 32 for token in random)


@pytest.mark.parametrize(
    ('host', 'token', 'sentence'),
    [
        ('127.0.0.1', 'x' * 15, 'has 15 characters'),
        ('127.0.0.1', 'x' * 16 + ' y', 'has 18 characters'),
        ('127.0.0.1', 'ä' * 16, 'ASCII'),
        ('192.0.2.7', '', 'lets other computers in; set M3ET_TOKEN'),
        ('0.0.0.0', 'x' * 16, 'no address that a client could name'),
        ('::', 'x' * 16, 'no address that a client could name'),
    ],
    ids=['short', 'blank', 'letters', 'no token', 'all addresses', 'all of version 6'],
)
def test_a_weak_token_and_an_open_door_are_refused(host, token, sentence):
    with pytest.raises(Refused, match=sentence):
        choose_token(host, {'M3ET_TOKEN': token})


def test_beyond_loopback_the_token_of_the_user_serves():
    assert choose_token('192.0.2.7', {'M3ET_TOKEN': 'x' * 16}) == 'x' * 16


def test_loopback_is_known():
    assert [
        is_loopback(host) for host in ('127.0.0.1', '127.1.2.3', '::1', 'localhost', '192.0.2.7', 'robot.local')
    ] == [True, True, True, True, False, False]


def test_the_names_of_the_server_are_those_of_its_address():
    assert security('192.0.2.7').allowed_hosts == ['192.0.2.7:*']
    assert security('192.0.2.7').allowed_origins == ['http://192.0.2.7:*']
    assert security('2001:db8::7').allowed_hosts == ['[2001:db8::7]:*']
    assert {'127.0.0.1:*', 'localhost:*', '[::1]:*'} <= set(security('127.0.0.1').allowed_hosts)


@pytest.mark.parametrize(
    ('headers', 'status', 'code'),
    [
        ({'Authorization': 'Bearer wrong'}, 401, 'token_wrong'),
        ({'Authorization': ''}, 401, 'token_wrong'),
        ({'Authorization': f'Basic {TOKEN}'}, 401, 'token_wrong'),
        ({'Origin': 'http://evil.example'}, 403, 'foreign_origin'),
        ({'Origin': 'null'}, 403, 'foreign_origin'),
        ({'Host': 'evil.example:80'}, 421, 'foreign_host'),
    ],
    ids=['wrong', 'missing', 'basic', 'origin', 'null', 'host'],
)
@pytest.mark.parametrize('path', ['/v1/models', '/mcp', '/nothing'], ids=['chat', 'tools', 'nothing'])
def test_strangers_are_refused_in_a_sentence_and_counted(port, calls, path, headers, status, code):
    found, text = get(port, path, **headers)
    error = json.loads(text)['error']
    assert (found, error['code']) == (status, code) and error['message'].endswith('.')
    assert calls.counters.snapshot() == {code: 1}


def test_pages_of_the_server_itself_and_programs_may_use_it(port):
    assert get(port)[0] == 200
    assert get(port, Origin=f'http://127.0.0.1:{port}')[0] == 200
    assert get(port, Host=f'localhost:{port}')[0] == 200


@pytest.mark.parametrize('mode', ['auto', 'legacy'], ids=['new protocol', 'old protocol'])
def test_the_client_of_the_package_calls_tools_at_once(port, mode):
    async def run():
        async with (
            create_mcp_http_client(headers={'Authorization': f'Bearer {TOKEN}'}) as link,
            Client(streamable_http_client(f'http://{HOST}:{port}/mcp', http_client=link), mode=mode) as client,
        ):
            questions = [client.call_tool('ask', {'question': f'What is {number}?'}) for number in range(8)]
            return await asyncio.gather(*questions)

    found = asyncio.run(run())
    assert [one.structured_content['question'] for one in found] == [f'What is {number}?' for number in range(8)]


def test_a_request_of_tools_beyond_the_limit_is_refused(port):
    assert get(port, '/mcp', method='POST', body=b' ' * MOST_TOOL_BYTES, **JSON)[0] == 400  # no JSON
    # The length alone decides, so that nothing is sent to a server that has closed the connection.
    assert get(port, '/mcp', method='POST', **JSON | {'Content-Length': str(MOST_TOOL_BYTES + 1)})[0] == 413


def test_a_server_that_stops_ends_the_questions_under_way_with_a_sentence(tools, calls, known, robots, served):
    responses, begun = [], len(known.goals)
    question = json.dumps({'messages': [{'role': 'user', 'content': known.WAIT}]})
    with served(agent_app(tools, calls, HOST, TOKEN), calls) as port:
        ask = partial(get, port, '/v1/chat/completions', method='POST', body=question)
        thread = threading.Thread(target=lambda: responses.append(ask()))
        thread.start()
        assert robots.node.wait(lambda: len(known.goals) > begun, 60)
    thread.join(60)
    ((status, text),) = responses
    assert status == 400 and 'cancelled' in json.loads(text)['error']['message']


def test_a_port_that_is_taken_and_a_foreign_address_are_refused():
    with (
        socket.create_server((HOST, 0)) as taken,
        pytest.raises(Refused, match='cannot be served .*give another --port'),
    ):
        listening_socket(HOST, taken.getsockname()[1])
    with pytest.raises(Refused, match='cannot be served'):
        listening_socket('192.0.2.7', 0)


def test_the_addresses_and_the_token_are_printed(capsys):
    with listening_socket(HOST, 0) as served:
        print_addresses(served, HOST, TOKEN)
        port = served.getsockname()[1]
    shown = capsys.readouterr()
    assert f'http://{HOST}:{port}/mcp' in shown.err and f'http://{HOST}:{port}/v1' in shown.err and shown.out == ''
    assert f'"Authorization: Bearer {TOKEN}"' in shown.err


def test_a_token_that_the_user_knows_is_not_printed(capsys):
    with listening_socket(HOST, 0) as served:
        print_addresses(served, HOST, '')
    assert '"Authorization: Bearer $M3ET_TOKEN"' in capsys.readouterr().err
