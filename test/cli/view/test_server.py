"""The page over HTTP and WebSocket: a running `m3et view`, as programs and foreign pages meet it."""

import asyncio
import os
from contextlib import suppress

import aiohttp
import cv2
import numpy as np
import pytest
from view_page import Visitor, page

from m3et_ros.cli.view.hub import MOST_ASKED, MOST_BROWSERS
from m3et_ros.data.bags.reader import BagReader
from m3et_ros.data.bags.topics import find_camera

ALL = ['colour', 'depth', 'mask']


@pytest.fixture(scope='module')
def address(tmp_path_factory):
    """The address of a running page."""
    with page('--out', tmp_path_factory.mktemp('bags')) as (address, process):
        yield address
        assert process.poll() is None


def get(address, path='', method='GET', **options):
    """Return status, headers, cookies and text of a request without a redirect."""

    async def run():
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.request(method, address + path, allow_redirects=False, **options) as reply,
        ):
            return reply.status, reply.headers, reply.cookies, await reply.text()

    return asyncio.run(run())


def split(address):
    home, _, token = address.partition('?token=')
    return home, token


def test_the_token_opens_the_page_and_leaves_a_cookie_that_opens_it_too(address):
    home, _ = split(address)
    status, headers, cookies, text = get(address)
    assert status == 200 and '<title>m3et view</title>' in text
    ((name, cookie),) = cookies.items()
    assert cookie['httponly'] and cookie['samesite'] == 'Strict' and name.startswith('m3et_view_')
    policy = headers['Content-Security-Policy']
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and 'unsafe' not in policy
    assert headers['X-Content-Type-Options'] == 'nosniff' and headers['Referrer-Policy'] == 'no-referrer'
    assert get(home, headers={'Cookie': f'{name}={cookie.value}'})[0] == 200
    assert get(home, headers={'Cookie': f'{name}=x'})[0] == 403


def test_without_the_right_token_there_is_a_sentence(address):
    home, token = split(address)
    status, _, cookies, text = get(home)
    assert status == 403 and 'm3et view has printed' in text and not cookies
    status, _, cookies, text = get(home, f'?token={token[:-1]}')
    assert status == 403 and 'The token is wrong' in text and not cookies


def test_a_websocket_wants_the_token_too(address):
    home, token = split(address)
    assert get(home, 'ws')[0] == 403
    assert get(home, 'ws', headers={'Authorization': f'Bearer {token}x'})[0] == 403
    assert get(home, 'ws', headers={'Authorization': f'Bearer {token}'})[0] == 400  # no upgrade, but admitted


@pytest.mark.parametrize('path', ['', 'ws', 'page.js'], ids=['page', 'socket', 'script'])
def test_a_name_of_another_site_is_refused(address, path):
    home, token = split(address)
    headers = {'Host': 'evil.example', 'Authorization': f'Bearer {token}'}
    status, headers, _, text = get(home, path, headers=headers)
    assert status == 403 and 'evil.example' in text and headers['Content-Security-Policy'] == "default-src 'none'"


@pytest.mark.parametrize('path', ['', 'ws'], ids=['page', 'socket'])
def test_a_page_of_another_origin_is_refused(address, path):
    home, token = split(address)
    for origin in ('http://evil.example', 'null', 'http://127.0.0.1:1'):
        status, _, _, text = get(home, path, headers={'Origin': origin, 'Authorization': f'Bearer {token}'})
        assert status == 403 and 'another site' in text


def test_files_are_served_and_nothing_else(address):
    home, _ = split(address)
    for name, kind in (('page.js', 'text/javascript'), ('style.css', 'text/css'), ('icon.svg', 'image/svg+xml')):
        status, headers, _, _ = get(home, name)
        assert status == 200 and headers['Content-Type'].startswith(kind)
    assert get(home, '../app.py')[0] == get(home, 'index.html')[0] == get(home, 'login.html')[0] == 404


def test_pictures_state_and_answers_come_over_the_socket(address, robot):
    async def scenario():
        async with Visitor(address) as visitor:
            await visitor.send('show', robot=robot, pictures=ALL)
            for kind, channels in (('colour', 3), ('depth', 3), ('mask', 2)):
                facts, data = await visitor.next(kind)
                shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
                assert shown.shape[:2] == (120, 160) and facts['size'] == [160, 120]
                assert shown.ndim == channels
            # The browser of the test before may still be leaving.
            state = await visitor.next('state', lambda one: one.get('level') in ('ok', 'warn') and one['browsers'] == 1)
            assert state['robot'] == robot and robot in state['robots']
            assert state['values']['model_id'] == 'tiny-random-0' and state['topics']['rgb'] == '/cam/color/image_raw'
            await visitor.send('point', u=0.1, v=0.1)
            assert (await visitor.next('point'))['metres'] == pytest.approx(1.5)
            await visitor.send('ask', id='1', question='What is it?', scope='episode')
            told = await visitor.next('answer', lambda one: one['answer']['question'] == 'What is it?')
            assert told['answer']['scope'] == 'episode' and told['answer']['model_id'] == 'tiny-random-0'
            assert (await visitor.next('reply'))['answer'] == told['id']

    asyncio.run(scenario())


def test_a_robot_is_chosen_where_the_page_names_none(address, robot):
    async def scenario():
        async with Visitor(address) as visitor:
            await visitor.send('show', robot='', pictures=['colour'])
            assert (await visitor.next('state', lambda one: one['robot']))['robot'] == robot
            await visitor.next('colour')

    asyncio.run(scenario())


