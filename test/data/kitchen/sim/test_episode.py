"""Episodes from seeds."""

import numpy as np
import pytest

from m3et_ros.data.kitchen import Camera, Episode, sample_questions

pytest.importorskip('mujoco')


def record(seed, ticks=(0, 60, 119)):
    """Three observations, the labels and twenty questions."""
    episode = Episode(seed, width=64, height=48)
    with Camera(episode, backend='raycast') as camera:
        looks = [camera.observe(state) for state in episode.run(120) if state.tick in ticks]
    return looks, episode.labels, sample_questions(episode, looks[-1], np.random.default_rng(seed), 20)


def test_a_seed_gives_the_same_frames_labels_and_questions():
    (looks, labels, questions), (again, labels_again, questions_again) = record(3), record(3)
    for one, other in zip(looks, again):
        for name in ('rgb', 'depth', 'semantic', 'instance', 'pose'):
            assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == 'depth'), name
    assert labels == labels_again and questions == questions_again
    assert len(labels) > 0 and len(questions) == 20


def test_another_seed_gives_another_kitchen():
    assert not np.array_equal(record(3, (0,))[0][0].rgb, record(4, (0,))[0][0].rgb)


def test_an_episode_goes_on_where_it_stopped():
    whole, parts = Episode(6, width=64, height=48), Episode(6, width=64, height=48)
    poses = [state.pose for state in whole.run(20)]
    halves = [state.pose for count in (8, 12) for state in parts.run(count)]
    assert np.array_equal(poses, halves)


def test_an_interrupted_run_goes_on_with_the_next_tick():
    episode = Episode(6, width=64, height=48)
    assert [next(episode.run(5)).tick for _ in range(3)] == [0, 1, 2]


def test_states_tell_the_time_and_the_action_under_way():
    episode = Episode(0, width=64, height=48, fps=5.0)
    states = list(episode.run(200))
    assert [state.stamp_s for state in states[:3]] == [0, 0.2, 0.4]
    for label in episode.labels:
        under_way = [s.stamp_s for s in states if s.current and s.current.start_s == label.start_s]
        assert (under_way[0], under_way[-1]) == (label.start_s, label.stop_s)


@pytest.mark.parametrize('wrong', [{'width': 8}, {'fovy': 170}, {'fps': 0}, {'seed': -1}])
def test_arguments_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=f'{next(iter(wrong))} is'):
        Episode(**({'seed': 0} | wrong))
