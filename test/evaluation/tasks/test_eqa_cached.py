"""Questions of cached kitchens, answered from the memory at each moment, by a head with random weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from m3et_ros.data.class_names import QuestionEncoder
from m3et_ros.data.datasets.openeqa import CATEGORIES
from m3et_ros.data.features.episodes import EncodedEpisodes
from m3et_ros.data.kitchen.cache.episodes import open_episodes
from m3et_ros.evaluation.metrics.answers import exact_match
from m3et_ros.evaluation.tasks.eqa_cached import asked_questions, memory_answers
from m3et_ros.models.episode.model import EpisodeHead
from m3et_ros.runtime.open_model import untrained
from m3et_ros.training.memory.run import answers_in, episode_config


@pytest.fixture(scope='module')
def episodes(tmp_path_factory):
    """Two kitchens of 44 frames with questions at several moments."""
    pytest.importorskip('mujoco')
    from m3et_ros.data.kitchen.cache.generate import generate

    cache = generate(
        tmp_path_factory.mktemp('caches'),
        seeds=range(20_003, 20_005),
        size=32,
        stride=5,
        frames=44,
        backend='raycast',
        workers=0,
        progress=False,
    )
    return open_episodes([cache])


@pytest.fixture(scope='module')
def head(episodes):
    torch.manual_seed(0)
    config = episode_config(
        untrained('tiny', 0),
        answers_in(episodes),
        d=16,
        heads=2,
        d_eye=16,
        d_value=8,
        d_slot=8,
        d_stream=16,
        layers=1,
        blocks=1,
    )
    return EpisodeHead(config).eval()


@pytest.fixture(scope='module')
def encoder(head):
    checkpoint = untrained('tiny', 0)
    return QuestionEncoder(checkpoint.tokenizer, checkpoint.labels.classes, head.config.length)


@pytest.fixture(scope='module')
def encoded(head, episodes):
    """The episodes with random percepts and tokens."""
    rng, frames = np.random.default_rng(0), sum(len(episode.stamps) for episode in episodes)
    shape = head.encode_percepts(torch.zeros(1, 1, head.config.grid**2, head.config.d_patch)).shape[2:]
    return EncodedEpisodes(
        episodes,
        rng.random((frames, *shape)).astype(np.float16),
        rng.standard_normal((frames, head.config.d_in)).astype(np.float16),
    )


def changed(encoded, frames):
    """Replace the percepts and tokens of some frames."""
    percepts, tokens = encoded.percepts.copy(), encoded.tokens.copy()
    percepts[frames], tokens[frames] = percepts[frames][::-1] * 0.5, -tokens[frames]
    return replace(encoded, percepts=percepts, tokens=tokens)


def of_moment(predictions, questions, episode, place):
    """The confidences of the predictions of one moment."""
    names = {question.question_id for question in questions[episode][place]}
    return [one.confidence for one in predictions if one.key in names]


def test_every_question_gets_one_prediction_in_order(head, encoded, encoder):
    questions = asked_questions(encoded.episodes)
    asked = [one for of_episode in questions for own in of_episode for one in own]
    found = memory_answers(head, encoded, questions, encoder)
    assert len(found) == len(asked) > 20 and [one.index for one in found] == list(range(len(asked)))
    for one, question in zip(found, asked):
        assert (one.key, one.cluster, one.family) == (question.question_id, question.episode, question.category)
        assert (one.question, one.answer) == (question.question, question.answer)
        assert one.predicted in head.config.answers and 0 < one.confidence <= 1
        assert one.score == exact_match(one.predicted, question.references)
        assert one.category in CATEGORIES


def test_questions_of_a_kitchen_are_always_worded_alike(episodes):
    assert asked_questions(episodes) == asked_questions(episodes)
    assert asked_questions(episodes)[1] == asked_questions(episodes[1:])[0]


def test_frames_after_a_moment_change_nothing_and_earlier_frames_do(head, encoded, encoder):
    questions, point = asked_questions(encoded.episodes), encoded.episodes[1].question_points[0]
    first, at = encoded.episodes[1].first, encoded.episodes[1].first + point.frame
    before = memory_answers(head, encoded, questions, encoder)
    later = memory_answers(head, changed(encoded, slice(at + 1, None)), questions, encoder)
    earlier = memory_answers(head, changed(encoded, slice(first, at)), questions, encoder)
    own = of_moment(before, questions, 1, 0)
    assert own == pytest.approx(of_moment(later, questions, 1, 0), abs=1e-6)
    assert own != pytest.approx(of_moment(earlier, questions, 1, 0), abs=1e-6)


def test_the_newest_frame_alone_is_independent_of_earlier_frames(head, encoded, encoder):
    questions, point = asked_questions(encoded.episodes), encoded.episodes[1].question_points[0]
    first, at = encoded.episodes[1].first, encoded.episodes[1].first + point.frame
    newest = memory_answers(head, encoded, questions, encoder, last=True)
    earlier = memory_answers(head, changed(encoded, slice(first, at)), questions, encoder, last=True)
    assert of_moment(newest, questions, 1, 0) == pytest.approx(of_moment(earlier, questions, 1, 0), abs=1e-6)
    whole = memory_answers(head, encoded, questions, encoder)
    assert of_moment(newest, questions, 1, 0) != pytest.approx(of_moment(whole, questions, 1, 0), abs=1e-6)


def test_moments_without_questions_are_skipped(head, encoded, encoder):
    questions = asked_questions(encoded.episodes)
    only = [[[] for _ in questions[0]], [[] for _ in questions[1]]]
    only[1][-1] = questions[1][-1]
    found = memory_answers(head, encoded, only, encoder)
    assert [one.key for one in found] == [question.question_id for question in questions[1][-1]]
    assert [one.index for one in found] == list(range(len(found)))
