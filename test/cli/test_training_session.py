"""Progress of a run, a stop by signal, and the command line for the record."""

import os
import signal
from typing import Annotated, Literal

import pytest
import typer

from m3et_ros.cli import training_session
from m3et_ros.cli.training_session import REPORT_S, command_line, progress_reporter, stop_on_signal, use_passive_threads
from m3et_ros.training.run_state import LogEntry


def entry(step, steps=100):
    return LogEntry(
        step=step,
        steps=steps,
        samples=8 * step,
        lr=1e-3,
        losses={'rgb': 0.5, 'depth': 0.25},
        gradient_norm=1.0,
        seconds=2.0,
        samples_per_second=41.6,
        seconds_left=150.0,
    )


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [1000.0]
    monkeypatch.setattr(training_session.time, 'monotonic', lambda: now[0])
    return now


def test_a_line_has_step_losses_speed_and_the_time_left(capsys):
    progress_reporter()('run', entry(20))
    assert capsys.readouterr().err == 'step 20 of 100: rgb 0.500, depth 0.250; 42 samples/s, 2 min left\n'


def test_lines_come_at_most_every_ten_seconds_and_the_last_always(capsys, clock):
    report = progress_reporter()
    for step, at in ((1, 0), (2, REPORT_S - 0.001), (3, REPORT_S), (4, REPORT_S + 1), (100, REPORT_S + 2)):
        clock[0] = 1000.0 + at
        report('run', entry(step))
    steps = [line.split()[1] for line in capsys.readouterr().err.splitlines()]
    assert steps == ['1', '3', '100']


def test_every_stage_is_named_once_and_has_a_line_of_its_own(capsys, clock):
    report = progress_reporter(stages=True)
    for stage in ('1_words', '1_words', '2_chat'):
        report(stage, entry(5))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ['1_words:', 'step', '2_chat:', 'step']


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_requests_a_stop_and_the_second_has_its_old_effect(number, capsys):
    received = []
    before = signal.signal(number, lambda *_: received.append(number))
    try:
        with stop_on_signal() as stop:
            assert not stop() and stop.code == 0
            os.kill(os.getpid(), number)
            assert stop() and stop.code == 128 + number and received == []
            os.kill(os.getpid(), number)
            assert received == [number]
        assert 'stopping after this step' in capsys.readouterr().err
    finally:
        signal.signal(number, before)


def test_handlers_are_restored():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_on_signal():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize(('given', 'used'), [(None, 'PASSIVE'), ('ACTIVE', 'ACTIVE')])
def test_threads_wait_passively_unless_the_user_chose_otherwise(monkeypatch, given, used):
    monkeypatch.delenv('OMP_WAIT_POLICY')
    if given:
        monkeypatch.setenv('OMP_WAIT_POLICY', given)
    use_passive_threads()
    assert os.environ['OMP_WAIT_POLICY'] == used


def recorded(*words, omitted=()):
    app = typer.Typer()
    lines = []

    @app.command()
    def paint(
        context: typer.Context,
        colour: Annotated[str, typer.Option()] = 'red',
        wall: Annotated[list[str] | None, typer.Argument()] = None,
        kind: Annotated[Literal['oil', 'water'], typer.Option()] = 'oil',
        coats: Annotated[int, typer.Option('--coats', '-c')] = 1,
        dry: Annotated[bool, typer.Option('--dry/--wet')] = True,
        gloss: Annotated[bool, typer.Option('--gloss')] = False,
        brush: Annotated[list[str] | None, typer.Option()] = None,
    ):
        lines.append(command_line(context, omitted))

    app(args=list(words), prog_name='paint', standalone_mode=False)
    return lines[0]


def test_a_command_is_recorded_without_defaults_and_with_arguments_first():
    assert recorded('--coats', '1') == 'paint'
    given = ('--gloss', '--brush', 'a b', '--brush', 'c', '-c', '3', '--wet', 'north', '--kind', 'water')
    assert recorded(*given) == "paint north --kind water --coats 3 --wet --gloss --brush 'a b' --brush c"
    assert recorded(*given, omitted={'brush', 'dry'}) == 'paint north --kind water --coats 3 --gloss'
