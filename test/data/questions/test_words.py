import pytest

from m3et_ros.data.questions.words import plain, plurals, slips, split_words


@pytest.mark.parametrize(
    ('text', 'said'),
    (
        ('  Is the  TAP on ?! ', 'is the tap on'),
        ('Hey robot, is the tap on?', 'is the tap on'),
        ('Hello! Please, could you tell me where the cup is, please?', 'where the cup is'),
        ('Is the tap on right now, robot?', 'is the tap on'),
        ('\u201cWhat\u2019s this?\u201d', "what's this"),
        ('Hello robot!', ''),
        ('???', ''),
    ),
)
def test_politeness_and_marks_are_left_out(text, said):
    assert plain(text) == said


@pytest.mark.parametrize(
    ('said', 'words'),
    (
        ("what's the color of the gray cups", 'what is colour of grey cups'),
        ("isn't there any water", 'is not there water'),
        ("where are the cup's", "where is cup's"),
        ("what is the cup's color", 'what is colour of cup'),
        ('a left-hand door', 'left hand door'),
        ('how many meters', 'how many metres'),
        ('the color is red', 'colour is red'),
    ),
)
def test_one_spelling_for_all(said, words):
    assert ' '.join(split_words(said)) == words


@pytest.mark.parametrize(
    ('word', 'found'),
    (
        ('cup', ('cups',)),
        ('box', ('boxs', 'boxes')),
        ('knife', ('knifes', 'knives')),
        ('potato', ('potatos', 'potatoes')),
    ),
)
def test_plurals(word, found):
    assert plurals(word) == found


def test_a_slip_swaps_or_repeats_a_letter_and_nothing_else():
    assert 'bottle' in slips('botlte') & slips('botle') & slips('bottlle')
    assert 'what' in slips('waht')
    assert 'carrot' not in slips('parrot')
    assert 'cup' not in slips('ucp')  # too short
