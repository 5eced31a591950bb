"""A real robot on the WebSocket of Foxglove, read by a client that speaks its protocol."""

import asyncio
import json
import socket
import struct
import threading
from contextlib import asynccontextmanager, contextmanager

import numpy as np
import pytest
from protobuf_fields import fields
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from m3et_ros.cli.output import Refused
from m3et_ros.cli.view import foxglove as served
from m3et_ros.cli.view.foxglove import SOURCES, run_foxglove
from m3et_ros.ros.convert import stamp_msg
from m3et_ros.ros.space_outputs import SpaceThing, thing_markers
from m3et_ros.runtime.space import PixelRegion, Solid
from m3et_ros.srv import AskQuestion

pytest.importorskip('foxglove', reason="foxglove-sdk is not installed: pip install 'm3et_ros[foxglove]'")
aiohttp = pytest.importorskip('aiohttp', reason="aiohttp is not installed: pip install 'm3et_ros[view]'")
MESSAGE = struct.Struct('<BIQ')


class Viewer:
    """A client of the protocol foxglove.sdk.v1."""

    def __init__(self, line):
        self.line = line
        self.channels = {}

    async def text(self):
        """Receive messages up to the next text; return it."""
        while True:
            message = await self.line.receive(60)
            assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
            if message.type == aiohttp.WSMsgType.TEXT:
                return json.loads(message.data)

    async def learn(self, topic):
        """Receive advertisements until there is a channel of this topic."""
        while topic not in self.channels:
            told = await self.text()
            if told['op'] == 'advertise':
                self.channels |= {channel['topic']: channel for channel in told['channels']}

    async def subscribe(self, topic):
        """Subscribe under the id of the channel."""
        channel = self.channels[topic]['id']
        await self.line.send_json({'op': 'subscribe', 'subscriptions': [{'id': channel, 'channelId': channel}]})

    async def unsubscribe(self, topic):
        """End a subscription."""
        await self.line.send_json({'op': 'unsubscribe', 'subscriptionIds': [self.channels[topic]['id']]})

    async def message(self, topic):
        """Return the stamp and the bytes of the next message of a topic."""
        async with asyncio.timeout(120):
            while True:
                message = await self.line.receive()
                assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
                if message.type == aiohttp.WSMsgType.BINARY:
                    operation, channel, stamp = MESSAGE.unpack_from(message.data)
                    if operation == 1 and channel == self.channels[topic]['id']:
                        return stamp, message.data[MESSAGE.size :]


@contextmanager
def serving(graph, monkeypatch, **options):
    """The port on which robots are served while a block lasts."""
    stopped, ports = threading.Event(), []
    monkeypatch.setattr(served, 'print_line', lambda text: ports.append(int(text.rpartition(':')[2])))
    thread = threading.Thread(target=run_foxglove, args=(graph, stopped), kwargs={'port': 0, **options})
    thread.start()
    try:
        assert graph.node.wait(lambda: bool(ports), 60)
        yield ports[0]
    finally:
        stopped.set()
        thread.join(60)
    assert not thread.is_alive()


@asynccontextmanager
async def viewing(port):
    """A viewer that is connected while a block lasts."""
    address = f'ws://127.0.0.1:{port}'
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(address, protocols=['foxglove.sdk.v1'], max_msg_size=0) as line,
    ):
        yield Viewer(line)


def camera_topics_read(graph):
    return {one.topic_name for one in graph.node.subscriptions if one.topic_name.startswith('/cam/')}


def test_a_client_receives_what_it_subscribes_to_and_no_more_is_read(graph, robot, monkeypatch):
    async def look(port):
        async with viewing(port) as viewer:
            await viewer.learn(f'{robot}/model/health')
            assert set(viewer.channels) == {f'{robot}/{name}' for name in (*SOURCES, 'model/health')}
            assert not camera_topics_read(graph)
            await viewer.subscribe(f'{robot}/rgb')
            stamp, data = await viewer.message(f'{robot}/rgb')
            found = fields(data)
            own = fields(found[1][0])
            assert stamp == own[1][0] * 10**9 + own.get(2, [0])[0] and found[4] == [b'eye']
            assert camera_topics_read(graph) == {'/cam/color/image_raw'}
            await viewer.unsubscribe(f'{robot}/rgb')
            for name in ('model/depth', 'model/overlay', 'depth', 'camera_info', 'tf', 'model/anticipation'):
                await viewer.subscribe(f'{robot}/{name}')
                assert (await viewer.message(f'{robot}/{name}'))[1]
            await viewer.subscribe(f'{robot}/model/health')
            health = json.loads((await viewer.message(f'{robot}/model/health'))[1])
            assert health['values']['model_id'] == 'tiny-random-0'
            await viewer.subscribe(f'{robot}/model/answer')
            ended = threading.Event()
            asking = threading.Thread(target=ask_until, args=(graph.robot(robot), ended))
            asking.start()
            try:
                _, data = await viewer.message(f'{robot}/model/answer')
            finally:
                ended.set()
                asking.join(60)
            assert fields(data)[3][0].startswith(b'What is this? ')

    with serving(graph, monkeypatch) as port:
        asyncio.run(look(port))
        assert graph.node.wait(lambda: not camera_topics_read(graph), 60)


def test_boxes_of_what_is_seen_are_those_of_the_markers(graph, monkeypatch):
    region = PixelRegion(0, (0, 0, 1, 1), np.zeros(1, np.int64), np.zeros(1, np.int64))
    thing = SpaceThing('cup', (255, 0, 0), region, Solid((0.5, 0.25, 1.0), (0.1, 0.2, 0.3), 1.0), 0.5)
    markers = MarkerArray(markers=thing_markers(thing, 0, Header(stamp=stamp_msg(7), frame_id='eye')))
    publisher = graph.node.create_publisher(MarkerArray, '/seen/model/markers', 1)
    timer = graph.node.create_timer(0.2, lambda: publisher.publish(markers))

    async def look(port):
        async with viewing(port) as viewer:
            await viewer.learn('/seen/model/things')
            await viewer.subscribe('/seen/model/things')
            return await viewer.message('/seen/model/things')

    with serving(graph, monkeypatch, namespaces=['/seen']) as port:
        stamp, data = asyncio.run(look(port))
    graph.node.destroy_timer(timer)
    graph.node.destroy_publisher(publisher)
    assert stamp == 7 and b'cup' in data and b'eye' in data


def ask_until(robot, ended):
    while not ended.is_set():
        robot.ask(AskQuestion.Request(question='What is this?', top_k=1), 60)


def test_a_port_in_use_is_refused(graph):
    with socket.socket() as used:
        used.bind(('127.0.0.1', 0))
        used.listen()
        with pytest.raises(Refused, match='give another --port'):
            run_foxglove(graph, threading.Event(), port=used.getsockname()[1])
