"""Percepts: means of what is surely of a class, where it is in view, and no more than that."""

import pytest
import torch

from m3et_ros.models.episode.percepts import CELLS, PEAK, STATISTICS, PerceptEncoder, patch_features, patch_width
from m3et_ros.runtime.open_model import untrained

GRID, WIDTH = 4, 20


@pytest.fixture
def eye():
    torch.manual_seed(0)
    return PerceptEncoder(d_patch=WIDTH + 4 * CELLS**2, grid=GRID, e=16, d_value=6, classes=3, facts=(4, 2)).eval()


def test_a_percept_is_what_the_surest_patches_show(eye):
    patches = torch.randn(1, GRID**2, WIDTH + 4 * CELLS**2)
    bare = patches[..., -4 * CELLS**2 :]
    logits = torch.full((1, GRID**2, CELLS**2, 3), -20.0)
    logits[..., 0] = 0
    logits[0, 7, 2] = torch.tensor([-20.0, 20.0, -20.0])  # one cell is surely of class 1, none of class 2
    percepts = eye._percepts(logits, torch.zeros(1, GRID**2, 6), bare)[0]
    assert percepts.shape == (3, eye.width)
    assert torch.allclose(percepts[1, 6:-STATISTICS], bare[0, 7, 2 :: CELLS**2], atol=1e-4)
    area, peak, column, row, share = percepts[1, -STATISTICS:].tolist()
    assert area == pytest.approx(0, abs=1e-3) and peak == pytest.approx(1) and share == pytest.approx(1)
    assert column == pytest.approx(1) and row == pytest.approx(-1 / 3)  # raster: the fourth of the second row
    assert percepts[2, PEAK] < 1e-6 and percepts[0, PEAK] == pytest.approx(1)


def test_frames_are_looked_at_one_by_one(eye):
    patches = torch.randn(3, GRID**2, WIDTH + 4 * CELLS**2)
    both, alone = eye(patches)[1], torch.cat([eye(patch[None])[1] for patch in patches])
    assert torch.allclose(both, alone, atol=1e-5)


def test_patches_carry_the_bare_colours_and_depths_of_their_cells():
    checkpoint = untrained('tiny', 0)
    model, config = checkpoint.model.eval(), checkpoint.model.config
    inputs = {
        'rgb': torch.randn(2, 3, config.image_size, config.image_size),
        'depth': torch.randn(2, 1, config.image_size, config.image_size),
    }
    with torch.inference_mode():
        sight = model.encode_images(inputs)
        found = patch_features(config, sight, inputs)
        assert found.shape == (2, config.image_tokens, patch_width(config))
        cell = config.patch // CELLS
        first = [
            inputs[name][0, channel, :cell, :cell].mean()
            for name, channel in (('rgb', 0), ('rgb', 1), ('rgb', 2), ('depth', 0))
        ]
        assert torch.allclose(found[0, 0, config.d :: CELLS**2], torch.stack(first), atol=1e-5)
        alone = patch_features(config, model.encode_images({'rgb': inputs['rgb']}), {'rgb': inputs['rgb']})
        assert (alone[..., -(CELLS**2) :] == 0).all()
        with pytest.raises(ValueError, match='no colours'):
            patch_features(config, model.encode_images({'depth': inputs['depth']}), inputs)


def test_facts_are_told_as_far_as_something_is_seen(eye):
    percepts = torch.randn(2, 3, eye.width)
    percepts[..., PEAK] = torch.rand(2, 3)
    told = eye.told(percepts)
    assert told.shape == (2, 3, 6)
    assert torch.allclose(told[..., :4].sum(-1), percepts[..., PEAK], atol=1e-5)
    assert torch.allclose(told[..., 4:].sum(-1), percepts[..., PEAK], atol=1e-5)
