"""A memory that learns from small, real episodes: what it is shown, in which order, and that nothing leaks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from m3et_ros.data.class_names import Reading
from m3et_ros.data.errors import InputError
from m3et_ros.data.features import PATCHES, TOKENS, EncodedEpisodes, remember_frames
from m3et_ros.data.kitchen.cache.episodes import Action, EpisodeFrames, open_episodes
from m3et_ros.data.kitchen.cache.generate import generate
from m3et_ros.data.kitchen.cache.recipe import read_shards
from m3et_ros.data.shards import open_shard
from m3et_ros.models.actions.frame_token import frame_width
from m3et_ros.models.episode.percepts import CELLS, PEAK, patch_width
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import untrained
from m3et_ros.runtime.session import Session
from m3et_ros.training.memory.answers import (
    EACH,
    CollateLessons,
    Doings,
    Lessons,
    Remember,
    Tell,
    answers_of,
    collate_doings,
    finished,
)
from m3et_ros.training.memory.percepts import FACTS, Glances, PerceptRecipe, cell_classes, collate_glances, frame_facts
from m3et_ros.training.memory.run import MemoryRecipe, answers_in, episode_config, train_memory, watch_encoded

SMALL = {'d': 16, 'heads': 2, 'd_eye': 16, 'd_value': 8, 'd_slot': 8, 'd_stream': 16, 'layers': 1, 'blocks': 1}
RECIPE = MemoryRecipe(
    see=PerceptRecipe(samples=16, batch=8), tell=Tell(samples=4, batch=2), remember=Remember(samples=4, batch=2), each=8
)


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    pytest.importorskip('mujoco')
    return generate(
        tmp_path_factory.mktemp('caches'),
        seeds=range(20_003, 20_005),
        size=32,
        stride=5,
        frames=44,
        block=1,
        backend='raycast',
        workers=0,
        progress=False,
    )


@pytest.fixture(scope='module')
def checkpoint():
    return untrained('tiny', 0)


@pytest.fixture(scope='module')
def trained(cache, checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp('runs')
    return out, *train_memory(checkpoint, [cache], out, recipe=RECIPE, **SMALL)


@pytest.fixture(scope='module')
def watched(trained, cache):
    out, head, _ = trained
    encoded = [out / 'frames' / cache.name / path.name for path in read_shards(cache)]
    return watch_encoded(head, open_episodes([cache]), encoded, out / 'percepts')


def test_every_step_learns_its_own_part_and_is_not_repeated(trained, cache, checkpoint):
    out, head, outcomes = trained
    assert {name: outcome.step for name, outcome in outcomes.items()} == {'eye': 2, 'diary': 2, 'reader': 2}
    assert all(parameter.requires_grad for parameter in head.parameters())
    before = {path: path.stat().st_mtime_ns for path in out.rglob('*.npy')}
    again, further = train_memory(checkpoint, [cache], out, recipe=RECIPE, **SMALL)
    assert all(torch.equal(a, b) for a, b in zip(head.state_dict().values(), again.state_dict().values()))
    assert [outcome.step for outcome in further.values()] == [2, 2, 2]
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob('*.npy')}


def test_frames_are_encoded_a_shard_at_a_time_and_not_taken_for_another_models(cache, checkpoint, tmp_path):
    seen = remember_frames(checkpoint, [cache], tmp_path)
    assert len(seen) == 2
    config = checkpoint.model.config
    assert np.load(seen[0] / PATCHES).shape == (44, config.image_tokens, patch_width(config))
    tokens = np.load(seen[0] / TOKENS)
    assert tokens.shape == (44, frame_width(config)) and np.isfinite(tokens).all()
    (seen[0] / TOKENS).unlink()
    kept = (seen[1] / TOKENS).stat().st_mtime_ns
    remember_frames(checkpoint, [cache], tmp_path)
    assert np.array_equal(np.load(seen[0] / TOKENS), tokens) and (seen[1] / TOKENS).stat().st_mtime_ns == kept
    with pytest.raises(InputError, match='what another model saw'):
        remember_frames(untrained('tiny', 1), [cache], tmp_path)


def test_what_is_learnt_from_is_what_the_robot_remembers(trained, watched, cache, checkpoint):
    """The live memory, frame by frame, stands where the training's pass over the cache stands."""
    from m3et_ros.data.features import seen
    from m3et_ros.data.frame import Frame
    from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
    from m3et_ros.evaluation.tasks.eqa_cached import asked_questions, memory_answers

    _, head, _ = trained
    frames, episode = KitchenSamples([cache], questions=False), watched.episodes[1]
    session = Session(Engine(replace(checkpoint, heads={'episode': head})))
    for n in range(episode.moments[0].frame + 1):
        sample = seen(frames[episode.first + n], True)
        session.observe(Frame(sample.rgb, sample.depth, stamp_ns=int(1e9 + 5e8 * n)))
    questions = asked_questions(watched.episodes)
    reading = Reading(checkpoint.tokenizer, checkpoint.labels.classes, head.config.length)
    given = memory_answers(head, replace(watched, episodes=[episode]), [[questions[1][0]]], reading)
    assert len(given) == len(questions[1][0]) > 10
    views = session.views('episode')
    for one in given:
        reply = session.ask(one.question.question, views, scope='episode', top_k=1)
        assert reply.confidence == pytest.approx(one.confidence, abs=2e-3)
        assert session.engine.memory.category(one.question.question) in head.config.categories
    alone = memory_answers(head, replace(watched, episodes=[episode]), [[questions[1][0]]], reading, last=True)
    assert [one.confidence for one in alone] != [one.confidence for one in given]


