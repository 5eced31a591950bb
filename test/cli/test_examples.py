"""The help of every verb ends with commands that the verb takes."""

import shlex

import pytest
import typer

from m3et_ros.cli.examples import EXAMPLES, add_examples
from m3et_ros.cli.main import app, main


def verbs_of(command, path=()):
    """Yield every verb below a command with the words that lead to it."""
    if not hasattr(command, 'commands'):
        yield ' '.join(path), command
    for name, inner in getattr(command, 'commands', {}).items():
        yield from verbs_of(inner, (*path, name))


VERBS = dict(verbs_of(typer.main.get_command(app)))


def test_every_verb_has_examples_and_every_example_a_verb():
    assert set(VERBS) == set(EXAMPLES) and all(EXAMPLES.values())


@pytest.mark.parametrize('verb', sorted(EXAMPLES))
def test_the_options_of_an_example_exist_and_what_is_needed_is_given(verb):
    options = {name: p for p in VERBS[verb].params for name in (*p.opts, *p.secondary_opts)}
    needed = {p.name for p in VERBS[verb].params if p.required and p.param_type_name == 'option'}
    for example in EXAMPLES[verb]:
        words = shlex.split(example)
        assert words[: 1 + len(verb.split())] == ['m3et', *verb.split()]
        given = {options[word].name for word in words if word.startswith('-')}
        assert needed <= given, example


def test_help_shows_the_examples_each_on_its_line(capsys):
    assert main(['ask', '--help']) == 0
    lines = [line.strip() for line in capsys.readouterr().out.split('Examples:')[1].splitlines()]
    assert [line for line in lines if line] == list(EXAMPLES['ask'])


def test_a_verb_without_an_example_is_an_error():
    new = typer.Typer()
    new.command('nothing')(lambda: None)
    with pytest.raises(KeyError, match='nothing'):
        add_examples(new)
