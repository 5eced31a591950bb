"""A model in a process of its own answers as one in this process, and its process ends with it."""

from concurrent.futures import CancelledError

import numpy as np
import psutil
import pytest
import torch
from tiny_vlms import vlm_folder

from m3et_ros.data.errors import InputError
from m3et_ros.runtime.vlm.model import open_vlm
from m3et_ros.runtime.vlm.process import VlmProcess

RGB = [np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8) for i in range(2)]
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return vlm_folder(tmp_path_factory.mktemp('vlm') / 'endless', endless=True)


def test_it_answers_streams_cancels_starts_again_and_ends(folder):
    own, here = VlmProcess(str(folder), device='cpu', threads=1), open_vlm(str(folder), device='cpu')
    try:
        for name in ('model_id', 'weights_sha256', 'weight_bytes', 'device', 'dtype'):
            assert getattr(own, name) == getattr(here, name), name
        parts, wanted = [], here.answer('What?', RGB, max_tokens=6)
        found = own.answer('What?', RGB, max_tokens=6, on_text=parts.append)
        assert (found.text, found.tokens) == (wanted.text, wanted.tokens) and parts[-1] == wanted.text
        assert found.confidence == pytest.approx(wanted.confidence, rel=1e-3) and found.latency_s > 0
        written = []
        with pytest.raises(CancelledError):
            own.answer('What?', RGB, max_tokens=5000, on_text=written.append, cancelled=lambda: len(written) > 2)
        with pytest.raises(ValueError, match='max_tokens is 0'):
            own.answer('What?', RGB, max_tokens=0)
        assert own.memory_bytes > 2**20
        first = psutil.Process(own._process.pid)
        with pytest.raises(InputError, match='has ended') as ended:
            own.answer('What?', RGB, max_tokens=5000, on_text=lambda text: first.kill())
        assert ended.value.reason == 'vlm_ended' and own.memory_bytes == 0
        assert own.answer('What?', RGB, max_tokens=6).tokens == wanted.tokens
    finally:
        own.close()
    assert own._process.returncode is not None and own.dtype == torch.float32


def test_a_model_that_is_refused_leaves_no_process(tmp_path):
    before = set(psutil.Process().children())
    with pytest.raises(InputError, match='There is no folder') as refused:
        VlmProcess(str(tmp_path / 'none'))
    assert refused.value.reason == 'model_missing'
    assert set(psutil.Process().children()) <= before
