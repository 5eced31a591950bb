"""The error for input that somebody else has to mend."""

import pytest

from m3et_ros.data.errors import InputError


def test_an_input_error_has_a_sentence_and_a_reason_to_count_it_by():
    error = InputError('step_too_short', 'colour image has step 8; correct it')
    assert str(error) == 'colour image has step 8; correct it' and error.reason == 'step_too_short'
    with pytest.raises(ValueError, match='has step 8'):  # callers that know only ValueError catch it
        raise error
