"""AutoConfig and AutoModel of transformers on our folders: the loader's outputs bit for bit, and no early imports."""

import shutil
import subprocess
import sys

import pytest
import torch
from transformers import AutoConfig, AutoModel

from m3et_ros.data.checkpoints.auto import _Watch, watch
from m3et_ros.data.checkpoints.m3et import load_checkpoint, save_checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.runtime.open_model import untrained

LAZY = """
import sys
import m3et_ros
assert not {'transformers', 'torch', 'm3et_ros.data.checkpoints.m3et'} & set(sys.modules)
from transformers import AutoConfig
print(AutoConfig.from_pretrained(sys.argv[1]).model_type)
assert 'm3et_ros.data.checkpoints.m3et' not in sys.modules
from transformers import AutoModel
print(AutoModel.from_pretrained(sys.argv[1]).checkpoint.model_id)
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('auto') / 'tiny'
    save_checkpoint(path, untrained('tiny', 3), card='# A card')
    return path


def test_outputs_are_those_of_our_own_loader(folder):
    ours, theirs = load_checkpoint(folder), AutoModel.from_pretrained(folder)
    size = ours.model.config.image_size
    inputs = {'rgb': torch.randn(1, 3, size, size), 'text': torch.randint(5, 60, (1, 6))}
    with torch.no_grad():
        wanted, found = ours.model(inputs), theirs(inputs)
    assert set(wanted) == set(found) and all(torch.equal(wanted[name], found[name]) for name in wanted)
    assert theirs.checkpoint.labels == ours.labels and not theirs.training
    assert AutoModel.from_pretrained(folder, dtype=torch.bfloat16).m3et.global_embedding.dtype == torch.bfloat16


def test_the_config_is_that_of_the_folder_and_a_saved_model_is_a_checkpoint(folder, tmp_path):
    model = AutoModel.from_pretrained(folder)
    assert AutoConfig.from_pretrained(folder).model == model.m3et.config.to_dict()
    model.save_pretrained(tmp_path / 'again')
    again = load_checkpoint(tmp_path / 'again')
    assert again.model_id == model.checkpoint.model_id
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, model.m3et.state_dict()[name])


def test_damage_is_refused_as_by_our_own_loader_and_so_are_other_options(folder, tmp_path):
    with pytest.raises(ValueError, match="no option 'device_map'"):
        AutoModel.from_pretrained(folder, device_map='cpu')
    AutoModel.from_pretrained(folder).save_pretrained(tmp_path / 'cut')
    weights = tmp_path / 'cut' / 'model.safetensors'
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(InputError, match='cut short or damaged'):
        AutoModel.from_pretrained(tmp_path / 'cut')


@pytest.mark.timeout(600)
def test_importing_the_package_imports_nothing_heavy_and_the_auto_classes_know_it_afterwards(folder):
    command = [sys.executable, '-P', '-c', LAZY, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.returncode) == (['m3et', 'tiny-random-3'], 0), done.stderr


def test_a_config_of_another_kind_is_refused_by_our_own_loader(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / 'other') / 'config.json'
    path.write_text(path.read_text().replace('"model_type": "m3et"', '"model_type": "bert"'))
    with pytest.raises(InputError, match="has model_type 'bert' and not 'm3et'"):
        load_checkpoint(path.parent)


def test_watching_twice_is_once():
    watch()
    assert sum(isinstance(finder, _Watch) for finder in sys.meta_path) == 1