def test_a_question_of_a_megabyte_is_refused_and_the_next_one_is_answered(address, robot):
    async def scenario():
        async with Visitor(address) as visitor:
            await visitor.send('show', robot=robot, pictures=[])
            await visitor.next('state', lambda one: 'level' in one)
            await visitor.send('ask', id='long', question='x' * 2**20, scope='frame')
            told = await visitor.next('refused')
            assert told['id'] == 'long' and told['reason'] == 'question_long' and '1,048,576' in told['sentence']
            await visitor.send('ask', id='short', question='What is it?', scope='frame')
            assert (await visitor.next('reply'))['id'] == 'short'
            await visitor.next('state', lambda one: one['refused'].get('question_long'))

    asyncio.run(scenario())


def test_a_message_of_many_megabytes_ends_its_connection_alone(address):
    async def scenario():
        async with Visitor(address) as other, Visitor(address) as visitor:
            await other.send('show', robot='', pictures=[])
            with suppress(ConnectionError):  # the server may end the line before it has taken everything
                await visitor.send('ask', id='1', question='x' * (5 << 20), scope='frame')
            await other.next('state', lambda one: one['refused'].get('message_size'))

    asyncio.run(scenario())


def test_what_cannot_be_read_is_refused_and_nothing_else_stops(address):
    bad = ['no json', '[]', '{}', '{"type": "what"}', '{"type": "ask", "id": 7, "question": "x"}', '{"type": "show"}']
    bad += ['{"type": "point", "u": "x", "v": 0}', '{"type": "point", "u": Infinity, "v": 0}', '[' * 100_000]

    async def scenario():
        async with Visitor(address) as visitor:
            for text in bad:
                await visitor.socket.send_str(text)
                assert (await visitor.next('refused'))['reason'] == 'message_unknown'
            await visitor.send('show', robot='', pictures=['colour', 'nonsense'])
            await visitor.next('state', lambda one: one['refused'].get('message_unknown', 0) >= len(bad))

    asyncio.run(scenario())


def test_a_page_may_ask_so_many_questions_at_once_and_cancel_them(address):
    async def scenario():
        async with Visitor(address) as visitor:
            await visitor.send('show', robot='/nobody', pictures=[])
            state = await visitor.next('state', lambda one: one['robot'] == '/nobody' and 'level' in one)
            assert state['level'] == 'silent' and 'has not reported' in state['sentence']
            for number in range(MOST_ASKED + 1):
                await visitor.send('ask', id=f'{number}', question='What?', scope='frame')
            told = await visitor.next('refused')
            assert told['id'] == f'{MOST_ASKED}' and told['reason'] == 'questions_waiting'
            await visitor.send('stop', id='0')
            told = await visitor.next('unanswered')
            assert told['id'] == '0' and 'cancelled' in told['sentence']

    asyncio.run(scenario())


def test_so_many_browsers_look_and_the_next_is_refused_with_a_sentence(address):
    async def scenario():
        async with asyncio.timeout(120):
            visitors = [await Visitor(address).__aenter__()]
            await visitors[0].send('show', robot='', pictures=[])
            await visitors[0].next('state', lambda one: one['browsers'] == 1)
            visitors += [await Visitor(address).__aenter__() for _ in range(MOST_BROWSERS - 1)]
            async with Visitor(address) as last:
                told = await last.next('refused')
                assert told['reason'] == 'browsers' and f'{MOST_BROWSERS} browsers' in told['sentence']
                assert (await last.socket.receive()).type is aiohttp.WSMsgType.CLOSE
            await visitors[0].__aexit__()
            await visitors[1].send('show', robot='', pictures=[])
            await visitors[1].next('state', lambda one: one['browsers'] == MOST_BROWSERS - 1)
            for visitor in visitors[1:]:
                await visitor.__aexit__()

    asyncio.run(scenario())


def test_the_last_minute_becomes_a_bag_with_the_camera(address, robot):
    async def scenario():
        async with Visitor(address) as visitor:
            await visitor.send('show', robot=robot, pictures=ALL)
            await visitor.next('state', lambda one: one.get('recordable_s', 0) > 2)
            await visitor.send('record')
            return await visitor.next('recorded')

    told = asyncio.run(scenario())
    assert told['seconds'] > 2 and told['messages'] > 10 and os.path.basename(told['path']).startswith('m3et-one-')
    with BagReader(told['path']) as bag:
        assert find_camera(bag).depth == '/cam/aligned_depth_to_color/image_raw'


def test_beyond_loopback_a_password_opens_and_the_token_does_not(tmp_path):
    password = 'correct horse'
    environment = os.environ | {'M3ET_VIEW_PASSWORD': password, 'M3ET_CACHE': str(tmp_path)}
    with page('--host', '0.0.0.0', environment=environment) as (address, process):
        assert 'token' not in address and any('not encrypted' in line for line in process.stderr)
        home = address.replace('0.0.0.0', '127.0.0.1')
        status, _, cookies, text = get(home)
        assert status == 401 and 'type="password"' in text and not cookies and 'data-wrong' in text
        status, _, cookies, text = get(home, 'login', 'POST', data={'password': 'wrong'})
        assert status == 401 and not cookies and 'data-wrong' not in text
        status, headers, cookies, _ = get(home, 'login', 'POST', data={'password': password})
        assert status == 303 and headers['Location'] == '/'
        ((name, cookie),) = cookies.items()
        assert get(home, headers={'Cookie': f'{name}={cookie.value}'})[0] == 200
        status, *_ = get(home, 'login', 'POST', data={'password': password}, headers={'Origin': 'http://evil.example'})
        assert status == 403
