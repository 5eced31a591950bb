"""m3et mcp as its users run it: a child process on stdio, and a server over HTTP, with real robots."""

import asyncio
import base64
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, nullcontext

import cv2
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from m3et_ros.cli.main import main
from m3et_ros.cli.robots import connect
from m3et_ros.data.kitchen.sim.camera import Camera
from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.ros.convert import to_image_msg

COMMAND = [sys.executable, '-m', 'm3et_ros.cli.main', 'mcp']
PATIENT = ['--timeout', '120']
ROBOTS = ['/kitchen', '/one']
CALL = {'jsonrpc': '2.0', 'method': 'tools/call'}
HELLO = {
    'jsonrpc': '2.0',
    'id': 1,
    'method': 'initialize',
    'params': {'protocolVersion': '2025-06-18', 'capabilities': {}, 'clientInfo': {'name': 'test', 'version': '1'}},
}
READY = {'jsonrpc': '2.0', 'method': 'notifications/initialized'}


@pytest.fixture(scope='module')
def kitchen():
    """A picture of a simulated kitchen that training never saw, with a hand and without a table: colours and metres."""
    episode = Episode(20_011, width=160, height=120, fps=5)
    with Camera(episode, backend='raycast', shadows=False) as camera:
        observation = camera.observe(next(iter(episode.run(1))))
    return observation.rgb, observation.depth


@pytest.fixture(scope='module')
def real(m3et_started, kitchen):
    """The robots /one with untrained weights and /kitchen with the shipped ones, on a camera that shows the kitchen."""
    rgb, depth = kitchen
    with (
        m3et_started('robot', '--namespace', 'one', '--camera', '/cam', '--model', 'tiny'),
        m3et_started('robot', '--namespace', 'kitchen', '--camera', '/cam', '--device', 'cpu'),
        connect(threading.Event()) as robots,
    ):
        node = robots.node
        colour = node.create_publisher(Image, '/cam/color/image_raw', 5)
        metres = node.create_publisher(Image, '/cam/aligned_depth_to_color/image_raw', 5)

        def show():
            header = Header(stamp=node.get_clock().now().to_msg(), frame_id='lens')
            metres.publish(to_image_msg(depth, '32FC1', header))
            colour.publish(to_image_msg(rgb, 'rgb8', header))

        node.create_timer(0.5, show)
        for name in ROBOTS:
            assert node.wait(lambda name=name: int(robots.robot(name).health.values.get('frames_in', 0)) > 0, 120)
        yield robots


def started(*words):
    return subprocess.Popen(
        [*COMMAND, *PATIENT, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process):
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()


@pytest.fixture
def server(known):
    """The command on stdio as a child process, which knows the known robot; it has always ended at the end."""
    process, names = started(), []
    try:
        send(process, HELLO, READY)
        assert json.loads(process.stdout.readline())['id'] == 1
        end = time.monotonic() + 120
        while '/known' not in names:
            assert time.monotonic() < end, names
            send(process, call(0, 'list_robots'))
            found = json.loads(process.stdout.readline())['result']['structuredContent']
            names = [one['robot'] for one in found['robots']]
        yield process
        assert 'Traceback' not in process.stderr.read()
    finally:
        ended(process)


@pytest.fixture(scope='module')
def web(known, real):
    """Port and token of the command over HTTP, which knows all robots; a signal ends it at the end."""
    process, shown = started('--http', '--port', '0'), ''
    try:
        while not (found := re.search(r'http://127\.0\.0\.1:(\d+)/mcp.*Bearer (\S+)"', shown, re.DOTALL)):
            line = process.stderr.readline()
            assert line, shown
            shown += line
        rest = []
        drain = threading.Thread(target=lambda: rest.append(process.stderr.read()))
        drain.start()
        web, status, end = (int(found[1]), found[2]), 0, time.monotonic() + 120
        for name in ('known', 'one', 'kitchen'):
            while status != 200:
                assert time.monotonic() < end, name
                status = answer_to(web, {'model': name, 'messages': [{'role': 'user', 'content': 'What is it?'}]})[0]
            status = 0
        yield web
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        drain.join(60)
        assert 'Traceback' not in rest[0]
    finally:
        ended(process)


def send(process, *messages):
    process.stdin.write(''.join(json.dumps(message) + '\n' for message in messages))
    process.stdin.flush()


def call(number, tool, **arguments):
    return CALL | {'id': number, 'params': {'name': tool, 'arguments': arguments}}


@contextmanager
def posted(web, path, document, **headers):
    """Send a request and yield its connection before the response has come."""
    port, token = web
    link = http.client.HTTPConnection('127.0.0.1', port, timeout=120)
    try:
        common = {'Content-Type': 'application/json', 'Accept': 'application/json, text/event-stream'}
        link.request('POST', path, json.dumps(document), common | {'Authorization': f'Bearer {token}'} | headers)
        yield link
    finally:
        link.close()


def answer_to(web, document, **headers):
    with posted(web, '/v1/chat/completions', document, **headers) as link:
        response = link.getresponse()
        return response.status, json.loads(response.read())


async def with_server(use):
    """Use the tools of a child process on stdio."""
    parameters = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], *PATIENT], env=dict(os.environ))
    async with Client(stdio_client(parameters)) as client:
        return await use(client)


