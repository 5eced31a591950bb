"""The twin benchmark at a budget of seconds: equal training, results, and no repeated work."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.models.m3et.cost import parameters_of
from m3et_ros.models.m3et.sizes import KITCHEN, KITCHEN_TWIN, SIZES
from m3et_ros.runtime.open_model import untrained
from m3et_ros.training.run_state import Interrupted


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob('*') if path.suffix in ('.safetensors', '.npz')}


def test_the_changes_make_the_registered_twin(script):
    assert replace(KITCHEN, name='kitchen_twin', **script('twin').twin_changes()) == KITCHEN_TWIN


def test_the_published_figures_are_those_of_their_decoders(script):
    published = json.loads((script('twin').RESULTS / 'twin.json').read_text())
    # Before there was a choice the decoders were our own.
    assert script('twin').twin_changes(published['settings'].get('decoders', 'own')) == published['twin_differs_in']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('twin')


@pytest.fixture(scope='module')
def found(bench, folder):
    return bench('twin', folder, '--seeds', '0,1', '--rounds', 2)


def test_both_are_scored_and_compared(found, folder):
    own, other = found['models']['tiny'], found['models']['tiny_twin']
    for model in (own, other):
        assert 0 <= model['vqa_accuracy']['value'] <= 1 and model['vqa_accuracy']['low'] is None  # few kitchens
        assert 0 <= model['miou']['value'] <= 1 and 0 < model['psnr_hidden_db']['value'] < 30
        assert len(model['vqa_accuracy']['of_seeds']) == len(model['training_seconds']) == found['seeds_done'] == 2
        assert model['vqa_accuracy']['value'] == pytest.approx(np.mean(model['vqa_accuracy']['of_seeds']), abs=1e-5)
    assert found['less_twin'].keys() == {'vqa_accuracy', 'psnr_hidden_db', 'miou', 'rmse_in_holes_m'}
    for name, less in found['less_twin'].items():
        assert less['value'] == pytest.approx(own[name]['value'] - other[name]['value'], abs=1e-5)
    assert found['parameters_saved'] == pytest.approx(1 - own['parameters'] / other['parameters'], abs=1e-5)
    assert str(folder) not in json.dumps(found)  # nobody else has this path


def test_both_are_trained_alike(found, folder):
    config = json.loads((folder / 'runs/tiny_twin-0/1_answer/checkpoint/config.json').read_text())['model']
    assert config['schedule'] == 'T' * 12 and config['decoder_blocks'] == 2 and config['decoder_queries'] == 'encoded'
    own, other = (
        json.loads((folder / f'runs/{name}-1/1_answer/done.json').read_text())['asked']
        for name in ('tiny', 'tiny_twin')
    )
    assert {name for name in own if own[name] != other[name]} == {'model', 'start'}


def test_nothing_is_repeated(found, bench, folder):
    before = stamps(folder)
    again = bench('twin', folder, '--seeds', '0,1', '--rounds', 1)
    assert stamps(folder) == before and again['models'] == found['models'] and again['less_twin'] == found['less_twin']


def test_another_budget_in_the_same_folder_is_refused(found, bench, folder):
    with pytest.raises(InputError, match='other lr'):
        bench('twin', folder, '--seeds', '0', '--lr-one', 1e-4)


def test_minutes_cut_the_training_into_sessions_with_the_same_end(found, bench, script, tmp_path):
    stopped, parts = 0, None
    while parts is None:
        try:
            parts = bench('twin', tmp_path, '--seeds', '0', '--rounds', 1, '--minutes', 1e-7)
        except Interrupted:
            stopped += 1
            assert stopped < 20
    assert stopped == 7  # two models, two stages, two steps: eight sessions of one step, the last one complete
    for name, model in found['models'].items():
        for figure in ('vqa_accuracy', 'psnr_hidden_db', 'miou', 'rmse_in_holes_m'):
            assert parts['models'][name][figure]['of_seeds'] == model[figure]['of_seeds'][:1]


def test_kitchens_are_kept_apart(bench, caches, tmp_path):
    train, test = caches
    with pytest.raises(InputError, match='holds no training kitchens'):
        bench('twin', tmp_path, '--data', test)
    with pytest.raises(InputError, match='holds training kitchens'):
        bench('twin', tmp_path, '--test', train)


def test_cost_counts_what_the_formulas_say(script, caches):
    twin = script('twin')
    sample = KitchenSamples(caches[1], length=1)[0]
    small, large = untrained('tiny', 0), untrained('tiny', 0)
    threads = torch.get_num_threads()
    found = twin.cost({'a': small, 'b': large}, sample, 4)
    assert torch.get_num_threads() == threads
    for job in ('question', 'dense', 'masked'):
        assert found[job]['macs_ratio'] == 1 and found[job]['cpu_ms']['a']['count'] == 4
        assert found[job]['cpu_ratio_of_medians'] > 0 and min(found[job]['cpu_ms']['b'].values()) > 0
    calls, macs = twin.jobs(small, sample)
    with torch.inference_mode():
        assert calls['question']().shape == (1, small.model.config.answers)
        assert [tuple(out.shape[1:]) for out in calls['dense']()] == [(1, 32, 32), (small.model.config.classes, 8, 8)]
        assert len(calls['masked']()) == 3
    assert macs['question'] > 0 and macs['dense'] > 0 and macs['masked'] > 0


def test_the_kitchen_size_saves_two_thirds_of_the_parameters():
    own, other = (sum(parameters_of(SIZES[name]).values()) for name in ('kitchen', 'kitchen_twin'))
    assert 1 - own / other >= 0.66
