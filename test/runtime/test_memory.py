"""The learnt memory of an episode: constant size, its own frame rate, saved, restored and moved."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.runtime import memory
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.memory import EpisodeMemory
from m3et_ros.runtime.session import Session

SECOND = 10**9
QUESTION = 'Where is the cup now?'


@pytest.fixture
def engine(episode_checkpoint):
    return Engine(episode_checkpoint)


def frame(n, stamp_ns=None):
    rng = np.random.default_rng(n % 7)
    return Frame(
        rng.integers(0, 255, (24, 32, 3), np.uint8),
        rng.uniform(0.5, 4, (24, 32)).astype(np.float32),
        stamp_ns=SECOND + n * 400_000_000 if stamp_ns is None else stamp_ns,
    )


def answers(memory):
    return [(ranked.label, round(ranked.score, 5)) for ranked in memory.answer(QUESTION, 3)]


def observed(engine, count, start=0):
    session = Session(engine)
    for n in range(start, start + count):
        session.observe(frame(n))
    return session


@torch.inference_mode()
def test_bytes_are_the_same_after_100_and_after_1_000_frames(episode_checkpoint):
    memory, model = EpisodeMemory(episode_checkpoint), episode_checkpoint.model.eval()
    inputs = {'rgb': torch.randn(1, 3, 32, 32), 'depth': torch.randn(1, 1, 32, 32)}
    image_encoding, sizes = model.encode_images(inputs), {}
    # The head's part of a frame does not depend on the episode's length, so that many frames may be fed at once.
    for n in range(100):
        assert memory.update(image_encoding, inputs, SECOND + n * 400_000_000)
    sizes[memory.frames] = memory.bytes
    config = memory._head.config
    patches, tokens = torch.randn(1, 450, config.grid**2, config.d_patch), torch.randn(1, 450, config.d_in)
    for _ in range(2):
        memory._state = memory._head.update(memory._state, patches, tokens)
    memory.update(image_encoding, inputs, SECOND + 1_000 * 400_000_000)
    assert memory.bytes == sizes[100] and all(np.isfinite(score) for _, score in answers(memory))


def test_frames_are_used_at_the_rate_of_the_head(engine):
    """Of 30 frames a second every twelfth is used, within the jitter of a camera."""
    session = Session(engine)
    for i in range(58):
        session.observe(frame(0, SECOND + i * SECOND // 30))
    memory = engine.episode_memory
    assert memory.frames == 5 and memory.first_ns == SECOND and memory.last_ns == SECOND + 47 * SECOND // 30
    assert not memory.due(SECOND + 50 * SECOND // 30) and memory.due(SECOND + 61 * SECOND // 30)


def test_the_reply_reports_frames_and_span(engine):
    session = observed(engine, 30)
    views = session.views('episode')
    reply = session.ask(QUESTION, views, scope='episode', top_k=2)
    assert (reply.frames_used, reply.first_ns, reply.last_ns) == (30, SECOND, SECOND + 29 * 400_000_000)
    assert reply.scope == 'episode' and len(reply.alternatives) == 2 and reply.text in ('yes', 'no', 'on the table')
    assert [r.text for r in session.write(QUESTION, views, scope='episode')] == [reply.text]
    assert session.ask(QUESTION, session.views('frame'), scope='frame', top_k=1).frames_used == 1
    own = session.views('episode', frame(99))
    assert session.ask(QUESTION, own, scope='episode', top_k=1).frames_used == 1


def test_the_memory_survives_a_move_and_ends_with_a_reset(engine):
    session = observed(engine, 12)
    before = answers(engine.episode_memory)
    session.newest = None
    engine.to('cpu')
    assert answers(engine.episode_memory) == before and engine.episode_memory.frames == 12
    session.reset()
    assert engine.episode_memory.frames == 0 and engine.episode_memory.last_ns == 0
    observed(engine, 12)
    assert answers(engine.episode_memory) == before


def test_a_restored_memory_continues_like_the_saved_one(engine, episode_checkpoint, tmp_path):
    observed(engine, 10)
    engine.episode_memory.save(tmp_path / 'memory.safetensors')
    other = Engine(episode_checkpoint)
    other.episode_memory.restore(tmp_path / 'memory.safetensors')
    assert answers(other.episode_memory) == answers(engine.episode_memory) and other.episode_memory.frames == 10
    for one in (engine, other):
        observed(one, 5, start=10)
    assert answers(other.episode_memory) == answers(engine.episode_memory)
    assert (other.episode_memory.first_ns, other.episode_memory.last_ns) == (SECOND, SECOND + 14 * 400_000_000)


@pytest.mark.parametrize('spoil', ['missing', 'long', 'short', 'other', 'bare'])
def test_a_file_that_holds_no_memory_is_refused_and_changes_nothing(engine, tmp_path, spoil):
    observed(engine, 3)
    path, before = tmp_path / 'memory.safetensors', answers(engine.episode_memory)
    if spoil == 'long':
        path = tmp_path / ('x' * 1001)  # longer than a file name may be
    elif spoil != 'missing':
        engine.episode_memory.save(path)
    if spoil == 'short':
        path.write_bytes(path.read_bytes()[:-100])
    if spoil == 'other':
        engine.episode_memory._model_id = 'another@12345678'
    if spoil == 'bare':
        save_file({'0': torch.zeros(1)}, path)
    with pytest.raises(InputError, match='; ') as refused:
        engine.episode_memory.restore(path)
    assert refused.value.reason in ('memory_damaged', 'memory_foreign')
    assert answers(engine.episode_memory) == before and engine.episode_memory.frames == 3


def test_an_unwritable_path_is_refused(engine, tmp_path):
    for path in (tmp_path / 'no' / 'memory.safetensors', tmp_path / ('x' * 1001)):
        with pytest.raises(InputError, match='cannot be written'):
            engine.episode_memory.save(path)


def test_the_memory_survives_a_step_back_of_the_clock(engine):
    session = observed(engine, 5)
    session.observe(frame(0, 5))
    session.observe(frame(0, 5 + 100_000_000))
    session.observe(frame(0, 5 + 400_000_000))
    assert engine.episode_memory.frames == 7 and engine.episode_memory.last_ns == 5 + 400_000_000


def test_the_frame_rate_continues_after_a_restore(engine, episode_checkpoint, tmp_path):
    """A frame that is not yet due for the saved memory is not due for the restored one."""
    observed(engine, 3)
    engine.episode_memory.save(tmp_path / 'memory.safetensors')
    other = Engine(episode_checkpoint).episode_memory
    other.restore(tmp_path / 'memory.safetensors')
    for after_ms, due in ((100, False), (350, False), (400, True)):
        stamp_ns = SECOND + 2 * 400_000_000 + after_ms * 1_000_000
        assert engine.episode_memory.due(stamp_ns) == other.due(stamp_ns) == due


def test_answers_are_as_many_as_asked_for_or_as_there_are(engine):
    observed(engine, 2)
    assert [len(engine.episode_memory.answer(QUESTION, top_k)) for top_k in (1, 3, 4)] == [1, 3, 3]


def test_a_view_without_its_encoding_is_refused(engine):
    with pytest.raises(ValueError, match='encode its frame again'):
        engine.episode_memory.observe(engine.encode(frame(0)).without_encodings())


@pytest.mark.parametrize('name', ['frames', 'first_ns', 'last_ns', 'due_ns', 'model'])
def test_a_file_without_one_of_its_facts_is_refused(engine, tmp_path, name):
    path = tmp_path / 'memory.safetensors'
    observed(engine, 2)
    engine.episode_memory.save(path)
    with safe_open(path, framework='pt') as file:
        header = json.loads(file.metadata()['memory'])
    tensors = load_file(path)
    del header[name]
    save_file(tensors, path, metadata={'memory': json.dumps(header)})
    with pytest.raises(InputError, match='holds no memory') as refused:
        engine.episode_memory.restore(path)
    assert refused.value.reason == 'memory_damaged' and engine.episode_memory.frames == 2


def test_a_memory_of_other_sizes_is_refused(engine, tmp_path):
    path = tmp_path / 'memory.safetensors'
    observed(engine, 2)
    engine.episode_memory.save(path)
    with safe_open(path, framework='pt') as file:
        metadata = file.metadata()
    save_file({name: tensor[..., :1].contiguous() for name, tensor in load_file(path).items()}, path, metadata=metadata)
    with pytest.raises(InputError, match='is the memory of') as refused:
        engine.episode_memory.restore(path)
    assert refused.value.reason == 'memory_foreign' and engine.episode_memory.frames == 2


@pytest.mark.parametrize(
    'facts',
    [
        {'frames': -1},
        {'frames': 2**40},
        {'frames': 1.5},
        {'frames': True},
        {'frames': 'three'},
        {'last_ns': 10**30},
        {'first_ns': -1},
        {'due_ns': float('nan')},
        {'due_ns': float('inf')},
        {'due_ns': -1.0},
        {'due_ns': 1e18},
    ],
)
def test_a_fact_out_of_range_is_refused(engine, tmp_path, facts):
    path = tmp_path / 'memory.safetensors'
    observed(engine, 2)
    engine.episode_memory.save(path)
    with safe_open(path, framework='pt') as file:
        header = json.loads(file.metadata()['memory']) | facts
    save_file(load_file(path), path, metadata={'memory': json.dumps(header)})
    with pytest.raises(InputError, match='holds no memory') as refused:
        engine.episode_memory.restore(path)
    assert refused.value.reason == 'memory_damaged' and engine.episode_memory.frames == 2


@pytest.mark.parametrize('text', ['{"frames": 1e400}', '[' * 100_000])
def test_a_header_that_breaks_the_parser_is_refused(engine, tmp_path, text):
    path = tmp_path / 'memory.safetensors'
    observed(engine, 1)
    engine.episode_memory.save(path)
    save_file(load_file(path), path, metadata={'memory': text})
    with pytest.raises(InputError, match='holds no memory'):
        engine.episode_memory.restore(path)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_state_that_is_not_finite_is_refused(engine, tmp_path, value):
    path, before = tmp_path / 'memory.safetensors', None
    observed(engine, 2)
    engine.episode_memory.save(path)
    before = answers(engine.episode_memory)
    with safe_open(path, framework='pt') as file:
        metadata = file.metadata()
    tensors = load_file(path)
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    tensors[name].view(-1)[-1] = value
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(InputError, match='not finite'):
        engine.episode_memory.restore(path)
    assert answers(engine.episode_memory) == before


def test_a_memory_replaces_a_memory_and_no_other_file(engine, tmp_path):
    path, text = tmp_path / 'memory.safetensors', tmp_path / 'notes.txt'
    observed(engine, 1)
    for _ in range(2):
        engine.episode_memory.save(path)
    text.write_text('mine')
    with pytest.raises(InputError, match='is no memory'):
        engine.episode_memory.save(text)
    weights = tmp_path / 'weights.safetensors'
    save_file({'weight': torch.zeros(1)}, weights)
    with pytest.raises(InputError, match='is no memory'):
        engine.episode_memory.save(weights)
    assert text.read_text() == 'mine' and load_file(weights)['weight'] == 0


def test_neither_a_fifo_nor_a_device_nor_a_folder_is_read_or_replaced(engine, tmp_path):
    os.mkfifo(tmp_path / 'fifo')
    for path in (tmp_path / 'fifo', Path('/dev/full'), Path('/dev/zero'), tmp_path):
        for act in (engine.episode_memory.save, engine.episode_memory.restore):
            with pytest.raises(InputError, match='no regular file'):
                act(path)
    assert (tmp_path / 'fifo').is_fifo() and Path('/dev/full').is_char_device()


def test_a_failed_save_leaves_no_part_of_a_file(engine, tmp_path, monkeypatch):
    path = tmp_path / 'memory.safetensors'
    engine.episode_memory.save(path)

    def full(*_, **__):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(memory, 'save_file', full)
    with pytest.raises(InputError, match='cannot be written'):
        engine.episode_memory.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ['memory.safetensors']
