"""Features of clips by a tiny VideoMAE that transformers wrote, against transformers itself."""

import json

import numpy as np
import pytest
import torch
from epic_pictures import write_videomae

from m3et_ros.data.errors import InputError
from m3et_ros.runtime.networks.video import open_backbone


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('videomae')
    write_videomae(folder)
    return folder


def test_features_are_the_mean_of_what_transformers_computes(folder):
    from transformers import VideoMAEModel

    backbone = open_backbone(str(folder))
    assert (backbone.frames, backbone.width) == (4, 32) and backbone.model_id.startswith('videomae')
    clips = np.random.default_rng(0).integers(0, 256, (2, 4, 16, 16, 3), np.uint8)
    pixels = torch.from_numpy(clips).permute(0, 1, 4, 2, 3) / 255
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    with torch.no_grad():
        wanted = VideoMAEModel.from_pretrained(folder).eval()((pixels - mean) / std).last_hidden_state.mean(1)
    np.testing.assert_allclose(backbone.encode(list(clips)), wanted.numpy(), atol=1e-5)
    with pytest.raises(ValueError, match='a clip has 3 pictures; give 4'):
        backbone.encode([clips[0][:3]])


def test_the_middle_of_a_wide_picture_is_seen(folder):
    backbone, clip = open_backbone(str(folder)), np.zeros((4, 32, 64, 3), np.uint8)
    dark = backbone.encode([clip])
    clip[:, :, :16] = clip[:, :, 48:] = 255
    np.testing.assert_allclose(backbone.encode([clip]), dark, atol=1e-6)
    clip[:, :, 20] = 255
    assert abs(backbone.encode([clip]) - dark).max() > 1e-4


def test_other_networks_and_missing_weights_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match='no folder'):
        open_backbone(str(tmp_path / 'nowhere'))
    write_videomae(tmp_path)
    (tmp_path / 'preprocessor_config.json').write_text('{"image_mean": [0.5]}')
    with pytest.raises(InputError, match='has image_mean'):
        open_backbone(str(tmp_path))
    config = json.loads((tmp_path / 'config.json').read_text())
    (tmp_path / 'config.json').write_text(json.dumps(config | {'model_type': 'bert'}))
    with pytest.raises(InputError, match="is a 'bert', .* give one of videomae, timesformer"):
        open_backbone(str(tmp_path))
    (tmp_path / 'config.json').write_text(json.dumps(config | {'num_hidden_layers': 2}))
    with pytest.raises(InputError, match='lacks encoder.layer.1') as error:
        open_backbone(str(tmp_path))
    assert error.value.reason == 'model_tensor'
