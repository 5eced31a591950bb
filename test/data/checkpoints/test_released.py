"""Released models from folders: whole and in shards, as transformers saves them, and folders that are not whole."""

import json
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from released_folder import SCHEDULE, released_folder, released_tensors
from safetensors.torch import load_file, save_file
from transformers import PhiConfig, PhiForCausalLM

from m3et_ros.data.checkpoints import json_files
from m3et_ros.data.checkpoints.released import is_matvlm, load_language_model, load_matvlm
from m3et_ros.data.checkpoints.safetensor_files import MAX_INDEX_BYTES
from m3et_ros.data.errors import InputError
from m3et_ros.models.vlm.generation import Sampling
from m3et_ros.models.vlm.siglip import SiglipConfig


@pytest.fixture
def phi(tmp_path) -> Path:
    torch.manual_seed(0)
    model = PhiForCausalLM(
        PhiConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=60)
    )
    model.save_pretrained(tmp_path / 'phi', max_shard_size='20KB')
    return tmp_path / 'phi'


@pytest.fixture
def matvlm(tmp_path) -> Path:
    return released_folder(tmp_path / 'matvlm')


def test_shards_of_transformers_give_its_logits(phi):
    assert len(list(phi.glob('*.safetensors'))) > 1
    model, ids = load_language_model(phi), torch.randint(0, 60, (2, 9))
    assert model.config.name == 'phi' and not model.training
    with torch.no_grad():
        assert (model(ids).logits - PhiForCausalLM.from_pretrained(phi)(ids).logits).abs().max() < 1e-4
    assert next(load_language_model(phi, dtype=torch.bfloat16).parameters()).dtype == torch.bfloat16


def test_a_matvlm_has_its_layers_image_encoder_tokenizer_and_stop_token(matvlm):
    found = load_matvlm(matvlm)
    assert found.model.config.language.schedule == SCHEDULE and found.model.config.connector.tokens == 16
    assert found.tower.config == SiglipConfig(
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=28,
        patch_size=7,
        layer_norm_eps=1e-6,
    )
    assert found.sampling == Sampling(stop=(found.tokenizer.end,)) and found.tokenizer.decode(found.sampling.stop) == ''
    assert not found.pad and not found.model.training and not found.tower.training
    stored = released_tensors()
    name = 'language_model.model.layers.3.mamba.in_proj.weight'
    assert torch.equal(found.model.language.layers[3].mixer.in_proj.weight, stored[name])
    assert load_matvlm(matvlm, dtype=torch.bfloat16).tower.inner.post_layernorm.weight.dtype == torch.bfloat16


def test_settings_that_cannot_be_honoured_are_refused(matvlm, tmp_path):
    def refused(name: str, words: str, folder: Path = matvlm, reason: str = 'model_config', **values):
        path = folder / name
        kept = path.read_text() if path.exists() else '{}'
        path.write_text(json.dumps(json.loads(kept) | values))
        with pytest.raises(InputError, match=words) as found:
            load_matvlm(folder)
        assert found.value.reason == reason
        path.write_text(kept)

    config = json.loads((matvlm / 'config.json').read_text())
    refused(
        'config.json', 'image_aspect_ratio is .anyres.; give a model with square or pad', image_aspect_ratio='anyres'
    )
    refused('config.json', 'connector_type is .resampler.', connector_type='resampler')
    refused('config.json', 'give one of patch, cls_patch', vision_feature_select_strategy='cls')
    refused('config.json', 'layer is 9; give a whole number from -4 to 3', vision_feature_layer=9)
    refused('config.json', 'patch_size is 0', vision_config=config['vision_config'] | {'patch_size': 0})
    refused('config.json', 'has no vision_config', vision_config=None)
    refused('config.json', 'has no text_config', text_config='phi')
    refused('config.json', 'The model is refused', text_config=config['text_config'] | {'num_attention_heads': 0})
    refused(
        'config.json',
        r'has 3\d\d tokens and the model room for 64',
        text_config=config['text_config'] | {'vocab_size': 64},
    )
    refused('mamba_config.json', 'sets bidirectional to True', bidirectional=True)
    refused('generation_config.json', 'temperature is -1', do_sample=True, temperature=-1)
    refused('tokenizer_config.json', 'names the token that ends an answer', eos_token=None)
    refused('tokenizer_config.json', 'has no token .</s>.', reason='tokenizer', eos_token='</s>')
    wide = json.loads((matvlm / 'model.safetensors.index.json').read_text())
    (matvlm / 'model.safetensors.index.json').write_text(json.dumps(wide | {'weight_map': {}}))
    with pytest.raises(InputError, match='has no weight_map of tensors'):
        load_matvlm(matvlm)


