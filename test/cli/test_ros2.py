"""`ros2 m3et` as ros2cli builds and calls it: a parser of argparse for each command, add_arguments, then main."""

import argparse
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from m3et_ros.cli.main import VERBS
from m3et_ros.cli.ros2 import M3etCommand


def ros2(*words):
    """Do what ros2cli.cli.main does with a command line."""
    parser = argparse.ArgumentParser(prog='ros2')
    commands = parser.add_subparsers()
    # Beside other commands, as there.
    commands.add_parser('topic').add_argument('--all', action='store_true')
    extension = M3etCommand()
    command = commands.add_parser('m3et', description=extension.__doc__)
    command.set_defaults(extension=extension)
    extension.add_arguments(command, 'ros2 m3et')
    args = parser.parse_args(words)
    return args.extension.main(parser=parser, args=args)


LINES = {
    'nothing': [],
    'a question': ['ask', 'What is on the table?', '--json'],
    'help': ['--help'],
    'help of a verb': ['ask', '-h'],
    'an option first': ['--version'],
    'a rest': ['bench', 'speed', '--', '--size', 'tiny', '--all'],
    'an empty word': ['ask', ''],
    'a word of ros2': ['topic', '--all'],
}


@pytest.mark.parametrize('words', LINES.values(), ids=LINES)
def test_every_word_arrives_as_it_was_given(words, monkeypatch):
    given = []
    monkeypatch.setattr('m3et_ros.cli.main.main', lambda argv: given.append(argv) or 7)
    assert ros2('m3et', *words) == 7
    assert given == [words]


def test_the_help_lists_every_verb(capsys):
    assert ros2('m3et', '--help') == 0
    printed = capsys.readouterr().out
    assert [verb for verb in VERBS if verb not in printed] == []


def test_wrong_usage_has_the_exit_code_of_m3et(capsys):
    assert ros2('m3et', 'ask', '--no-such-option') == 2
    assert '--no-such-option' in capsys.readouterr().err


def test_ros2cli_finds_the_extension():
    (point,) = entry_points(group='ros2cli.command', name='m3et')
    assert point.load() is M3etCommand


def test_the_extension_is_loaded_without_the_verbs_and_without_ros():
    script = (
        'import sys, m3et_ros.cli.ros2; '
        'print(*sorted({"typer", "torch", "rclpy", "ros2cli", "m3et_ros.cli.main"} & set(sys.modules)))'
    )
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ''
