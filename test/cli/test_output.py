import json

import pytest

from m3et_ros.cli.output import Refused, format_table, print_json, report_error, usage_sentence
from m3et_ros.data.errors import InputError


def test_numbers_that_json_does_not_know_become_null(capsys):
    print_json({'a': float('nan'), 'b': (1, float('inf')), 3: [{'c': 0.5}]})
    assert json.loads(capsys.readouterr().out) == {'a': None, 'b': [1, None], '3': [{'c': 0.5}]}


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
