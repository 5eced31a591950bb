"""A bag becomes one token for each frame that the robot's action stream would take in."""

import cv2
import numpy as np
import pytest

from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.epic.annotations import UNTOLD, Segment
from m3et_ros.data.epic.labels import Labelled
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.kitchen.cache.episodes import Action
from m3et_ros.evaluation.tasks.actions_in_bags import (
    PICTURES,
    TOKENS,
    ActionTask,
    Chosen,
    episode_of,
    read_picture,
    read_tokens,
    watch_bag,
)
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import untrained

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
    """Write a bag with a frame at each of these tenths of a second; the picture tells which."""

    def write(*tenths):
        with BagWriter(tmp_path / 'bag') as bag:
            for at in tenths:
                bag.write_frame(Frame(shots[at % 30], None, START + at * 10**8))
        return tmp_path / 'bag'

    return write


def kept(folder, found):
    part, _, files = found
    for name, data in files.items():
        (folder / f'{part["bag"]}.{name}').write_bytes(data)
    return part


def test_every_fourth_frame_of_ten_a_second_is_looked_at(engine, record, shots, tmp_path):
    part = kept(tmp_path, watch_bag(engine, ActionTask(2.5), record(*range(21))))
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


def test_after_a_gap_a_stream_begins_and_what_is_older_is_left_out(engine, record, shots):
    part, _, _ = watch_bag(engine, ActionTask(2.5), record(*range(6), *range(71, 77)))
    assert [(stamp - START) // 10**8 for stamp in part['stamps_ns']] == [0, 4, 71, 75]
    assert part['breaks'] == [2] and any('longest gap is 6.600 s' in text for text in part['troubles'])
    chosen = Chosen(2.5)
    assert [chosen(Frame(shots[0], None, START + at * 10**8)) for at in (20, 24, 3, 7, 28)] == [1, 1, 0, 0, 1]
    assert chosen.late == 2 and chosen.breaks == []


def test_a_head_without_a_rate_takes_all(engine, record):
    assert len(watch_bag(engine, ActionTask(), record(*range(5)))[0]['stamps_ns']) == 5


def test_the_same_bag_gives_the_same_bytes(engine, record):
    bag = record(*range(9))
    (one, _, files), (two, _, others) = (watch_bag(engine, ActionTask(2.5), bag) for _ in range(2))
    assert one == two and files == others and set(files) == {TOKENS, PICTURES}


def test_segments_become_actions_on_the_clock_of_the_bag(engine, record):
    part, _, _ = watch_bag(engine, ActionTask(2.5), record(*range(5, 15)))
    own = [Labelled(Segment('bag_0', 'bag', 'P', 0.1, 0.7, UNTOLD, UNTOLD), 3, 4)]
    episode = episode_of(part, own, 7)
    assert episode.name == 'bag' and episode.first == 7 and episode.actions == (Action(0.1, 0.7, 3, 4),)
    assert episode.stamps.tolist() == [0, 0.4, 0.8]


def test_lost_or_foreign_tokens_are_a_sentence(engine, record, tmp_path):
    part = kept(tmp_path, watch_bag(engine, ActionTask(2.5), record(*range(9))))
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
