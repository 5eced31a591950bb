"""Folders of vision-language models: names, sizes, memory, and a sentence for everything that is none."""

import json

import pytest
import torch
from tiny_vlms import vlm_folder

from m3et_ros.data.errors import InputError
from m3et_ros.runtime.vlm import folder as module
from m3et_ros.runtime.vlm.folder import VlmFolder, find_vlm, free_bytes


@pytest.fixture
def path(tmp_path):
    return vlm_folder(tmp_path / 'a model')


def refused(name):
    with pytest.raises(InputError) as error:
        find_vlm(str(name))
    return error.value.reason, str(error.value)


def test_a_folder_is_named_by_its_weights_and_measured_by_their_headers(path):
    found = find_vlm(str(path))
    name, _, digits = found.model_id.partition('@')
    assert (found.path, name, len(digits)) == (path, 'a-model', 8) and found.config['model_type'] == 'llava'
    size = (path / 'model.safetensors').stat().st_size
    assert 0.8 * size < found.weight_bytes(None) < size
    assert found.weight_bytes(torch.float32) == found.weight_bytes(None) == 2 * found.weight_bytes(torch.bfloat16)
    data = bytearray((path / 'model.safetensors').read_bytes())
    data[-1] ^= 1
    (path / 'model.safetensors').write_bytes(data)
    assert find_vlm(str(path)).model_id.partition('@')[2] != digits


def test_integers_keep_their_size():
    found = VlmFolder(None, 'm', {}, (('I64', 10), ('F32', 10)))
    assert (found.weight_bytes(None), found.weight_bytes(torch.bfloat16)) == (120, 100)


def test_a_model_that_is_too_large_is_refused_with_both_figures():
    cpu = torch.device('cpu')
    VlmFolder(None, 'small@1', {}, (('F32', 1000),)).check_memory(None, cpu)
    assert free_bytes(cpu) > 2**20
    words = r'huge@1 needs about 4470348\.\d+ GiB in bfloat16 and \d+\.\d\d GiB are free on cpu'
    with pytest.raises(InputError, match=words) as error:
        VlmFolder(None, 'huge@1', {}, (('F32', 2 * 10**15),)).check_memory(torch.bfloat16, cpu)
    assert error.value.reason == 'vlm_memory'


def test_missing_folders_and_files_are_refused(tmp_path, path):
    assert refused('')[0] == 'model_missing' and 'give a folder or hf:owner/name' in refused('')[1]
    assert 'or hf:who/what for the Hugging Face Hub' in refused('who/what')[1]
    assert 'There is no folder' in refused(tmp_path / 'none')[1]
    (tmp_path / 'empty').mkdir()
    assert 'has no config.json' in refused(tmp_path / 'empty')[1]
    (path / 'model.safetensors').unlink()
    assert refused(path)[0] == 'model_missing' and 'has no model.safetensors' in refused(path)[1]
    (path / 'pytorch_model.bin').write_bytes(b'x')
    assert refused(path)[0] == 'vlm_weights' and 'pytorch_model.bin alone' in refused(path)[1]


def test_models_of_another_kind_or_with_code_of_their_own_are_refused(path):
    config = json.loads((path / 'config.json').read_text())
    (path / 'config.json').write_text(json.dumps(config | {'model_type': 'bert'}))
    assert refused(path)[0] == 'vlm_kind' and 'holds bert, which is no image-text model' in refused(path)[1]
    (path / 'config.json').write_text(json.dumps({'model_type': 'moondream9', 'auto_map': {'AutoModel': 'own.Moon'}}))
    assert refused(path)[0] == 'vlm_code' and 'which is never run' in refused(path)[1]
    (path / 'config.json').write_text('[')
    assert refused(path)[0] == 'model_config'


def test_damaged_weights_are_refused(path):
    file = path / 'model.safetensors'
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole + b'0', whole[:100], b'', b'\xff' * 100):
        file.write_bytes(damaged)
        assert refused(path)[0] == 'model_truncated' and 'is cut short or damaged' in refused(path)[1]


def test_shards_are_read_and_missing_ones_refused(tmp_path, path):
    whole = find_vlm(str(path))
    (path / 'model.safetensors').rename(path / 'one.safetensors')
    index = path / 'model.safetensors.index.json'
    index.write_text(json.dumps({'weight_map': {'a': 'one.safetensors', 'b': 'one.safetensors'}}))
    assert find_vlm(str(path)).stored == whole.stored
    index.write_text(json.dumps({'weight_map': {'a': 'one.safetensors', 'b': 'two.safetensors'}}))
    assert refused(path)[0] == 'model_truncated' and 'lacks two.safetensors' in refused(path)[1]
    index.write_text(json.dumps({'weight_map': {'a': '../one.safetensors'}}))
    assert refused(path)[0] == 'model_config'


def test_names_of_the_hub_are_checked_before_anything_is_asked():
    assert 'is no model of the Hub' in refused('hf:alone')[1]
    assert 'is no model of the Hub' in refused('hf:../../etc/passwd')[1]


def test_without_a_network_the_hub_is_refused_in_a_sentence(tmp_path, monkeypatch):
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
    reason, sentence = refused('hf:owner/name')
    assert reason == 'model_missing' and 'is not on this machine and the Hub cannot be reached' in sentence


def test_a_model_of_the_hub_is_named_by_its_commit(tmp_path, monkeypatch, path):
    """A copy in the cache of the Hub serves without a network; revision and commit arrive."""
    import huggingface_hub.constants as constants

    commit = '0123456789abcdef0123456789abcdef01234567'
    cache = tmp_path / 'cache' / 'models--owner--name'
    (cache / 'refs').mkdir(parents=True)
    (cache / 'refs' / 'main').write_text(commit)
    (cache / 'snapshots').mkdir()
    path.rename(cache / 'snapshots' / commit)
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
    for name in ('hf:owner/name', 'hf:owner/name@main', f'hf:owner/name@{commit}'):
        assert find_vlm(name).model_id == f'owner--name@{commit}'
    assert 'is not on this machine' in refused('hf:owner/name@v2')[1]
    assert module.HUB == 'hf:'
