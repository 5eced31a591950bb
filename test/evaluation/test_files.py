"""The written files, the same every time, and the description of an evaluation."""

import csv
import hashlib
import json
import os

import pytest
import torch

from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.recipe import CacheRecipe
from m3et_ros.evaluation.files import bag_files, environment, made_by, weights_digest, write_metrics, write_samples
from m3et_ros.runtime.open_model import untrained


def test_the_digest_is_of_the_weights(tiny):
    digest = weights_digest(tiny.model)
    assert digest == weights_digest(untrained('tiny', 0).model) and len(digest) == 64
    with torch.no_grad():
        tiny.model.global_embedding[0] += 1e-3
    assert weights_digest(tiny.model) != digest != weights_digest(untrained('tiny', 1).model)


def test_an_evaluation_is_described_by_everything_that_it_depends_on(tiny):
    found = made_by('m3et evaluate vqa', tiny, CacheRecipe(20_000, 20_200), seed=3)
    assert (
        found['model']['id'] == 'tiny-random-0' and not found['model']['trained'] and found['settings'] == {'seed': 3}
    )
    assert found['cache']['first'] == 20_000 and found['environment']['torch'] == torch.__version__


def test_metrics_are_sorted_and_plain(tmp_path):
    write_metrics(tmp_path, {'b': 1, 'a': {'d': None, 'c': 0.5}})
    text = (tmp_path / 'metrics.json').read_text()
    assert json.loads(text) == {'a': {'c': 0.5, 'd': None}, 'b': 1}
    assert text.index('"a"') < text.index('"c"') < text.index('"d"') < text.index('"b"')
    with pytest.raises(ValueError):
        write_metrics(tmp_path, {'a': float('nan')})


def test_rows_may_lack_columns(tmp_path):
    write_samples(tmp_path, [{'key': 'seed 1, tick 2', 'score': 1.0}, {'key': 'b', 'guessed': 'yes'}])
    with (tmp_path / 'per_sample.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {'key': 'seed 1, tick 2', 'score': '1.0', 'guessed': ''},
        {'key': 'b', 'score': '', 'guessed': 'yes'},
    ]


def test_the_environment_names_device_and_threads():
    found = environment(torch.device('cpu'))
    assert found['device'].startswith('cpu, ') and found['threads'] == torch.get_num_threads()
    assert set(found) == {'m3et_ros', 'python', 'torch', 'numpy', 'opencv', 'system', 'device', 'threads'}


def test_checksums_of_a_bag_are_those_of_its_files(tmp_path):
    for name in ('a.mcap', 'b.db3', 'metadata.yaml', 'notes.txt'):
        (tmp_path / name).write_text(name)
    found = bag_files(tmp_path)
    assert found == {name: hashlib.sha256(name.encode()).hexdigest() for name in ('a.mcap', 'b.db3', 'metadata.yaml')}
    assert bag_files(tmp_path / 'a.mcap') == {'a.mcap': found['a.mcap']}
    with pytest.raises(InputError, match='none.mcap cannot be read') as refused:
        bag_files(tmp_path / 'none.mcap')
    assert refused.value.reason == 'bag_missing'


def test_no_text_of_a_question_or_answer_becomes_a_formula_of_a_spreadsheet(tmp_path):
    texts = ['=cmd|calc', '+1', '-x', '@SUM(A1)', '\t=1', 'what = this?', '']
    write_samples(tmp_path, [{'question': text, 'score': -0.5, 'count': -3} for text in texts])
    with (tmp_path / 'per_sample.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['question'] for row in rows] == ["'=cmd|calc", "'+1", "'-x", "'@SUM(A1)", "'\t=1", 'what = this?', '']
    assert {(row['score'], row['count']) for row in rows} == {('-0.5', '-3')}


def test_a_name_that_is_not_utf_8_is_written_with_escapes(tmp_path):
    name = os.fsdecode(b'bag\xff')
    write_metrics(tmp_path, {'files': {name: 'é'}})
    write_samples(tmp_path, [{'bag': name}])
    assert json.loads((tmp_path / 'metrics.json').read_bytes()) == {'files': {name: 'é'}}
    assert (tmp_path / 'per_sample.csv').read_bytes() == b'bag\nbag\\udcff\n'
