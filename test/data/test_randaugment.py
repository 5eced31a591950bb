"""RandAugment: what each change does, and that a clip's pictures are changed alike."""

import numpy as np
import pytest

from m3et_ros.data.randaugment import CHANGES, FILL, change, randaugment


def flat(value):
    return np.full((1, 20, 20, 3), value, np.uint8)


@pytest.mark.parametrize(
    ('name', 'strength', 'before', 'after'),
    [
        ('invert', 0.7, 30, 225),
        ('posterise', 0.7, 0b10110111, 0b10000000),
        ('solarise', 0.7, 100, 155),
        ('solarise', 0.7, 70, 70),
        ('solarise_add', 0.7, 100, 177),
        ('solarise_add', 0.7, 130, 130),
        ('brightness', 0.5, 100, 145),
        ('brightness', -0.5, 100, 55),
        ('sharpness', 0.5, 90, 90),
    ],
    ids=[
        'invert',
        'posterise',
        'solarise above',
        'solarise below',
        'add below',
        'add above',
        'brighter',
        'darker',
        'flat',
    ],
)
def test_a_change_of_a_flat_picture_is_known(name, strength, before, after):
    assert np.abs(change(flat(before), name, strength).astype(int) - after).max() <= 1


@pytest.mark.parametrize('name', ['rotate', 'shear_x', 'shear_y', 'translate_x', 'translate_y'])
def test_what_a_movement_uncovers_has_the_mean_colour(name):
    found = change(flat(250), name, 1.0)[0]
    edge = {'translate_y': found[-1, 10], 'shear_y': found[-1, -1]}.get(name, found[-1, -1])
    assert tuple(edge) == FILL and tuple(found[10, 8]) == (250, 250, 250)


def test_the_pictures_of_a_clip_are_changed_alike_and_by_the_draw_alone():
    picture = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    clip = np.stack([picture, picture])
    drawn = [randaugment(clip, np.random.default_rng(seed)) for seed in range(8)]
    assert all(np.array_equal(one[0], one[1]) and one.shape == clip.shape and one.dtype == np.uint8 for one in drawn)
    assert np.array_equal(drawn[3], randaugment(clip, np.random.default_rng(3)))
    assert len({one.tobytes() for one in drawn}) > 4


def test_every_change_can_be_made():
    clip = np.random.default_rng(0).integers(0, 255, (1, 24, 32, 3), np.uint8)
    assert {name: change(clip, name, 0.7).shape for name in CHANGES} == dict.fromkeys(CHANGES, clip.shape)
