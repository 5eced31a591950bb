"""A page in headless Chromium, driven over its debugging protocol (https://chromedevtools.github.io/devtools-protocol)."""

import asyncio
import base64
import itertools
import json
import shutil
import subprocess
import time

import aiohttp

PROGRAM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'chrome'))), None)
FLAGS = ('--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--mute-audio')


class ProtocolError(Exception):
    """The browser could not do what it was told."""


class Chromium:
    """One page.

    Args:
        profile: an empty folder.
    """

    def __init__(self, profile):
        command = [PROGRAM, *FLAGS, '--remote-debugging-port=0', f'--user-data-dir={profile}', 'about:blank']
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._loop, self._numbers = asyncio.new_event_loop(), itertools.count(1)
        port = profile / 'DevToolsActivePort'
        until(lambda: port.exists() and port.read_text().count('\n'))
        self._loop.run_until_complete(self._connect(port.read_text().split()[0]))
        self.call('Page.enable')

    async def _connect(self, port):
        self._session = aiohttp.ClientSession()
        async with self._session.get(f'http://127.0.0.1:{port}/json/list') as listed:
            target = next(one for one in await listed.json() if one['type'] == 'page')
        self._socket = await self._session.ws_connect(target['webSocketDebuggerUrl'], max_msg_size=0)

    def call(self, method, **parameters):
        """Send a command and return its result."""
        return self._loop.run_until_complete(asyncio.wait_for(self._call(method, parameters), 60))

    async def _call(self, method, parameters):
        number = next(self._numbers)
        await self._socket.send_json({'id': number, 'method': method, 'params': parameters})
        while (message := json.loads((await self._socket.receive()).data)).get('id') != number:
            pass
        if 'error' in message:
            raise ProtocolError(message['error'])
        return message['result']

    def run(self, script):
        """Return the value of a JavaScript expression on the page."""
        done = self.call('Runtime.evaluate', expression=script, awaitPromise=True, returnByValue=True)
        assert 'exceptionDetails' not in done, done
        return done['result'].get('value')

    def wait(self, script):
        """Wait until an expression is true, and return its value."""
        return until(lambda: self.run(script), script)

    def open(self, address):
        """Go to an address and wait until it is loaded."""
        home = address.partition('?')[0]
        self.call('Page.navigate', url=address)

        def loaded():
            try:
                return self.run(f'document.readyState == "complete" && location.href.startsWith("{home}")')
            except ProtocolError:  # the page before has gone meanwhile
                return False

        until(loaded, address)

    def screenshot(self, path, quality=76):
        """Write what is seen as JPEG."""
        path.write_bytes(base64.b64decode(self.call('Page.captureScreenshot', format='jpeg', quality=quality)['data']))

    def close(self):
        """End the browser."""
        self._loop.run_until_complete(self._session.close())
        self._loop.close()
        self._process.terminate()
        self._process.wait(60)


def until(done, what='', seconds=60):
    """Wait for a condition and return its value."""
    deadline = time.monotonic() + seconds
    while not (value := done()):
        assert time.monotonic() < deadline, f'not within {seconds} s: {what}'
        time.sleep(0.1)
    return value
