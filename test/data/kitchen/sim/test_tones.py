"""White balance, exposure and contrast."""

import numpy as np
import pytest

from m3et_ros.data.kitchen.sim.camera import Camera
from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.data.kitchen.sim.tones import EXPOSURE, GAMMA, WHITE_BALANCE, Tone, draw_tone


def test_a_table_applies_gain_then_gamma_and_clips():
    table = Tone((2.0, 1.0, 0.5), 2.0).table()[0]
    assert table.shape == (256, 3) and table.dtype == np.uint8
    assert table[51].tolist() == [round(255 * 0.16), round(255 * 0.04), round(255 * 0.01)]
    assert table[200].tolist()[0] == 255 and table[0].tolist() == [0, 0, 0]
    assert np.array_equal(Tone((1, 1, 1), 1).table()[0, :, 0], np.arange(256))


def test_tones_stay_in_their_ranges_and_reach_for_the_ends():
    tones = [draw_tone(np.random.default_rng(seed)) for seed in range(200)]
    ratios = [max(tone.gains) / min(tone.gains) for tone in tones]
    assert 1.3 < max(ratios) <= WHITE_BALANCE + 1e-9
    exposures = [np.sqrt(tone.gains[0] * tone.gains[2]) for tone in tones]
    assert EXPOSURE[0] <= min(exposures) < 0.85 and 1.25 < max(exposures) <= EXPOSURE[1]
    assert all(GAMMA[0] <= tone.gamma <= GAMMA[1] for tone in tones)
    assert {tone.gains[0] > tone.gains[2] for tone in tones} == {True, False}


def test_the_tone_of_the_scene_reaches_the_picture_and_nothing_else():
    seen = {}
    for tone in (None, Tone((0.5, 1.0, 1.0), 1.0)):
        episode = Episode(3, width=32, height=24)
        episode.scene.tone = tone
        with Camera(episode, backend='raycast') as camera:
            seen[tone] = camera.observe(next(episode.run(1)))
    plain, toned = seen.values()
    assert toned.rgb[..., 0] == pytest.approx(plain.rgb[..., 0] / 2, abs=0.51)
    assert np.array_equal(toned.rgb[..., 1:], plain.rgb[..., 1:]) and np.array_equal(toned.instance, plain.instance)
