"""Released models from folders: whole and in shards, as transformers saves them, and folders that are not whole."""

import json
from pathlib import Path

import pytest
import torch
from released_names import matvlm_tensors
from safetensors.torch import load_file, save_file
from transformers import PhiConfig, PhiForCausalLM

from m3et_ros.data.checkpoints import json_files
from m3et_ros.data.checkpoints.released import MAX_JSON_BYTES, load_language_model, load_matvlm
from m3et_ros.data.errors import InputError
from m3et_ros.models.vlm.language_model import LanguageConfig

HYBRID = LanguageConfig(
    d=32, schedule='STT', heads=4, hidden=48, norm='layer', tied=False, head_bias=True, vocabulary=48
)


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
    torch.manual_seed(0)
    (tmp_path / 'matvlm').mkdir()
    save_file(matvlm_tensors(HYBRID, 12), tmp_path / 'matvlm' / 'model.safetensors')
    text = {
        'model_type': 'phi',
        'hidden_size': 32,
        'num_attention_heads': 4,
        'intermediate_size': 48,
        'vocab_size': 48,
        'num_hidden_layers': 3,
    }
    (tmp_path / 'matvlm' / 'config.json').write_text(
        json.dumps(
            {
                'model_type': 'tinyllava',
                'connector_type': 'mlp2x_gelu',
                'text_config': text,
                'vision_config': {'hidden_size': 12, 'image_size': 28, 'patch_size': 14},
            }
        )
    )
    return tmp_path / 'matvlm'


def test_shards_of_transformers_give_its_logits(phi):
    assert len(list(phi.glob('*.safetensors'))) > 1
    model, ids = load_language_model(phi), torch.randint(0, 60, (2, 9))
    assert model.config.name == 'phi' and not model.training
    with torch.no_grad():
        assert (model(ids).logits - PhiForCausalLM.from_pretrained(phi)(ids).logits).abs().max() < 1e-4
    assert next(load_language_model(phi, dtype=torch.bfloat16).parameters()).dtype == torch.bfloat16


def test_a_matvlm_reads_images_and_words(matvlm):
    model = load_matvlm(matvlm)
    assert model.config.language.schedule == 'STT'
    assert model(torch.randn(1, 4, 12), torch.ones(1, 3, dtype=torch.int64)).logits.shape == (1, 3, 48)


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
    assert reason(f'There is no .*{shard.name}') == 'model_missing'
    (phi / 'config.json').write_text('[]')
    assert reason('config.json holds no JSON object') == 'model_config'
    (phi / 'config.json').write_text('{')
    assert reason('config.json is not JSON') == 'model_config'
    (phi / 'config.json').write_text('{"model_type": "phi", "hidden_size": "wide"}')
    assert reason('The model is refused') == 'model_config'
    tensors = load_file(matvlm / 'model.safetensors')
    lost = tensors.pop('language_model.model.layers.0.mamba.D')
    save_file(tensors, matvlm / 'model.safetensors')
    assert reason(r'no tensor for language\.layers\.0\.mixer\.D', load_matvlm, matvlm) == 'model_tensor'
    tensors |= {'language_model.model.layers.0.mamba.D': lost, 'gate': lost.clone()}
    save_file(tensors, matvlm / 'model.safetensors')
    assert reason('a tensor gate, which this model has no place for', load_matvlm, matvlm) == 'model_tensor'


def test_an_index_cannot_lead_elsewhere(phi):
    index = phi / 'model.safetensors.index.json'
    index.write_text('{"weight_map": {"x": "../other.safetensors"}}')
    with pytest.raises(InputError, match='which is not beside it'):
        load_language_model(phi)
    index.write_text('{"weight_map": [1]}')
    with pytest.raises(InputError, match='has no weight_map'):
        load_language_model(phi)


def test_an_index_may_be_larger_than_other_json_but_not_endless(phi):
    index = phi / 'model.safetensors.index.json'
    text = index.read_text()
    index.write_text(text.ljust(MAX_JSON_BYTES))
    assert MAX_JSON_BYTES > json_files.MAX_JSON_BYTES and load_language_model(phi).config.name == 'phi'
    index.write_text(text.ljust(MAX_JSON_BYTES + 1))
    with pytest.raises(InputError, match='larger'):
        load_language_model(phi)
