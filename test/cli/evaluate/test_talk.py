"""m3et evaluate talk on a real, small cache: the same bytes twice, and what is refused."""

import json

import pytest
from talkers import talker_folder

from m3et_ros.cli.main import main
from m3et_ros.data.kitchen.cache.generate import generate


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    pytest.importorskip('mujoco')
    root = tmp_path_factory.mktemp('caches')
    return generate(
        root, seeds=range(20_003, 20_005), size=32, stride=25, frames=6, backend='raycast', workers=0, progress=False
    )


@pytest.fixture(scope='module')
def talker(tmp_path_factory):
    return talker_folder(tmp_path_factory.mktemp('talker') / 'emma', 'emma')


def evaluate(talker, cache, out, *words):
    line = ('evaluate', 'talk', '--model', talker, '--from', 'tiny', '--data', cache, '--out', out)
    return main([*map(str, (*line, '--samples', 13, '--views', 3, *words))])


def test_answers_and_descriptions_are_measured_twice_with_the_same_bytes(talker, cache, tmp_path, capsys):
    assert evaluate(talker, cache, tmp_path) == 0
    assert '3 descriptions; all results are in' in capsys.readouterr().out
    before = (tmp_path / 'metrics.json').read_bytes()
    document = json.loads(before)
    assert document['metrics']['answers']['all']['samples'] == 13
    assert document['metrics']['descriptions']['descriptions'] == 3
    assert document['made_by']['settings']['sight'] == 'tiny-random-0'
    assert document['made_by']['command'].startswith(f'm3et evaluate talk --model {talker} --from tiny --data')
    assert len((tmp_path / 'descriptions.csv').read_text().splitlines()) == 4
    assert len((tmp_path / 'per_sample.csv').read_text().splitlines()) == 14
    assert evaluate(talker, cache, tmp_path, '--json') == 0
    assert (
        json.loads(capsys.readouterr().out) == {'schema': 1} | document
        and (tmp_path / 'metrics.json').read_bytes() == before
    )


def test_results_depend_on_noise_and_seed(talker, cache, tmp_path, capsys):
    for name, words in (('noise', ()), ('clean', ('--clean',)), ('seed', ('--seed', 5))):
        assert evaluate(talker, cache, tmp_path / name, *words) == 0
    settings = {
        name: json.loads((tmp_path / name / 'metrics.json').read_text())['made_by']['settings']
        for name in ('noise', 'clean', 'seed')
    }
    assert settings['noise']['noise'] and settings['clean']['noise'] is None and settings['seed']['seed'] == 5


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (('--model', 'nowhere'), 'There is no nowhere'),
        (('--data', 'nowhere'), 'not a cache'),
        (('--out', 'FILE'), 'cannot be written'),
    ],
)
def test_an_evaluation_that_cannot_be_done_is_one_sentence(talker, cache, tmp_path, capsys, words, sentence):
    (tmp_path / 'file').write_text('')
    words = [tmp_path / 'file' if word == 'FILE' else word for word in words]
    assert evaluate(talker, cache, tmp_path / 'out', *words) == 1
    printed = capsys.readouterr().err
    assert sentence in printed and 'Traceback' not in printed


def test_a_table_that_cannot_be_written_is_one_sentence(talker, cache, tmp_path, capsys):
    (tmp_path / 'out/descriptions.csv').mkdir(parents=True)
    assert evaluate(talker, cache, tmp_path / 'out') == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f'm3et: {tmp_path / "out"} cannot be written (Is a directory); give another --out.'
