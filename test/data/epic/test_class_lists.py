"""Lists beside the annotations: official form, real files where they are, damaged ones refused."""

from dataclasses import replace

import pytest
from epic_folder import NOUNS, REAL, VERBS, make_folder, needs_real, write

from m3et_ros.data.epic.class_lists import Classes, Video, read_classes, read_tail, read_unseen, read_videos
from m3et_ros.data.errors import InputError


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path, videos=3, segments=4)


def test_classes_come_in_the_order_of_their_ids(folder):
    path = folder / 'EPIC_100_verb_classes.csv'
    head, *lines = path.read_text().splitlines()
    path.write_text('\n'.join([head, *reversed(lines)]))
    classes = read_classes(folder)
    assert (classes.verbs, classes.nouns) == (VERBS, NOUNS)
    assert classes.verb_categories == tuple(verb[0] for verb in VERBS)


def test_the_lists_are_read(folder):
    assert read_tail(folder, 'verb') == read_tail(folder, 'noun') == (5,)
    assert read_videos(folder)['P01_00'] == Video(120.5, 50.0)


def test_unseen_participants_are_counted_where_no_list_names_them(folder):
    asked = {'present': ('P05', 'P01'), 'learnt': ('P01', 'P02')}
    assert read_unseen(folder, 'validation', **asked) == ('P05',)
    write(folder / 'EPIC_100_unseen_participant_ids_validation.csv', ('participant_id',), [{'participant_id': 'P18'}])
    assert read_unseen(folder, 'validation', **asked) == ('P18',)


@pytest.mark.parametrize(
    'name, text, said',
    [
        ('EPIC_100_verb_classes.csv', 'id,key,category\n0,take,x\n2,put,x\n', 'not 0 to 1'),
        ('EPIC_100_verb_classes.csv', 'id,key,category\n0,take,x\nb,put,x\n', "id 'b'"),
        ('EPIC_100_verb_classes.csv', 'id,key,category\n0,take,x\n1,take,x\n', 'twice'),
        ('EPIC_100_noun_classes.csv', 'id,category\n0,x\n', 'without key'),
        ('EPIC_100_noun_classes.csv', None, 'cannot be read'),
    ],
)
def test_damaged_class_lists_are_refused(folder, name, text, said):
    (folder / name).unlink()
    if text is not None:
        (folder / name).write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        read_classes(folder)
    assert str(folder / name) in str(caught.value)


def test_a_video_without_a_rate_is_refused(folder):
    path = folder / 'EPIC_100_video_info.csv'
    path.write_text('video_id,duration,fps\nP01_01,10,0\n')
    with pytest.raises(InputError, match='P01_01, whose fps is 0'):
        read_videos(folder)


def test_classes_have_one_category_each():
    with pytest.raises(ValueError, match='verbs are 2 keys .1 different. with 2'):
        Classes(('take', 'take'), ('tap',), ('x', 'x'), ('y',))


@needs_real
def test_the_official_lists_have_their_sizes():
    classes = read_classes(REAL)
    assert (len(classes.verbs), len(classes.nouns)) == (97, 300)
    assert (len(set(classes.verb_categories)), len(set(classes.noun_categories))) == (13, 21)
    assert (len(read_tail(REAL, 'verb')), len(read_tail(REAL, 'noun'))) == (86, 228)
    videos = read_videos(REAL)
    assert len(videos) == 700 and sum(round(v.fps, 2) == 59.94 for v in videos.values()) == 423


@pytest.mark.parametrize(('field', 'value'), [('duration_s', 0), ('fps', -1), ('fps', float('inf'))])
def test_a_video_has_a_length_and_a_rate(field, value):
    assert Video(1e-3, 1e-3).fps == 1e-3
    with pytest.raises(ValueError, match=f'{field} is'):
        Video(**{'duration_s': 1.0, 'fps': 50.0} | {field: value})


def test_categories_go_with_their_own_list(folder):
    classes = read_classes(folder)
    assert len(classes.verb_categories) == len(VERBS) and len(classes.noun_categories) == len(NOUNS)
    for name in ('verb_categories', 'noun_categories'):
        with pytest.raises(ValueError, match=f'{name.removesuffix("_categories")}s are'):
            replace(classes, **{name: ('x',)})
