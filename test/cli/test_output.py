import json

import pytest

from m3et_ros.cli.output import Refused, emit, report, table
from m3et_ros.data.errors import InputError


def test_json_has_no_numbers_that_json_does_not_know(capsys):
    emit({'a': float('nan'), 'b': (1, float('inf')), 3: [{'c': 0.5}]})
    assert json.loads(capsys.readouterr().out) == {'a': None, 'b': [1, None], '3': [{'c': 0.5}]}


def test_table_sets_columns():
    assert table([('name', 'n'), ('x', 100)], right=(1,)) == 'name    n\nx     100'


@pytest.mark.parametrize(
    ('error', 'code'),
    [
        (Refused('No camera; plug one in.'), 1),
        (Refused('It died; look above.', 7), 7),
        (InputError('bag_missing', 'No bag; give one.'), 1),
    ],
)
def test_what_is_refused_is_said_as_it_is(capsys, error, code):
    assert report(error) == code
    assert capsys.readouterr().err == f'm3et: {error}\n'


def test_a_surprise_is_one_sentence_too(capsys):
    assert report(ZeroDivisionError('two\nlines')) == 1
    assert (
        capsys.readouterr().err == 'm3et: ZeroDivisionError: two lines; run again with M3ET_TRACEBACK=1 to see where\n'
    )


def test_a_surprise_shows_where_when_asked(capsys, monkeypatch):
    monkeypatch.setenv('M3ET_TRACEBACK', '1')
    try:
        raise KeyError('lost')
    except KeyError as error:
        report(error)
    assert 'test_output.py' in capsys.readouterr().err
