"""Moments of an episode: kept in the cache, about what was seen by then; what comes later changes nothing."""

import numpy as np
import pytest

from m3et_ros.data.kitchen.cache.episodes import open_episodes
from m3et_ros.data.kitchen.cache.generate import generate
from m3et_ros.data.kitchen.questions.checkpoints import QUESTIONS
from m3et_ros.data.kitchen.questions.episode import ASK, worded

pytest.importorskip('mujoco')


@pytest.fixture(scope='module')
def episodes(tmp_path_factory):
    """Two test kitchens of 24 s, and the first 21 s of the same with other blocks."""
    root = tmp_path_factory.mktemp('moments')
    return [
        open_episodes(
            [
                generate(
                    root,
                    seeds=range(20_003, 20_005),
                    size=32,
                    stride=5,
                    frames=frames,
                    block=block,
                    backend='raycast',
                    workers=0,
                    progress=False,
                )
            ]
        )
        for frames, block in ((48, 2), (42, 1))
    ]


def test_moments_are_every_ten_seconds_and_have_questions(episodes):
    for episode in episodes[0]:
        assert [episode.stamps[moment.frame] for moment in episode.question_points] == [9.5, 19.5]
        for moment in episode.question_points:
            assert 10 < len(moment.drafts) <= QUESTIONS
            assert {category for category, _ in moment.drafts} <= set(ASK)
        asked = worded(episode.question_points[1].drafts, 'bag', np.random.default_rng(0))
        assert all(question.question.endswith('?') and question.answer for question in asked)


def test_what_comes_later_changes_nothing_that_was_known(episodes):
    """How many actions were done is known of every moment, whichever questions were chosen."""
    for long, short in zip(*episodes):
        for late, early in zip(long.question_points, short.question_points, strict=True):
            done = [
                {answer for _, (kind, answer, _) in moment.drafts if kind == 'how_many_done'}
                for moment in (late, early)
            ]
            assert not (done[0] and done[1]) or done[0] == done[1]
            finished = [action for action in long.actions if action.stop_s <= long.stamps[late.frame]]
            assert not done[0] or done[0] == {str(len(finished))}


def test_few_frames_a_second_cannot_be_asked_about(caches):
    assert all(not episode.question_points for episode in open_episodes([caches['test']]))
