"""m3et view: options, and what it refuses."""

import asyncio
import io
import socket
from pathlib import Path

import pytest
from view_page import page

from m3et_ros.cli.main import main
from m3et_ros.cli.view import app as module
from m3et_ros.cli.view.app import PageOptions


@pytest.fixture
def served(monkeypatch):
    """The arguments with which the server is started."""
    calls = []

    async def serve(*arguments):
        calls.append(arguments)

    monkeypatch.setattr(module, '_serve', serve)
    return calls


def run(*words):
    from m3et_ros.cli.main import app

    return app(args=['view', *map(str, words)], prog_name='m3et', standalone_mode=False)


def test_every_option_arrives(served):
    page_words = ['--host', '127.0.0.2', '--port', '8000', '--open', '--rate', '5', '--width', '320', '--out', 'bags']
    run('--namespace', 'one/two', *page_words)
    ((namespace, options, password, _),) = served
    assert namespace == '/one/two' and password == ''
    assert options == PageOptions(host='127.0.0.2', port=8000, browse=True, rate=5.0, width=320, out=Path('bags'))


def test_without_options_the_page_is_on_loopback_and_shows_the_first_robot(served):
    run()
    assert served[0][:3] == ('', PageOptions(), '') and PageOptions().host == '127.0.0.1'


def test_a_host_that_others_reach_takes_the_password_of_the_environment(served, monkeypatch):
    monkeypatch.setenv('M3ET_VIEW_PASSWORD', 'correct horse')
    run('--host', '0.0.0.0')
    assert served[0][2] == 'correct horse'


@pytest.mark.parametrize('password', ['', 'short'], ids=['none', 'short'])
def test_a_host_that_others_reach_is_refused_without_a_good_password(monkeypatch, capsys, password):
    monkeypatch.setenv('M3ET_VIEW_PASSWORD', password)
    monkeypatch.setattr('sys.stdin', io.StringIO())
    assert main(['view', '--host', '0.0.0.0', '--port', '0']) == 1
    shown = capsys.readouterr().err
    assert 'M3ET_VIEW_PASSWORD' in shown and 'at least 8 characters' in shown


def test_the_prompt_asks_for_the_password(monkeypatch):
    monkeypatch.delenv('M3ET_VIEW_PASSWORD', raising=False)
    monkeypatch.setattr('sys.stdin.isatty', lambda: True, raising=False)
    monkeypatch.setattr(module.getpass, 'getpass', lambda prompt: 'from the prompt')
    assert module.read_password('0.0.0.0') == 'from the prompt'


def test_a_port_that_is_taken_is_refused_with_the_fix(capsys):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        assert main(['view', '--port', str(port)]) == 1
    shown = capsys.readouterr().err
    assert f'127.0.0.1:{port}' in shown and '--port' in shown


def test_a_signal_ends_the_page_and_the_code_says_success():
    with page() as (address, process):
        assert address.startswith('http://127.0.0.1:')
        process.terminate()
        assert process.wait(60) == 0


def test_the_page_waits_for_a_signal_without_waking_up():
    stopped = module.threading.Event()

    async def scenario():
        waiting = asyncio.create_task(module._wait(stopped))
        await asyncio.sleep(0)
        assert not waiting.done()
        stopped.set()
        await asyncio.wait_for(waiting, 60)

    asyncio.run(scenario())
