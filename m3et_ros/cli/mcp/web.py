"""The server for agents over HTTP: who may speak to it, and how it is run."""

import hmac
import ipaddress
import logging
import os
import secrets
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import anyio
import uvicorn
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from m3et_ros.cli.mcp.calls import Calls
from m3et_ros.cli.mcp.chat_completions import ChatCompletions
from m3et_ros.cli.mcp.chat_messages import error_body
from m3et_ros.cli.mcp.robot_tools import RobotTools
from m3et_ros.cli.mcp.server import AgentServer
from m3et_ros.cli.output import Refused, print_status
from m3et_ros.ros.diagnostics import Counters

TOKEN = 'M3ET_TOKEN'
"""Environment variable with the token; a random one serves on loopback without it."""
LEAST_TOKEN = 16
"""Characters of a token of the user."""
MOST_TOOL_BYTES = 1_000_000
"""Bytes of a request of the Model Context Protocol, which holds words alone."""
MOST_SESSIONS = 100
MOST_CONNECTIONS = 200
IDLE_S = 600.0
"""Seconds without a request after which a session of a client ends."""
CLOSE_S = 2
"""Seconds that open streams may take to end when the server stops."""
WATCH_S = 0.1


def choose_token(host: str, environment: Mapping[str, str]) -> str:
    """Return the token that clients must send.

    Args:
        host: address that is served.
        environment: variables of the process.

    Raises:
        Refused: the token of the user is too short, or missing where others than this computer can connect; or the
            address is none to which a client could connect.
    """
    token = environment.get(TOKEN, '')
    if token and (len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or ' ' in token):
        raise Refused(
            f'{TOKEN} has {len(token)} characters; give at least {LEAST_TOKEN} ASCII letters, digits and signs, such '
            'as those of "openssl rand -hex 16".'
        )
    if not is_loopback(host):
        if host in ('', '*', '0.0.0.0', '::'):
            raise Refused(
                f'--host {host or "without an address"} is no address that a client could name; give the one by which '
                'clients reach this computer, so that requests under other names are refused.'
            )
        if not token:
            raise Refused(
                f'--host {host} lets other computers in; set {TOKEN} to a secret of at least {LEAST_TOKEN} characters '
                'first, or leave --host out.'
            )
    return token or secrets.token_urlsafe(24)


def is_loopback(host: str) -> bool:
    """Return whether an address or name is that of this computer alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


def security(host: str) -> TransportSecuritySettings:
    """Return the names under which, and the pages from which, the server may be used.

    Args:
        host: address that is served.
    """
    names = [f'[{host}]' if ':' in host else host]
    if is_loopback(host):
        names += ['127.0.0.1', 'localhost', '[::1]']
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[f'{name}:*' for name in names],
        allowed_origins=[f'http://{name}:*' for name in names],
    )


class Guard:
    """Refuses requests under a foreign name, from a page of another origin, or without the token.

    Args:
        app: what it guards.
        settings: names and origins.
        token: token of the clients.
        counters: counts refusals as 'foreign_host', 'foreign_origin' and 'token_wrong'.
    """

    def __init__(self, app: ASGIApp, settings: TransportSecuritySettings, token: str, counters: Counters):
        self._app, self._token, self._counters = app, f'Bearer {token}'.encode(), counters
        self._names = TransportSecurityMiddleware(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, or refuse it."""
        refusal = await self._refusal(Request(scope)) if scope['type'] == 'http' else None
        await (refusal or self._app)(scope, receive, send)

    async def _refusal(self, request: Request) -> JSONResponse | None:
        wrong = await self._names.validate_request(request)
        if wrong is not None and wrong.status_code == 403:
            sentence = f'A page of {request.headers["origin"][:80]!r} may not use this server; use its own address.'
            return self._refuse(403, 'foreign_origin', sentence)
        if wrong is not None:
            sentence = f'This server is not {request.headers.get("host", "")[:80]!r}; use the address that it printed.'
            return self._refuse(wrong.status_code, 'foreign_host', sentence)
        given = request.headers.get('authorization', '').encode('latin-1', 'replace')
        if not hmac.compare_digest(given, self._token):
            sentence = (
                'The token is missing or wrong; send the header "Authorization: Bearer TOKEN" with the printed one.'
            )
            return self._refuse(401, 'token_wrong', sentence)
        return None

    def _refuse(self, status: int, reason: str, sentence: str) -> JSONResponse:
        self._counters.count(reason)
        headers = {'WWW-Authenticate': 'Bearer'} if status == 401 else None
        return JSONResponse(error_body(sentence, reason), status, headers)


def agent_app(tools: RobotTools, calls: Calls, host: str, token: str) -> Guard:
    """Return the application: tools on /mcp, chat completions on /v1, and its guard.

    Args:
        tools: the tools.
        calls: runs them.
        host: address that is served.
        token: token of the clients.
    """
    settings = security(host)
    app = AgentServer(tools, calls).streamable_http_app(
        transport_security=settings,
        max_request_body_size=MOST_TOOL_BYTES,
        max_sessions=MOST_SESSIONS,
        session_idle_timeout=IDLE_S,
    )
    app.router.routes.extend(ChatCompletions(tools, calls).routes())
    return Guard(app, settings, token, calls.counters)


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: address.
        port: port, 0 to 65535; 0 takes a free one.

    Raises:
        Refused: the address is not of this computer, or the port is taken.
    """
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise Refused(
            f'{host} port {port} cannot be served ({os.strerror(error.errno) if error.errno else error}); give another '
            '--port, or 0 for any, or another --host.'
        ) from None


class AgentWebServer(uvicorn.Server):
    """A server that leaves signals to its owner."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signals."""
        yield


async def serve(app: ASGIApp, served: socket.socket, calls: Calls, stopped: threading.Event) -> None:
    """Serve an application until `stopped` is set.

    Args:
        app: the application.
        served: socket that listens.
        calls: calls of the application, which are ended first.
        stopped: ends it; its owner handles signals.
    """
    config = uvicorn.Config(
        app, log_config=None, access_log=False, limit_concurrency=MOST_CONNECTIONS, timeout_graceful_shutdown=CLOSE_S
    )
    server = AgentWebServer(config)
    log = logging.getLogger('uvicorn.error')
    level = log.level

    async def end() -> None:
        while not stopped.is_set():
            await anyio.sleep(WATCH_S)
        # Streams that are open now are cut short, which is no error.
        log.setLevel(logging.CRITICAL)
        await anyio.to_thread.run_sync(calls.close)
        server.should_exit = True

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end)
            await server.serve(sockets=[served])
            tasks.cancel_scope.cancel()
    finally:
        log.setLevel(level)


def print_addresses(served: socket.socket, host: str, token: str) -> None:
    """Print on stderr where the server is and what clients must send.

    Args:
        served: socket that listens.
        host: its address.
        token: token that was made for this run; '' where the user knows it.
    """
    at = f'http://{f"[{host}]" if ":" in host else host}:{served.getsockname()[1]}'
    print_status(f'm3et: tools on {at}/mcp, chat completions on {at}/v1; Ctrl-C ends it.')
    print_status(f'm3et: clients send "Authorization: Bearer {token or f"${TOKEN}"}".')
