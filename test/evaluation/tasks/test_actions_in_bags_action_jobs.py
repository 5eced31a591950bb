"""Segments find their bags by name and the model's words; a bag is looked at once."""

import numpy as np
import pytest

from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.checkpoints.m3et import save_checkpoint
from m3et_ros.data.epic.annotations import UNTOLD, Annotations, Note, Segment
from m3et_ros.data.epic.labels import write_segments
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame, Labels
from m3et_ros.data.progress import no_progress
from m3et_ros.evaluation.jobs import Job, run_jobs
from m3et_ros.evaluation.tasks.actions_in_bags import TOKENS, ActionTask, ActionWorker, match_segments, read_files
from m3et_ros.runtime.open_model import untrained

LABELS = Labels((), (), (), ('take', 'turn-on'), ('tap', 'cup'))


def segment(bag, start=1.0, verb='take', noun='cup'):
    return Segment(f'{bag}_{start}', bag, 'P', start, start + 1, UNTOLD, UNTOLD, '', verb, noun)


def files(*segments, notes=()):
    return [Annotations(None, segments, notes)]


@pytest.fixture
def bags(tmp_path):
    return [tmp_path / 'b.mcap', tmp_path / 'a', tmp_path / 'c']


def test_segments_are_about_the_bag_of_their_name(bags):
    asked = match_segments(
        bags,
        files(segment('b', 5), segment('a', 3), segment('a', 2), segment('x'), notes=(Note('odd', 1, 'One is odd.'),)),
        LABELS,
    )
    assert [job.name for job in asked.jobs] == ['a', 'b'] and asked.without == ('c',) and asked.elsewhere == 1
    assert [one.segment.start_s for one in asked.segments['a']] == [2, 3] and asked.count == 3
    assert asked.notes == ('One is odd.',)


def test_words_that_the_model_lacks_are_left_out_and_named(bags):
    asked = match_segments(
        bags,
        files(segment('a'), segment('a', 2, 'fly', 'kite'), segment('a', 4, 'fly'), segment('c', 2, 'take', 'kite')),
        LABELS,
    )
    assert asked.count == 1 and asked.without == ('b', 'c') and asked.unknown.segments == 3
    (note,) = asked.notes
    assert note.startswith('3 of 4 segments are left out') and 'verbs fly (2), nouns kite (2)' in note


@pytest.mark.parametrize(
    ('given', 'sentence'),
    [
        ((segment('x'), segment('y')), 'no segment is about a, b, c: their video_id are x, y'),
        ((segment('a', 1, 'fly'),), 'no word for verbs fly, .* knows the verbs take, turn-on and the nouns tap, cup'),
    ],
)
def test_nothing_to_ask_for_is_a_sentence(bags, given, sentence):
    with pytest.raises(InputError, match=sentence):
        match_segments(bags, files(*given), LABELS)


def test_two_bags_of_one_name_are_refused(bags):
    with pytest.raises(InputError, match='two bags are called a'):
        match_segments([*bags, bags[0].with_name('other') / 'a'], files(segment('a')), LABELS)


def test_a_narration_id_stands_in_one_file(tmp_path):
    paths = [tmp_path / 'one.csv', tmp_path / 'two.csv']
    for path in paths:
        write_segments(path, [segment('a')], fps=10)
    assert len(read_files(paths[:1])[0].segments) == 1
    with pytest.raises(InputError, match='a_1.0 stands in two'):
        read_files(paths)


def test_a_bag_is_looked_at_once_and_a_bad_one_costs_no_other(tmp_path):
    for name in 'ab':
        with BagWriter(tmp_path / name) as bag:
            for at in range(5):
                bag.write_frame(Frame(np.full((24, 32, 3), 40 * at, np.uint8), None, 10**18 + at * 10**8))
    (tmp_path / 'b' / 'b.mcap').write_bytes(b'no bag')
    worker = ActionWorker('tiny', 'cpu', ActionTask(), tmp_path / 'parts')
    assert worker.task.rate_hz == 2.5
    jobs = [Job(tmp_path / name, ()) for name in 'ab']
    one, two = run_jobs(worker, jobs, 1, 'tiny', 'cpu', no_progress)
    assert len(one.part['stamps_ns']) == 2 and 'damaged' in two.part['failed']
    assert [done.kept for done in run_jobs(worker, jobs[:1], 1, 'tiny', 'cpu', no_progress)] == [True]
    (tmp_path / 'parts' / f'a.{TOKENS}').unlink()
    (again,) = run_jobs(worker, jobs[:1], 1, 'tiny', 'cpu', no_progress)
    assert not again.kept and again.part == one.part


def test_a_model_without_an_action_head_is_refused(tmp_path):
    made = untrained('tiny', 0)
    made.heads.clear()
    save_checkpoint(tmp_path / 'blind', made, card='')
    with pytest.raises(InputError, match='has no action head'):
        ActionWorker(str(tmp_path / 'blind'), 'cpu', ActionTask(), tmp_path)
