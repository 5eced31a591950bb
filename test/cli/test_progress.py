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
