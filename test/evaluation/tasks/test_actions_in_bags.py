"""Segments find their bags by name and words, and a bag becomes one token for each frame of the action stream."""

import pickle
import shutil

import cv2
import numpy as np
import pytest

from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.checkpoints.m3et import save_checkpoint
from m3et_ros.data.epic.annotations import NO_CLASS, Annotations, Note, Segment
from m3et_ros.data.epic.labels import Labelled, write_segments
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame, Labels
from m3et_ros.data.kitchen.cache.episodes import Action
from m3et_ros.data.progress import no_progress
from m3et_ros.evaluation.jobs import Job, run_jobs
from m3et_ros.evaluation.tasks.actions_in_bags import (
    PICTURES,
    TOKENS,
    ActionJobRunner,
    ActionTask,
    StreamSampler,
    encode_bag,
    episode_of,
    match_segments,
    read_files,
    read_picture,
    read_tokens,
)
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import untrained

LABELS = Labels((), (), (), ('take', 'turn-on'), ('tap', 'cup'))


def segment(bag, start=1.0, verb='take', noun='cup'):
    return Segment(f'{bag}_{start}', bag, 'P', start, start + 1, NO_CLASS, NO_CLASS, '', verb, noun)


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


def test_segments_with_unknown_words_are_left_out_and_named(bags):
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
def test_segments_without_a_bag_or_a_known_word_are_refused(bags, given, sentence):
    with pytest.raises(InputError, match=sentence):
        match_segments(bags, files(*given), LABELS)


def test_two_bags_of_one_name_are_refused(bags):
    with pytest.raises(InputError, match='two bags are called a'):
        match_segments([*bags, bags[0].with_name('other') / 'a'], files(segment('a')), LABELS)


def test_a_narration_id_in_two_files_is_refused(tmp_path):
    paths = [tmp_path / 'one.csv', tmp_path / 'two.csv']
    for path in paths:
        write_segments(path, [segment('a')], fps=10)
    assert len(read_files(paths[:1])[0].segments) == 1
    with pytest.raises(InputError, match='a_1.0 occurs in two'):
        read_files(paths)


def test_a_bag_is_encoded_once_and_a_damaged_one_leaves_the_others_alone(tmp_path):
    for name in 'ab':
        with BagWriter(tmp_path / name) as bag:
            for at in range(5):
                bag.write_frame(Frame(np.full((24, 32, 3), 40 * at, np.uint8), None, 10**18 + at * 10**8))
    (tmp_path / 'b' / 'b.mcap').write_bytes(b'no bag')
    runner = ActionJobRunner('tiny', 'cpu', ActionTask(), tmp_path / 'parts')
    assert runner.task.rate_hz == 2.5
    jobs = [Job(tmp_path / name, ()) for name in 'ab']
    one, two = run_jobs(runner, jobs, 1, 'tiny', 'cpu', no_progress)
    assert len(one.part['stamps_ns']) == 2 and 'damaged' in two.part['failed']
    assert [done.cached for done in run_jobs(runner, jobs[:1], 1, 'tiny', 'cpu', no_progress)] == [True]
    (tmp_path / 'parts' / f'a.{TOKENS}').unlink()
    (again,) = run_jobs(runner, jobs[:1], 1, 'tiny', 'cpu', no_progress)
    assert not again.cached and again.part == one.part


def test_a_model_without_an_action_head_is_refused(tmp_path):
    made = untrained('tiny', 0)
    made.heads.clear()
    save_checkpoint(tmp_path / 'blind', made, card='')
    with pytest.raises(InputError, match='has no action head'):
        ActionJobRunner(str(tmp_path / 'blind'), 'cpu', ActionTask(), tmp_path)


START = 1_700_000_000 * 10**9


@pytest.fixture(scope='module')
def engine():
    return Engine(untrained('tiny', 0))


@pytest.fixture(scope='module')
def shots():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (24, 32, 3), dtype=np.uint8) for _ in range(30)]


@pytest.fixture
def record(tmp_path, shots):
    """Write a bag with a frame at each of these tenths of a second, each with a picture of its own."""

    def write(*tenths):
        with BagWriter(tmp_path / 'bag') as bag:
            for at in tenths:
                bag.write_frame(Frame(shots[at % 30], None, START + at * 10**8))
        return tmp_path / 'bag'

    return write


def stored(folder, found):
    part, _, files = found
    for name, data in files.items():
        (folder / f'{part["bag"]}.{name}').write_bytes(data)
    return part


