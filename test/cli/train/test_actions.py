"""m3et train actions on real, small episodes: the head beside its model, and what is refused."""

import pytest

from m3et_ros.cli.main import main
from m3et_ros.data.checkpoints.m3et import load_checkpoint
from m3et_ros.data.kitchen.cache.generate import generate


@pytest.fixture(scope='module')
def caches(tmp_path_factory):
    """Ray-cast episodes of two frames a second."""
    pytest.importorskip('mujoco')
    root = tmp_path_factory.mktemp('caches')
    return [
        generate(root, seeds=seeds, size=32, stride=5, frames=40, backend='raycast', workers=0, progress=False)
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
