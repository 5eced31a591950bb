"""Disturbances: what they may do and what they must not."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3et_ros.data.noise import (
    WIDE,
    Noise,
    disturb,
    mentions_sides,
    mirrored_words,
    noise_of,
    noisy_depth,
    noisy_rgb,
    steady,
)
from m3et_ros.data.sample import Sample

NONE = Noise(
    min_range=0,
    max_range=(99, 99),
    disparity=0,
    quantum=0,
    edge=0,
    blobs=(0, 0),
    specks=0,
    gain=1,
    gamma=1,
    balance=1,
    grain=0,
    blur=0,
    jpeg=0,
    mirror=0,
)
NOISE = Noise()


def sample(picture=0, **fields):
    rng = np.random.default_rng(picture)
    depth = rng.uniform(0.2, 9, (24, 32)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.2] = np.nan
    values = {
        'rgb': rng.integers(0, 256, (24, 32, 3), np.uint8),
        'depth': depth,
        'semseg': rng.integers(0, 9, (6, 8), np.uint8),
    }
    return Sample(**values | fields)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_depth_is_never_invented(seed):
    before = sample(seed).depth
    after = noisy_depth(before, NOISE, np.random.default_rng(seed))
    assert after.dtype == np.float32 and not (np.isfinite(after) & ~np.isfinite(before)).any()
    assert not np.isfinite(after[before < NOISE.min_range]).any()
    assert (after[np.isfinite(after)] > 0).all()


def test_depth_keeps_its_metres_and_errs_more_far_away():
    flat = [np.full((64, 64), metres, np.float32) for metres in (1, 4)]
    rng = np.random.default_rng(1)
    error = [np.nanmean(np.abs(noisy_depth(depth, Noise(max_range=(9, 9)), rng) - depth)) for depth in flat]
    assert 0.0005 < error[0] < 0.01 and 8 < error[1] / error[0] < 32  # the square of four, roughly


def test_depth_comes_in_steps_of_disparity():
    depth = np.linspace(1, 3, 64 * 64, dtype=np.float32).reshape(64, 64)
    inverse = 1 / noisy_depth(depth, Noise(max_range=(9, 9)), np.random.default_rng(0)) / NOISE.quantum
    known = inverse[np.isfinite(inverse)]
    np.testing.assert_allclose(known, known.round(), atol=1e-3)


def test_holes_open_behind_near_edges():
    depth = np.full((32, 64), 3, np.float32)
    depth[:, 32:] = 1
    edges = Noise(blobs=(0, 0), specks=0, edge=0.1, max_range=(9, 9))
    holes = sum(np.isnan(noisy_depth(depth, edges, np.random.default_rng(seed))) for seed in range(20))
    assert holes[:, 26:32].any() and not holes[:, 32:].any() and not holes[:, :20].any()


def test_without_noise_nothing_changes():
    before = sample()
    after = disturb(before, NONE, np.random.default_rng(0))
    np.testing.assert_array_equal(after.rgb, before.rgb)
    np.testing.assert_allclose(after.depth, before.depth, rtol=1e-6)
    assert after.clean_depth is before.depth


def test_the_generator_decides_everything():
    one, same, other = (disturb(sample(), NOISE, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert (one.rgb == same.rgb).all() and np.array_equal(one.depth, same.depth, equal_nan=True)
    assert (one.rgb != other.rgb).any()


def test_a_mirror_turns_everything_and_the_words():
    before = sample(question='Is the cup left of the bowl?', answers={'right': 1.0})
    after = disturb(before, Noise(mirror=1.0), np.random.default_rng(0), swap_sides=True)
    np.testing.assert_array_equal(after.clean_depth, before.depth[:, ::-1])
    np.testing.assert_array_equal(after.semseg, before.semseg[:, ::-1])
    assert after.question == 'Is the cup right of the bowl?' and dict(after.answers) == {'left': 1.0}


@pytest.mark.parametrize(
    'fields', [{'question': 'What is left to eat?'}, {'question': 'Where?', 'answers': {'Left': 1}}]
)
def test_samples_that_mention_sides_are_not_mirrored(fields):
    before = sample(**fields)
    after = disturb(before, Noise(mirror=1.0), np.random.default_rng(0))
    assert mentions_sides(before) and after.question == before.question
    np.testing.assert_array_equal(after.semseg, before.semseg)


def test_words_are_swapped_whole():
    assert mirrored_words('on the left, right of it, leftover') == 'on the right, left of it, leftover'


def test_colours_stay_near():
    grey = np.full((32, 32, 3), 120, np.uint8)
    means = [noisy_rgb(grey, NOISE, np.random.default_rng(seed)).mean() for seed in range(30)]
    assert 80 < min(means) < 112 and 128 < max(means) < 180


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('min_range', -1),
        ('max_range', (5, 2)),
        ('blobs', (-1, 0.1)),
        ('gain', 0.5),
        ('quality', 0),
        ('mirror', 2),
        ('cover_sizes', (0, 0.1)),
        ('cover_sizes', (0.2, 0.1)),
        ('glossy', (256,)),
    ],
)
def test_fields_out_of_range_are_named(field, value):
    with pytest.raises(ValueError, match=field):
        Noise(**{field: value})


EDGES = [
    ('min_range', 0, 10),
    ('disparity', 0, 1),
    ('quantum', 0, 1),
    ('edge', 0, 0.5),
    ('specks', 0, 1),
    ('gain', 1, 10),
    ('gamma', 1, 10),
    ('balance', 1, 10),
    ('grain', 0, 255),
    ('blur', 0, 20),
    ('quality', 1, 100),
    ('jpeg', 0, 1),
    ('mirror', 0, 1),
    ('cover', 0, 0.8),
    ('reasons', 0, 1),
    ('shift', 0, 20),
    ('dim', 0, 1),
]


@pytest.mark.parametrize(('field', 'low', 'high'), EDGES)
def test_the_edges_of_a_range_are_accepted_and_what_lies_beyond_is_not(field, low, high):
    for value in (low, high):
        assert getattr(Noise(**{field: value}), field) == value
    for value in (low - 1e-6, high + 1e-6):
        with pytest.raises(ValueError, match=f'{field} is .*; give {low} to {high}'):
            Noise(**{field: value})


def test_pairs_have_edges_too():
    assert Noise(max_range=(1e-3, 1e-3)).max_range == (1e-3, 1e-3)
    assert Noise(blobs=(0, 0)).blobs == (0, 0) and Noise(blobs=(1000, 1)).blobs == (1000, 1)
    for fields in ({'max_range': (0, 1)}, {'blobs': (1001, 0.1)}, {'blobs': (1, 1.1)}, {'blobs': (1, -0.1)}):
        with pytest.raises(ValueError, match=next(iter(fields))):
            Noise(**fields)


def test_an_episode_has_the_same_camera_throughout_and_no_mirror():
    one, later = (steady(sample(seed=s, tick=t)) for s, t in ((3, 0), (3, 70)))
    assert np.array_equal(one.rgb, later.rgb) and np.array_equal(one.depth, later.depth, equal_nan=True)
    assert (steady(sample(seed=4)).rgb != one.rgb).any()
    for seed in range(20):
        assert np.array_equal(steady(sample(seed=seed)).semseg, sample().semseg)
    with pytest.raises(ValueError, match="sample 'a.jpg' has no seed"):
        steady(sample(key='a.jpg'))


def test_the_noise_of_one_camera_draws_what_it_always_drew():
    """The exam of the shipped weights rests on these very numbers."""
    before = Sample(
        np.arange(24 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(24, 32, 3),
        np.linspace(0.4, 5, 24 * 32, dtype=np.float32).reshape(24, 32),
        np.zeros((6, 8), np.uint8),
    )
    after = disturb(before, Noise(), np.random.default_rng(7))
    assert (np.isnan(after.depth).sum(), int(after.rgb.astype(int).sum())) == (80, 235753)
    assert np.nansum(after.depth, dtype=np.float64) == pytest.approx(1883.98252, rel=1e-6)


def test_wide_noise_has_holes_of_every_size_and_the_target_stays_clean_and_unmoved():
    before = sample()
    before = replace(before, depth=np.full((24, 32), 2, np.float32), semseg=np.full((6, 8), 1, np.uint8))
    shares = []
    for seed in range(60):
        after = disturb(before, replace(WIDE, mirror=0), np.random.default_rng(seed))
        assert (after.clean_depth == 2).all() and (after.semseg == before.semseg).all()
        shares.append(np.isnan(after.depth).mean())
    assert 0.15 < np.mean(shares) < 0.45 and max(shares) > 0.4


def test_wide_noise_loses_glossy_classes_by_name():
    noise = noise_of('wide', ('wall', 'sink', 'cup', 'glass'))
    assert noise.glossy == (1, 3) and noise == replace(WIDE, glossy=(1, 3))
    assert noise_of('camera', ('sink',)) == Noise() and noise_of('wide') == WIDE
    with pytest.raises(ValueError, match="noise is 'loud'; give camera or wide"):
        noise_of('loud')
    clean = replace(NONE, glossy=(1,))
    labels = np.zeros((6, 8), np.uint8)
    labels[:3] = 1
    before = replace(sample(), depth=np.full((24, 32), 2, np.float32), semseg=labels)
    lost = np.array([np.isnan(disturb(before, clean, np.random.default_rng(s)).depth) for s in range(20)])
    assert lost[:, :12].any() and not lost[:, 12:].any()


@pytest.mark.parametrize(('field', 'value'), [('cover', 0.4), ('reasons', 1.0), ('shift', 2.0)])
def test_each_cause_of_holes_works_alone(field, value):
    rgb = np.full((24, 32, 3), 90, np.uint8)
    rgb[:6], rgb[12:14, 16:18] = 5, 255
    before = replace(sample(), rgb=rgb, depth=np.full((24, 32), 2, np.float32))
    holes = [
        np.isnan(disturb(before, replace(NONE, **{field: value}), np.random.default_rng(s)).depth) for s in range(20)
    ]
    assert np.any(holes) and np.mean(holes) < 0.5
    if field == 'reasons':
        assert all(one[12:14, 16:18].all() and not one[15:].any() for one in holes)


def test_low_light_is_dark_and_grainy():
    grey = np.full((32, 32, 3), 200, np.uint8)
    dim = [noisy_rgb(grey, replace(NONE, dim=1.0), np.random.default_rng(s)).mean() for s in range(30)]
    assert 80 <= min(dim) < 100 and 140 < max(dim) <= 160
    grains = [
        np.mean([noisy_rgb(grey, replace(NONE, dim=p, grain=6), np.random.default_rng(s)).std() for s in range(30)])
        for p in (0.0, 1.0)
    ]
    assert 1.5 < grains[1] / grains[0] < 2.5
