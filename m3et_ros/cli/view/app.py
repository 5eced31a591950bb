"""`m3et view`: a page in the browser that shows running robots and puts questions to them."""

import getpass
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from m3et_ros.cli.options import expand_options
from m3et_ros.cli.output import Refused, print_line, print_status
from m3et_ros.cli.processes import StopEvent, stop_signals, use_ros
from m3et_ros.cli.ros_names import full_namespace
from m3et_ros.cli.view.viewers import ViewerOptions, show_in_viewer
from m3et_ros.data.extras import require

PASSWORD = 'M3ET_VIEW_PASSWORD'
SHORTEST_PASSWORD = 8
SHUTDOWN_S = 1.0


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """Address of the page, and its pictures."""

    host: Annotated[
        str, typer.Option(help=f'Address to listen on; one beyond this machine wants a password, see {PASSWORD}.')
    ] = '127.0.0.1'
    port: Annotated[int, typer.Option(min=0, max=65535, help='Port; 0 takes a free one.')] = 8360
    browse: Annotated[bool, typer.Option('--open', help='Also open the page in the browser of this machine.')] = False
    rate: Annotated[float, typer.Option(min=0.1, max=60, help='Most pictures per second of a kind.')] = 10.0
    width: Annotated[int, typer.Option(min=64, max=4096, help='Largest width of a picture in pixels.')] = 640
    out: Annotated[Path, typer.Option(help='Folder of recordings.')] = Path()


@expand_options()
def view(
    context: typer.Context,
    *,
    namespace: Annotated[
        str, typer.Option('--namespace', help='Robot that is shown first; the first that answers unless given.')
    ] = '',
    page: PageOptions,
    viewer: ViewerOptions,
) -> int:
    """Show running robots on a page in the browser: pictures, answers, actions and health, and a box to ask.

    The address that is printed has a token; without it nobody gets in. Ctrl-C ends the server. With --rerun or
    --foxglove these programs show the robots instead.
    """
    if viewer.given:
        return show_in_viewer(context, viewer, namespace, page.port)
    require('view')
    import asyncio

    from m3et_ros.cli.view.access import is_loopback

    password = '' if is_loopback(page.host) else read_password(page.host)
    first = full_namespace(namespace) if namespace else ''
    use_ros()
    with stop_signals() as stopped:
        asyncio.run(_serve(first, page, password, stopped))
    return 0


def read_password(host: str) -> str:
    """Return the password for an address beyond this machine, from the environment or a prompt.

    Raises:
        Refused: there is none, or it is too short.
    """
    password = os.environ.get(PASSWORD, '')
    if not password and sys.stdin.isatty():
        password = getpass.getpass(f'Password for the page on {host}: ')
    if len(password) < SHORTEST_PASSWORD:
        raise Refused(
            f'--host {host} can be reached by others, so it needs a password of at least {SHORTEST_PASSWORD} '
            f'characters; set {PASSWORD}, or leave out --host.'
        )
    return password


async def _serve(namespace: str, page: PageOptions, password: str, stopped: StopEvent) -> None:
    """Serve the page until a signal comes.

    Raises:
        Refused: the address cannot be listened on.
    """
    import asyncio

    import cv2
    from aiohttp import web

    from m3et_ros.cli.view.access import Gate, cookie_key
    from m3et_ros.cli.view.hub import Hub
    from m3et_ros.cli.view.robot_feed import FeedOptions
    from m3et_ros.cli.view.server import Server

    # Pictures are small: threads would cost more than they save, and the robot needs the cores.
    cv2.setNumThreads(1)
    key, trouble = cookie_key()
    if trouble:
        print_status(f'm3et: {trouble}')
    listener = _listen(page.host, page.port)
    gate = Gate(page.host, listener.getsockname()[1], key, password)
    hub = Hub(namespace, FeedOptions(page.rate, page.width), page.out.expanduser().resolve(), stopped)
    runner = web.AppRunner(Server(gate, hub).application(), access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    tending = asyncio.create_task(hub.tend())
    try:
        await web.SockSite(runner, listener).start()
        print_line(f'Robots are shown on {gate.address}')
        if password:
            print_status('m3et: The line is not encrypted: whoever can listen to the network reads it; use a tunnel.')
        if page.browse:
            import webbrowser

            webbrowser.open(gate.address)
        await _wait(stopped)
    finally:
        await runner.cleanup()
        tending.cancel()
        await asyncio.gather(tending, return_exceptions=True)


def _listen(host: str, port: int) -> Any:
    import socket

    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise Refused(
            f'{host}:{port} cannot be listened on ({error.strerror}); give another --port, or 0 for a free one.'
        ) from error


async def _wait(stopped: threading.Event) -> None:
    """Wait for a signal without waking up meanwhile."""
    import asyncio

    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def wait() -> None:
        stopped.wait()
        loop.call_soon_threadsafe(done.set)

    threading.Thread(target=wait, daemon=True).start()
    await done.wait()
