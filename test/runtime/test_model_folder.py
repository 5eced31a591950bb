"""Folders of models by name: checked before weights are fetched, measured, and named by their weights or commit."""

import hashlib
import json
from types import SimpleNamespace

import psutil
import pytest
import torch
from hub_server import hub_server, sha
from huggingface_hub import constants
from safetensors.torch import save

from m3et_ros.data.errors import InputError
from m3et_ros.runtime.model_folder import WORKING, ModelFolder, find_model, id_of

FILES = {
    'config.json': json.dumps({'architectures': ['Own']}).encode(),
    'chat_template.jinja': b'x',
    'model.safetensors': save({'a': torch.ones(100)}),
    'other.safetensors': b'a second copy of the weights',
}


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / 'my model'
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def server(monkeypatch, tmp_path):
    with hub_server(monkeypatch, tmp_path / 'cache') as found:
        found.models['owner/name'] = dict(FILES)
        yield found


def accept(name, config):
    assert name and isinstance(config, dict)


def find(name, check=accept, dtype=None):
    return find_model(str(name), check, dtype)


def refused(name, check=accept, dtype=None):
    with pytest.raises(InputError) as error:
        find(name, check, dtype)
    return error.value.reason, str(error.value)


def test_a_folder_is_named_by_itself_and_its_weights(path, tmp_path):
    found = find(path)
    digest = hashlib.sha256(FILES['model.safetensors']).hexdigest()
    assert found == ModelFolder(
        path, str(path), '', {'architectures': ['Own']}, (path / 'model.safetensors',), {'F32': 100}
    )
    assert (found.model_id, found.weights_sha256) == (f'my-model@{digest[:8]}', digest)
    assert found.architecture == 'Own'
    assert id_of('', 'ab' * 32) == 'model@abababab'


def test_what_is_no_folder_of_a_model_is_refused(path, tmp_path):
    assert 'or hf:who/what for the Hugging Face Hub' in refused('who/what')[1]
    assert 'or hf:who/what@v1 for' in refused('who/what@v1')[1]
    assert refused(tmp_path / 'none') == (
        'model_missing',
        f'There is no folder {tmp_path / "none"}; give the folder of a model.',
    )
    assert refused('x' * 1001)[0] == 'model_missing'  # longer than a file name may be
    (path / 'config.json').write_text('[')
    assert refused(path)[0] == 'model_config'
    (path / 'config.json').unlink()
    assert refused(path)[0] == 'model_missing' and 'has no config.json' in refused(path)[1]


def test_memory_is_that_of_the_weights_at_work(path, monkeypatch):
    found, cpu = find(path), torch.device('cpu')
    free = SimpleNamespace(available=WORKING * 400)
    monkeypatch.setattr(psutil, 'virtual_memory', lambda: free)
    found.check_memory(None, cpu)
    free.available = WORKING * 400 - 1
    found.check_memory(torch.bfloat16, cpu)
    with pytest.raises(InputError, match=r'my model needs about 0\.00 GiB') as error:
        found.check_memory(torch.float32, cpu)
    assert error.value.reason == 'model_memory'


def test_a_model_of_the_hub_is_named_by_its_commit_and_found_again_offline(server, tmp_path, monkeypatch):
    commit = sha(FILES)
    found = find('hf:owner/name@main')
    assert found.model_id == f'owner--name@{commit}' and found.commit == commit
    assert found.stored == {'F32': 100}
    assert {file.name for file in found.path.iterdir()} == set(FILES) - {'other.safetensors'}
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    for name in ('hf:owner/name', 'hf:owner/name@main', f'hf:owner/name@{commit}'):
        assert find(name).model_id == f'owner--name@{commit}'
    assert refused('hf:owner/name@v2')[0] == refused('hf:owner/other')[0] == 'hub_offline'


def test_names_of_the_hub_are_checked_before_anything_is_asked():
    assert refused('hf:alone')[0] == refused('hf:../../etc/passwd')[0] == 'hub_name'


def test_weights_of_a_model_that_is_refused_are_not_fetched(server, tmp_path, monkeypatch):
    def check(name, config):
        raise InputError('model_config', f'{name} is a {config["architectures"][0]}')

    assert refused('hf:owner/name', check) == ('model_config', 'hf:owner/name is a Own')
    free = SimpleNamespace(available=len(FILES['model.safetensors']) - 1)
    monkeypatch.setattr(psutil, 'virtual_memory', lambda: free)
    assert refused('hf:owner/name')[0] == refused('hf:owner/name', dtype=torch.float32)[0] == 'model_memory'
    assert not list((tmp_path / 'cache').rglob('*.safetensors'))
    # Half of the bytes may be enough for numbers of half the width.
    assert find('hf:owner/name', dtype=torch.bfloat16).commit
    del server.models['owner/name']['model.safetensors']
    assert refused('hf:owner/name')[0] == 'hub'
