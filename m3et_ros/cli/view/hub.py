"""The browsers, and the robots that they look at: connected while somebody looks, gone when nobody does."""

import asyncio
import threading
import time
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from m3et_ros.cli.output import Refused, json_text, print_status
from m3et_ros.cli.questions import questions_of
from m3et_ros.cli.robots import Robots, connect
from m3et_ros.cli.view.robot_feed import PICTURES, FeedOptions, RobotFeed
from m3et_ros.data.errors import InputError
from m3et_ros.ros.diagnostics import Counters
from m3et_ros.ros.logs import error_sentence
from m3et_ros.runtime.limits import QUESTION_CHARS

MOST_BROWSERS = 50
MOST_ASKED = 3
"""Questions of one browser that wait at the same time."""
ASK_S = 120.0
"""Longest wait for an answer."""
REFRESH_S = 0.5
STATE_S = 1.0
LINGER_S = 5.0
"""Seconds after the last browser for which the connection stays, because a page that is loaded again leaves first."""
EXAMPLES = 24
SHOWN_VALUES = (
    'state', 'model_id', 'device', 'rate_in_hz', 'rate_out_hz', 'age_s/p50', 'age_s/p95', 'latency_s/p50', 'frames_out',
    'frames_without_depth', 'questions_waiting', 'memory_frames', 'domain', 'depth_fill', 'runtime', 'last_error',
    'process_memory_mib', 'started_again',
)  # fmt: skip
"""Figures of the health of a robot that the page shows, beside those of SHOWN_GROUPS."""
SHOWN_GROUPS = ('dropped/', 'answerer/', 'causes/')


class Browser:
    """A page that is open; of two messages of a name the newer counts, so that a slow line never gets a queue.

    Attributes:
        namespace: the robot that it looks at; '' for none yet.
        pictures: kinds of pictures that it shows.
        asked: questions that wait, by the number that the page gave them, with the event that cancels each.
        skipped: messages that a newer one replaced before they were sent.
    """

    def __init__(self):
        self.namespace = ''
        self.pictures: set[str] = set()
        self.asked: dict[str, threading.Event] = {}
        self.skipped = 0
        self._waiting: dict[Hashable, str | bytes] = {}
        self._changed = asyncio.Event()

    def put(self, name: Hashable, message: str | bytes) -> None:
        """Queue a message; on the thread of the event loop."""
        if self._waiting.pop(name, None) is not None:
            self.skipped += 1
        self._waiting[name] = message
        self._changed.set()

    def drop(self) -> None:
        """Forget what waits; the page looks at another robot."""
        self._waiting.clear()

    async def next(self) -> str | bytes:
        """Wait for the next message."""
        while not self._waiting:
            self._changed.clear()
            await self._changed.wait()
        return self._waiting.pop(next(iter(self._waiting)))


