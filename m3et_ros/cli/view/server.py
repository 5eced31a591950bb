"""The web server of the page: files, the token or password, and one WebSocket for each browser."""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from m3et_ros.cli.output import json_text
from m3et_ros.cli.view.access import Gate, origin_allowed
from m3et_ros.cli.view.hub import MOST_BROWSERS, Browser, Hub
from m3et_ros.cli.view.robot_feed import PICTURES

PAGE = Path(__file__).with_name('page')
FILES = {'style.css': 'text/css', 'page.js': 'text/javascript', 'icon.svg': 'image/svg+xml'}
MOST_BYTES = 4 << 20
"""Longest message of a browser; the connection of a longer one is closed."""
MOST_FORM = 1 << 16
GUESS_S = 1.0
"""Seconds that a wrong password costs, one after the other for everybody."""
HEARTBEAT_S = 15.0
"""Seconds between two signs of life of a browser; one that gives none is gone."""
ASK_FIRST = 'Open the address that m3et view has printed; it has the token.'
HEADERS = {
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'Cache-Control': 'no-store',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """The routes of the page.

    Args:
        gate: decides who may use it.
        hub: browsers and robots.
    """

    def __init__(self, gate: Gate, hub: Hub):
        self._gate, self._hub = gate, hub
        self._guessing = asyncio.Lock()

    def application(self) -> web.Application:
        """Return the application of aiohttp."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._guard(request, handler)

        app = web.Application(middlewares=[guard], client_max_size=MOST_FORM)
        app.add_routes(
            [
                web.get('/', self._page),
                web.post('/login', self._login),
                web.get('/ws', self._socket),
                *(web.get(f'/{name}', partial(self._file, name)) for name in FILES),
            ]
        )
        return app

    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse names and pages of other sites, and give every answer the headers that bind a browser."""
        host = request.headers.get('Host', '')
        if not self._gate.host_allowed(host):
            response: web.StreamResponse = self._refusal(
                'host', 403, f'This server is not {host[:80]!r}; open the address that m3et view has printed.'
            )
        elif not origin_allowed(request.headers.get('Origin'), host):
            response = self._refusal('origin', 403, 'A page of another site may not use this one; open it by itself.')
        else:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = web.Response(status=error.status, text=f'{error.reason}.')
        if not response.prepared:
            response.headers.update(HEADERS)
            response.headers['Content-Security-Policy'] = (
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
                f"connect-src 'self' ws://{host}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
                if self._gate.host_allowed(host)
                else "default-src 'none'"
            )
        return response

    def _refusal(self, reason: str, status: int, sentence: str) -> web.Response:
        self._hub.counters.count(reason)
        return web.Response(status=status, text=sentence)

    def _known(self, request: web.Request) -> bool:
        """Return True if a request has the cookie, or the token as a program sends it."""
        name, _ = self._gate.cookie
        scheme, _, token = request.headers.get('Authorization', '').partition(' ')
        return self._gate.cookie_right(request.cookies.get(name, '')) or (
            scheme == 'Bearer' and self._gate.token_right(token)
        )

    def _admit(self, response: web.StreamResponse) -> None:
        name, value = self._gate.cookie
        response.set_cookie(name, value, httponly=True, samesite='Strict', path='/')

    async def _page(self, request: web.Request) -> web.StreamResponse:
        token = request.query.get('token', '')
        if self._gate.token_right(token):
            response = self._html('index.html')
            self._admit(response)
            return response
        if self._known(request):
            return self._html('index.html')
        if self._gate.password:
            return self._html('login.html', 401)
        return self._refusal('token', 403, f'{"The token is wrong. " if token else ""}{ASK_FIRST}')

    async def _login(self, request: web.Request) -> web.StreamResponse:
        # Password managers send no Origin; browsers always send one with a form.
        password = str((await request.post()).get('password', ''))
        async with self._guessing:
            if self._gate.password_right(password):
                response = web.Response(status=303, headers={'Location': '/'})
                self._admit(response)
                return response
            self._hub.counters.count('password')
            await asyncio.sleep(GUESS_S)
        return self._html('login.html', 401, wrong=True)

    async def _file(self, name: str, request: web.Request) -> web.StreamResponse:
        return web.Response(body=(PAGE / name).read_bytes(), content_type=FILES[name], charset='utf-8')

    def _html(self, name: str, status: int = 200, *, wrong: bool = False) -> web.Response:
        text = (PAGE / name).read_text(encoding='utf-8')
        if wrong:
            text = text.replace(' hidden data-wrong', '')
        return web.Response(text=text, status=status, content_type='text/html')

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if not self._known(request):
            return self._refusal('token', 403, ASK_FIRST)
        socket = web.WebSocketResponse(max_msg_size=MOST_BYTES, heartbeat=HEARTBEAT_S, compress=False)
        await socket.prepare(request)
        browser = Browser()
        if not self._hub.enter(browser):
            sentence = f'{MOST_BROWSERS} browsers look already; close one of them.'
            await socket.send_str(json_text({'type': 'refused', 'reason': 'browsers', 'sentence': sentence}))
            await socket.close(code=WSCloseCode.TRY_AGAIN_LATER)
            return socket
        sending = asyncio.create_task(self._send(socket, browser))
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await self._receive(browser, message.data)
                elif message.type is WSMsgType.ERROR:
                    self._hub.counters.count('message_size')
        finally:
            self._hub.leave(browser)
            sending.cancel()
        return socket

    async def _send(self, socket: web.WebSocketResponse, browser: Browser) -> None:
        try:
            while True:
                message = await browser.next()
                # Waits while the line of the browser is full; meanwhile newer messages replace those that wait.
                if isinstance(message, bytes):
                    await socket.send_bytes(message)
                else:
                    await socket.send_str(message)
        except ConnectionError:
            return

    async def _receive(self, browser: Browser, text: str) -> None:
        try:
            message = json.loads(text)
            kind = message['type']
            if kind == 'show':
                wanted = {name for name in PICTURES if name in message['pictures']}
                self._hub.show(browser, _text(message.get('robot', ''), 200), wanted)
            elif kind == 'ask':
                scope = 'episode' if message.get('scope') == 'episode' else 'frame'
                self._hub.ask(browser, _text(message['id'], 40), _text(message['question']), scope)
            elif kind == 'stop':
                if (cancelled := browser.asked.get(_text(message['id'], 40))) is not None:
                    cancelled.set()
            elif kind == 'point':
                self._hub.measure(browser, _share(message['u']), _share(message['v']))
            elif kind == 'record':
                await self._hub.record(browser)
            else:
                raise ValueError(kind)
        except (ValueError, KeyError, TypeError, RecursionError):
            self._hub.refuse(
                browser, 'message_unknown', 'The page has sent what the server does not read; load it again.'
            )


def _text(value: Any, longest: int = MOST_BYTES) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError('no text of that length')
    return value


def _share(value: Any) -> float:
    if not math.isfinite(share := float(value)):
        raise ValueError('no share')
    return share
