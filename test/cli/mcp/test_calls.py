"""Calls: results, limits, and callers that leave."""

import asyncio
import threading

import pytest

from m3et_ros.cli.mcp.calls import WATCH_S, Busy, Calls


async def stay():
    return False


def test_the_result_of_work_comes_back_and_is_counted(calls):
    assert asyncio.run(calls.run(lambda stopped: 7, stay)) == 7
    assert calls.counters.snapshot() == {'calls': 1}


def test_an_error_of_work_is_raised(calls):
    with pytest.raises(ZeroDivisionError):
        asyncio.run(calls.run(lambda stopped: 1 // 0))
    assert asyncio.run(calls.run(lambda stopped: stopped.is_set())) is False


def test_work_ends_when_its_caller_has_left(calls):
    gone = iter([False, True])

    async def left():
        return next(gone)

    assert asyncio.run(calls.run(lambda stopped: stopped.wait(60), left)) is True
    assert calls.counters.snapshot() == {'calls': 1, 'cancelled': 1}


def test_work_that_clears_its_event_is_stopped_and_counted_once(calls):
    async def left():
        return True

    def work(stopped):
        assert stopped.wait(60)
        stopped.clear()
        return stopped.wait(3 * WATCH_S)

    assert asyncio.run(calls.run(work, left)) is False
    assert calls.counters.snapshot() == {'calls': 1, 'cancelled': 1}


def test_work_ends_when_its_coroutine_is_cancelled_and_others_go_on(calls, until):
    begun, ended, other = threading.Event(), threading.Event(), threading.Event()

    def work(stopped):
        begun.set()
        if stopped.wait(60):
            ended.set()

    async def cancel():
        first = asyncio.create_task(calls.run(work))
        second = asyncio.create_task(calls.run(lambda stopped: other.wait(60) and not stopped.is_set()))
        await until(begun.is_set)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await until(ended.is_set)
        other.set()
        return await second

    assert asyncio.run(cancel()) is True
    assert calls.counters.snapshot() == {'calls': 2, 'cancelled': 1}


def test_more_calls_than_the_limit_are_refused_until_one_has_ended(until):
    calls, release, begun = Calls(1), threading.Event(), threading.Event()

    def work(stopped):
        begun.set()
        return release.wait(60)

    async def fill():
        first = asyncio.create_task(calls.run(work))
        await until(begun.is_set)
        with pytest.raises(Busy, match='1 calls are under way'):
            await calls.run(lambda stopped: 1)
        release.set()
        assert await first
        return await calls.run(lambda stopped: 2)

    assert asyncio.run(fill()) == 2
    assert calls.counters.snapshot() == {'busy': 1, 'calls': 2}
    calls.close()


def test_closing_ends_the_work_that_is_under_way(until):
    calls, begun, ended = Calls(), threading.Event(), threading.Event()

    def work(stopped):
        begun.set()
        if stopped.wait(60):
            ended.set()

    async def close():
        task = asyncio.create_task(calls.run(work))
        await until(begun.is_set)
        await asyncio.to_thread(calls.close)
        await task
        with pytest.raises(Busy, match='stopping'):
            await calls.run(work)

    asyncio.run(close())
    assert ended.is_set()