def test_real_robots_are_used_over_stdio(real):
    async def use(client):
        models, end = {}, time.monotonic() + 120
        while not {'/one': 'tiny-random-0', '/kitchen': 'kitchen2'}.items() <= models.items():
            assert time.monotonic() < end, models
            listed = await client.call_tool('list_robots', {})
            models = {one['robot']: one['model_id'].partition('@')[0] for one in listed.structured_content['robots']}
        unnamed = await client.call_tool('look', {})
        assert unnamed.is_error and re.search('several robots, /kitchen, .*/one; give', unnamed.content[0].text)
        calls = [('look', {'show': show}) for show in ('overlay', 'colour', 'depth')]
        calls += [('ask', {'question': 'Is there a hand in view?'}), ('ask', {'question': 'Is there a table in view?'})]
        calls += [('where', {'thing': 'cucumber'}), ('what_happened', {}), ('what_next', {}), ('health', {})]
        return await asyncio.gather(*(client.call_tool(name, words | {'robot': 'kitchen'}) for name, words in calls))

    *looks, hand, table, where, past, coming, health = asyncio.run(with_server(use))
    for look in looks:
        report, picture = look.structured_content, look.content[1]
        assert (report['width'], report['height'], report['frame_id']) == (160, 120, 'lens')
        assert {'hand', 'counter'} <= {one['name'] for one in report['in_view']}
        assert base64.b64decode(picture.data).startswith(b'\xff\xd8')
    assert (hand.structured_content['text'], table.structured_content['text']) == ('yes', 'no')
    assert where.structured_content['question'] == 'Where is the cucumber?' and not where.is_error
    assert past.structured_content['frames'] > 0 and len(past.structured_content['actions']) == 4
    assert coming.structured_content['next'] and coming.structured_content['horizon_s'] > 0
    assert health.structured_content['values']['state'] == 'active'


def test_a_cancelled_call_leaves_the_server_at_work_and_one_that_hangs_up_cancels_its_question(server, known, robots):
    send(server, call(5, 'ask', question='What is it?', robot='/known'))
    answer = json.loads(server.stdout.readline())
    assert (answer['jsonrpc'], answer['id']) == ('2.0', 5)
    assert answer['result']['structuredContent']['text'] == 'a cup'
    begun, cancelled = len(known.goals), known.cancelled
    send(server, call(2, 'ask', question=known.WAIT, robot='/known'))
    assert robots.node.wait(lambda: len(known.goals) > begun, 120)
    send(server, {'jsonrpc': '2.0', 'method': 'notifications/cancelled', 'params': {'requestId': 2}})
    assert robots.node.wait(lambda: known.cancelled > cancelled, 60)
    send(server, call(3, 'health', robot='/known'))
    while (answer := json.loads(server.stdout.readline())).get('id') != 3:
        pass
    counts = answer['result']['structuredContent']['server']
    assert counts['cancelled'] == 1 and 'refused' not in counts
    send(server, call(4, 'ask', question=known.WAIT, robot='/known'))
    assert robots.node.wait(lambda: len(known.goals) > begun + 1, 120)
    server.stdin.close()
    # Every line on stdout is a message of the protocol, also those of the question that nobody waits for any more.
    assert all(json.loads(line)['jsonrpc'] == '2.0' for line in server.stdout.read().splitlines())
    assert server.wait(60) == 0 and robots.node.wait(lambda: known.cancelled > cancelled + 1, 60)


def test_a_signal_ends_the_server_although_it_waits_for_stdin(server):
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0


