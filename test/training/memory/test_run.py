"""The training of a memory as a whole: its steps, resuming, and its config."""

import copy
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from m3et_ros.data.errors import InputError
from m3et_ros.data.features.episodes import PATCHES, TOKENS, encode_frames
from m3et_ros.data.kitchen.cache.episodes import open_episodes
from m3et_ros.data.kitchen.cache.generate import generate
from m3et_ros.data.kitchen.cache.recipe import read_shards
from m3et_ros.models.actions.frame_token import frame_width
from m3et_ros.models.episode.percepts import patch_width
from m3et_ros.runtime.open_model import untrained
from m3et_ros.training.memory.run import answers_in, encode_percepts, episode_config, train_memory, train_reader
from m3et_ros.training.run_state import TrainingSession, read_header


def test_every_step_learns_its_own_part_and_is_not_repeated(trained, cache, checkpoint, recipe, small):
    out, head, outcomes = trained
    assert {name: outcome.step for name, outcome in outcomes.items()} == {'eye': 2, 'diary': 2, 'reader': 2}
    assert all(parameter.requires_grad for parameter in head.parameters())
    before = {path: path.stat().st_mtime_ns for path in out.rglob('*.npy')}
    again, further = train_memory(checkpoint, [cache], out, recipe=recipe, **small)
    assert all(torch.equal(a, b) for a, b in zip(head.state_dict().values(), again.state_dict().values()))
    assert [outcome.step for outcome in further.values()] == [2, 2, 2]
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob('*.npy')}


def test_the_recipes_keep_their_names_in_the_states_of_runs(trained):
    names = {step: read_header(trained[0] / step)['recipe'] for step in ('eye', 'diary', 'reader')}
    assert names == {'eye': 'See', 'diary': 'Tell', 'reader': 'Remember'}  # runs of version 0.1.0 can be resumed


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


def test_a_memory_trained_step_by_step_in_many_sessions_equals_one_trained_at_once(
    trained, cache, checkpoint, recipe, small, tmp_path
):
    out, head, _ = trained
    shutil.copytree(out / 'frames', tmp_path / 'frames')
    session, reports = TrainingSession(resume=True, stop=lambda: True, log_steps=1), []
    session = replace(session, report=lambda name, entry: reports.append((name, entry.step)))
    counts = []
    for _ in range(4):
        parts, outcomes = train_memory(checkpoint, [cache], tmp_path, recipe=recipe, session=session, **small)
        counts.append({name: outcome.step for name, outcome in outcomes.items()})
    assert counts == [
        {'eye': 1},
        {'eye': 2, 'diary': 1},
        {'eye': 2, 'diary': 2, 'reader': 1},
        {'eye': 2, 'diary': 2, 'reader': 2},
    ]
    assert reports == [('eye', 1), ('eye', 2), ('diary', 1), ('diary', 2), ('reader', 1), ('reader', 2)]
    assert all(torch.equal(value, parts.state_dict()[name]) for name, value in head.state_dict().items())


def test_minutes_count_for_each_step_anew(trained, cache, checkpoint, recipe, small, tmp_path):
    shutil.copytree(trained[0] / 'frames', tmp_path / 'frames')
    session = TrainingSession(resume=True, minutes=0.0)
    for steps in (1, 2):
        _, outcomes = train_memory(checkpoint, [cache], tmp_path, recipe=recipe, session=session, seed=3, **small)
        assert outcomes['eye'].step == steps
    assert outcomes['diary'].step == 1  # although the first step had used up its minutes
    assert [read_header(tmp_path / name)['seed'] for name in ('eye', 'diary')] == [3, 3]


def test_the_options_of_the_reader_reach_its_training(trained, encoded, checkpoint, recipe, tmp_path):
    head = copy.deepcopy(trained[1])
    losses = {}
    for name, each, seed in (('one', 8, 4), ('few', 1, 4), ('other', 8, 5)):
        given = replace(recipe, each=each)
        outcome = train_reader(copy.deepcopy(head), encoded, checkpoint, tmp_path / name, recipe=given, seed=seed)
        losses[name] = outcome.losses
        header = read_header(tmp_path / name)
        assert (header['seed'], header['recipe'], header['samples']) == (seed, 'Remember', 4)
    assert losses['one'] != losses['few'] and losses['one'] != losses['other']


def test_percepts_that_exist_are_read_and_missing_ones_are_encoded(trained, encoded, cache, tmp_path):
    out, head, _ = trained
    shutil.copytree(out / 'percepts', tmp_path / 'percepts')
    files = sorted((tmp_path / 'percepts').rglob('*.npy'))
    assert len(files) == 2
    np.save(files[0], np.load(files[0]) + 1)
    files[1].unlink()
    frames = [out / 'frames' / cache.name / path.name for path in read_shards(cache)]
    again = encode_percepts(head, encoded.episodes, frames, tmp_path / 'percepts')
    np.testing.assert_array_equal(again.percepts[:44], encoded.percepts[:44] + 1)
    np.testing.assert_array_equal(again.percepts[44:], encoded.percepts[44:])
    np.testing.assert_array_equal(again.tokens, encoded.tokens)
