"""Files and viewers of Rerun."""

import socket
import threading

import psutil
import pytest

from m3et_ros.cli.output import Refused
from m3et_ros.cli.view import rerun_sinks
from m3et_ros.cli.view.rerun_sinks import has_display, recording_in_viewer, recording_to_file
from m3et_ros.data.errors import InputError

rerun = pytest.importorskip('rerun', reason='rerun-sdk is not installed (170 MB): pip install m3et_ros[rerun]')


def test_a_file_appears_when_the_block_ends(tmp_path):
    out = tmp_path / 'a.rrd'
    with recording_to_file(out) as recording:
        recording.log('words', rerun.TextLog('hello'))
        assert not out.exists()
    from rerun.chunk import RrdReader

    assert '/words' in {str(chunk.entity_path) for chunk in RrdReader(out).stream().to_chunks()}
    assert list(tmp_path.iterdir()) == [out]


def test_nothing_is_left_of_a_block_that_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), recording_to_file(tmp_path / 'a.rrd') as recording:
        recording.log('words', rerun.TextLog('hello'))
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_files_are_not_overwritten_and_have_the_name_that_the_viewer_knows(tmp_path):
    (tmp_path / 'a.rrd').touch()
    for name, words in (('a.rrd', 'exists already'), ('a.bag', r'does not end in \.rrd')):
        with pytest.raises(Refused, match=words), recording_to_file(tmp_path / name):
            pass
    with pytest.raises(InputError) as refused, recording_to_file(tmp_path / 'absent' / 'a.rrd'):
        pass
    assert refused.value.reason == 'out_unwritable'


@pytest.mark.parametrize(
    ('variable', 'expected'),
    [('DISPLAY', True), ('WAYLAND_DISPLAY', True), ('OTHER', False)],
    ids=['x', 'wayland', 'no'],
)
def test_a_window_needs_a_display(monkeypatch, variable, expected):
    for name in ('DISPLAY', 'WAYLAND_DISPLAY'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(rerun_sinks.sys, 'platform', 'linux')
    monkeypatch.setenv(variable, ':1')
    assert has_display() is expected


def test_without_a_display_a_page_of_this_machine_shows_the_recording(monkeypatch, capfd):
    for name in ('DISPLAY', 'WAYLAND_DISPLAY'):
        monkeypatch.delenv(name, raising=False)
    stopped = threading.Event()
    with recording_in_viewer(stopped) as recording:
        recording.log('words', rerun.TextLog('hello'))
        recording.flush(timeout_sec=60)
        printed = capfd.readouterr().err
        page = int(printed.partition('http://127.0.0.1:')[2].partition('/')[0])
        with socket.create_connection(('127.0.0.1', page), 60) as line:
            line.sendall(b'GET / HTTP/1.0\r\n\r\n')
            assert b'200' in line.recv(100)
    stopped.set()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(('127.0.0.1', page), 60)


def test_a_viewer_that_is_closed_ends_the_showing(monkeypatch):
    for name in ('DISPLAY', 'WAYLAND_DISPLAY'):
        monkeypatch.delenv(name, raising=False)
    stopped = threading.Event()
    with recording_in_viewer(stopped) as recording:
        recording.log('words', rerun.TextLog('hello'))
        (viewer,) = (one for one in psutil.Process().children() if one.name() == 'rerun')
        viewer.terminate()
        assert stopped.wait(60)


def test_a_viewer_that_does_not_start_is_quoted(monkeypatch):
    monkeypatch.setattr(rerun_sinks, 'MEMORY', 'nonsense')
    with pytest.raises(Refused, match='rerun ended by itself'), recording_in_viewer(threading.Event()):
        pass
