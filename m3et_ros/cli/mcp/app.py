"""`m3et mcp`: tools for agents, over stdio or HTTP."""

import os
import socket
import threading
from typing import Annotated

import typer

from m3et_ros.cli.output import Refused
from m3et_ros.cli.processes import StopEvent, stop_signals
from m3et_ros.data.extras import require

LOOPBACK = '127.0.0.1'
PORT = 8770
WATCH_S = 0.1


def mcp(
    http: Annotated[
        bool, typer.Option('--http', help='Serve HTTP: tools on /mcp, chat completions on /v1. Without it, stdio.')
    ] = False,
    host: Annotated[
        str, typer.Option(help='With --http: address; beyond this computer only with a secret in M3ET_TOKEN.')
    ] = LOOPBACK,
    port: Annotated[int, typer.Option(min=0, max=65535, help='With --http: port; 0 takes a free one.')] = PORT,
    timeout: Annotated[float, typer.Option(min=0.1, help='Longest wait for an answer or an image in s.')] = 60.0,
) -> int:
    """Let agents use running robots: an MCP server, and OpenAI's chat completions with --http.

    A client starts it on stdio by itself: claude mcp add m3et -- m3et mcp. docs/agents.md has other clients. The tools
    are look, ask, where, what_happened, what_next, health and list_robots.
    """
    if not http and (host != LOOPBACK or port != PORT):
        raise Refused('--host and --port are for --http; give it too, or leave them out.')
    require('mcp')
    from m3et_ros.cli.mcp.web import choose_token, listening_socket

    with stop_signals() as stopped:
        if not http:
            return serve_stdio(timeout, stopped)
        token = choose_token(host, os.environ)
        with listening_socket(host, port) as served:
            return serve_http(served, host, token, timeout, stopped)


def serve_stdio(timeout_s: float, stopped: StopEvent) -> int:
    """Serve one client on stdin and stdout until it hangs up; return the exit code."""
    import anyio

    from m3et_ros.cli.mcp.calls import Calls
    from m3et_ros.cli.mcp.robot_tools import RobotTools
    from m3et_ros.cli.mcp.server import AgentServer
    from m3et_ros.cli.robots import connect

    calls = Calls()
    with connect(stopped) as robots:

        async def end_on_signal() -> None:
            while not stopped.is_set():
                await anyio.sleep(WATCH_S)
            calls.close()
            robots.node.close()
            # A thread of the server waits for stdin, and nothing else ends it.
            os._exit(0)

        async def serve() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(end_on_signal)
                await AgentServer(RobotTools(robots, timeout_s, calls.counters), calls).run_stdio_async()
                # Here, because calls that end report to this loop.
                await anyio.to_thread.run_sync(calls.close)
                tasks.cancel_scope.cancel()

        anyio.run(serve)
    return 0


def serve_http(served: socket.socket, host: str, token: str, timeout_s: float, stopped: threading.Event) -> int:
    """Serve clients on a socket until a signal comes; return the exit code."""
    import anyio

    from m3et_ros.cli.mcp.calls import Calls
    from m3et_ros.cli.mcp.robot_tools import RobotTools
    from m3et_ros.cli.mcp.web import TOKEN, agent_app, print_addresses, serve
    from m3et_ros.cli.robots import connect

    calls = Calls()
    with connect(stopped) as robots:
        app = agent_app(RobotTools(robots, timeout_s, calls.counters), calls, host, token)
        print_addresses(served, host, '' if TOKEN in os.environ else token)
        anyio.run(serve, app, served, calls, stopped)
    return 0
