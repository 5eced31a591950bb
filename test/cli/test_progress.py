import io
import sys

from m3et_ros.cli.progress import Waiting, track


def test_off_a_terminal_every_tenth_is_a_line_with_the_time_left(capsys):
    assert list(track(range(40), 40, 'counting')) == list(range(40))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0].startswith('counting: 10 %, ') and lines[-1] == 'counting: 100 %, 0 s left'


def test_off_a_terminal_waiting_is_silent(capsys):
    with Waiting() as waiting:
        waiting.show('for nothing')
    assert capsys.readouterr().err == ''


class Terminal(io.StringIO):
    """A terminal that remembers what was written to it."""

    def isatty(self):
        return True


def test_on_a_terminal_there_is_a_bar_that_goes_away(monkeypatch):
    monkeypatch.setattr('sys.stderr', Terminal())
    assert list(track([1, 2], 2, 'counting')) == [1, 2]
    shown = sys.stderr.getvalue()
    assert 'counting' in shown and shown.rsplit('\r', 1)[1].strip() == ''


def test_on_a_terminal_waiting_is_one_line_that_goes_away(monkeypatch):
    monkeypatch.setattr('sys.stderr', Terminal())
    with Waiting() as waiting:
        waiting.show('for the kettle')
    shown = sys.stderr.getvalue()
    assert 'for the kettle (0 s)' in shown and shown.endswith('\r\x1b[K') and '\n' not in shown