def test_what_comes_later_changes_no_answer(trained, watched, checkpoint):
    _, head, _ = trained
    reading = Reading(checkpoint.tokenizer, checkpoint.labels.classes, head.config.length)
    lesson = Lessons(head, watched, reading)[0]
    batch, _ = CollateLessons(reading)([lesson])
    with torch.inference_mode():
        before = answers_of(head, batch)[0]
        batch['percepts'][:, int(batch['frames'][0, 0]) + 1 :] = torch.randn_like(batch['percepts'][:, :1])
        after = answers_of(head, batch)[0]
    assert torch.allclose(before[0], after[0], atol=1e-5) and not torch.allclose(before[1], after[1], atol=1e-5)


def test_lessons_are_worded_anew_in_every_epoch_and_filled_up(trained, watched, checkpoint):
    _, head, _ = trained
    reading = Reading(checkpoint.tokenizer, checkpoint.labels.classes, head.config.length)
    lessons = Lessons(head, watched, reading)
    first, same = lessons[0], lessons[0]
    assert first['questions'] == same['questions'] and len(first['questions']) == 2 * EACH
    lessons.epoch = 1
    assert lessons[0]['questions'] != first['questions'] and (lessons[0]['answers'] == first['answers']).all()
    cut = replace(
        watched, episodes=[replace(watched.episodes[0], moments=watched.episodes[0].moments[:1]), watched.episodes[1]]
    )
    short = Lessons(head, cut, reading)[0]
    assert (short['answers'][1] == -1).all() and (short['answers'][0] == first['answers'][0]).all()
    batch, _ = CollateLessons(reading, 8)([short, Lessons(head, cut, reading)[1]])
    assert batch['answers'].shape == (4, 8) and batch['ids'].shape[:2] == (4, 8)
    drafts = watched.episodes[0].moments[0].drafts
    assert [head.config.answers[i] for i in first['answers'][0][: len(drafts)]] == [draft[1] for _, draft in drafts]


def test_actions_are_over_when_they_end():
    episode = EpisodeFrames('0', 0, np.arange(8) * 0.4, (Action(0.3, 0.8, 1, 2), Action(1.0, 2.3, 0, 3)))
    assert finished(episode).tolist() == [0, 0, 1, 1, 1, 1, 2, 2]
    watched = EncodedEpisodes(
        [episode, EpisodeFrames('1', 8, np.arange(10) * 0.4, ())],
        np.zeros((18, 4, 9), np.float16),
        np.zeros((18, 6), np.float16),
    )
    rows = Doings(watched)
    first = rows[0]
    assert first['fired'].tolist() == [0, 0, 1, 0, 0, 0, 1, 0, 0, 0] and first['there'].sum() == 8
    assert first['now'][:8, 0].tolist() == [-1, 1, -1, 0, 0, 0, -1, -1]
    assert first['last'][:8, 1].tolist() == [-1, -1, 2, 2, 2, 2, 3, 3]
    assert first['weight'][:8].tolist() == pytest.approx([0.2, 0.2, 1, 1, 1, 1, 1, 1])
    assert collate_doings([first, rows[1]])[0]['tokens'].shape == (2, 10, 6)


def test_facts_are_what_the_questions_of_a_frame_tell(cache, checkpoint):
    shard = open_shard(read_shards(cache)[0])
    facts, first = frame_facts(shard, checkpoint.labels.classes)
    assert len(first) == 45 and first[-1] == len(facts) and (facts >= 0).all()
    told = {
        (kind, fields.get('a'), shard.header['answers'][row['answer']])
        for row in shard.questions
        for kind, fields in [shard.header['questions'][row['question']]]
    }
    for kind, number, answer in facts:
        name = list(FACTS)[kind]
        thing = None if name == 'is_on' else checkpoint.labels.classes[number]
        assert (name, thing, FACTS[name][answer]) in told


def test_cells_have_the_classes_of_their_pixels():
    labels = torch.arange(64).view(1, 8, 8)
    cells = cell_classes(labels, 4)
    assert cells.shape == (1, 16, CELLS**2) and cells[0, 1].tolist() == [2, 3, 10, 11]
    assert torch.equal(cell_classes(labels.repeat_interleave(2, 1).repeat_interleave(2, 2), 4), cells)


def test_glances_are_whole_frames(trained, cache, checkpoint):
    out, _, _ = trained
    shards = list(read_shards(cache))
    data = Glances(shards, [out / 'frames' / cache.name / path.name for path in shards], checkpoint.labels.classes)
    assert len(data) == 88
    batch, _ = collate_glances([data[0], data[87]])
    assert batch['labels'].shape == (2, 8, 8) and batch['facts'].shape[1:] == (24, 3)


def test_frames_in_which_eyes_are_shut_leave_no_trace(trained, watched, checkpoint):
    _, head, _ = trained
    reading = Reading(checkpoint.tokenizer, checkpoint.labels.classes, head.config.length)
    batch, _ = CollateLessons(reading)([Lessons(head, watched, reading)[0]])
    before = batch['percepts'][..., PEAK].clone()
    with torch.inference_mode():
        open_eyes = answers_of(head, batch)[0]
        shut = answers_of(head, batch, blinks=0.99, generator=torch.Generator().manual_seed(0))[0]
    assert not torch.allclose(open_eyes, shut) and torch.equal(before, batch['percepts'][..., PEAK])


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
