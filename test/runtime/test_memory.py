"""What is remembered of an episode: in constant size, at its own rate, kept on disk and across devices."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.models.episode.model import EpisodeHead
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.frame_comb import FrameComb
from m3et_ros.runtime.memory import EpisodeMemory
from m3et_ros.runtime.open_model import untrained
from m3et_ros.runtime.session import Session
from m3et_ros.training.memory.run import episode_config

SECOND = 10**9
QUESTION = 'Where is the cup now?'


@pytest.fixture(scope='module')
def checkpoint():
    plain = untrained('tiny', 0)
    torch.manual_seed(0)
    config = episode_config(
        plain, ('yes', 'no', 'on the table'), rate_hz=2.5, d=16, d_eye=16, d_value=8, d_slot=8, d_stream=16
    )
    return replace(plain, heads={**plain.heads, 'episode': EpisodeHead(config).eval()})


@pytest.fixture
def engine(checkpoint):
    return Engine(checkpoint)


def frame(n, stamp_ns=None):
    rng = np.random.default_rng(n % 7)
    return Frame(
        rng.integers(0, 255, (24, 32, 3), np.uint8),
        rng.uniform(0.5, 4, (24, 32)).astype(np.float32),
        stamp_ns=SECOND + n * 400_000_000 if stamp_ns is None else stamp_ns,
    )


def told(memory):
    return [(ranked.label, round(ranked.score, 5)) for ranked in memory.ask(QUESTION, 3)]


def walk(engine, count, start=0):
    session = Session(engine)
    for n in range(start, start + count):
        session.observe(frame(n))
    return session


@torch.inference_mode()
def test_bytes_are_the_same_after_100_and_after_10_000_frames(checkpoint):
    memory, model = EpisodeMemory(checkpoint), checkpoint.model.eval()
    inputs = {'rgb': torch.randn(1, 3, 32, 32), 'depth': torch.randn(1, 1, 32, 32)}
    sight, sizes = model.encode_images(inputs), {}
    # The head's part of a frame is the same however long the episode was: many frames at once are as good as one.
    for n in range(100):
        assert memory.update(sight, inputs, SECOND + n * 400_000_000)
    sizes[memory.frames] = memory.bytes
    config = memory._head.config
    patches, tokens = torch.randn(1, 495, config.grid**2, config.d_patch), torch.randn(1, 495, config.d_in)
    for _ in range(20):
        memory._state = memory._head.update(memory._state, patches, tokens)
    memory.update(sight, inputs, SECOND + 10_000 * 400_000_000)
    assert memory.bytes == sizes[100] and all(np.isfinite(score) for _, score in told(memory))


def test_frames_are_taken_in_at_the_heads_rate(engine):
    """Of 30 frames a second every twelfth is taken in, a camera's own jitter allowed for."""
    session = Session(engine)
    for i in range(58):
        session.observe(frame(0, SECOND + i * SECOND // 30))
    memory = engine.memory
    assert memory.frames == 5 and memory.first_ns == SECOND and memory.last_ns == SECOND + 47 * SECOND // 30
    assert not memory.due(SECOND + 50 * SECOND // 30) and memory.due(SECOND + 61 * SECOND // 30)


def test_the_reply_tells_frames_and_span(engine):
    session = walk(engine, 30)
    views = session.views('episode')
    reply = session.ask(QUESTION, views, scope='episode', top_k=2)
    assert (reply.frames_used, reply.first_ns, reply.last_ns) == (30, SECOND, SECOND + 29 * 400_000_000)
    assert reply.scope == 'episode' and len(reply.alternatives) == 2 and reply.text in ('yes', 'no', 'on the table')
    assert [r.text for r in session.write(QUESTION, views, scope='episode')] == [reply.text]
    assert session.ask(QUESTION, session.views('frame'), scope='frame', top_k=1).frames_used == 1
    own = session.views('episode', frame(99))
    assert session.ask(QUESTION, own, scope='episode', top_k=1).frames_used == 1


def test_a_comb_is_used_where_it_is_asked_for_or_there_is_no_memory(engine, caplog):
    session = Session(engine, memory_frames=4, comb=True)
    for n in range(20):
        session.observe(frame(n))
    assert engine.memory.frames == 0
    assert session.ask(QUESTION, session.views('episode'), scope='episode', top_k=1).frames_used <= 4
    with caplog.at_level('INFO'):
        Session(Engine(untrained('tiny', 0)))
    assert 'has no memory of episodes' in caplog.text


def test_what_is_remembered_survives_a_device_and_is_forgotten_on_reset(engine):
    session = walk(engine, 12)
    before = told(engine.memory)
    session.newest = None
    engine.to('cpu')
    assert told(engine.memory) == before and engine.memory.frames == 12
    session.reset()
    assert engine.memory.frames == 0 and engine.memory.last_ns == 0
    walk(engine, 12)
    assert told(engine.memory) == before


def test_a_saved_memory_goes_on_as_if_nothing_had_been(engine, checkpoint, tmp_path):
    walk(engine, 10)
    engine.memory.save(tmp_path / 'memory.safetensors')
    other = Engine(checkpoint)
    other.memory.restore(tmp_path / 'memory.safetensors')
    assert told(other.memory) == told(engine.memory) and other.memory.frames == 10
    for one in (engine, other):
        walk(one, 5, start=10)
    assert told(other.memory) == told(engine.memory)
    assert (other.memory.first_ns, other.memory.last_ns) == (SECOND, SECOND + 14 * 400_000_000)


@pytest.mark.parametrize('spoil', ['missing', 'short', 'other', 'bare'])
def test_a_file_that_is_no_memory_changes_nothing(engine, tmp_path, spoil):
    walk(engine, 3)
    path, before = tmp_path / 'memory.safetensors', told(engine.memory)
    if spoil != 'missing':
        engine.memory.save(path)
    if spoil == 'short':
        path.write_bytes(path.read_bytes()[:-100])
    if spoil == 'other':
        engine.memory._model_id = 'another@12345678'
    if spoil == 'bare':
        from safetensors.torch import save_file

        save_file({'0': torch.zeros(1)}, path)
    with pytest.raises(InputError, match='; ') as refused:
        engine.memory.restore(path)
    assert refused.value.reason in ('memory_damaged', 'memory_foreign')
    assert told(engine.memory) == before and engine.memory.frames == 3


def test_a_place_that_cannot_be_written_is_one_sentence(engine, tmp_path):
    with pytest.raises(InputError, match='cannot be written'):
        engine.memory.save(tmp_path / 'no' / 'memory.safetensors')


def test_a_clock_that_jumps_back_costs_nothing(engine):
    session = walk(engine, 5)
    session.observe(frame(0, 5))
    session.observe(frame(0, 5 + 100_000_000))
    session.observe(frame(0, 5 + 400_000_000))
    assert engine.memory.frames == 7 and engine.memory.last_ns == 5 + 400_000_000


def test_without_a_memory_nothing_can_be_recalled():
    with pytest.raises(ValueError, match='has no memory'):
        Engine(untrained('tiny', 0)).recall(QUESTION, top_k=1)


@given(st.integers(2, 16), st.integers(1, 2000))
def test_the_sample_is_bounded_ordered_and_spread(capacity, frames):
    memory = FrameComb(capacity)
    for n in range(frames):
        memory.remember(n)
        assert len(memory) <= capacity
    kept = list(memory)
    assert kept[0] == 0 and kept[-1] == frames - 1
    assert kept == sorted(set(kept))
    steps = [b - a for a, b in zip(kept, kept[1:])]
    assert all(step == steps[0] for step in steps[:-1])
    assert not steps or 1 <= steps[-1] <= 2 * max(steps)
    assert memory.seen == frames


def test_short_episodes_are_kept_whole():
    memory = FrameComb(8)
    for n in range(7):
        memory.remember(n)
    assert list(memory) == list(range(7))


def test_reset_forgets():
    memory = FrameComb()
    memory.remember('frame')
    memory.reset()
    assert list(memory) == [] and memory.seen == 0


def test_capacity_is_checked():
    with pytest.raises(ValueError, match='capacity is 1; give 2 or more'):
        FrameComb(1)
