"""The error for input that somebody else has to mend."""

import pytest

from m3et_ros.data.errors import InputError, printable


def test_an_input_error_has_a_sentence_and_a_reason_to_count_it_by():
    error = InputError('step_too_short', 'colour image has step 8; correct it')
    assert str(error) == 'colour image has step 8; correct it' and error.reason == 'step_too_short'
    with pytest.raises(ValueError, match='has step 8'):  # callers that know only ValueError catch it
        raise error


def test_a_text_of_a_peer_can_neither_begin_a_line_nor_command_the_terminal():
    forged = 'x\n[FATAL] [1.0] [safety_controller]: STOP released\r\x1b[2J\u202eabc\x00'
    assert str(InputError('model_missing', f'There is no {forged}.')) == (
        r'There is no x\n[FATAL] [1.0] [safety_controller]: STOP released\r\x1b[2J\u202eabc\x00.'
    )
    assert printable('naïve café, 12 µm, 日本') == 'naïve café, 12 µm, 日本'
    assert printable('\udcff') == r'\udcff'
