"""Episodes from caches: frames in time, actions, what is under way and what is next."""

import json

import numpy as np
import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.kitchen.cache.episodes import Action, EpisodeFrames, frame_rate, open_episodes
from m3et_ros.data.kitchen.cache.recipe import read_shards
from m3et_ros.data.kitchen.labels import kitchen_labels
from m3et_ros.data.kitchen.sim.episode import FPS


def test_now_and_next_keep_to_the_clock():
    """Frames every 0.5 s; actions at 1.0-2.0 and 2.5-3.0: from 1.6 s on the second is less than 1 s away."""
    episode = EpisodeFrames('3', 0, np.arange(8) / 2, (Action(1.0, 2.0, 0, 0), Action(2.5, 3.0, 1, 1)))
    assert episode.now().tolist() == [-1, -1, 0, 0, -1, 1, -1, -1]
    assert episode.next().tolist() == [0, 1, 1, 1, -1, -1, -1, -1]
    assert episode.next(0.0).tolist() == [0, 0, 0, 1, 1, 1, -1, -1]


def test_a_cache_gives_its_episodes_back(caches):
    """The label of each frame agrees with the list of actions."""
    folder = caches['test']
    episodes, frames = open_episodes([folder, folder]), KitchenSamples([folder, folder], questions=False)
    assert sum(len(episode.stamps) for episode in episodes) == len(frames)
    assert frame_rate([folder]) == FPS / 25 and any(episode.actions for episode in episodes)
    labels, labelled = kitchen_labels(), 0
    for episode in episodes:
        assert (np.diff(episode.stamps) > 0).all()
        for i, (now, following) in enumerate(zip(episode.now(), episode.next(1e-6))):
            sample = frames[episode.first + i]
            assert sample.key == f'seed {episode.name} tick {round(episode.stamps[i] * FPS)}'
            for number, pair in ((now, sample.now), (following, sample.next)):
                if number >= 0:
                    action = episode.actions[number]
                    assert (action.verb, action.noun) == pair and labels.verbs[action.verb]
                    labelled += 1
    assert labelled > 10


def test_a_cache_without_actions_is_refused(caches, tmp_path):
    source = caches['test']
    folder = tmp_path / source.name
    for path in read_shards(source)[:1]:
        (folder / path.name).mkdir(parents=True)
        for name in ('frames.npy', 'questions.npy'):
            (folder / path.name / name).symlink_to(path / name)
        header = json.loads((path / 'header.json').read_text())
        del header['actions']
        (folder / path.name / 'header.json').write_text(json.dumps(header))
    (folder / 'recipe.json').symlink_to(source / 'recipe.json')
    with pytest.raises(InputError, match='before actions were stored'):
        open_episodes([folder])


def test_the_latest_action_is_the_one_that_has_started():
    episode = EpisodeFrames('3', 0, np.arange(8) / 2, (Action(1.0, 2.0, 0, 0), Action(2.5, 3.0, 1, 1)))
    assert episode.last().tolist() == [-1, -1, 0, 0, 0, 1, 1, 1]


def test_caches_of_two_frame_rates_have_none_in_common(caches, tmp_path):
    other = tmp_path / 'other'
    other.mkdir()
    recipe = json.loads((caches['test'] / 'recipe.json').read_text())
    (other / 'recipe.json').write_text(json.dumps(recipe | {'stride': 5}))
    assert frame_rate([other]) == FPS / 5
    with pytest.raises(ValueError, match='0.4, 2 frames a second'):
        frame_rate([caches['test'], other])