class Hub:
    """Browsers and the robots that they look at; every method runs on the thread of the event loop.

    Args:
        namespace: robot that a page shows first; '' for the first of the graph.
        options: rate and size of pictures.
        out: folder of the recordings.
        stopped: event that ends every wait.
    """

    def __init__(self, namespace: str, options: FeedOptions, out: Path, stopped: threading.Event):
        self.browsers: set[Browser] = set()
        self.counters = Counters()
        self.robots: Robots | None = None
        self._namespace, self._options, self._out, self._stopped = namespace, options, out, stopped
        self._feeds: dict[str, RobotFeed] = {}
        self._examples: dict[str, list[dict[str, str]]] = {}
        self._listed: list[str] = []
        self._connection = ExitStack()
        self._looked_at = asyncio.Event()
        self._left_at = 0.0
        self._state_due = 0.0
        self._loop = asyncio.get_running_loop()
        self._askers = ThreadPoolExecutor(32, 'asking')

    def refuse(self, browser: Browser | None, reason: str, sentence: str, **about: Any) -> None:
        """Count a refusal and send the browser its sentence."""
        self.counters.count(reason)
        if browser is not None:
            browser.put(
                ('refused', reason), json_text({'type': 'refused', 'reason': reason, 'sentence': sentence, **about})
            )

    def enter(self, browser: Browser) -> bool:
        """Admit a browser; False if there are MOST_BROWSERS."""
        if len(self.browsers) >= MOST_BROWSERS:
            self.counters.count('browsers')
            return False
        self.browsers.add(browser)
        self._looked_at.set()
        return True

    def leave(self, browser: Browser) -> None:
        """Let a browser go: its questions are cancelled, and nothing is read for it any more."""
        self.browsers.discard(browser)
        self._left_at = time.monotonic()
        for cancelled in browser.asked.values():
            cancelled.set()

    async def tend(self) -> None:
        """Connect while there are browsers, and leave the graph when there are none; until it is cancelled."""
        try:
            while True:
                await self._looked_at.wait()
                try:
                    self.robots = await asyncio.to_thread(self._connection.enter_context, connect(self._stopped))
                    while self.browsers or time.monotonic() < self._left_at + LINGER_S:
                        await self._refresh(self.robots)
                        await asyncio.sleep(REFRESH_S)
                except Exception as error:  # the page must come back by itself
                    print_status(f'm3et: {error_sentence("the page", error)}')
                    await asyncio.sleep(LINGER_S)
                await self._disconnect()
                if not self.browsers:
                    self._looked_at.clear()
        finally:
            self._askers.shutdown(wait=False, cancel_futures=True)
            await self._disconnect()

    def show(self, browser: Browser, namespace: str, pictures: set[str]) -> None:
        """Let a browser look at a robot.

        Args:
            browser: the page.
            namespace: the robot; '' for the one that comes first.
            pictures: kinds of pictures, of PICTURES.
        """
        namespace = namespace or self._namespace or (self._listed[0] if self._listed else '')
        moved, more = namespace != browser.namespace, pictures - browser.pictures
        browser.namespace, browser.pictures = namespace, pictures
        if moved:
            browser.drop()
        feed = self._feeds.get(namespace)
        for name, message in (feed.snapshot() if feed else {}).items():
            if (name in pictures and (moved or name in more)) or (name not in PICTURES and moved):
                browser.put(name, message)
        self._state_due = 0.0

    def ask(self, browser: Browser, number: str, question: str, scope: str) -> None:
        """Put a question to the robot that a browser looks at; parts and the answer come as messages.

        Args:
            browser: the page.
            number: names the question in the messages.
            question: the question.
            scope: 'frame' or 'episode'.
        """
        feed = self._feeds.get(browser.namespace)
        if len(question) > QUESTION_CHARS:
            sentence = f'The question has {len(question):,} characters; ask with at most {QUESTION_CHARS:,}.'
            self.refuse(browser, 'question_long', sentence, id=number)
        elif len(browser.asked) >= MOST_ASKED or number in browser.asked:
            sentence = f'{MOST_ASKED} questions of this page wait already; ask again when one is answered.'
            self.refuse(browser, 'questions_waiting', sentence, id=number)
        elif feed is None:
            self.refuse(browser, 'robot_missing', 'No robot is here yet; ask when one is.', id=number)
        else:
            browser.asked[number] = threading.Event()
            self._loop.create_task(self._ask(browser, feed, number, question, scope))

    def measure(self, browser: Browser, u: float, v: float) -> None:
        """Send the depth at a place of the picture, both coordinates 0 to 1."""
        feed = self._feeds.get(browser.namespace)
        metres = feed.metres_at(u, v) if feed else None
        browser.put('point', json_text({'type': 'point', 'u': u, 'v': v, 'metres': metres}))

    async def record(self, browser: Browser) -> None:
        """Write the last minute of a robot to a bag, and send its path."""
        feed = self._feeds.get(browser.namespace)
        if feed is None:
            self.refuse(browser, 'robot_missing', 'No robot is here yet, so there is nothing to record.')
            return
        path = self._out / f'm3et-{browser.namespace.strip("/").replace("/", "-")}-{datetime.now():%Y%m%d-%H%M%S}'
        seconds = feed.last_minute.seconds
        try:
            messages = await asyncio.to_thread(feed.last_minute.write, path)
        except InputError as error:
            self.refuse(browser, error.reason, str(error))
            return
        document = {'type': 'recorded', 'path': str(path), 'seconds': seconds, 'messages': messages}
        browser.put('recorded', json_text(document))

    async def _ask(self, browser: Browser, feed: RobotFeed, number: str, question: str, scope: str) -> None:
        written: list[str] = []

        def put(name: str, **document: Any) -> None:
            browser.put((name, number), json_text({'type': name, 'id': number, **document}))

        def write(part: str) -> None:
            written.append(part)
            self._loop.call_soon_threadsafe(partial(put, 'part', text=''.join(written)))

        try:
            converse = partial(feed.robot.converse, question, ASK_S, write, scope=scope, stopped=browser.asked[number])
            answer = await self._loop.run_in_executor(self._askers, converse)
            put('reply', answer=feed.add_answer(answer))
        except (Refused, InputError) as error:
            put('unanswered', sentence=str(error))
        except Exception as error:  # a fault with one question must not end the page
            put('unanswered', sentence=error_sentence('the question', error))
        finally:
            browser.asked.pop(number, None)

    def _send(self, namespace: str, name: Hashable, message: str | bytes) -> None:
        """Hand a message of a feed to the event loop; on any thread."""
        self._loop.call_soon_threadsafe(self._deliver, namespace, name, message)

    def _deliver(self, namespace: str, name: Hashable, message: str | bytes) -> None:
        for browser in self.browsers:
            if browser.namespace == namespace and (name in browser.pictures or name not in PICTURES):
                browser.put(name, message)

    async def _refresh(self, robots: Robots) -> None:
        due = time.monotonic() >= self._state_due
        if due:
            self._listed = await asyncio.to_thread(robots.namespaces)
            self._state_due = time.monotonic() + STATE_S
        for browser in self.browsers:
            if not browser.namespace and (self._listed or self._namespace):
                self.show(browser, '', browser.pictures)
        looked_at = {browser.namespace for browser in self.browsers} - {''}
        for namespace in set(self._feeds) - looked_at:
            await asyncio.to_thread(self._feeds.pop(namespace).close)
        for namespace in looked_at:
            if namespace not in self._feeds:
                feed = RobotFeed(robots, namespace, self._options, partial(self._send, namespace))
                self._feeds[namespace] = feed
            wanted = set().union(*(b.pictures for b in self.browsers if b.namespace == namespace))
            await asyncio.to_thread(self._feeds[namespace].refresh, wanted)
        if due:
            for browser in list(self.browsers):
                browser.put('state', json_text(await self._state(browser)))

    async def _state(self, browser: Browser) -> dict[str, Any]:
        feed = self._feeds.get(browser.namespace)
        document: dict[str, Any] = {
            'type': 'state',
            'robots': self._listed,
            'robot': browser.namespace,
            'browsers': len(self.browsers),
            'refused': self.counters.snapshot(),
            'skipped': browser.skipped,
        }
        if feed is None:
            return document
        health = feed.robot.health
        values = {
            name: value
            for name, value in health.values.items()
            if name in SHOWN_VALUES or name.startswith(SHOWN_GROUPS)
        }
        document |= {
            'level': health.level,
            'sentence': health.sentence,
            'values': values,
            'topics': feed.robot.camera_topics,
            'troubles': dict(feed.troubles),
            'recordable_s': feed.last_minute.seconds,
            'examples': await self._examples_of(health.values.get('model_id', '')),
        }
        return document

    async def _examples_of(self, model_id: str) -> list[dict[str, str]]:
        """Return questions to begin with; none of a model that is not installed here or was not taught any."""
        name = model_id.partition('@')[0]
        if name not in self._examples:
            self._examples[name] = []
            if name and '-random-' not in name:
                self._examples[name] = await asyncio.to_thread(_examples, name)
        return self._examples[name]

    async def _disconnect(self) -> None:
        for feed in self._feeds.values():
            await asyncio.to_thread(feed.close)
        self._feeds.clear()
        self._listed, self.robots = [], None
        await asyncio.to_thread(self._connection.close)
        self._connection = ExitStack()


def _examples(model: str) -> list[dict[str, str]]:
    try:
        taught = questions_of(model)
    except (Refused, InputError):
        return []
    frame = [kind['examples'][0] for kind in taught['frame'] if kind['answered_by_one_frame']]
    everyday = [kind['examples'][0] for kind in taught['composed']]
    episode = [kind['examples'][0] for kind in taught['episode']]
    questions = [(text, 'frame') for text in (*everyday, *frame)] + [(text, 'episode') for text in episode]
    return [{'question': text, 'scope': scope} for text, scope in questions][:EXAMPLES]
