"""benchmarks/epic_history.py on made-up annotations: every method is reported, and a second call reuses the model."""

import json
import sys

import pytest
from epic_folder import make_folder


@pytest.fixture
def told(script, tmp_path, monkeypatch):
    """Run the benchmark and return what it writes."""

    def run(*options):
        results = tmp_path / 'results.json'
        monkeypatch.setattr(sys, 'argv', ['epic_history.py', *map(str, (*options, '--results', results))])
        script('epic_history').main()
        return json.loads(results.read_text())

    return run


def test_our_model_is_compared_with_the_baselines(told, tmp_path):
    folder = make_folder(tmp_path / 'epic', videos=90, segments=7)
    options = ('--epic', folder, '--out', tmp_path / 'runs', '--members', 2, '--samples', 16)
    found = told(*options)
    assert 'no pixels' in found['input'] and found['measured_on']['videos'] == 80
    assert {
        'prior',
        'repeat the last labels',
        'bigram',
        'trigram',
        'trigram + recency cache, tuned for top1',
        'trigram + recency cache, tuned for mean_top5_recall',
        'ours, plain',
        'ours, corrected',
        'ours without n-gram, plain',
        'ours, one member, seed 1, corrected',
    } <= set(found['table'])
    for line in found['table'].values():
        for task in ('verb', 'noun', 'action'):
            assert 0 <= line['all'][task]['top1']['value'] <= line['all'][task]['top5']['value'] <= 1
    gain = found['ours_less_cache']['action']['top1']
    ours, cache = (
        found['table'][name]['all']['action']['top1']['value']
        for name in ('ours, plain', 'trigram + recency cache, tuned for top1')
    )
    assert gain['points'] == pytest.approx(100 * (ours - cache), abs=0.01) and gain['low'] <= gain['points']
    assert told(*options)['table'] == found['table']
