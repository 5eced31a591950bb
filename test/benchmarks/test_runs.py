"""The budget that benchmarks share: every option reaches the recipes, the data and the session."""

import json
from typing import ClassVar

import pytest
import torch

from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.training.run_state import Interrupted


class RecordedSamples(KitchenSamples):
    """Kitchens that record how they were opened."""

    opened: ClassVar[list] = []

    def __init__(self, *arguments, **options):
        self.opened.append(options)
        super().__init__(*arguments, **options)


@pytest.fixture
def bench_of(script, caches, tmp_path):
    """Build a benchmark's budget from options of the command line."""

    def make(*words):
        train, test = caches
        given = ('--data', train, '--test', test, '--out', tmp_path, '--size', 'tiny', '--batch', 4, *words)
        options = script('runs').parser('A benchmark.', one=8, two=12, seeds='0,1').parse_args([*map(str, given)])
        return script('runs').Bench(options, 1)

    return make


def test_the_options_reach_the_recipes(bench_of):
    one, two = bench_of('--lr-one', 0.1, '--lr-two', 0.2, '--optimiser', 'muon', '--samples-two', 16).stages
    assert (one.samples, one.batch, one.lr, one.optimiser) == (8, 4, 0.1, 'adamw')
    assert (two.samples, two.batch, two.lr, two.optimiser) == (16, 4, 0.2, 'muon')
    assert bench_of().options.seeds == [0, 1] and bench_of('--seeds', '4').options.seeds == [4]


def test_the_options_reach_the_data_and_the_record_of_a_run(bench_of, tmp_path):
    bench, RecordedSamples.opened = bench_of('--each', 3), []
    _, seconds = bench.train(bench.start(5), tmp_path / 'run', 5, samples=RecordedSamples)
    assert seconds > 0
    opened = [(options['questions'], options['each'], options['seed']) for options in RecordedSamples.opened]
    assert opened == [(False, 1, 5), (True, 3, 5)]
    done = [json.loads((tmp_path / 'run' / name / 'done.json').read_text()) for name in ('0_pretrain', '1_answer')]
    assert [(run['asked']['each'], run['asked']['seed'], run['asked']['read_by']) for run in done] == [
        (0, 5, 'RecordedSamples'),
        (3, 5, 'RecordedSamples'),
    ]
    with pytest.raises(InputError, match='has other each; give the same options'):
        other = bench_of('--each', 2)
        other.train(other.start(5), tmp_path / 'run', 5, samples=RecordedSamples)


def test_the_precision_reaches_the_training(bench_of, tmp_path):
    weights = {}
    for name, words in (('full', ()), ('half', ('--bf16',))):
        bench = bench_of(*words)
        checkpoint, _ = bench.train(bench.start(0), tmp_path / name, 0, recipes=bench.stages[:1])
        weights[name] = checkpoint.model.state_dict()
    assert not all(torch.equal(weights['full'][name], weights['half'][name]) for name in weights['full'])


def test_a_session_without_time_is_interrupted(bench_of, tmp_path):
    bench = bench_of('--minutes', 0)
    with pytest.raises(Interrupted):
        bench.train(bench.start(0), tmp_path / 'run', 0)


@pytest.mark.parametrize(
    ('error', 'words'),
    [(Interrupted(), 'same command resumes'), (InputError('split', 'No such cache.'), 'No such cache')],
)
def test_a_script_ends_with_one_sentence(script, error, words):
    def main():
        raise error

    with pytest.raises(SystemExit, match=words):
        script('runs').run_script(main)


def test_a_result_is_written_whole_or_not_at_all(script, tmp_path):
    path = tmp_path / 'new' / 'found.json'
    script('runs').write(path, {'value': 1})
    with pytest.raises(ValueError, match='JSON'):
        script('runs').write(path, {'value': float('nan')})
    assert json.loads(path.read_text()) == {'value': 1} and list(path.parent.iterdir()) == [path]
