"""The program that builds graphs beside a node: what it prints and refuses, and that it ends with its parent."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save

from m3et_ros.data.errors import InputError
from m3et_ros.runtime import backends
from m3et_ros.runtime.backends.background import BUILDER
from m3et_ros.runtime.backends.builder import store_graphs

pytestmark = [
    pytest.mark.skipif(bool(backends.missing('openvino')), reason=backends.missing('openvino')),
    pytest.mark.timeout(900),
]  # exporting takes seconds, on a machine at work minutes


def asked(folder):
    return {
        'precision': 'float32',
        'threads': 1,
        'nice': 19,
        'folder': str(folder),
        'modality_sets': [['rgb']],
        'guides': [3, 2],
        'adaptive': False,
    }


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_built(small, tmp_path):
    (tmp_path / 'file').write_text('')
    out = io.StringIO()
    with pytest.raises(InputError, match='cannot be made'):
        store_graphs(asked(tmp_path / 'file' / 'graphs'), small, out)
    assert out.getvalue() == ''


def test_it_gives_way_to_others_and_ends_when_its_input_ends(small, tmp_path):
    weights = save(dict(small.state_dict()))
    given = asked(tmp_path / 'graphs') | {'config': small.config.to_dict(), 'bytes': len(weights)}
    child = subprocess.Popen(
        [sys.executable, '-P', '-m', BUILDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # as background starts it: its priority is that of its session
    )
    with child:
        child.stdin.write(json.dumps(given).encode() + b'\n' + weights)
        child.stdin.flush()
        assert 'graph 1 of 5' in json.loads(child.stdout.readline())['report']
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == 19
        group = Path(f'/proc/{child.pid}/autogroup')
        assert not os.access(group, os.W_OK) or group.read_text().rstrip().endswith('nice 19')
        child.stdin.close()
        assert child.wait(300) == 1
