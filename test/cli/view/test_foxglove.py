"""A real robot on the WebSocket of Foxglove, read by a client that speaks its protocol."""

import json
import socket
import struct
import threading

import pytest
from protobuf_fields import fields

from m3et_ros.cli.output import Refused
from m3et_ros.cli.view import foxglove as served
from m3et_ros.cli.view.foxglove import SOURCES, run_foxglove
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
        while True:
            message = await self.line.receive(60)
            assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
            if message.type == aiohttp.WSMsgType.BINARY:
                operation, channel, stamp = MESSAGE.unpack_from(message.data)
                if operation == 1 and channel == self.channels[topic]['id']:
                    return stamp, message.data[MESSAGE.size :]


@pytest.fixture
def port(graph, robot, monkeypatch):
    """The port on which the robots are served."""
    stopped, ports = threading.Event(), []
    monkeypatch.setattr(served, 'print_line', lambda text: ports.append(int(text.rpartition(':')[2])))
    thread = threading.Thread(target=run_foxglove, args=(graph, stopped), kwargs={'port': 0})
    thread.start()
    assert graph.node.wait(lambda: bool(ports), 60)
    yield ports[0]
    stopped.set()
    thread.join(60)
    assert not thread.is_alive()


def camera_topics_read(graph):
    return {one.topic_name for one in graph.node.subscriptions if one.topic_name.startswith('/cam/')}


def test_a_client_receives_what_it_subscribes_to_and_no_more_is_read(graph, robot, port):
    async def look():
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f'ws://127.0.0.1:{port}', protocols=['foxglove.sdk.v1'], max_msg_size=0) as line,
        ):
            viewer = Viewer(line)
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

    import asyncio

    asyncio.run(look())
    assert graph.node.wait(lambda: not camera_topics_read(graph), 60)


def ask_until(robot, ended):
    while not ended.is_set():
        robot.ask(AskQuestion.Request(question='What is this?', top_k=1), 60)


def test_a_port_in_use_is_refused(graph):
    with socket.socket() as used:
        used.bind(('127.0.0.1', 0))
        used.listen()
        with pytest.raises(Refused, match='give another --port'):
            run_foxglove(graph, threading.Event(), port=used.getsockname()[1])
