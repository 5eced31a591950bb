"""The table of ablations at a budget of seconds: the difference, training and test of each row."""

import json

import numpy as np
import pytest
import torch

from m3et_ros.data.checkpoints.m3et import save_checkpoint
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.noise import Noise
from m3et_ros.evaluation.files import weights_digest
from m3et_ros.runtime.open_model import untrained
from m3et_ros.training.m3et import Collate

CHANGES = {
    'full': {},
    'no_semantic_bias': {'semantic_bias': False},
    'no_gate': {'gate': False},
    'no_cross_attention': {'cross_attention': False},
    'encoded_queries': {'decoder_queries': 'encoded'},
    'context_positions': {'context_positions': True},
    'cross_mlp': {'cross_mlp': True},
    'multimae_decoder': {
        'decoder_blocks': 2,
        'decoder_queries': 'encoded',
        'context_positions': True,
        'cross_mlp': True,
        'semantic_bias': False,
        'gate': False,
    },
    'images_hear': {'images_hear': True},
    'all_transformer': {'schedule': 'TTTTTT'},
    'all_mamba': {'schedule': 'MMMMMM'},
    'rgb_only': {},
    'blind': {},
    'depth_missing': {},
    'rgb_missing': {},
    'images_missing': {},
}
BORROWED = ['depth_missing', 'rgb_missing', 'images_missing']


@pytest.fixture(scope='module')
def batch(caches):
    checkpoint = untrained('tiny', 0)
    kitchens = KitchenSamples(caches[0], each=2)
    tensors, _ = Collate(checkpoint.model.config, checkpoint.tokenizer, checkpoint.labels.answers)(
        [kitchens[i] for i in range(4)]
    )
    return checkpoint, tensors


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('ablations')


@pytest.fixture(scope='module')
def rows(bench, folder):
    return bench('ablations', folder, '--samples-one', 4, '--samples-two', 4)['rows']


def test_every_row_differs_only_in_the_field_of_its_name(rows, folder):
    assert {name: row['changes'] for name, row in rows.items()} == CHANGES
    assert [name for name, row in rows.items() if row['model_of_full']] == BORROWED
    assert rows['no_cross_attention']['parameters'] < rows['no_gate']['parameters'] < rows['full']['parameters']
    assert {path.name for path in (folder / 'runs').iterdir()} == {f'{name}-0' for name in CHANGES.keys() - BORROWED}
    asked = {
        name: json.loads((folder / f'runs/{name}-0/1_answer/done.json').read_text())['asked']
        for name in CHANGES.keys() - {*BORROWED, 'blind'}
    }
    for name, one in asked.items():
        others = {key for key in one if one[key] != asked['full'][key]}
        assert others <= ({'start', 'read_by'} if name == 'rgb_only' else {'start', 'model'})
        whole = asked['full']['model']
        assert {key for key, value in one['model'].items() if value != whole[key]} == CHANGES[name].keys()


def test_every_row_has_all_possible_figures(rows, folder):
    for name, row in rows.items():
        assert 0 <= row['vqa_accuracy']['value'] <= 1 and len(row['training_seconds']) == (name not in BORROWED)
        assert ('psnr_hidden_db' in row) == (name not in ('blind', 'rgb_missing', 'images_missing'))
        assert ('rmse_in_holes_m' in row) == ('psnr_hidden_db' in row and name not in ('rgb_only', 'depth_missing'))
    for row in list(rows.values())[1:]:
        for figure, less in row['less_full'].items():
            assert less['value'] == pytest.approx(row[figure]['value'] - rows['full'][figure]['value'], abs=2e-6)
    assert 'psnr_hidden_db' in rows['no_cross_attention']['less_full']
    assert str(folder) not in (folder / 'ablations.json').read_text()


def test_rows_with_a_missing_modality_test_the_model_of_full(rows, folder):
    logs = [
        json.loads((folder / f'runs/full-0/test_{name}.json').read_text())['asked']
        for name in ('full', 'depth_missing', 'rgb_missing', 'images_missing')
    ]
    assert len({log['weights'] for log in logs}) == 1
    assert [log['shown'] for log in logs] == [['rgb', 'depth'], ['rgb'], ['depth'], []]


def test_a_table_of_some_rows(rows, bench, folder):
    trained = folder / 'runs/full-0/1_answer/checkpoint/model.safetensors'
    stamp = trained.stat().st_mtime_ns
    found = bench('ablations', folder, '--samples-one', 4, '--samples-two', 4, '--rows', 'depth_missing', 'blind')
    assert found['rows'] == {name: rows[name] for name in ('full', 'blind', 'depth_missing')}
    assert trained.stat().st_mtime_ns == stamp


def test_blind_training_uses_no_image(script, batch):
    checkpoint, tensors = batch
    recipe = script('ablations').Blind(samples=8, batch=8)
    losses = [
        recipe.losses(checkpoint.model, seen, torch.Generator())
        for seen in (tensors, tensors | {name: torch.full_like(tensors[name], torch.nan) for name in ('rgb', 'depth')})
    ]
    assert losses[0].keys() == {'answer', 'words'}
    assert all(losses[0][name] == losses[1][name] and losses[0][name] > 0 for name in losses[0])
    other = tensors | {'text': tensors['text'].flip(0), 'text_mask': tensors['text_mask'].flip(0)}
    assert recipe.losses(checkpoint.model, other, torch.Generator())['answer'] != losses[0]['answer']


def test_samples_without_depth_keep_the_true_depth(script, caches):
    for options in ({'questions': False}, {'noise': Noise(), 'length': 4}):
        kinds = KitchenSamples, script('ablations').WithoutDepth
        with_depth, without = (kind(caches[1], **options) for kind in kinds)
        assert len(with_depth) == len(without)
        seen, bare = with_depth[1], without[1]
        assert bare.depth is None and np.array_equal(bare.rgb, seen.rgb) and bare.question == seen.question
        truth = seen.depth if seen.clean_depth is None else seen.clean_depth
        assert np.array_equal(bare.clean_depth, truth, equal_nan=True)


def test_without_a_second_stage_no_question_is_learnt_or_asked(bench, tmp_path):
    asked = ('--rows', 'no_gate', 'images_hear', 'blind', 'depth_missing', 'rgb_missing')
    found = bench('ablations', tmp_path, '--samples-one', 4, '--samples-two', 0, *asked)['rows']
    assert list(found) == ['full', 'no_gate', 'depth_missing']
    assert all('vqa_accuracy' not in row and 'psnr_hidden_db' in row for row in found.values())
    assert [path.name for path in (tmp_path / 'runs/no_gate-0').iterdir() if path.is_dir()] == ['0_pretrain']


def test_rows_start_from_trained_weights(bench, tmp_path):
    given = untrained('tiny', 5)
    save_checkpoint(tmp_path / 'given', given, card='')
    options = ('--from', tmp_path / 'given', '--samples-one', 0, '--samples-two', 4)
    found = bench('ablations', tmp_path, *options, '--rows', 'images_hear', 'all_mamba', 'blind', 'depth_missing')
    assert list(found['rows']) == ['full', 'images_hear', 'depth_missing']
    assert [path.name for path in (tmp_path / 'runs/full-0').iterdir() if path.is_dir()] == ['0_answer']
    digest = weights_digest(given.model)
    for name in ('full', 'images_hear'):
        assert json.loads((tmp_path / f'runs/{name}-0/0_answer/done.json').read_text())['asked']['start'] == digest
    assert found['settings']['start'] == given.model_id and str(tmp_path) not in json.dumps(found)
