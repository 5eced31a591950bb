"""Segments of EPIC-KITCHENS-100: the official columns, histories against their definition, odd rows counted."""

import pytest
from epic_folder import COLUMNS, REAL, make_folder, needs_real, row, write
from hypothesis import given, settings
from hypothesis import strategies as st

from m3et_ros.data.epic.annotations import (
    GAP_S,
    NO_CLASS,
    TIMED,
    Annotations,
    Segment,
    by_stop,
    find_split,
    held_out_videos,
    histories,
    read_segments,
    seconds,
    visible_counts,
)
from m3et_ros.data.epic.class_lists import read_classes
from m3et_ros.data.errors import InputError


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path, videos=3, segments=4)


def read(folder, rows, columns=COLUMNS):
    return read_segments(write(folder / 'own.csv', columns, rows), read_classes(folder))


def test_a_row_becomes_a_segment(folder):
    found = read(folder, [row('P01_01_0', 62.5, 64.25, 2, 4, narration='wash board')])
    assert found.segments == (Segment('P01_01_0', 'P01_01', 'P01', 62.5, 64.25, 2, 4, 'wash board', 'wash'),)
    assert found.segments[0].start_frame == 3750
    assert read(folder, [row('P01_01_0', 62.5, 64, 2, 4, start_frame='')]).segments[0].start_frame is None
    assert found.notes == () and found.participants == ('P01',)


@pytest.mark.parametrize('text, value', [('00:00:01.089', 1.089), ('01:02:03', 3723.0), ('0:0:0.5', 0.5)])
def test_timestamps_are_seconds(text, value):
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize('text', ['', '12', '00:61:00', '00:00:-1', 'nan', '1:2:3:4'])
def test_other_texts_are_no_time(text):
    with pytest.raises(ValueError, match='HH:MM:SS'):
        seconds(text)


times = st.integers(0, 4000).map(lambda hundredths: hundredths / 100)


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(times, times), min_size=1, max_size=12))
def test_histories_are_what_ended_a_second_before(spans):
    segments = tuple(
        Segment(f'v_{i}', 'v', 'P', start, start + length, 0, 0) for i, (start, length) in enumerate(spans)
    )
    for target, found in zip(segments, histories(Annotations(None, segments, ()))):
        ended = {i for i, s in enumerate(segments) if s.stop_s <= target.start_s - GAP_S + 1e-6}
        assert set(found) == ended
        assert [segments[i].stop_s for i in found] == sorted(segments[i].stop_s for i in found)


def test_an_action_that_ends_exactly_a_second_before_is_visible():
    segments = [
        Segment('a', 'v', 'P', 0, 0.1, 0, 0),
        Segment('b', 'v', 'P', 1.1, 2, 0, 0),
        Segment('c', 'v', 'P', 1.09, 2, 0, 0),
    ]
    order = by_stop(segments, range(3))
    assert dict(zip(order, visible_counts(segments, order))) == {0: 0, 1: 1, 2: 0}


def test_videos_have_separate_histories(folder):
    found = read(folder, [row('P01_01_0', 0, 1, 0, 1), row('P01_02_0', 5, 6, 0, 1), row('P01_02_1', 8, 9, 1, 1)])
    assert histories(found) == [[], [], [1]]
    assert found.only(['P01_02']).videos == {'P01_02': [0, 1]}


@pytest.mark.parametrize(
    'changes, kind, said',
    [
        ({'verb_class': 55}, 'unknown_class', 'wrong for every model'),
        ({'stop_timestamp': '00:00:03.00'}, 'zero_length', 'duration of 0'),
        ({'stop_timestamp': '00:00:01.00'}, 'reversed', 'end before they start'),
    ],
)
def test_odd_segments_are_kept_and_counted(folder, changes, kind, said):
    found = read(folder, [row('P01_01_0', 0, 1, 0, 1), row('P01_01_1', 3, 4, 0, 1, **changes)])
    assert len(found.segments) == 2 and found.segments[1].stop_s >= 3
    (note,) = found.notes
    assert (note.kind, note.count) == (kind, 1) and said in note.text and 'P01_01_1' in note.text


def test_overlaps_are_counted(folder):
    found = read(
        folder,
        [
            row('P01_01_0', 0, 9, 0, 1),
            row('P01_01_1', 1, 2, 0, 1),
            row('P01_01_2', 5, 10, 1, 2),
            row('P01_01_3', 10, 11, 1, 2),
        ],
    )
    assert [(note.kind, note.count) for note in found.notes] == [('overlapping', 2)]


@pytest.mark.parametrize(
    'changes, said',
    [
        ({'start_timestamp': '12'}, "line 3 of .*column start_timestamp '12' is not a time"),
        ({'verb_class': ''}, 'line 3 of .*column verb_class'),
        ({'noun_class': '1.5'}, "'1.5' is not a whole number"),
        ({'narration_id': ''}, 'column narration_id there is nothing'),
        ({'narration_id': 'P01_01_0'}, 'P01_01_0 twice'),
    ],
)
def test_unusable_rows_are_refused_by_line(folder, changes, said):
    with pytest.raises(InputError, match=said):
        read(folder, [row('P01_01_0', 0, 1, 0, 1), row('P01_01_1', 3, 4, 0, 1) | changes])


