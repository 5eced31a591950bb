"""DINOv2 and SigLIP from folders: their id, their tokens on coarser grids, and the patch embedding of SigLIP."""

import numpy as np
import pytest
import torch
from cobra_folder import DINO, SIGLIP, encoder_folders
from transformers import Dinov2WithRegistersModel, SiglipConfig, SiglipModel, SiglipTextConfig

from m3et_ros.data.checkpoints.image_encoders import SiglipPatches, encode_images, read_encoders, save_encoders
from m3et_ros.data.errors import InputError
from m3et_ros.data.preprocess import bicubic_square, rgb_input

PICTURES = np.random.default_rng(0).integers(0, 255, (2, 40, 60, 3), np.uint8)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('encoders')
    encoder_folders(path)
    return path


@pytest.fixture(scope='module')
def encoders(folder):
    return read_encoders(folder / 'dinov2', folder / 'siglip')


def test_the_id_is_that_of_the_weights_and_outlives_a_copy(folder, encoders, tmp_path):
    assert encoders.model_id.startswith('dinov2+siglip@') and encoders.width == 28
    save_encoders(tmp_path / 'copy', encoders)
    again = read_encoders(tmp_path / 'copy/dinov2', tmp_path / 'copy/siglip')
    assert again.model_id == encoders.model_id
    assert torch.equal(again.encode(PICTURES, rows=3, cols=3), encoders.encode(PICTURES, rows=3, cols=3))
    torch.manual_seed(2)
    Dinov2WithRegistersModel(DINO).save_pretrained(tmp_path / 'other')
    assert read_encoders(tmp_path / 'other', folder / 'siglip').model_id != encoders.model_id


def test_siglip_may_be_saved_with_its_text_encoder(folder, encoders, tmp_path):
    """As the public SigLIP is; its image encoder alone is read, so the copy beside a model has the same id."""
    text = SiglipTextConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=32
    )
    whole = SiglipModel(SiglipConfig(text_config=text.to_dict(), vision_config=SIGLIP.to_dict()))
    whole.vision_model.load_state_dict(encoders.tower.siglip.state_dict())
    whole.save_pretrained(tmp_path)
    assert read_encoders(folder / 'dinov2', tmp_path).model_id == encoders.model_id


def test_a_coarser_grid_has_means_and_a_finer_one_is_refused(encoders):
    patches = encode_images(encoders.tower, PICTURES)
    assert torch.equal(encoders.encode(PICTURES, rows=27, cols=27), patches)
    coarse = encoders.encode(PICTURES, rows=9, cols=3)
    wanted = patches.view(2, 9, 3, 3, 9, 28).mean((2, 4)).flatten(1, 2)
    torch.testing.assert_close(coarse, wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match='the grid is 28 x 3 and the image encoders have 27 x 27 patches'):
        encoders.encode(PICTURES, rows=28, cols=3)


def test_the_patch_embedding_is_that_of_siglip_on_its_own_colours(encoders):
    square = np.ascontiguousarray(PICTURES[0][:28, :28])
    found = SiglipPatches(encoders.tower.siglip)(rgb_input(square, 28))
    wanted = encoders.tower.siglip.get_input_embeddings()(torch.from_numpy(bicubic_square(square, 28))[None])
    torch.testing.assert_close(found, wanted.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_encoders_in_the_wrong_order_are_refused(folder):
    with pytest.raises(InputError, match='is of another model; give a dinov2_with_registers') as refused:
        read_encoders(folder / 'siglip', folder / 'dinov2')
    assert refused.value.reason == 'model_config'
