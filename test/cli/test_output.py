import json

import pytest

from m3et_ros.cli.output import Refused, format_table, print_json, report_error
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
