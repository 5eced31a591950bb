"""Dataclasses as options: what typer sees, what the verb gets, and what is refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer

from m3et_ros.cli.options import Json, expand_options, option_names


@dataclass(frozen=True, kw_only=True)
class Lens:
    focus: Annotated[float, typer.Option('--focus-m', min=0.1, help='Metres.')] = 2.0
    filters: Annotated[list[str] | None, typer.Option(help='Names.')] = None


@dataclass(frozen=True, kw_only=True)
class Sensor(Lens):
    width: Annotated[int, typer.Option(help='Pixels.')]


def run(verb, *words):
    app = typer.Typer(add_completion=False)
    app.command()(verb)
    return app(args=list(words), standalone_mode=False)


def parameters(verb):
    app = typer.Typer(add_completion=False)
    app.command()(verb)
    return typer.main.get_command(app).params


def test_a_verb_gets_dataclasses_of_its_options():
    @expand_options()
    def shoot(out: Annotated[Path, typer.Argument()], sensor: Sensor, as_json: Json = False):
        return out, sensor, as_json

    assert run(shoot, 'x.png', '--width', '8') == (Path('x.png'), Sensor(width=8), False)
    line = ('x.png', '--filters', 'red', '--filters', 'blue', '--focus-m', '0.5', '--width', '8', '--json')
    assert run(shoot, *line) == (Path('x.png'), Sensor(focus=0.5, filters=['red', 'blue'], width=8), True)


def test_limits_and_required_options_are_those_of_the_fields():
    @expand_options()
    def shoot(sensor: Sensor):
        return sensor

    for words in ((), ('--width', '8', '--focus-m', '0.05'), ('--width', 'wide')):
        with pytest.raises(typer.TyperException):
            run(shoot, *words)
    assert run(shoot, '--width', '8', '--focus-m', '0.1').focus == 0.1


def test_options_of_two_topics_may_alternate():
    @expand_options('filters as_json width focus')
    def shoot(context: typer.Context, sensor: Sensor, as_json: Json = False):
        return context.params, sensor.focus, as_json

    assert [one.name for one in parameters(shoot)] == ['filters', 'as_json', 'width', 'focus']
    values, focus, as_json = run(shoot, '--width', '8')
    assert values['width'] == 8 and focus == 2.0 and not as_json


@pytest.mark.parametrize('order', ['width focus filters', 'width focus filters as_json zoom', 'width width as_json'])
def test_an_order_that_leaves_an_option_out_is_an_error(order):
    with pytest.raises(TypeError, match='order names'):

        @expand_options(order)
        def shoot(sensor: Sensor, as_json: Json = False):
            return sensor


def test_a_topic_lists_its_options_with_those_of_its_base():
    assert option_names(Sensor) == ('focus', 'filters', 'width')
