"""A running page and a visitor of it, for the tests of m3et view."""

import asyncio
import json
import re
import subprocess
import sys
from contextlib import contextmanager

import aiohttp

ADDRESS = re.compile(r'http://\S+')


@contextmanager
def page(*options, environment=None):
    """Run `m3et view` and yield its address and process."""
    command = [sys.executable, '-m', 'm3et_ros.cli.main', 'view', '--port', '0', *map(str, options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        yield ADDRESS.search(process.stdout.readline())[0], process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=60)
        finally:
            process.kill()


class Visitor:
    """A browser without a picture: the messages of the page, as a program reads them."""

    def __init__(self, address):
        self.home, _, self.token = address.partition('?token=')

    async def __aenter__(self):
        self.session = aiohttp.ClientSession(headers={'Authorization': f'Bearer {self.token}'})
        self.socket = await self.session.ws_connect(f'{self.home}ws', max_msg_size=0)
        return self

    async def __aexit__(self, *_):
        await self.socket.close()
        await self.session.close()

    async def send(self, kind, **message):
        await self.socket.send_json({'type': kind, **message})

    async def next(self, wanted, holds=lambda message: True):
        """Return the next message of a type for which a condition holds; a picture is (facts, bytes)."""
        async with asyncio.timeout(60):
            while True:
                message = await self.socket.receive()
                if message.type is aiohttp.WSMsgType.BINARY:
                    length = int.from_bytes(message.data[:4], 'little')
                    facts = json.loads(message.data[4 : 4 + length])
                    if facts['kind'] == wanted:
                        return facts, message.data[4 + length :]
                    continue
                assert message.type is aiohttp.WSMsgType.TEXT, message
                found = json.loads(message.data)
                assert found['schema'] == 1
                if found['type'] == wanted and holds(found):
                    return found
