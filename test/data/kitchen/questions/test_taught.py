from m3et_ros.data.kitchen.labels import kitchen_labels
from m3et_ros.data.kitchen.questions.episode_wordings import PHRASINGS as EPISODE
from m3et_ros.data.kitchen.questions.frame_wordings import FIRST_ANSWERS, KINDS, PHRASINGS
from m3et_ros.data.kitchen.questions.taught import BEYOND, kitchen_taught, taught_to
from m3et_ros.data.kitchen.sim.vocabulary import CLASSES, OBJECTS


def test_all_kinds_of_a_version_are_taught():
    first, second = kitchen_taught(version=1), kitchen_taught(version=2)
    assert tuple(first.frame) == tuple(PHRASINGS)
    assert tuple(second.frame) == KINDS
    assert tuple(first.episode) == tuple(EPISODE)
    assert {name for name, kind in first.frame.items() if kind.beyond_frame} == set(BEYOND)


def test_fields_have_the_words_of_the_generators():
    taught = kitchen_taught(version=1).frame
    assert len(taught['colour'].fields['a'].words) == len(OBJECTS)
    assert 'wall' not in taught['existence'].fields['article'].words
    assert 'tap' in taught['left_of'].fields['b'].words and 'tap' not in taught['left_of'].fields['a'].words
    assert taught['is_open'].fields['a'].words == ('drawer', 'cupboard', 'fridge')
    assert taught['is_filled'].fields['a'].words == ('cup', 'glass', 'bowl', 'pan', 'pot')


def test_labels_of_the_kitchen_tell_its_version():
    labels = kitchen_labels()
    assert taught_to(FIRST_ANSWERS, CLASSES) == kitchen_taught(version=1)
    assert taught_to(labels.answers, labels.classes) == kitchen_taught(version=2)
    assert taught_to(('yes', 'no'), CLASSES) is None
    assert taught_to(labels.answers, ('cat',)) is None
