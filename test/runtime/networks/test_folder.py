"""Folders of networks: found, checked, estimated and loaded without running anything that they hold."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file, save_file
from tiny_networks import depth_anything, segformer

from m3et_ros.data.errors import InputError
from m3et_ros.runtime.model_folder import WORKING
from m3et_ros.runtime.networks.depth import KINDS, open_depth
from m3et_ros.runtime.networks.folder import find_network


@pytest.fixture
def folder(tmp_path):
    return Path(depth_anything(tmp_path / 'my depth'))


def change(folder, **values):
    config = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps(config | values))


def find(folder):
    return find_network(str(folder), tuple(KINDS), 'depth network')


def refusal(name, opener=open_depth):
    with pytest.raises(InputError) as caught:
        opener(str(name))
    return caught.value.reason, str(caught.value)


def test_weights_in_shards_are_found_and_counted(folder):
    tensors = load_file(folder / 'model.safetensors')
    whole = find(folder).stored
    names = sorted(tensors)
    shards = {'a.safetensors': names[:10], 'b.safetensors': names[10:]}
    for file, members in shards.items():
        save_file({name: tensors[name] for name in members}, folder / file, metadata={'format': 'pt'})
    weight_map = {name: file for file, members in shards.items() for name in members}
    (folder / 'model.safetensors.index.json').write_text(json.dumps({'metadata': {}, 'weight_map': weight_map}))
    (folder / 'model.safetensors').unlink()
    found = find(folder)
    assert [path.name for path in found.weights] == ['a.safetensors', 'b.safetensors']
    assert found.stored == whole
    assert open_depth(str(folder)).model_id.startswith('my-depth@')


def test_a_config_without_an_architecture_is_refused(folder):
    change(folder, architectures=[])
    assert refusal(folder) == (
        'model_config',
        f'config.json of {folder} names no architecture; copy or download the model again.',
    )


def test_only_safetensors_are_read(folder):
    (folder / 'model.safetensors').rename(folder / 'pytorch_model.bin')
    reason, sentence = refusal(folder)
    assert reason == 'model_missing'
    assert 'only safetensors are read' in sentence


def test_a_missing_tensor_is_not_replaced_by_random_numbers(folder):
    tensors = load_file(folder / 'model.safetensors')
    del tensors['head.conv1.bias']
    save_file(tensors, folder / 'model.safetensors', metadata={'format': 'pt'})
    assert refusal(folder) == (
        'model_tensor',
        f'{folder} has no tensor head.conv1.bias, which its config asks for; copy or download the model again.',
    )


def test_code_in_a_folder_is_never_run(folder):
    (folder / 'evil.py').write_text(f'open({str(folder / "ran")!r}, "w")')
    change(folder, auto_map={'AutoModelForDepthEstimation': 'evil.Evil', 'AutoConfig': 'evil.Config'})
    open_depth(str(folder))
    change(folder, architectures=['Evil'], model_type='evil')
    reason, sentence = refusal(folder)
    assert reason == 'model_config'
    assert 'which is no depth network whose unit is known and has code of its own, which is never run' in sentence
    assert not (folder / 'ran').exists()


def test_a_network_of_another_kind_is_refused(tmp_path):
    reason, sentence = refusal(segformer(tmp_path))
    assert reason == 'model_config'
    assert 'is a SegformerForSemanticSegmentation, which is no depth network' in sentence


def test_a_network_without_an_image_processor_is_refused(folder):
    (folder / 'preprocessor_config.json').unlink()
    assert 'it has no preprocessor_config.json' in refusal(folder)[1]


def test_memory_is_estimated_from_the_headers_before_anything_is_loaded(folder):
    # A header may promise what no memory can hold; its data are a hole in the file.
    huge = psutil.virtual_memory().total // 4 // 2**20 * 2**20
    header = json.dumps({'w': {'dtype': 'F32', 'shape': [huge], 'data_offsets': [0, 4 * huge]}}).encode()
    with (folder / 'model.safetensors').open('wb') as file:
        file.write(len(header).to_bytes(8, 'little') + header)
        file.truncate(8 + len(header) + 4 * huge)
    reason, sentence = refusal(folder)
    assert reason == 'model_memory'
    assert f'needs about {4 * huge * WORKING / 2**30:.2f} GiB' in sentence


def test_a_checkpoint_is_read_after_a_network(folder):
    """In a process of its own, in which transformers is the first to enter a device context of torch."""
    code = (
        'from m3et_ros.runtime.networks.depth import open_depth\n'
        'from m3et_ros.runtime.open_model import open_checkpoint\n'
        f'open_depth({str(folder)!r})\n'
        'print("read", open_checkpoint("kitchen").model_id)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert 'read kitchen@' in done.stdout, done.stderr
