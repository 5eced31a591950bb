"""m3et train actions on real, small episodes: the head beside its model, and what is refused."""

import json

import numpy as np
import pytest

from m3et_ros.cli.main import main
from m3et_ros.data.checkpoints.m3et import load_checkpoint
from m3et_ros.data.frame import Frame
from m3et_ros.data.kitchen.cache.generate import generate
from m3et_ros.runtime.engine import Engine


@pytest.fixture(scope='module')
def caches(tmp_path_factory):
    """Ray-cast episodes of two frames a second."""
    pytest.importorskip('mujoco')
    root = tmp_path_factory.mktemp('caches')
    return [
        generate(
            root, seeds=seeds, size=32, stride=5, frames=40, backend='raycast', version=1, workers=0, progress=False
        )
        for seeds in (range(1, 4), range(20_003, 20_005))
    ]


def command(*words):
    return main([*map(str, words)])


@pytest.fixture(scope='module')
def trained(caches, tmp_path_factory):
    out = tmp_path_factory.mktemp('runs') / 'actions'
    assert (
        command(
            'train',
            'actions',
            '--data',
            caches[0],
            '--from',
            'tiny',
            '--out',
            out,
            '--samples',
            8,
            '--batch',
            2,
            '--length',
            24,
            '--disjoint',
        )
        == 0
    )
    return out


def test_the_checkpoint_has_model_and_head_with_its_rate(trained, caches):
    checkpoint = load_checkpoint(trained / 'checkpoint')
    config = checkpoint.heads['mambavl'].config
    assert config.rate_hz == 2.0 and not config.shared_A
    card = (trained / 'checkpoint/README.md').read_text()
    assert '--disjoint' in card and 'steps: 4 of 4' in card and caches[0].name.split('-')[2] not in ('', card)


def test_a_head_in_the_form_of_the_paper_is_stored_measured_and_anticipates(caches, tmp_path, capsys):
    line = ('train', 'actions', '--data', caches[0], '--from', 'tiny', '--out', tmp_path / 'run', '--form', 'paper')
    assert command(*line, '--samples', 4, '--batch', 2, '--length', 6) == 0
    engine = Engine(load_checkpoint(tmp_path / 'run/checkpoint'))
    config = engine.checkpoint.heads['mambavl'].config
    assert (config.d_in, config.patches) == (32, engine.config.image_tokens)
    assert (config.fade, config.hidden, config.busy, config.follow) == (0, 0, 0, False)
    assert config.positions == engine.config.text_length
    view = engine.encode(Frame(np.full((32, 32, 3), 90, np.uint8)))
    assert engine.action_token(view).shape == (1, 1, config.patches * 32)
    found = engine.anticipate(view, horizon_s=1, top_k=3)
    assert len(found.next.actions) == 3
    capsys.readouterr()
    line = ('evaluate', 'actions', '--model', tmp_path / 'run/checkpoint', '--data', caches[1])
    assert command(*line, '--out', tmp_path / 'found', '--json') == 0
    metrics = json.loads(capsys.readouterr().out)['metrics']
    assert 'busy' not in metrics and set(metrics['anticipation']) == {'left_out', 'generic', 'chain', 'history'}


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (('train', 'actions', '--from', 'tiny'), 'nothing to train on'),
        (('train', 'actions', '--from', 'tiny', '--data', 1), 'no training kitchens'),
        (('train', 'actions', '--from', 'tiny', '--data', 0, '--length', 300), 'no episode has 300 frames'),
    ],
)
def test_what_cannot_be_done_is_one_sentence(caches, tmp_path, capsys, words, sentence):
    words = [caches[word] if isinstance(word, int) and word < 2 else word for word in words]
    assert command(*words, '--out', tmp_path / 'out') != 0
    said = capsys.readouterr().err
    assert sentence in said and 'Traceback' not in said
