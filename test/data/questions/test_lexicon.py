from m3et_ros.data.kitchen.questions.taught import kitchen_taught
from m3et_ros.data.questions.lexicon import Lexicon, key

TAUGHT = kitchen_taught(version=1)
LEXICON = Lexicon(TAUGHT, TAUGHT.frame.values(), ['where is'])


def texts(said):
    return [token.text for token in LEXICON.tokens(key(said).split())]


def test_the_longest_phrase_becomes_one_token():
    assert texts('the cutting boards on the countertop') == ['chopping board', 'on counter']
    assert texts('visible in this picture') == ['in view']
    assert texts('loaves of bread') == ['bread']


def test_a_word_may_be_of_two_sorts():
    (token,) = LEXICON.tokens(['orange'])
    assert token.sorts == {'noun', 'colour'}


def test_a_taught_word_is_no_synonym_of_another():
    assert texts('glass') == ['glass']
    assert texts('mug') == ['cup']


def test_nouns_that_no_field_takes_are_known():
    (token,) = LEXICON.tokens(['walls'])
    assert (token.text, token.sorts) == ('wall', {'noun'})


def test_a_slip_is_mended_only_towards_one_known_word():
    assert texts('kettel') == ['kettle']
    assert texts('parrot') == ['parrot']
    assert LEXICON.knows('kettle') and LEXICON.knows('where')
    assert not LEXICON.knows('dragon')
    assert 'mugs' in LEXICON.surfaces
