"""Vision-language models by name: those of another kind or with code of their own are refused."""

import json

import pytest
import torch
from tiny_vlms import vlm_folder

from m3et_ros.data.checkpoints.safetensor_files import bytes_of
from m3et_ros.data.errors import InputError
from m3et_ros.runtime.vlm.folder import find_vlm


@pytest.fixture
def path(tmp_path):
    return vlm_folder(tmp_path / 'a model')


def refused(name):
    with pytest.raises(InputError) as error:
        find_vlm(str(name))
    return error.value.reason, str(error.value)


def test_an_image_text_model_is_found_and_measured(path):
    found = find_vlm(str(path))
    assert found.path == path and found.config['model_type'] == 'llava'
    size = (path / 'model.safetensors').stat().st_size
    assert 0.8 * size < bytes_of(found.stored) < size
    assert bytes_of(found.stored) == 2 * bytes_of(found.stored, torch.bfloat16)


def test_a_name_has_to_be_given():
    assert refused('')[0] == 'model_missing' and 'give a folder or hf:owner/name' in refused('')[1]


def test_models_of_another_kind_or_with_code_of_their_own_are_refused(path):
    config = json.loads((path / 'config.json').read_text())
    (path / 'config.json').write_text(json.dumps(config | {'model_type': 'bert'}))
    assert refused(path)[0] == 'vlm_kind' and 'holds bert, which is no image-text model' in refused(path)[1]
    (path / 'config.json').write_text(json.dumps({'model_type': 'moondream9', 'auto_map': {'AutoModel': 'own.Moon'}}))
    assert refused(path)[0] == 'vlm_code' and 'which is never run' in refused(path)[1]
