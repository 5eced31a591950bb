"""Small caches of training and test kitchens, and the scripts of benchmarks/ as modules that run with given options."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from m3et_ros.data.kitchen.cache.generate import generate

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'benchmarks'))


def small(folder, first):
    """Three ray-cast kitchens of 32 pixels, six frames each."""
    pytest.importorskip('mujoco')
    return generate(
        folder,
        seeds=range(first, first + 3),
        size=32,
        stride=25,
        frames=6,
        backend='raycast',
        version=1,
        workers=0,
        progress=False,
    )


@pytest.fixture(scope='session')
def caches(tmp_path_factory):
    """Caches of training and test kitchens."""
    folder = tmp_path_factory.mktemp('caches')
    return small(folder, 0), small(folder, 20_003)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope='session')
def script():
    """A script of benchmarks/ by name, as a module."""
    return importlib.import_module


@pytest.fixture(scope='session')
def bench(script, caches):
    """Run a benchmark that trains, two steps a stage unless told otherwise; returns what it writes below `out`."""

    def run(name, out, *options):
        train, test = caches
        results = out / f'{name}.json'
        words = [
            '--data',
            train,
            '--test',
            test,
            '--out',
            out / 'runs',
            '--results',
            results,
            '--size',
            'tiny',
            '--samples-one',
            8,
            '--samples-two',
            8,
            '--batch',
            4,
            '--each',
            2,
            '--questions',
            12,
            '--frames',
            4,
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, 'argv', [f'{name}.py', *map(str, (*words, *options))])
            script(name).main()
        return json.loads(results.read_text())

    return run
