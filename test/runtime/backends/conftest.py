"""A model of two layers, as small as one with both kinds of layers, words and a dense task can be."""

from dataclasses import replace

import pytest
import torch

from m3et_ros.models.m3et.sizes import TINY, build


@pytest.fixture(scope='session')
def small():
    """A model in eval mode."""
    return build(replace(TINY, name='small', schedule='MT', stages=1, tasks=('depth', 'text'), text_length=4)).eval()


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv('M3ET_CACHE', str(tmp_path_factory.getbasetemp() / 'runtimes'))
    monkeypatch.delenv('M3ET_RUNTIME', raising=False)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
