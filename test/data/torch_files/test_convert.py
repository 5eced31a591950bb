"""Weights become safetensors in a child: values, names, shards, and files that are refused with a sentence."""

import os

import pytest
import torch
from safetensors.torch import load_file

from m3et_ros.data.checkpoints.released import read_tensors
from m3et_ros.data.errors import InputError
from m3et_ros.data.torch_files import convert
from m3et_ros.data.torch_files.convert import convert_weights

RAN = 'ran'
pytestmark = pytest.mark.timeout(600)  # each file is read by a process of its own, which imports torch


class Code:
    """An object whose reading would make a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_values_names_and_tied_weights_survive(tmp_path):
    torch.manual_seed(0)
    table = torch.randn(5, 3)
    stored = {'llm': {'embed': table, 'head': table}, 'half': torch.randn(3).bfloat16(), 'count': torch.tensor(7)}
    torch.save({'model': stored, 'epoch': 3, 'optimizer': {'m': torch.ones(2)}}, tmp_path / 'w.pt')
    done = convert_weights([tmp_path / 'w.pt'], tmp_path / 'out')
    assert (done.files, done.tensors, done.parts, done.left_out) == (('model.safetensors',), 4, ('model',), ())
    found = load_file(tmp_path / 'out' / 'model.safetensors')
    assert set(found) == {'llm.embed', 'llm.head', 'half', 'count'}
    assert torch.equal(found['llm.head'], table) and torch.equal(found['half'], stored['half'])
    assert found['count'].dtype == torch.int64 and sorted(os.listdir(tmp_path / 'out')) == ['model.safetensors']
    with pytest.raises(InputError, match='exists already') as refused:
        convert_weights([tmp_path / 'w.pt'], tmp_path / 'out')
    assert refused.value.reason == 'out_exists'


def test_files_of_one_model_become_shards_with_an_index(tmp_path):
    torch.save({'a': torch.ones(2)}, tmp_path / '1.bin')
    torch.save({'b': torch.zeros(2)}, tmp_path / '2.bin', _use_new_zipfile_serialization=False)
    done = convert_weights([tmp_path / '1.bin', tmp_path / '2.bin'], tmp_path / 'out')
    assert done.files == ('model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors')
    found = read_tensors(tmp_path / 'out')
    assert torch.equal(found['a'], torch.ones(2)) and torch.equal(found['b'], torch.zeros(2))


def test_a_file_with_code_is_refused_and_its_code_never_runs(tmp_path):
    torch.save({'a': torch.ones(2), 'b': Code(tmp_path / RAN)}, tmp_path / 'w.pt')
    with pytest.raises(InputError, match='holds more than tensors: it would run code when read') as refused:
        convert_weights([tmp_path / 'w.pt'], tmp_path / 'out')
    assert refused.value.reason == 'weights_file'
    assert not (tmp_path / RAN).exists() and os.listdir(tmp_path / 'out') == []


def test_other_files_are_refused(tmp_path):
    def refused(words, *names, reason='weights_file', **options):
        with pytest.raises(InputError, match=words) as found:
            convert_weights([tmp_path / name for name in names], tmp_path / 'out', **options)
        assert found.value.reason == reason

    refused('There is no .*none.pt', 'none.pt')
    os.mkfifo(tmp_path / 'fifo.pt')
    refused('is a FIFO', 'fifo.pt', reason='not_a_file')
    torch.save({'a': torch.ones(1000)}, tmp_path / 'w.pt')
    whole = (tmp_path / 'w.pt').read_bytes()
    (tmp_path / 'cut.pt').write_bytes(whole[: len(whole) // 2])
    refused('cut.pt cannot be converted', 'cut.pt')
    refused('took longer than 0.001 s', 'w.pt', timeout_s=0.001)


def test_a_tensor_that_comes_twice_is_refused(tmp_path):
    torch.save({'a': torch.ones(2)}, tmp_path / 'w.pt')
    with pytest.raises(InputError, match='holds the tensor a again; give each file of the model once'):
        convert_weights([tmp_path / 'w.pt', tmp_path / 'w.pt'], tmp_path / 'out')


def test_a_child_that_dies_is_named_with_its_last_words(tmp_path, monkeypatch):
    torch.save({'a': torch.ones(2)}, tmp_path / 'w.pt')
    monkeypatch.setattr(convert, 'WORKER', 'm3et_ros.no_such_module')
    with pytest.raises(InputError, match=r'ended with code 1 \(.*no_such_module'):
        convert_weights([tmp_path / 'w.pt'], tmp_path / 'out')
