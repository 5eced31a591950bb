"""Checks of config fields: what passes, and the sentence for what does not."""

from types import SimpleNamespace

import pytest

from m3et_ros.models.config_checks import check_choice, check_divides, check_number, check_switch, check_whole

GOOD = SimpleNamespace(n=3, x=0.5, word='a', on=False)


def test_good_fields_pass():
    check_whole(GOOD, {'n': (3, 3)})
    check_number(GOOD, {'x': (0.5, 1), 'n': (0, 3)})
    check_choice(GOOD, {'word': ('a', 'b')})
    check_switch(GOOD, 'on')
    check_divides(GOOD, 'n', 9, 'nine')
    check_divides(GOOD, 'n', 8, 'eight', value=4)


@pytest.mark.parametrize(
    ('value', 'check', 'words'),
    [
        (4, lambda c: check_whole(c, {'v': (0, 3)}), 'v is 4; give a whole number from 0 to 3'),
        (True, lambda c: check_whole(c, {'v': (0, 3)}), 'v is True; give a whole number'),
        (1.0, lambda c: check_whole(c, {'v': (0, 3)}), 'v is 1.0; give a whole number'),
        (float('nan'), lambda c: check_number(c, {'v': (0, 1e6)}), r'v is nan; give a number from 0 to 1e\+06'),
        ('1', lambda c: check_number(c, {'v': (0, 3)}), "v is '1'; give a number"),
        ('c', lambda c: check_choice(c, {'v': ('a', 'b')}), "v is 'c'; give one of a, b"),
        (0, lambda c: check_switch(c, 'v'), 'v is 0; give true or false'),
        (3, lambda c: check_divides(c, 'v', 8, 'd'), 'v is 3; give a divisor of d = 8'),
    ],
)
def test_bad_fields_are_refused_by_name(value, check, words):
    with pytest.raises(ValueError, match=words):
        check(SimpleNamespace(v=value))