def test_only_a_folder_as_released_is_one(matvlm, phi, tmp_path):
    assert is_matvlm(matvlm) and not is_matvlm(phi) and not is_matvlm(tmp_path / 'nowhere')


def test_folders_that_are_not_whole_are_refused(phi, matvlm, tmp_path):
    def reason(match: str, load=load_language_model, folder: Path = phi) -> str:
        with pytest.raises(InputError, match=match) as refused:
            load(folder)
        return refused.value.reason

    assert reason('There is no .*config.json', folder=tmp_path / 'nowhere') == 'model_missing'
    shard = next(phi.glob('*.safetensors'))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-7])
    assert reason('is cut short or damaged') == 'model_truncated'
    shard.unlink()
    assert reason(f'has no {shard.name}; only safetensors are read') == 'model_missing'
    (phi / 'config.json').write_text('[]')
    assert reason('config.json holds no JSON object') == 'model_config'
    (phi / 'config.json').write_text('{')
    assert reason('config.json is not JSON') == 'model_config'
    (phi / 'config.json').write_text('{"model_type": "phi", "hidden_size": "wide"}')
    assert reason('The model is refused') == 'model_config'
    shard = sorted(matvlm.glob('*.safetensors'))[0]
    tensors = load_file(shard)
    name = next(name for name in tensors if '.mamba.D' in name)
    layer = name.split('.')[3]
    save_file({key: value for key, value in tensors.items() if key != name}, shard)
    assert reason(rf'no tensor for language\.layers\.{layer}\.mixer\.D', load_matvlm, matvlm) == 'model_tensor'
    save_file(tensors | {'gate': torch.ones(1)}, shard)
    assert reason('a tensor gate, which this model has no place for', load_matvlm, matvlm) == 'model_tensor'
    name = next(name for name in tensors if 'post_layernorm' in name)
    save_file({key: value for key, value in tensors.items() if key != name}, shard)
    assert reason(r'no tensor for inner\.post_layernorm', load_matvlm, matvlm) == 'model_tensor'


def test_an_index_cannot_lead_elsewhere(phi):
    index = phi / 'model.safetensors.index.json'
    index.write_text('{"weight_map": {"x": "../other.safetensors"}}')
    with pytest.raises(InputError, match='no weight_map of tensors to files beside it'):
        load_language_model(phi)
    index.write_text('{"weight_map": [1]}')
    with pytest.raises(InputError, match='has no weight_map'):
        load_language_model(phi)


def test_an_index_may_be_larger_than_other_json_but_not_endless(phi):
    index = phi / 'model.safetensors.index.json'
    text = index.read_text()
    index.write_text(text.ljust(MAX_INDEX_BYTES))
    assert MAX_INDEX_BYTES > json_files.MAX_JSON_BYTES and load_language_model(phi).config.name == 'phi'
    index.write_text(text.ljust(MAX_INDEX_BYTES + 1))
    with pytest.raises(InputError, match='larger'):
        load_language_model(phi)


def test_weights_that_do_not_fit_are_refused_before_they_are_read(phi, monkeypatch):
    size = sum(path.stat().st_size for path in phi.glob('*.safetensors'))
    free = SimpleNamespace(available=size - 1)
    monkeypatch.setattr(psutil, 'virtual_memory', lambda: free)
    with pytest.raises(InputError, match='GiB and the host has .* GiB free; take a smaller model') as refused:
        load_language_model(phi)
    assert refused.value.reason == 'model_memory'
    free.available = size
    assert load_language_model(phi).config.name == 'phi'
