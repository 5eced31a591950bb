"""The program that builds graphs beside a node: what it prints and stores, and that it ends with its parent."""

import io
import json
import subprocess
import sys

import pytest
from safetensors.torch import save

from m3et_ros.runtime import backends
from m3et_ros.runtime.backends.background import BUILDER
from m3et_ros.runtime.backends.builder import store_graphs

pytestmark = [
    pytest.mark.skipif(bool(backends.missing('openvino')), reason=backends.missing('openvino')),
    pytest.mark.timeout(900),
]  # exporting takes seconds, on a machine at work minutes


def asked(folder):
    return {'precision': 'float32', 'threads': 1, 'folder': str(folder), 'modality_sets': [['rgb']]}


def test_graphs_are_stored_and_each_is_reported(small, tmp_path, monkeypatch):
    monkeypatch.setenv('M3ET_CACHE', str(tmp_path))
    out = io.StringIO()
    store_graphs(asked(tmp_path / 'graphs'), small, out)
    lines = [json.loads(line)['report'] for line in out.getvalue().splitlines()]
    assert ['graph 1 of 4' in lines[0], 'graph 4 of 4' in lines[3], 'are ready' in lines[4], len(lines)] == [1, 1, 1, 5]
    names = {path.name for path in (tmp_path / 'graphs').iterdir()}
    assert names == {
        f'{name}.blob' for name in ('encode_images-rgb', 'encode_text-rgb-text', 'depth-rgb', 'depth-rgb-text')
    }


def test_it_ends_when_its_input_ends(small, tmp_path):
    weights = save(dict(small.state_dict()))
    given = asked(tmp_path / 'graphs') | {'config': small.config.to_dict(), 'bytes': len(weights)}
    child = subprocess.Popen([sys.executable, '-P', '-m', BUILDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        child.stdin.write(json.dumps(given).encode() + b'\n' + weights)
        child.stdin.flush()
        assert 'graph 1 of 4' in json.loads(child.stdout.readline())['report']
        child.stdin.close()
        assert child.wait(300) == 1
