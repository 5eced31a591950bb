"""ML-Mamba and EMMA from folders as released, and folders that are not whole."""

import json
import shutil

import pytest
import torch
from cobra_folder import cobra_folder, emma_tensors, ml_mamba_tensors
from safetensors.torch import load_file, save_file

from m3et_ros.data.checkpoints.cobra import is_cobra, load_cobra
from m3et_ros.data.errors import InputError


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    return cobra_folder(tmp_path_factory.mktemp('cobra') / 'ML-Mamba', ml_mamba_tensors(), 'mamba2-2.7b')


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / 'copy')


def test_what_a_folder_holds(whole, tmp_path):
    found = load_cobra(whole)
    assert (found.variant, found.model_id, found.chat) == ('ml_mamba', 'ml_mamba@ML-Mamba', True)
    assert found.sampling.stop == (found.tokenizer.end,) and not found.model.training and not found.tower.training
    stored = load_file(whole / 'dinov2' / 'model.safetensors')
    assert torch.equal(found.tower.dino.embeddings.cls_token, stored['embeddings.cls_token'])
    for backbone, chat in (('mamba-2.8b-zephyr', True), ('v2-mamba', False)):
        emma = load_cobra(cobra_folder(tmp_path / backbone, emma_tensors(), backbone))
        assert (emma.variant, emma.chat) == ('emma', chat)
    assert is_cobra(whole) and not is_cobra(whole / 'dinov2') and not is_cobra(tmp_path)


def test_folders_that_are_not_whole_are_refused(folder):
    def refused(reason, words):
        with pytest.raises(InputError, match=words) as found:
            load_cobra(folder)
        assert found.value.reason == reason

    run = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps({'model': run['model'] | {'image_resize_strategy': 'letterbox'}}))
    refused('model_config', "the resizing 'letterbox'; give a model with dinosiglip-vit-so-384px and resize-naive")
    (folder / 'config.json').write_text(json.dumps(run))
    tensors = load_file(folder / 'model.safetensors')
    save_file({name: value for name, value in tensors.items() if name != 'mlp.0.bias'}, folder / 'model.safetensors')
    refused('model_tensor', r'no tensor for connector\.input\.bias')
    save_file(tensors, folder / 'model.safetensors')
    settings = (folder / 'tokenizer_config.json').read_text()
    (folder / 'tokenizer_config.json').unlink()
    refused('tokenizer', 'names no eos_token')
    (folder / 'tokenizer_config.json').write_text(settings)
    encoder = folder / 'dinov2' / 'model.safetensors'
    stored = load_file(encoder)
    save_file({n: v for n, v in stored.items() if n != 'embeddings.cls_token'}, encoder, metadata={'format': 'pt'})
    refused('model_tensor', r'has no tensor embeddings\.cls_token')
    encoder.write_bytes(encoder.read_bytes()[:-5])
    refused('model_truncated', 'cannot be read')
    encoder.unlink()
    refused('model_missing', r'There is no .*dinov2/model\.safetensors')
    config = json.loads((folder / 'dinov2' / 'config.json').read_text())
    (folder / 'dinov2' / 'config.json').write_text(json.dumps(config | {'hidden_size': 10**6}))
    refused('model_config', 'has hidden_size 1000000; give 1 to 8192')
    (folder / 'dinov2' / 'config.json').write_text(json.dumps(config | {'model_type': 'dinov2'}))
    refused('model_config', 'is of another model; give a dinov2_with_registers')
