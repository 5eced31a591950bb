"""m3et evaluate actions on real, small caches of kitchens."""

import json

import pytest

from m3et_ros.cli.main import main
from m3et_ros.data.kitchen.cache.generate import generate


@pytest.fixture(scope='module')
def caches(tmp_path_factory):
    """Ray-cast episodes of two frames a second: training kitchens, and others."""
    pytest.importorskip('mujoco')
    root = tmp_path_factory.mktemp('caches')
    return [
        generate(root, seeds=seeds, size=32, stride=5, frames=40, backend='raycast', workers=0, progress=False)
        for seeds in (range(1, 4), range(20_003, 20_005))
    ]


def evaluate(model, *words):
    return main([*map(str, ('evaluate', 'actions', '--model', model, *words))])


def test_scores_are_written_beside_the_baselines(caches, tmp_path, capsys):
    line = ('--data', caches[1], '--train', caches[0], '--out', tmp_path)
    assert evaluate('tiny', *line, '--json') == 0
    document = json.loads((tmp_path / 'metrics.json').read_text())
    assert json.loads(capsys.readouterr().out) == {'schema': 1} | document
    metrics, settings = document['metrics'], document['made_by']['settings']
    assert metrics['recognition']['generic']['all']['samples'] > 5 and 'bigram' in metrics['references']
    assert 0 <= metrics['anticipation']['generic']['all']['action']['mean_top5_recall']['value'] <= 1
    assert settings == {'bf16': False, 'data': [caches[1].name], 'train': [caches[0].name]}
    before = (tmp_path / 'metrics.json').read_bytes()
    assert evaluate('tiny', *line) == 0
    assert (tmp_path / 'metrics.json').read_bytes() == before
    assert 'contain a true label' in capsys.readouterr().out


def test_a_model_that_is_not_there_is_one_sentence(caches, tmp_path, capsys):
    assert evaluate('kitchen@none', '--data', caches[1], '--out', tmp_path) == 1
    assert 'There is no model kitchen@none' in capsys.readouterr().err
