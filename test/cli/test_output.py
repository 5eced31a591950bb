import json
import logging
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress

import pytest
import typer

from m3et_ros.cli.output import (
    Refused,
    VisibleFormatter,
    format_table,
    print_json,
    print_line,
    print_status,
    report_error,
    usage_sentence,
)
from m3et_ros.data.errors import InputError


def test_numbers_that_json_does_not_know_become_null(capsys):
    print_json({'a': float('nan'), 'b': (1, float('inf')), 3: [{'c': 0.5}]})
    assert json.loads(capsys.readouterr().out) == {'schema': 1, 'a': None, 'b': [1, None], '3': [{'c': 0.5}]}


def test_a_table_aligns_its_columns():
    assert format_table([('name', 'n'), ('x', 100)], right=(1,)) == 'name    n\nx     100'


@pytest.mark.parametrize(
    ('error', 'code'),
    [
        (Refused('No camera; plug one in.'), 1),
        (Refused('It died; look above.', 7), 7),
        (InputError('bag_missing', 'No bag; give one.'), 1),
    ],
)
def test_a_refusal_is_printed_as_it_is(capsys, error, code):
    assert report_error(error) == code
    assert capsys.readouterr().err == f'm3et: {error}\n'


def test_an_unforeseen_error_is_one_sentence_too(capsys):
    assert report_error(ZeroDivisionError('two\nlines')) == 1
    assert (
        capsys.readouterr().err == 'm3et: ZeroDivisionError: two lines; run again with M3ET_TRACEBACK=1 to see where\n'
    )


def test_an_unforeseen_error_shows_its_traceback_when_asked(capsys, monkeypatch):
    monkeypatch.setenv('M3ET_TRACEBACK', '1')
    try:
        raise KeyError('lost')
    except KeyError as error:
        report_error(error)
    assert 'test_output.py' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('message', 'sentence'),
    [
        ('', ''),
        ("Missing option '--out'.", "Missing option '--out'"),
        (
            "Invalid value for 'N': Input should be a valid integer, unable to parse it",
            "Invalid value for 'N': give a whole number",
        ),
        ('Invalid: Input should be a valid number', 'Invalid: give a number'),
        ('Invalid: Input should be greater than 3', 'Invalid: give what is greater than 3'),
        ("Invalid: Value error, 'x' is not one of 'y'.", "Invalid: 'x' is not one of 'y'"),
    ],
)
def test_the_words_of_the_parser_become_those_of_people(message, sentence):
    assert usage_sentence(message) == sentence


def test_extra_words_hint_at_quotes():
    said = usage_sentence('Got unexpected extra argument(s) (is this)')
    assert said.startswith('Got unexpected extra argument(s) (is this); put a text of several words in quotes')


def test_nothing_that_is_printed_commands_the_terminal_or_fails_for_what_is_not_utf_8(capsys):
    print_line('a\x1b[2J\tb\n\udcff\r')
    print_status('café \x07')
    logged = VisibleFormatter('m3et: %(message)s').format(
        logging.LogRecord('x', logging.WARNING, 'f', 1, 'bag %s', ('b\x1b]0;c\x07',), None)
    )
    assert capsys.readouterr() == ('a\\x1b[2J\tb\n\\udcff\\r\n', 'café \\x07\n')
    assert logged == 'm3et: bag b\\x1b]0;c\\x07'
    assert format_table([('name', 'n'), ('cup\nforged', 1)]) == 'name         n\ncup\\nforged  1'


TABLE = """
from m3et_ros.cli.output import print_table

print_table([('thing', 'share'), ('a cup with [bold] words\\x1b[2J', 0.5), ('spoon', 12)], right=(1,))
"""


def test_a_table_fits_the_terminal_and_is_plain_on_a_pipe():
    plain = subprocess.run([sys.executable, '-c', TABLE], capture_output=True, text=True)
    lines = [['thing', 'share'], ['a cup with [bold] words\\x1b[2J', '0.5'], ['spoon', '12']]
    assert [re.split('  +', line) for line in plain.stdout.splitlines()] == lines and plain.stderr == ''
    reader, terminal = pty.openpty()
    narrow = os.environ | {'COLUMNS': '24', 'TERM': 'xterm', 'NO_COLOR': '1'}
    subprocess.run([sys.executable, '-c', TABLE], stdout=terminal, env=narrow, check=True)
    os.close(terminal)
    with suppress(OSError), open(reader, 'rb') as shown:
        text = re.sub(r'\x1b\[\d*m', '', shown.read1(65536).decode())
    words = ''.join(text.split())
    assert max(map(len, text.splitlines())) <= 24 and '[bold]' in words and '\\x1b[2J' in words
    assert text.splitlines()[0].split() == ['thing', 'share']


@pytest.mark.parametrize(
    ('error', 'reason', 'message', 'code'),
    [
        (InputError('bag_missing', 'there is no bag'), 'bag_missing', 'there is no bag', 1),
        (Refused('no robot answers', 7), 'refused', 'no robot answers', 7),
        (KeyError('x'), 'internal_error', "KeyError: 'x'; run again with M3ET_TRACEBACK=1 to see where", 1),
        (typer.BadParameter('give a number'), 'usage', 'Invalid value: give a number (see m3et ask --help)', 2),
    ],
)
def test_a_program_reads_errors_as_json_with_reason_and_exit_code(capsys, error, reason, message, code):
    assert report_error(error, 'ask', as_json=True) == code
    shown = capsys.readouterr()
    error = {'reason': reason, 'message': message, 'exit_code': code}
    assert json.loads(shown.out) == {'schema': 1, 'error': error} and shown.err == f'm3et: {message}\n'
