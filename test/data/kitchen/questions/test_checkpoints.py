"""Question points of an episode: about what was seen by then; what comes later changes nothing."""

import numpy as np
import pytest

from m3et_ros.data.kitchen.cache.episodes import open_episodes
from m3et_ros.data.kitchen.cache.generate import generate
from m3et_ros.data.kitchen.questions.checkpoints import QUESTIONS, STRIDE, CheckpointObserver, choose_stored
from m3et_ros.data.kitchen.questions.episode import ASK, worded
from m3et_ros.data.kitchen.sim.episode import Episode


@pytest.fixture(scope='module')
def episodes(tmp_path_factory):
    """Two test kitchens of 24 s, and the first 21 s of the same with other blocks."""
    root = tmp_path_factory.mktemp('points')
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


def test_question_points_come_every_ten_seconds_and_have_questions(episodes):
    for episode in episodes[0]:
        assert [episode.stamps[point.frame] for point in episode.question_points] == [9.5, 19.5]
        for point in episode.question_points:
            assert 10 < len(point.drafts) <= QUESTIONS
            assert {category for category, _ in point.drafts} <= set(ASK)
        asked = worded(episode.question_points[1].drafts, 'bag', np.random.default_rng(0))
        assert all(question.question.endswith('?') and question.answer for question in asked)


def test_what_comes_later_changes_nothing_that_was_known(episodes):
    """The number of actions is known at every question point, whichever questions were chosen."""
    for long, short in zip(*episodes):
        for late, early in zip(long.question_points, short.question_points, strict=True):
            done = [
                {answer for _, (kind, answer, _) in point.drafts if kind == 'how_many_done'} for point in (late, early)
            ]
            assert not (done[0] and done[1]) or done[0] == done[1]
            finished = [action for action in long.actions if action.stop_s <= long.stamps[late.frame]]
            assert not done[0] or done[0] == {str(len(finished))}


def test_few_frames_a_second_cannot_be_asked_about(caches):
    assert all(not episode.question_points for episode in open_episodes([caches['test']]))


def checkpoints(picture, stride, ticks):
    """An observer of an empty picture at every stride."""
    episode = Episode(20_003, width=16, height=16)
    observer = CheckpointObserver(episode, stride)
    for state in episode.run(ticks):
        if state.tick % stride == 0:
            observer.observe(picture(episode, state))
    return observer


@pytest.mark.parametrize(('stride', 'ticks'), [(1, [99, 199]), (3, [99, 198]), (STRIDE, [95, 195]), (STRIDE + 1, [])])
def test_the_last_frame_of_every_period_is_a_question_point(picture, stride, ticks):
    assert list(checkpoints(picture, stride, 201).drafts) == ticks


def test_question_points_end_before_a_time(picture):
    observer = checkpoints(picture, 5, 201)
    assert [list(observer.before(stamp_s)) for stamp_s in (9.5, 9.51, 19.5, float('inf'), float('-inf'))] == [
        [],
        [95],
        [95],
        [95, 195],
        [],
    ]


def test_stored_questions_are_those_chosen_over_all_episodes():
    drafts = {'object recognition': [('was_seen', 'yes', {'a': 'cup'}), ('was_seen', 'no', {'a': 'jar'})]}
    stored = choose_stored({7: {95: drafts}, 8: {}, 9: {95: drafts, 195: drafts}}, np.random.default_rng(0))
    assert {seed: [tick for tick, _ in points] for seed, points in stored.items()} == {7: [95], 8: [], 9: [95, 195]}
    for _, questions in (*stored[7], *stored[9]):
        assert sorted(questions) == [
            ['object recognition', 'was_seen', 'no', {'a': 'jar'}],
            ['object recognition', 'was_seen', 'yes', {'a': 'cup'}],
        ]
