import pytest

from m3et_ros.data.kitchen.questions.taught import kitchen_taught
from m3et_ros.data.questions.matching import like
from m3et_ros.data.questions.paraphrases import AT_PLACE, EPISODE, FRAME, SCENE
from m3et_ros.data.questions.reader import AT, DESCRIBE, QuestionReader

TAUGHT = kitchen_taught(version=1)
READER = QuestionReader(TAUGHT)


@pytest.mark.parametrize(('kinds', 'more'), ((TAUGHT.frame, FRAME), (TAUGHT.episode, EPISODE)))
def test_every_paraphrase_is_of_a_taught_kind_and_has_its_fields(kinds, more):
    assert set(more) <= set(kinds)
    assert [w for kind, wordings in more.items() for w in wordings if like(kinds[kind], w) is None] == []


@pytest.mark.parametrize(
    ('scope', 'kinds', 'more'), (('frame', TAUGHT.frame, FRAME), ('episode', TAUGHT.episode, EPISODE))
)
def test_every_paraphrase_is_read_as_its_kind_or_one_that_means_the_same(scope, kinds, more):
    same = {'is_on', 'empty_handed', 'was_seen', 'fact_seen', 'use_seen', 'ever_done', 'was_opened'}
    wrong = []
    for name, wordings in more.items():
        kind = kinds[name]
        for wording in wordings:
            values = {key: one.words[0] for key, one in kind.fields.items() if f'{{{key}}}' in wording}
            values |= {'b': kind.fields['b'].words[2]} if 'b' in values else {}
            text = wording.format(**{key: TAUGHT.formed(word, kind.fields[key].form) for key, word in values.items()})
            reading = READER.read(text, scope)
            if reading.kind != name and not {name, reading.kind} <= same:
                wrong.append((name, text, reading))
    assert wrong == []


def test_everyday_wordings_are_composed():
    assert {READER.read(wording).kind for wording in SCENE} == {DESCRIBE}
    found = {READER.read(wording.format(place='on the table')).kind for wording in AT_PLACE}
    assert found == {AT}