def test_every_fourth_frame_of_ten_a_second_is_encoded(engine, record, shots, tmp_path):
    part = stored(tmp_path, encode_bag(engine, ActionTask(2.5), record(*range(21))))
    assert [(stamp - START) // 10**8 for stamp in part['stamps_ns']] == [0, 4, 8, 12, 16, 20]
    assert part['frames'] == 21 and part['breaks'] == []
    assert [text for text in part['troubles'] if 'depth is absent' not in text] == []
    tokens = read_tokens(tmp_path, part)
    view = engine.encode(Frame(shots[8]))
    np.testing.assert_allclose(tokens[2], engine.action_token(view)[0, 0].half().numpy(), rtol=0, atol=0)
    assert tokens.dtype == np.float16 and len(tokens) == 6
    picture = cv2.imdecode(np.frombuffer(read_picture(tmp_path, part, 2), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (96, 128, 3)
    near = cv2.resize(shots[8], (128, 96), interpolation=cv2.INTER_AREA)[..., ::-1]
    assert np.abs(picture.astype(int) - near).mean() < 40 < np.abs(picture.astype(int) - near[:, ::-1]).mean()


def test_a_stream_restarts_after_a_gap_and_older_frames_are_left_out(engine, record, shots):
    part, _, _ = encode_bag(engine, ActionTask(2.5), record(*range(6), *range(71, 77)))
    assert [(stamp - START) // 10**8 for stamp in part['stamps_ns']] == [0, 4, 71, 75]
    assert part['breaks'] == [2] and any('longest gap is 6.600 s' in text for text in part['troubles'])
    sampler = StreamSampler(2.5)
    assert [sampler.use(Frame(shots[0], None, START + at * 10**8)) for at in (20, 24, 3, 7, 28)] == [1, 1, 0, 0, 1]
    assert sampler.late == 2 and sampler.breaks == []


def test_a_head_without_a_rate_uses_all_frames(engine, record):
    assert len(encode_bag(engine, ActionTask(), record(*range(5)))[0]['stamps_ns']) == 5


def test_the_same_bag_gives_the_same_bytes(engine, record):
    bag = record(*range(9))
    (one, _, files), (two, _, others) = (encode_bag(engine, ActionTask(2.5), bag) for _ in range(2))
    assert one == two and files == others and set(files) == {TOKENS, PICTURES}


def test_segments_become_actions_on_the_clock_of_the_bag(engine, record):
    part, _, _ = encode_bag(engine, ActionTask(2.5), record(*range(5, 15)))
    own = [Labelled(Segment('bag_0', 'bag', 'P', 0.1, 0.7, NO_CLASS, NO_CLASS), 3, 4)]
    episode = episode_of(part, own, 7)
    assert episode.name == 'bag' and episode.first == 7 and episode.actions == (Action(0.1, 0.7, 3, 4),)
    assert episode.stamps.tolist() == [0, 0.4, 0.8]


def test_missing_or_foreign_tokens_are_refused(engine, record, tmp_path):
    part = stored(tmp_path, encode_bag(engine, ActionTask(2.5), record(*range(9))))
    with pytest.raises(InputError, match='for 2 frames'):
        read_tokens(tmp_path, part | {'stamps_ns': [1, 2]})
    (tmp_path / f'bag.{TOKENS}').write_bytes(b'none')
    with pytest.raises(InputError, match='bag.tokens.npy cannot be read'):
        read_tokens(tmp_path, part)
    (tmp_path / f'bag.{PICTURES}').unlink()
    assert read_picture(tmp_path, part, 0) == b''


@pytest.mark.parametrize('wrong', [{'rate_hz': -1}, {'rate_hz': float('nan')}, {'threads': 0}])
def test_settings_have_ranges(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ActionTask(**wrong)


def test_tokens_that_are_gone_are_encoded_again_and_another_process_gets_the_same_runner(tmp_path):
    for name in 'ab':
        with BagWriter(tmp_path / name) as bag:
            for at in range(9):
                bag.write_frame(Frame(np.full((24, 32, 3), 20 * at, np.uint8), None, 10**18 + at * 10**8))
    runner = ActionJobRunner('tiny', 'cpu', ActionTask(), tmp_path / 'one')
    jobs = [Job(tmp_path / name, ()) for name in 'ab']
    one = run_jobs(runner, jobs, 1, 'tiny', 'cpu', no_progress)
    # That processes give what one gives is tested in test/evaluation/test_jobs.py; they make a runner of this kind.
    kind, task = pickle.loads(pickle.dumps((type(runner), runner.task)))
    runner = kind('tiny', 'cpu', task, shutil.copytree(tmp_path / 'one', tmp_path / 'two'))
    (runner.folder / f'b.{TOKENS}').unlink()
    two = run_jobs(runner, jobs, 1, 'tiny', 'cpu', no_progress)
    assert [result.part for result in two] == [result.part for result in one] and len(one[0].part['stamps_ns']) == 3
    assert [result.cached for result in two] == [True, False]
    assert (tmp_path / 'two' / f'b.{TOKENS}').read_bytes() == (tmp_path / 'one' / f'b.{TOKENS}').read_bytes()


def test_a_job_reads_the_named_and_renamed_topics(engine, record):
    bag, colour = record(*range(3)), '/camera/camera/color/image_raw'
    part, _, files = ActionTask(camera='/camera/camera').examine(engine, bag, ())
    assert part['camera'] == {'rgb': colour, 'depth': None} and set(files) == {TOKENS, PICTURES}
    renamed = ActionTask(camera='/head', remaps={colour: '/head/color/image_raw'})
    assert renamed.examine(engine, bag, ())[0]['camera']['rgb'] == colour
    with pytest.raises(InputError, match='/head/color/image_raw'):
        ActionTask(camera='/head').examine(engine, bag, ())


def test_the_limits_of_the_settings_are_allowed():
    assert ActionTask(rate_hz=0, threads=1).settings() == {'rate_hz': 0, 'camera': None, 'remaps': {}, 'threads': 1}
