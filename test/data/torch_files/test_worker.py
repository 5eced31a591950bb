"""The child's program: which part of a file is taken, how tensors are named, and what it refuses."""

import json
import resource
import subprocess
import sys

import pytest
import torch

from m3et_ros.data.torch_files import worker
from m3et_ros.data.torch_files.worker import chosen_part, leaves, named_tensors, shards

ONES = torch.ones(2)


def test_the_weights_of_a_training_program_are_taken_and_bare_weights_stay():
    assert chosen_part({'model': {'a': ONES}, 'optimizer': {}}) == ({'a': ONES}, 'model')
    assert chosen_part({'state_dict': {'a': ONES}, 'step': 3})[1] == 'state_dict'
    assert chosen_part({'a': ONES, 'model': {'b': ONES}})[1] == ''
    assert chosen_part([ONES]) == ([ONES], '')


def test_leaves_are_named_by_their_places():
    assert list(leaves({'a': {'b': 1}, 'c': [2, {'d': 3}]})) == [('a.b', 1), ('c.0', 2), ('c.1.d', 3)]
    deep = ONES
    for _ in range(20):
        deep = {'a': deep}
    with pytest.raises(ValueError, match='nested more than 16 deep'):
        list(leaves(deep))


def test_tensors_own_their_memory():
    big = torch.arange(12.0).reshape(3, 4)
    found, others = named_tensors({'a': big, 'tied': big, 'view': big[1], 'turned': big.T, 'step': 3})
    assert others == ['step'] and set(found) == {'a', 'tied', 'view', 'turned'}
    assert all(value.is_contiguous() for value in found.values())
    assert len({value.untyped_storage().data_ptr() for value in found.values()}) == 4
    assert torch.equal(found['view'], big[1]) and found['view'].untyped_storage().nbytes() == 16
    assert torch.equal(found['turned'], big.T) and torch.equal(found['tied'], big)


def test_what_safetensors_cannot_hold_is_refused():
    for stored, words in (
        ({'step': 1}, 'it holds no tensors'),
        ({'a.b': ONES, 'a': {'b': ONES}}, r'two tensors named a\.b'),
        ({'a': ONES.to_sparse()}, 'a is sparse or quantised'),
    ):
        with pytest.raises(ValueError, match=words):
            named_tensors(stored)


def test_shards_hold_what_fits(monkeypatch):
    monkeypatch.setattr(worker, 'SHARD_BYTES', 16)
    tensors = {'a': torch.ones(2), 'b': torch.ones(2), 'c': torch.ones(9), 'd': torch.ones(1)}
    assert shards(tensors) == [['a', 'b'], ['c'], ['d']]


@pytest.mark.timeout(600)
def test_a_child_that_needs_more_memory_than_it_may_have_says_so(tmp_path):
    torch.save({'a': torch.ones(2**24)}, tmp_path / 'w.pt')
    command = [sys.executable, '-P', '-m', worker.__name__, str(tmp_path / 'w.pt'), str(tmp_path), 'x', str(2**24)]
    done = subprocess.run(command, capture_output=True, check=True)
    assert json.loads(done.stdout) == {'error': 'it needs more memory than it may have'}
    # The limit is the child's alone.
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY
