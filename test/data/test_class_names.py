"""Classes named in a sentence."""

import pytest

from m3et_ros.data.class_names import ClassNames, QuestionEncoder
from m3et_ros.data.kitchen.labels import corpus, kitchen_labels
from m3et_ros.data.tokenizer import Tokenizer

CLASSES = kitchen_labels().classes


@pytest.fixture(scope='module')
def naming():
    return ClassNames(Tokenizer.train(corpus(), vocabulary=512), CLASSES)


def names(naming, text):
    return {CLASSES[number] for number in naming.classes(text)}


@pytest.mark.parametrize(
    ('text', 'named'),
    [
        ('Which is closer, the Orange or the knife?', {'orange', 'knife'}),
        ('Is the cup orange?', {'cup'}),
        ('Can you see a chopping board?', {'chopping board'}),
        ('How many cans can you see?', {'can'}),
        ('How many glasses are in view?', {'glass'}),
        ('Is the loaf of bread in the drawer?', {'bread', 'drawer'}),
        ('How many orange objects are in view?', set()),
        ('What is the scandal about panic?', set()),
        ('', set()),
    ],
)
def test_names_and_plurals_are_found_and_other_words_are_not(naming, text, named):
    assert names(naming, text) == named


def test_the_pieces_of_a_name_are_those_that_spell_it(naming):
    text = 'Is the tomato left of the chopping board?'
    ids = naming.tokenizer.encode([text], 24)[0][0, 1:]
    spelt = {}
    for place, number in naming.pieces(text):
        spelt.setdefault(CLASSES[number], []).append(int(ids[place]))
    assert {name: naming.tokenizer.decode(pieces) for name, pieces in spelt.items()} == {
        'tomato': 'tomato',
        'chopping board': 'chopping board',
    }


def test_pieces_have_their_class_and_short_questions_are_padded(naming):
    tokenizer = naming.tokenizer
    encode = QuestionEncoder(tokenizer, CLASSES, 32)
    ids, mask, named = encode(['Is the cup left of the chopping board?', 'What was done last?'])
    wanted, _ = tokenizer.encode(['Is the cup left of the chopping board?', 'What was done last?'], 32)
    assert (ids[mask] == wanted[:, : ids.shape[1]][mask]).all() and mask.sum(1).tolist()[0] == ids.shape[1]
    assert set(named[0].tolist()) == {-1, CLASSES.index('cup'), CLASSES.index('chopping board')}
    assert (named[1] == -1).all() and not mask[1].all() and (ids[1][~mask[1]] == 0).all()
    again = encode(['What was done last?'])
    assert again[0].shape[1] == int(mask[1].sum())


def test_long_questions_keep_their_beginning(naming):
    encode = QuestionEncoder(naming.tokenizer, CLASSES, 8)
    ids, mask, named = encode(['Where is the cup ' + 'and the bowl ' * 20])
    assert ids.shape == (1, 8) and mask.all() and CLASSES.index('cup') in named[0].tolist()


def test_the_end_mark_of_a_cut_question_names_nothing(naming):
    """The question is cut just before its name, whose piece would stand where [SEP] stands now, and just behind it."""
    text = 'Is the cup left of the bowl?'
    (position, number), *_ = naming.pieces(text)
    _, _, named = QuestionEncoder(naming.tokenizer, CLASSES, position + 2)([text])
    assert named[0].tolist() == [-1] * (position + 2)
    _, _, named = QuestionEncoder(naming.tokenizer, CLASSES, position + 3)([text])
    assert named[0].tolist() == [-1] * (position + 1) + [number, -1]
