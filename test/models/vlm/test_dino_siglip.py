"""DINOv2 and SigLIP side by side: the patches of each before its last layer."""

import pytest
import torch
from cobra_folder import DINO, SIGLIP
from transformers import Dinov2WithRegistersModel, SiglipVisionConfig, SiglipVisionModel

from m3et_ros.models.vlm.dino_siglip import SIZE, DinoSiglipTower


def test_tokens_are_the_patches_of_both():
    dino, siglip = Dinov2WithRegistersModel(DINO).eval(), SiglipVisionModel(SIGLIP).eval()
    tower = DinoSiglipTower(dino, siglip)
    one, two = torch.randn(1, 3, SIZE, SIZE), torch.randn(1, 3, SIZE, SIZE)
    with torch.no_grad():
        found = tower(one, two)
        left = dino(one, output_hidden_states=True).hidden_states[-2][:, 5:]
        right = siglip(two, output_hidden_states=True).hidden_states[-2]
    assert tower.side == 27 and found.shape == (1, 729, 28)
    assert torch.equal(found[..., :12], left) and torch.equal(found[..., 12:], right)


def test_patches_of_two_sizes_are_refused():
    other = SiglipVisionConfig(**{**SIGLIP.to_dict(), 'patch_size': 16})
    with pytest.raises(ValueError, match='DINOv2 have 14 pixels and those of SigLIP 16'):
        DinoSiglipTower(Dinov2WithRegistersModel(DINO), SiglipVisionModel(other))
