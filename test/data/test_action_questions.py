"""Questions that guide an action head, and what they give away."""

from m3et_ros.data.action_questions import MASK, NEXT, NOUN_FORMS, VERB_FORMS, masked_questions, questions_after


def test_the_masked_form_depends_on_the_key_alone():
    pairs = {masked_questions(f'P01_{i}') for i in range(200)}
    assert pairs == {(noun.format(verb=MASK), verb.format(noun=MASK)) for noun in NOUN_FORMS for verb in VERB_FORMS}
    assert masked_questions('P01_7') == masked_questions('P01_7')


def test_keys_are_filled_in_as_words():
    noun, verb = masked_questions('x', 'turn-on', 'board:chopping')
    assert 'turn on' in noun and 'board' not in noun and 'chopping board' in verb and 'turn' not in verb


def test_history_names_the_action_before():
    assert questions_after(('turn-on', 'tap')) == (
        'After the action turn on tap, which object is used next?',
        'After the action turn on tap, what is done next?',
    )
    assert questions_after(None) == NEXT
