"""The training of a memory as a whole: its steps, resuming, and its config."""

import numpy as np
import pytest
import torch

from m3et_ros.data.errors import InputError
from m3et_ros.data.features.episodes import PATCHES, TOKENS, encode_frames
from m3et_ros.data.kitchen.cache.episodes import open_episodes
from m3et_ros.data.kitchen.cache.generate import generate
from m3et_ros.models.actions.frame_token import frame_width
from m3et_ros.models.episode.percepts import patch_width
from m3et_ros.runtime.open_model import untrained
from m3et_ros.training.memory.run import answers_in, episode_config, train_memory


def test_every_step_learns_its_own_part_and_is_not_repeated(trained, cache, checkpoint, recipe, small):
    out, head, outcomes = trained
    assert {name: outcome.step for name, outcome in outcomes.items()} == {'eye': 2, 'diary': 2, 'reader': 2}
    assert all(parameter.requires_grad for parameter in head.parameters())
    before = {path: path.stat().st_mtime_ns for path in out.rglob('*.npy')}
    again, further = train_memory(checkpoint, [cache], out, recipe=recipe, **small)
    assert all(torch.equal(a, b) for a, b in zip(head.state_dict().values(), again.state_dict().values()))
    assert [outcome.step for outcome in further.values()] == [2, 2, 2]
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob('*.npy')}


def test_frames_are_encoded_a_shard_at_a_time_and_not_reused_for_another_model(cache, checkpoint, tmp_path):
    seen = encode_frames(checkpoint, [cache], tmp_path)
    assert len(seen) == 2
    config = checkpoint.model.config
    assert np.load(seen[0] / PATCHES).shape == (44, config.image_tokens, patch_width(config))
    tokens = np.load(seen[0] / TOKENS)
    assert tokens.shape == (44, frame_width(config)) and np.isfinite(tokens).all()
    (seen[0] / TOKENS).unlink()
    kept = (seen[1] / TOKENS).stat().st_mtime_ns
    encode_frames(checkpoint, [cache], tmp_path)
    assert np.array_equal(np.load(seen[0] / TOKENS), tokens) and (seen[1] / TOKENS).stat().st_mtime_ns == kept
    with pytest.raises(InputError, match='that another model encoded'):
        encode_frames(untrained('tiny', 1), [cache], tmp_path)


def test_answers_and_names_go_into_the_config(cache, checkpoint):
    answers = answers_in(open_episodes([cache]))
    config = episode_config(checkpoint, answers)
    assert config.answers == answers and len(config.classes) == len(checkpoint.labels.classes)
    ids, mask = checkpoint.tokenizer.encode(['yes'], 8)
    assert config.answer_pieces[answers.index('yes')] == tuple(ids[mask].tolist()[1:-1])


def test_a_cache_without_questions_about_episodes_is_refused(checkpoint, tmp_path):
    pytest.importorskip('mujoco')
    bare = generate(
        tmp_path,
        seeds=range(20_003, 20_004),
        size=32,
        stride=20,
        frames=4,
        backend='raycast',
        workers=0,
        progress=False,
    )
    with pytest.raises(ValueError, match='hold no questions about episodes'):
        train_memory(checkpoint, [bare], tmp_path / 'run')
