"""Episodes from seeds."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import m3et_ros
from m3et_ros.data.kitchen import Camera, Episode, sample_questions


def record(seed, ticks=(0, 60, 119)):
    """Three observations, the labels and twenty questions."""
    episode = Episode(seed, width=64, height=48)
    with Camera(episode, backend='raycast') as camera:
        observations = [camera.observe(state) for state in episode.run(120) if state.tick in ticks]
    return observations, episode.labels, sample_questions(episode, observations[-1], np.random.default_rng(seed), 20)


def test_a_seed_gives_the_same_frames_labels_and_questions():
    (observations, labels, questions), (again, labels_again, questions_again) = record(3), record(3)
    for one, other in zip(observations, again):
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


LIMITS = {
    'seed': (0, None),
    'width': (16, 4096),
    'height': (16, 4096),
    'fovy': (20, 150),
    'fps': (1, 240),
    'version': (1, 2),
}


@pytest.mark.parametrize('name', LIMITS)
def test_arguments_are_admitted_up_to_their_limits_and_refused_beyond(name):
    low, high = LIMITS[name]
    for value in (low - 1, *([] if high is None else [high + 1])):
        with pytest.raises(ValueError, match=f'{name} is {value}; give {low} to'):
            Episode(**({'seed': 0, 'width': 32, 'height': 24} | {name: value}))
    for value in (low, *([] if high is None else [high])):
        episode = Episode(**({'seed': 0, 'width': 32, 'height': 24} | {name: value}))
        assert getattr(episode, name) == value


def test_water_and_fillings_show_only_while_they_are_there():
    episode = Episode(4, width=32, height=24)
    world, model = episode.world, episode.model
    vessel = next(iter(world.fill))

    def shown():
        next(episode.run(1))
        return [model.geom(name).rgba[3] for name in ('water', 'stream', f'filling_{vessel}')]

    assert shown() == [0, 0, 0]
    world.openness['tap'], world.stream, world.fill[vessel] = 1.0, np.array([0.1, 0.2, 1.0]), 0.5
    assert shown() == pytest.approx([0.55, 0.9, 1])
    assert episode.data.body('stream').xpos == pytest.approx((0.1, 0.2, 1.0))
    half = model.geom(f'filling_{vessel}').size[1]
    world.openness['tap'], world.stream, world.fill[vessel] = 0.0, None, 1.0
    assert shown() == pytest.approx([0, 0, 1]) and model.geom(f'filling_{vessel}').size[1] > half


def test_the_model_stands_as_the_world_says():
    episode = Episode(4, width=32, height=24)
    world, data = episode.world, episode.data
    world.openness['fridge'] = 0.5
    state = next(episode.run(1))
    assert data.body('head').xpos == pytest.approx(state.pose[:3, 3])
    assert data.cam_xmat[0].reshape(3, 3) @ (0, 0, -1) == pytest.approx(state.pose[:3, 2])
    assert data.body('hand').xpos == pytest.approx(world.hand)
    assert data.body('sleeve').xpos == pytest.approx(world.forearm()[0])
    for name in world.scene.things:
        assert data.body(name).xpos == pytest.approx(world.position_of(name)), name
    assert data.qpos[episode.model.joint('fridge').qposadr[0]] == pytest.approx(1.75 * 0.5)


WITHOUT_MUJOCO = """
import sys
sys.modules['mujoco'] = None
from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen import Episode
try:
    Episode(0)
except InputError as error:
    print(error)
"""


def test_without_mujoco_an_episode_names_the_requirement_and_how_to_install_it():
    done = subprocess.run([sys.executable, '-c', WITHOUT_MUJOCO], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "The simulated kitchen needs mujoco, which cannot be imported; run pip install 'm3et_ros[sim]'.\n"
    )
    listed = (Path(m3et_ros.__file__).parents[1] / 'requirements' / 'sim.txt').read_text().splitlines()
    assert any(line.startswith('mujoco-core==') for line in listed)
