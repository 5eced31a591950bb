"""SigLIP's config from a released config.json, its tokens, and its tensors by their released names."""

import pytest
import torch
from transformers import SiglipVisionConfig, SiglipVisionModel

from m3et_ros.models.vlm.siglip import SiglipConfig, SiglipTower, tower_tensors

SMALL = SiglipConfig(
    hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, image_size=12, patch_size=4
)


def test_the_config_of_a_release_is_read_and_defaults_are_those_of_transformers():
    theirs = SiglipVisionConfig()
    for name in ('hidden_size', 'intermediate_size', 'num_hidden_layers', 'image_size', 'patch_size', 'layer_norm_eps'):
        assert getattr(SiglipConfig(), name) == getattr(theirs, name)
    stored = {'hidden_size': 1152, 'intermediate_size': 4304, 'num_hidden_layers': 27, 'num_attention_heads': 16}
    stored |= {'image_size': 384, 'patch_size': 14, 'projection_dim': 2048}
    found = SiglipConfig.from_released({'vision_config': stored, 'vision_feature_layer': -1})
    assert (found.hidden_size, found.patch_size, found.layer, found.strategy) == (1152, 14, -1, 'patch')


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        ({}, 'has no vision_config'),
        ({'vision_config': {'model_type': 'clip_vision_model'}}, 'is .clip_vision_model.; give a model with siglip'),
        ({'vision_config': {'hidden_act': 'relu'}}, 'hidden_act is .relu.'),
        ({'vision_config': {'num_hidden_layers': 257}}, 'num_hidden_layers is 257'),
        ({'vision_config': {'patch_size': 225}}, 'patch_size is 225; give a whole number from 1 to 224'),
        ({'vision_config': {'num_attention_heads': 5}}, 'num_attention_heads'),
        ({'vision_config': {}, 'vision_feature_layer': -14}, 'layer is -14; give a whole number from -13 to 12'),
        ({'vision_config': {}, 'vision_feature_select_strategy': 'all'}, 'strategy is .all.'),
    ],
    ids=['none', 'kind', 'activation', 'layers', 'patch', 'heads', 'output', 'strategy'],
)
def test_other_configs_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        SiglipConfig.from_released(values)


def test_a_tower_without_memory_takes_released_tensors_and_gives_the_outputs_of_transformers():
    theirs = SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=12,
            patch_size=4,
        )
    ).eval()
    stored = {f'vision_tower._vision_tower.vision_model.{name}': value for name, value in theirs.state_dict().items()}
    stored['vision_tower._vision_tower.vision_model.embeddings.position_ids'] = torch.zeros(1, 9)
    stored['connector._connector.0.bias'] = torch.zeros(3)
    found = tower_tensors(stored)
    with torch.device('meta'):
        tower = SiglipTower(SMALL)
    tower.load_state_dict(found, assign=True)
    pixels = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        outputs = theirs(pixels, output_hidden_states=True).hidden_states
        assert torch.equal(tower.eval()(pixels), outputs[-2][:, 1:])
        whole = SiglipTower(SiglipConfig(**{**vars(SMALL), 'strategy': 'cls_patch', 'layer': 1}))
        whole.load_state_dict(found)
        assert torch.equal(whole.eval()(pixels), outputs[1])