def test_real_robots_are_used_over_http(web, kitchen):
    png = base64.b64encode(cv2.imencode('.png', kitchen[0][..., ::-1])[1]).decode()
    image = {'type': 'image_url', 'image_url': {'url': f'data:image/png;base64,{png}'}}
    port, token = web

    async def look():
        async with (
            create_mcp_http_client(headers={'Authorization': f'Bearer {token}'}) as link,
            Client(streamable_http_client(f'http://127.0.0.1:{port}/mcp', http_client=link)) as client,
        ):
            return await client.call_tool('look', {'robot': '/one'})

    def ask(question, model, *parts):
        content = [{'type': 'text', 'text': question}, *parts]
        status, found = answer_to(web, {'model': model, 'messages': [{'role': 'user', 'content': content}]})
        assert status == 200, found
        return found['m3et']

    seen = asyncio.run(look())
    assert seen.content[1].mime_type == 'image/jpeg' and seen.structured_content['frame_id'] == 'lens'
    sent = ask('Is there a hand in view?', 'kitchen', image)
    assert (sent['text'], sent['frame_id']) == ('yes', '') and sent['model_id'].startswith('kitchen2@')
    assert ask('Is there a table in view?', 'kitchen')['text'] == 'no'
    assert ask('What was done last?', 'kitchen:episode')['scope'] == 'episode'


@pytest.mark.parametrize('version', ['2025-06-18', '2026-07-28'], ids=['old protocol', 'new protocol'])
def test_a_client_of_http_that_hangs_up_cancels_its_question_and_no_other(web, known, robots, version):
    question, headers = call(2, 'ask', question=known.WAIT, robot='/known'), {'MCP-Protocol-Version': version}
    if version == '2025-06-18':
        with posted(web, '/mcp', HELLO) as link:
            response = link.getresponse()
            headers['Mcp-Session-Id'] = response.headers['Mcp-Session-Id']
            response.read()
        with posted(web, '/mcp', READY, **headers) as link:
            assert link.getresponse().status == 202
    else:
        about = 'io.modelcontextprotocol/'
        question['params']['_meta'] = {f'{about}protocolVersion': version, f'{about}clientCapabilities': {}}
        headers |= {'Mcp-Method': 'tools/call', 'Mcp-Name': 'ask'}
    begun, cancelled = len(known.goals), known.cancelled
    with posted(web, '/mcp', question, **headers):
        assert robots.node.wait(lambda: len(known.goals) > begun, 120)
    assert robots.node.wait(lambda: known.cancelled > cancelled, 60)
    assert answer_to(web, {'model': 'known', 'messages': [{'role': 'user', 'content': 'What is it?'}]})[0] == 200


def test_strangers_are_refused(web):
    question = {'messages': [{'role': 'user', 'content': 'What is it?'}]}
    assert answer_to(web, question, Authorization='Bearer wrong')[0] == 401
    assert answer_to(web, question, Origin='http://evil.example')[0] == 403
    assert answer_to(web, question, Host='evil.example')[0] == 421


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (['--port', '8000'], 'are for --http'),
        (['--host', '::1'], 'are for --http'),
        (['--http', '--host', '192.0.2.7'], 'set M3ET_TOKEN'),
    ],
    ids=['port', 'host', 'open door'],
)
def test_what_cannot_be_served_is_refused_in_a_sentence(monkeypatch, capsys, words, sentence):
    monkeypatch.delenv('M3ET_TOKEN', raising=False)
    assert main(['mcp', *words]) == 1
    shown = capsys.readouterr()
    assert sentence in shown.err and shown.out == ''


def test_every_option_arrives(border, reach, every_option, monkeypatch):
    monkeypatch.setenv('M3ET_TOKEN', 'x' * 16)
    bound = border('m3et_ros.cli.mcp.web.listening_socket', nullcontext())
    served = border('m3et_ros.cli.mcp.app.serve_http', last=True)
    words = ['mcp', '--http', '--host', '127.0.0.2', '--port', '8123', '--timeout', '7.5']
    every_option(words)
    reach(*words)
    assert bound == [{'host': '127.0.0.2', 'port': 8123}]
    (call,) = served
    assert (call['host'], call['token'], call['timeout_s']) == ('127.0.0.2', 'x' * 16, 7.5)
    alone = border('m3et_ros.cli.mcp.app.serve_stdio', last=True)
    reach('mcp', '--timeout', '8')
    assert alone[0]['timeout_s'] == 8
