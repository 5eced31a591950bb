"""Percepts: means over the cells that surely belong to a class, and where it is in view."""

import pytest
import torch

from m3et_ros.models.episode.percepts import CELLS, PEAK, STATISTICS, PerceptEncoder, patch_features, patch_width
from m3et_ros.runtime.open_model import untrained

GRID, WIDTH = 4, 20


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return PerceptEncoder(d_patch=WIDTH + 4 * CELLS**2, grid=GRID, e=16, d_value=6, classes=3, facts=(4, 2)).eval()


def test_a_percept_is_the_mean_of_the_surest_cells(encoder):
    patches = torch.randn(1, GRID**2, WIDTH + 4 * CELLS**2)
    bare = patches[..., -4 * CELLS**2 :]
    logits = torch.full((1, GRID**2, CELLS**2, 3), -20.0)
    logits[..., 0] = 0
    logits[0, 7, 2] = torch.tensor([-20.0, 20.0, -20.0])  # one cell is surely of class 1, none of class 2
    percepts = encoder.percepts(logits, torch.zeros(1, GRID**2, 6), bare)[0]
    assert percepts.shape == (3, encoder.width)
    assert torch.allclose(percepts[1, 6:-STATISTICS], bare[0, 7, 2 :: CELLS**2], atol=1e-4)
    area, peak, column, row, share = percepts[1, -STATISTICS:].tolist()
    assert area == pytest.approx(0, abs=1e-3) and peak == pytest.approx(1) and share == pytest.approx(1)
    assert column == pytest.approx(1) and row == pytest.approx(-1 / 3)  # raster: the fourth of the second row
    assert percepts[2, PEAK] < 1e-6 and percepts[0, PEAK] == pytest.approx(1)


def test_frames_of_a_batch_do_not_affect_each_other(encoder):
    patches = torch.randn(3, GRID**2, WIDTH + 4 * CELLS**2)
    both, alone = encoder(patches)[1], torch.cat([encoder(patch[None])[1] for patch in patches])
    assert torch.allclose(both, alone, atol=1e-5)


def test_patches_carry_the_bare_colours_and_depths_of_their_cells():
    checkpoint = untrained('tiny', 0)
    model, config = checkpoint.model.eval(), checkpoint.model.config
    inputs = {
        'rgb': torch.randn(2, 3, config.image_size, config.image_size),
        'depth': torch.randn(2, 1, config.image_size, config.image_size),
    }
    with torch.inference_mode():
        images = model.encode_images(inputs)
        found = patch_features(config, images, inputs)
        assert found.shape == (2, config.image_tokens, patch_width(config))
        cell = config.patch // CELLS
        first = [
            inputs[name][0, channel, :cell, :cell].mean()
            for name, channel in (('rgb', 0), ('rgb', 1), ('rgb', 2), ('depth', 0))
        ]
        assert torch.allclose(found[0, 0, config.d :: CELLS**2], torch.stack(first), atol=1e-5)
        # A pixel without depth counts as the mean depth, 0.
        holes = inputs | {'depth': torch.full_like(inputs['depth'], torch.nan)}
        assert (patch_features(config, images, holes)[..., -(CELLS**2) :] == 0).all()
        # The validity of depth is not a value of a patch.
        validity = inputs | {'depth': torch.cat([inputs['depth'], torch.rand_like(inputs['depth'])], 1)}
        assert torch.equal(patch_features(config, images, validity), found)
        alone = patch_features(config, model.encode_images({'rgb': inputs['rgb']}), {'rgb': inputs['rgb']})
        assert (alone[..., -(CELLS**2) :] == 0).all()
        with pytest.raises(ValueError, match='no colours'):
            patch_features(config, model.encode_images({'depth': inputs['depth']}), inputs)


def test_fact_probabilities_are_scaled_by_how_surely_the_class_is_in_view(encoder):
    percepts = torch.randn(2, 3, encoder.width)
    percepts[..., PEAK] = torch.rand(2, 3)
    found = encoder.fact_probabilities(percepts)
    assert found.shape == (2, 3, 6)
    assert torch.allclose(found[..., :4].sum(-1), percepts[..., PEAK], atol=1e-5)
    assert torch.allclose(found[..., 4:].sum(-1), percepts[..., PEAK], atol=1e-5)
