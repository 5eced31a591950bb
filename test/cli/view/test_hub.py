"""Browsers of the page: newest wins, one encoding for all, limits, and a connection only while somebody looks."""

import asyncio
import json
import threading

import pytest

from m3et_ros.cli.view import hub as module
from m3et_ros.cli.view.hub import MOST_ASKED, MOST_BROWSERS, Browser, Hub
from m3et_ros.cli.view.robot_feed import FeedOptions


def in_hub(scenario, tmp_path):
    async def run():
        return await scenario(Hub('', FeedOptions(), tmp_path, threading.Event()))

    return asyncio.run(run())


async def everything(browser):
    """Return what waits for a browser."""
    browser.put('end', 'end')
    messages = []
    while (message := await browser.next()) != 'end':
        messages.append(message)
    return messages


def test_a_slow_browser_gets_the_newest_of_each_name_and_counts_the_others(tmp_path):
    async def scenario(_):
        browser = Browser()
        for n in range(5):
            browser.put('colour', b'%d' % n)
        browser.put('state', 's')
        assert browser.skipped == 4
        return await everything(browser)

    assert in_hub(scenario, tmp_path) == [b'4', 's']


def test_a_browser_waits_until_something_comes(tmp_path):
    async def scenario(_):
        browser = Browser()
        waiting = asyncio.create_task(browser.next())
        await asyncio.sleep(0)
        assert not waiting.done()
        browser.put('a', 'x')
        return await waiting

    assert in_hub(scenario, tmp_path) == 'x'


def test_all_browsers_of_a_robot_get_the_same_bytes_and_only_what_they_show(tmp_path):
    async def scenario(hub):
        one, two, other, blind = (Browser() for _ in range(4))
        for browser, namespace, pictures in (
            (one, '/a', {'colour'}),
            (two, '/a', {'colour', 'depth'}),
            (other, '/b', {'colour'}),
            (blind, '/a', set()),
        ):
            hub.enter(browser)
            browser.namespace, browser.pictures = namespace, pictures
        picture = bytes(9)
        hub._deliver('/a', 'colour', picture)
        hub._deliver('/a', 'labels', 'l')
        got = [await everything(browser) for browser in (one, two, other, blind)]
        assert got == [[picture, 'l'], [picture, 'l'], [], ['l']]
        assert got[0][0] is got[1][0] is picture

    in_hub(scenario, tmp_path)


def test_there_is_room_for_so_many_browsers_and_room_again_when_one_leaves(tmp_path):
    async def scenario(hub):
        browsers = [Browser() for _ in range(MOST_BROWSERS)]
        assert all(map(hub.enter, browsers))
        assert not hub.enter(Browser()) and hub.counters['browsers'] == 1
        hub.leave(browsers[0])
        assert hub.enter(Browser())

    in_hub(scenario, tmp_path)


def test_a_browser_that_leaves_cancels_its_questions(tmp_path):
    async def scenario(hub):
        browser = Browser()
        hub.enter(browser)
        browser.asked['1'] = threading.Event()
        hub.leave(browser)
        return browser.asked['1'].is_set()

    assert in_hub(scenario, tmp_path)


@pytest.mark.parametrize(
    ('question', 'waiting', 'reason'),
    [('x' * 1001, 0, 'question_long'), ('What?', MOST_ASKED, 'questions_waiting'), ('What?', 0, 'robot_missing')],
    ids=['long', 'many', 'nobody'],
)
def test_questions_are_refused_with_a_sentence_and_counted(tmp_path, question, waiting, reason):
    async def scenario(hub):
        browser = Browser()
        hub.enter(browser)
        browser.asked = {f'w{n}': threading.Event() for n in range(waiting)}
        hub.ask(browser, '7', question, 'frame')
        (told,) = map(json.loads, await everything(browser))
        assert (told['type'], told['reason'], told['id']) == ('refused', reason, '7') and told['sentence'].endswith('.')
        assert hub.counters[reason] == 1 and len(browser.asked) == waiting

    in_hub(scenario, tmp_path)


def test_nothing_to_record_is_said(tmp_path):
    async def scenario(hub):
        browser = Browser()
        await hub.record(browser)
        return json.loads((await everything(browser))[0])['reason']

    assert in_hub(scenario, tmp_path) == 'robot_missing'


def test_the_graph_is_joined_for_the_first_browser_and_left_after_the_last(tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'LINGER_S', 0.0)

    async def wait(done):
        async with asyncio.timeout(60):
            while not done():
                await asyncio.sleep(0.05)

    def spinning():
        return {thread for thread in threading.enumerate() if thread.name == 'robots'}

    before = spinning()

    async def scenario(hub):
        tending = asyncio.create_task(hub.tend())
        await asyncio.sleep(0)
        assert hub.robots is None
        for _ in range(2):
            browser = Browser()
            hub.enter(browser)
            await wait(lambda: hub.robots is not None)
            hub.leave(browser)
            await wait(lambda: hub.robots is None)
        await wait(lambda: spinning() == before)
        tending.cancel()
        await asyncio.gather(tending, return_exceptions=True)

    in_hub(scenario, tmp_path)


def test_examples_are_those_of_the_model_and_none_of_an_unknown_one():
    examples = module._examples('kitchen')
    assert len(examples) == module.EXAMPLES or {one['scope'] for one in examples} == {'frame', 'episode'}
    assert all(one['question'] for one in examples)
    assert module._examples('nobody-knows-it') == []
