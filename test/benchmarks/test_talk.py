"""The table of the generative family at a budget of seconds: rows differ as their names say."""

import json
import sys

import pytest

ROWS = ['cross', 'emma_pal', 'teacher', 'seeded', 'random', 'emma_released', 'last']


@pytest.fixture(scope='module')
def talk():
    import talk

    return talk


@pytest.fixture(scope='module')
def found(talk, caches, tmp_path_factory):
    out = tmp_path_factory.mktemp('talk')
    words = [
        'talk.py',
        '--data',
        caches[0],
        '--test',
        caches[1],
        '--out',
        out / 'runs',
        '--results',
        out / 'talk.json',
        '--sight',
        'tiny',
        '--rows',
        *ROWS,
        '--side',
        3,
        '--every',
        1,
        '--width',
        64,
        '--samples',
        8,
        '--words',
        4,
        '--connect',
        4,
        '--distil',
        8,
        '--batch',
        4,
        '--each',
        2,
        '--questions',
        13,
        '--told',
        2,
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', list(map(str, words)))
        talk.main()
        return out, json.loads((out / 'talk.json').read_text())


def test_rows_have_their_figures(found):
    out, table = found
    assert list(table['rows']) == ROWS and str(out) not in (out / 'talk.json').read_text()
    for row in table['rows'].values():
        (run,) = row['runs']
        assert 0 <= run['accuracy']['value'] <= 1 and row['accuracy_mean'] == run['accuracy']['value']
        assert run['seconds'] > 0 and run['descriptions']['descriptions'] == 2
    (same,) = table['steps_to_same_loss']
    assert same['random_steps'] == 2 and same['seeded_steps'] in (None, 1, 2)
    assert 'accuracy_kept' in table


def test_rows_have_the_models_of_their_names(found, talk):
    runs = found[0] / 'runs'
    config = {name: json.loads((runs / f'{name}-0/checkpoint/config.json').read_text())['model'] for name in ROWS}
    assert config['cross']['connector']['scan'] == 'cross' and config['cross']['connector']['kind'] == 'advanced'
    assert config['teacher']['language']['schedule'] == 'TTTT'
    assert config['seeded'] == config['random'] and config['seeded']['language']['schedule'] == 'STTT'
    assert not (runs / 'emma_pal-0/1_connect').exists() and not (runs / 'seeded-0/2_chat').exists()
    assert config['last']['language']['schedule'] == 'TTTS'
    log = json.loads((runs / 'emma_pal-0/2_chat/log.jsonl').read_text().splitlines()[-1])
    assert log['losses']['pixels'] > 0
    log = json.loads((runs / 'emma_released-0/2_chat/log.jsonl').read_text().splitlines()[-1])
    assert log['losses']['patch'] > 0


def test_every_ablation_has_a_recipe_of_its_own(talk, monkeypatch):
    """Each row differs from the row that it is compared with in the fields that it names."""
    monkeypatch.setattr(sys, 'argv', ['talk.py', '--data', 'x', '--out', 'y'])
    bench = object.__new__(talk.TalkBench)
    bench.asked = talk.options()
    bench.encoder = type('Encoder', (), {'model': talk.open_checkpoint('tiny').model})
    bench.tokenizer = type('Pieces', (), {'vocabulary': 64})
    recipes = {name: bench.recipe_of(row, 0) for name, row in talk.ALL_ROWS.items()}
    different = {str(recipe) for recipe in recipes.values()}
    assert len(different) == len(recipes)
    assert (recipes['emma_released'].chat.align_loss, recipes['emma_released'].released_order) == ('sum_1e-5', True)
    assert recipes['share_half'].share == 0.5 and recipes['middle'].spread == 'middle'
    assert recipes['js'].distil.prob_kind == 'js' and recipes['released'].distil.reduction == 'released'
    assert (recipes['ce_alone'].distil.layer, recipes['ce_alone'].distil.ce) == (0.0, 1.0)
