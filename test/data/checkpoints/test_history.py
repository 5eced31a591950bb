"""Checkpoints of the model of past actions: what is written is read, what is damaged is refused by name."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from m3et_ros.data.checkpoints.cards import with_head
from m3et_ros.data.checkpoints.history import Correction, Expert, HistoryCheckpoint, load_history, save_history
from m3et_ros.data.epic.class_lists import Classes
from m3et_ros.data.epic.history import QuestionWords
from m3et_ros.data.errors import InputError
from m3et_ros.models.actions.history import HistoryConfig, HistoryModel
from m3et_ros.models.actions.ngram import NGram, NGramSettings

CLASSES = Classes(('take', 'put'), ('tap', 'cup', 'board:chopping'), ('a',) * 2, ('b',) * 3)
PAIRS = {0: 7, 1: 2, 1002: 1}


def made(members=2):
    words = QuestionWords(CLASSES).words
    config = HistoryConfig(verbs=2, nouns=3, pairs=3, words=len(words), d=8, e=6, hidden=10, N=4)
    models = []
    for seed in range(members):
        torch.manual_seed(seed)
        models.append(HistoryModel(config).eval())
    corrections = {'verb': Correction(), 'noun': Correction(0.5, 3.0), 'action': Correction(0.7, 10.0)}
    expert = Expert(NGram([[], [0], [0, 3]], [0, 1, 2], 3), NGramSettings(cache=0.2), 0.25)
    return HistoryCheckpoint(
        tuple(models), CLASSES, words, PAIRS, expert, corrections, 1.0, ('P01',), ('P01_01', 'P01_02'), ('P01_03',)
    )


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    before = made()
    model_id = save_history(tmp_path / 'c', before, card='# A card\n')
    after = load_history(tmp_path / 'c')
    assert after.model_id == model_id and model_id.startswith('history@')
    for name in ('classes', 'words', 'pairs', 'corrections', 'gap_s', 'participants', 'learnt', 'held_out', 'config'):
        assert getattr(after, name) == getattr(before, name), name
    assert (after.expert.line, after.expert.share) == (before.expert.line, 0.25)
    np.testing.assert_array_equal(after.expert.counts.table, before.expert.counts.table)
    for one, other in zip(before.members, after.members, strict=True):
        assert not other.training
        for name, values in one.state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], values, rtol=0, atol=0)
    assert (tmp_path / 'c/README.md').read_text() == with_head('# A card\n', 'history')


def test_counts_and_corrections():
    checkpoint = made(1)
    assert checkpoint.counts('verb').tolist() == [9, 1] and checkpoint.counts('noun').tolist() == [7, 2, 1]
    assert checkpoint.counts('action').tolist() == [[7, 0], [2, 0], [0, 1]]
    np.testing.assert_allclose(
        Correction(0.5, 3.0).penalty(np.array([0.0, 1.0])), [0.5 * np.log(3), np.log(2)], rtol=1e-6
    )


@pytest.mark.parametrize(
    'changes, reason, said',
    [
        ({'kind': 'm3et'}, 'model_config', 'no model of past actions'),
        ({'format': 2}, 'model_config', 'format 2'),
        ({'members': '2'}, 'model_config', 'no members of type int'),
        ({'members': 3}, 'model_missing', 'member_2'),
        ({'corrections': {'verb': {'tau': 9}}}, 'model_config', 'tau is 9'),
        ({'expert': {'share': 0.1, 'order': 9}}, 'model_config', 'order is 9'),
        ({'pairs': [[0, 7], [1, 2], [5000, 1]]}, 'model_config', 'pair 5000'),
        ({'words': ['a']}, 'model_config', 'words start with'),
        ({'expert': {'share': 1.0}}, 'model_config', 'share is 1.0'),
        ({'model': {'colour': 1}}, 'model_config', "holds 'colour'"),
    ],
)
def test_damaged_configs_are_refused(tmp_path, changes, reason, said):
    save_history(tmp_path, made(), card='')
    path = tmp_path / 'config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError, match=said) as caught:
        load_history(tmp_path)
    assert caught.value.reason == reason


@pytest.mark.parametrize('name', ['member_1.safetensors', 'counts.safetensors'])
def test_damaged_weights_are_refused(tmp_path, name):
    save_history(tmp_path, made(), card='')
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=f'{name} has SHA-256'):
        load_history(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=f'There is no .*{name}'):
        load_history(tmp_path)
    with pytest.raises(InputError, match='config.json'):
        load_history(tmp_path / 'nothing')


def test_parts_that_do_not_fit_are_refused():
    checkpoint = made(1)
    for changes, said in (
        ({'members': ()}, 'members are 0'),
        ({'pairs': {0: 1}}, 'give those it was made for'),
        ({'corrections': {}}, 'give one of each'),
        ({'gap_s': -1.0}, 'gap_s is'),
    ):
        with pytest.raises(ValueError, match=said):
            replace(checkpoint, **changes)


@pytest.mark.parametrize('field, value', [('tau', -0.1), ('tau', 5.0), ('floor', 0.0)])
def test_corrections_out_of_range_are_refused(field, value):
    with pytest.raises(ValueError, match=f'{field} is'):
        Correction(**{field: value})


@pytest.mark.parametrize(('field', 'value'), [('tau', 0.0), ('tau', 4.0), ('floor', 1e-9), ('floor', 1e9)])
def test_corrections_at_the_edges_are_accepted(field, value):
    assert getattr(Correction(**{field: value}), field) == value


@pytest.mark.parametrize(('field', 'value'), [('tau', 4.01), ('floor', 1.01e9), ('tau', True), ('floor', True)])
def test_corrections_beyond_the_edges_are_refused(field, value):
    with pytest.raises(ValueError, match=f'{field} is'):
        Correction(**{field: value})


@pytest.mark.parametrize('share', [-0.1, 1, True])
def test_the_n_gram_never_has_the_whole_probability(share):
    expert = made(1).expert
    assert replace(expert, share=0).share == 0 and replace(expert, share=0.999).share == 0.999
    with pytest.raises(ValueError, match='share is'):
        replace(expert, share=share)


def test_an_n_gram_over_other_pairs_is_refused():
    checkpoint = made(1)
    other = replace(checkpoint.expert, counts=NGram([[], [0]], [0, 1], 2))
    with pytest.raises(ValueError, match='n-gram has 2 classes and there are 3 pairs'):
        replace(checkpoint, expert=other)