def test_a_missing_column_is_named(folder):
    columns = [c for c in COLUMNS if c not in ('stop_timestamp', 'noun_class')]
    rows = [{name: value for name, value in row('P01_01_0', 0, 1, 0, 1).items() if name in columns}]
    with pytest.raises(InputError, match='lacks the columns stop_timestamp, noun_class') as caught:
        read(folder, rows, columns)
    assert caught.value.reason == 'data_columns'


def test_words_may_stand_in_place_of_classes(folder):
    """Lines are counted as an editor counts them, over an empty one and a cell of two lines."""
    columns = (*TIMED, 'verb', 'verb_class', 'noun', 'narration')
    path = folder / 'own.csv'
    path.write_text(
        f'{",".join(columns)}\na,kitchen,00:00:01.5,00:00:02,take,55,cup,"two\nlines"\n\n'
        'b,kitchen,00:00:03,00:00:04,,3,cup,\n'
    )
    assert read_segments(path, None).segments == (
        Segment('a', 'kitchen', 'kitchen', 1.5, 2, NO_CLASS, NO_CLASS, 'two\nlines', 'take', 'cup'),
        Segment('b', 'kitchen', 'kitchen', 3, 4, 3, NO_CLASS, '', '', 'cup'),
    )
    path.write_text(path.read_text() + 'c,kitchen,00:00:05,00:00:06,take,,,\n')
    with pytest.raises(InputError, match='line 6 of .*column noun there is nothing'):
        read_segments(path, None)
    path.write_text('narration_id,video_id,verb,noun\n')
    with pytest.raises(InputError, match='start_timestamp, stop_timestamp'):
        read_segments(path, None)


def test_splits_are_found_by_name_or_path(folder):
    assert find_split(folder, 'train').name == 'EPIC_100_train.csv'
    assert find_split(folder, str(folder / 'EPIC_100_validation.csv')).name == 'EPIC_100_validation.csv'
    (folder / 'EPIC_100_train.csv').rename(folder / 'EPIC_100_train_labels.csv')
    assert find_split(folder, 'train').name == 'EPIC_100_train_labels.csv'
    for split in ('uda_target_val', 'test'):
        with pytest.raises(InputError, match=split if split == 'test' else 'EPIC_100_uda_target_val.csv'):
            find_split(folder, split)


def test_an_empty_file_is_refused(folder):
    with pytest.raises(InputError, match='no segment'):
        read(folder, [])


def test_the_draw_of_held_out_videos_is_stable_and_disjoint():
    videos = [f'P{i:02d}' for i in range(30)]
    first, second = held_out_videos(videos, 8), held_out_videos(reversed(videos), 8, skip=8)
    assert len(first) == len(second) == 8 and not set(first) & set(second)
    assert first == held_out_videos(videos[::-1], 8) != held_out_videos(videos, 8, seed=1)
    with pytest.raises(ValueError, match='30 of 30'):
        held_out_videos(videos, 30)


@needs_real
def test_the_training_labels_have_the_published_counts():
    found = read_segments(find_split(REAL, 'train'), read_classes(REAL))
    assert (len(found.segments), len(found.videos), len(found.participants)) == (67217, 495, 32)
    assert len({(s.verb, s.noun) for s in found.segments}) == 3568
    assert sum(not history for history in histories(found)) == 921


@needs_real
def test_official_rows_agree_with_the_rebuilt_ones():
    classes = read_classes(REAL)
    rebuilt = {s.narration_id: s for s in read_segments(find_split(REAL, 'train'), classes).segments}
    official = read_segments(find_split(REAL, 'uda_source_train'), classes).segments
    assert len(official) == 16115 and all(s.narration for s in official)
    common = [(s, rebuilt[s.narration_id]) for s in official if s.narration_id in rebuilt]
    assert len(common) > 0.99 * len(official)
    # Frames at 30 a second stand for those at 50 and 59.94: the times differ by a frame, the numbers by half.
    assert max(abs(one.start_s - other.start_s) for one, other in common) < 0.05


def test_times_have_edges():
    assert Segment('a', 'v', 'P', 0, 0, 0, 0).stop_s == 0
    for start, stop in ((-0.01, 1), (1, 0.99), (0, float('inf')), (float('nan'), 1)):
        with pytest.raises(ValueError, match='a lasts from'):
            Segment('a', 'v', 'P', start, stop, 0, 0)


def test_at_least_one_video_is_left_to_learn_from():
    assert held_out_videos('abc', 0) == () and len(held_out_videos('abc', 2)) == 2
    assert len(held_out_videos('abc', 1, skip=1)) == 1
    for count, skip in ((3, 0), (2, 1), (-1, 0)):
        with pytest.raises(ValueError, match=f'{count + skip} of 3 videos'):
            held_out_videos('abc', count, skip=skip)


def test_the_gap_is_the_callers(folder):
    found = read(folder, [row('P01_01_0', 0, 1, 0, 1), row('P01_01_1', 3, 4, 0, 1)])
    assert [histories(found, gap) for gap in (2.0, 2.01)] == [[[], [0]], [[], []]]


def test_a_note_names_a_segment_on_one_line(folder):
    found = read(folder, [row('P01_01_0\n[FATAL] x', 3, 3, 0, 1)])
    (note,) = found.notes
    assert 'first P01_01_0\\n[FATAL] x)' in note.text
