"""Sentences and their short answers; other replies are searched for an answer."""

import pytest

from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS, KINDS, NOT_IN_VIEW, phrasings
from m3et_ros.data.kitchen.questions.sentences import (
    DESCRIBE,
    answers_of,
    join_words,
    noun_phrase,
    parse_question,
    sentence,
    sentences,
    short_answer,
)
from m3et_ros.training.talk import talk_tokenizer

FIELDS = {
    'a': 'cup',
    'b': 'orange',
    'article': 'an orange',
    'plural': 'cups',
    'colour': 'red',
    'place': 'on the hob',
    'side': 'on the left',
}


def fields_of(kind):
    return {name: value for name, value in FIELDS.items() if any(f'{{{name}}}' in w for w in phrasings(kind, 2))}


@pytest.fixture(scope='module')
def tokenizer():
    return talk_tokenizer()


@pytest.mark.parametrize('kind', KINDS)
def test_every_answer_has_a_sentence_that_says_it_and_only_it(kind, tokenizer):
    fields = fields_of(kind)
    texts = {answer: sentence(kind, fields, answer) for answer in answers_of(kind)}
    assert set(texts) <= set(ANSWERS) and len(set(texts.values())) == len(texts)
    for answer, text in texts.items():
        assert text[0].isupper() and text.endswith('.') and '{' not in text
        assert short_answer(kind, fields, text) == answer
        ids, _ = tokenizer.encode([text], 64)
        assert tokenizer.unk not in ids and short_answer(kind, fields, tokenizer.decode(ids[0])) == answer


@pytest.mark.parametrize('kind', KINDS)
def test_questions_are_parsed_in_every_wording(kind):
    for wording in phrasings(kind, 2):
        fields = {name: value for name, value in FIELDS.items() if f'{{{name}}}' in wording}
        found, given = parse_question(wording.format(**fields))
        assert found == kind and fields.items() <= given.items()
        assert short_answer(kind, given, sentence(kind, given, answers_of(kind)[0])) == answers_of(kind)[0]


def test_a_wording_without_fields_comes_first():
    assert parse_question('Is there something in the hand?') == ('holding', {})
    assert parse_question('Is there something in the cup?') == ('is_filled', {'a': 'cup'})
    assert parse_question('Who are you?') is None


def test_an_object_out_of_view_has_a_sentence():
    for kind in ('colour', 'is_colour'):
        assert sentence(kind, {'a': 'cup', 'colour': 'red'}, NOT_IN_VIEW) == 'The cup is not in view.'
    pair = {'a': 'cup', 'b': 'orange'}
    assert (
        sentence('closer', pair, NOT_IN_VIEW) == sentence('left_of', pair, NOT_IN_VIEW) == 'They are not both in view.'
    )
    with pytest.raises(KeyError):
        sentence('nearest', {}, NOT_IN_VIEW)


def test_questions_without_a_noun_have_sentences():
    assert sentence('colour_at', FIELDS, 'red') == 'The thing on the left is red.'
    assert sentence('thing_at', FIELDS, 'chopping board') == 'The chopping board is on the left.'
    assert [sentence('what_at', FIELDS, answer) for answer in ('nothing', 'cup')] == [
        'Nothing is on the hob.',
        'The cup is on the hob.',
    ]
    assert parse_question('What is in the hand?') == ('held', {})
    assert parse_question("What's on the table?") == ('what_at', {'place': 'on the table'})
    assert parse_question('What color is the thing in the middle?') == ('colour_at', {'side': 'in the middle'})


@pytest.mark.parametrize(
    ('kind', 'reply', 'short'),
    [
        ('colour', 'I believe it is a red one', 'red'),
        ('colour', 'no idea', ''),
        ('is_colour', 'yes!', 'yes'),
        ('is_colour', 'It is red.', ''),
        ('location', 'Look in the drawer, not on the hob: in the fridge', 'in the fridge'),
        ('nearest', 'the white cup, I think', 'white cup'),
        ('distance', 'one and a half metres', '1.5 m'),
        ('distance', 'half a metre', '0.5 m'),
        ('region', 'left', ''),
        ('count', 'one', '1'),
        ('colour', '', ''),
    ],
)
def test_other_replies_are_searched_for_an_answer(kind, reply, short):
    assert short_answer(kind, fields_of(kind), reply) == short


def test_things_are_counted_and_coloured():
    assert [
        noun_phrase('cup'),
        noun_phrase('cup', 1, 'orange'),
        noun_phrase('knife', 2),
        noun_phrase('milk', 1, 'white'),
    ] == ['a cup', 'an orange cup', 'two knives', 'a white milk carton']
    assert join_words(['a', 'b', 'c']) == 'a, b and c'
    assert sentence('count', {'plural': 'loaves of bread'}, '1') == 'I can see one loaf of bread.'


def test_the_tokenizer_knows_every_word(tokenizer):
    ids, _ = tokenizer.encode([*sentences(), *DESCRIBE], 64)
    assert tokenizer.unk not in ids and (ids[:, -1] == tokenizer.pad).all()


@pytest.mark.parametrize(('count', 'words'), [(1, 'a cup'), (2, 'two cups'), (10, 'ten cups'), (11, 'many cups')])
def test_numbers_are_words_up_to_ten(count, words):
    assert noun_phrase('cup', count) == words


def test_unknown_kinds_and_answers_are_refused():
    for kind, answer in (('weather', 'rain'), ('colour', 'rain'), ('count', '11')):
        with pytest.raises(KeyError):
            sentence(kind, fields_of('count') | fields_of('colour'), answer)
    with pytest.raises(ValueError):
        sentence('existence', fields_of('existence'), 'perhaps')


def test_a_list_of_one_or_two_has_no_comma():
    assert (join_words(['a']), join_words(['a', 'b'])) == ('a', 'a and b')
