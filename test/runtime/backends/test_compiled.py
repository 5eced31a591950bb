"""Compiling ahead: one small piece, compiled once, stored, and right; a reason without a compiler."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from m3et_ros.runtime.backends import Setting, compiled
from m3et_ros.runtime.backends.compiled import Compiled


class Piece(nn.Module):
    """A graph: tensors in, a tuple out."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x, y):
        """Map two tensors to two."""
        return self.linear(x).relu(), x + y


@pytest.mark.skipif(bool(compiled.missing()), reason=compiled.missing() or 'it can be had')
@pytest.mark.timeout(900)  # some ten seconds of compiling, on a machine at work minutes
def test_a_graph_is_compiled_stored_and_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path / 'inductor'))
    # A process of its own: a compiler that crashes must not take the tests with it.
    ran = subprocess.run(
        [sys.executable, '-X', 'faulthandler', __file__, str(tmp_path / 'kept')], capture_output=True, text=True
    )
    assert ran.returncode == 0, f'exit code {ran.returncode}\n{ran.stderr}'
    assert [path.name for path in (tmp_path / 'kept').iterdir()] == ['piece.pt2']


def compile_and_compare(folder):
    torch.manual_seed(0)
    # An example with gaps in memory, as keys and values have them that lie between others.
    module, given = Piece().eval(), (torch.randn(3, 8), torch.randn(3, 9)[:, :8])
    setting = Setting('float32', 1, folder)
    run = Compiled(setting).build('piece', module, given)
    with torch.inference_mode():
        wanted = module(*given)
        first = run(*given)
        torch.testing.assert_close(first, list(wanted))
        torch.testing.assert_close(run(*(t.contiguous() for t in given)), first)
        before = [t.clone() for t in first]
        run(*(t + 1 for t in given))
        assert all(torch.equal(a, b) for a, b in zip(first, before))  # not written over by the next call
    torch.export.export = None  # nothing is exported a second time
    torch.testing.assert_close(Compiled(setting).build('piece', module, given)(*given), first)


def test_without_a_compiler_it_says_so(monkeypatch):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    assert 'no C++ compiler' in compiled.missing()


if __name__ == '__main__':
    compile_and_compare(Path(sys.argv[1]))
