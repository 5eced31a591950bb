"""Weights of a folder: found by name, measured by their headers, and a sentence for what is missing or damaged."""

import hashlib
import json
from types import SimpleNamespace

import psutil
import pytest
import torch
from safetensors.torch import save_file

from m3et_ros.data.checkpoints.safetensor_files import (
    GIB,
    bytes_of,
    check_memory,
    checksum,
    stored_numbers,
    weight_files,
    weight_names,
)
from m3et_ros.data.errors import InputError

TENSORS = {'a': torch.ones(2, 3), 'b': torch.ones(5, dtype=torch.bfloat16), 'c': torch.ones(7, dtype=torch.int64)}


@pytest.fixture
def file(tmp_path):
    save_file(TENSORS | {'d': torch.ones(3, dtype=torch.bool)}, tmp_path / 'model.safetensors')
    return tmp_path / 'model.safetensors'


def refused(call, *arguments):
    with pytest.raises(InputError) as error:
        call(*arguments)
    return error.value.reason, str(error.value)


def test_the_headers_give_the_size_in_any_data_type(file):
    stored = stored_numbers([file])
    assert stored == {'F32': 6, 'BF16': 5, 'I64': 7, 'BOOL': 3}
    assert stored_numbers([file, file]) == {kind: 2 * count for kind, count in stored.items()}
    assert bytes_of(stored) == 6 * 4 + 5 * 2 + 7 * 8 + 3
    assert bytes_of(stored, torch.float32) == 11 * 4 + 7 * 8 + 3
    assert bytes_of(stored, torch.float16) == 11 * 2 + 7 * 8 + 3
    assert bytes_of({'F8_E4M3': 8, 'U8': 8, 'F4': 8}) == 20 and bytes_of({'F8_E4M3': 8}, torch.bfloat16) == 16


def test_the_checksum_of_one_file_is_its_own(file, tmp_path):
    digest = hashlib.sha256(file.read_bytes())
    assert checksum([file]) == digest.hexdigest()
    (tmp_path / 'x').write_bytes(b'x')
    both = digest.digest() + hashlib.sha256(b'x').digest()
    assert checksum([file, tmp_path / 'x']) == hashlib.sha256(both).hexdigest()


def test_an_index_names_the_files_unless_there_is_one_file(file, tmp_path):
    index = tmp_path / 'model.safetensors.index.json'
    index.write_text(json.dumps({'weight_map': {'a': '2.safetensors', 'b': '1.safetensors', 'c': '2.safetensors'}}))
    assert weight_files(tmp_path) == (file,)
    file.unlink()
    assert weight_names(tmp_path) == ['1.safetensors', '2.safetensors']
    reason, sentence = refused(weight_files, tmp_path)
    assert reason == 'model_missing' and 'has no 1.safetensors; only safetensors are read' in sentence
    for damaged in ({'weight_map': {'a': '../x.safetensors'}}, {'weight_map': {'a': 1}}, {'weight_map': {}}, {}):
        index.write_text(json.dumps(damaged))
        assert refused(weight_names, tmp_path)[0] == 'model_config'
    index.unlink()
    assert weight_names(tmp_path) == ['model.safetensors']
    assert refused(weight_files, tmp_path)[0] == 'model_missing'


def test_damaged_files_are_refused(file):
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole + b'0', whole[:100], b'', b'\xff' * 100):
        file.write_bytes(damaged)
        reason, sentence = refused(stored_numbers, [file])
        assert reason == 'model_truncated' and f'{file} is cut short or damaged' in sentence


def test_what_does_not_fit_into_memory_is_refused_with_both_figures(monkeypatch):
    monkeypatch.setattr(psutil, 'virtual_memory', lambda: SimpleNamespace(available=3 * GIB))
    check_memory('a model', 3 * GIB, torch.device('cpu'))
    reason, sentence = refused(check_memory, 'a model', 3 * GIB + 1)
    assert reason == 'model_memory'
    assert sentence.startswith('a model needs about 3.00 GiB and the host has 3.00 GiB free; take a smaller model')
