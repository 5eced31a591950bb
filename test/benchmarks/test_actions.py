"""The benchmark of action heads at a budget of seconds."""

import json
import sys

import pytest
import torch

from m3et_ros.data.kitchen.cache.generate import generate
from m3et_ros.models.actions.mambavl import MambaVLConfig


@pytest.fixture(scope='module')
def found(script, tmp_path_factory):
    pytest.importorskip('mujoco')
    out = tmp_path_factory.mktemp('actions')
    train, test = (
        generate(
            out, seeds=seeds, size=32, stride=5, frames=40, backend='raycast', version=1, workers=0, progress=False
        )
        for seeds in (range(1, 4), range(20_003, 20_005))
    )
    words = [
        '--model',
        'tiny',
        '--data',
        train,
        '--test',
        test,
        '--out',
        out / 'runs',
        '--results',
        out / 'found.json',
        '--seeds',
        '0',
        '--samples',
        '4',
        '--batch',
        '2',
        '--length',
        '24',
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', ['actions.py', *map(str, words)])
        script('actions').main()
    return json.loads((out / 'found.json').read_text()), out


def test_every_variant_is_tested_against_the_references(found):
    document, out = found
    assert list(document['variants']) == ['shared_A', 'disjoint_A', 'without_questions', 'transformer', 'paper']
    sizes = {name: row['parameters'] for name, row in document['variants'].items()}
    assert sizes['disjoint_A'] > sizes['shared_A'] == sizes['without_questions']
    assert sizes['transformer'] == pytest.approx(sizes['shared_A'], rel=0.1)
    assert sizes['paper'] < sizes['shared_A'] and document['variants']['paper']['means']['anticipation'].keys() == {
        'generic',
        'chain',
        'history',
    }
    for row in document['variants'].values():
        assert row['means']['anticipation']['generic']['top1'] == pytest.approx(
            row['seeds']['0']['anticipation']['generic']['action']['top1']['value'], abs=1e-6
        )
    assert set(document['references']) == {'prior', 'repeat_last', 'bigram'}
    assert str(out) not in json.dumps(document)


def test_the_transformer_is_causal(script):
    head = (
        script('actions')
        .build(
            'transformer',
            MambaVLConfig(d_in=12, d=16, d_word=8, vocabulary=30, verbs=5, nouns=7, N=4, fade=3, hidden=8),
            0,
        )
        .eval()
    )
    video = torch.randn(2, 9, 12)
    changed = video.clone()
    changed[:, 6:] += 1
    with torch.no_grad():
        before, after = head.features(video), head.features(changed)
    assert torch.equal(before[:, :6], after[:, :6]) and not torch.allclose(before[:, 6:], after[:, 6:])
