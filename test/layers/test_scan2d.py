"""Scans over grids: means of Mamba-2 on reordered tokens, grids that need not be square, sizes of the paper."""

import pytest
import torch

from m3et_ros.layers.mamba import Mamba2
from m3et_ros.layers.scan2d import ScanLayer, ScanMamba2, SwiGLU, orders

OPTIONS = {'N': 8, 'P': 8, 'chunk': 8}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_four_orders_of_a_small_grid():
    assert [order.tolist() for order in orders('cross', 2, 3)] == [
        [0, 1, 2, 3, 4, 5],
        [5, 4, 3, 2, 1, 0],
        [0, 3, 1, 4, 2, 5],
        [5, 2, 4, 1, 3, 0],
    ]
    assert len(orders('bidirectional', 2, 3)) == 2


def alone(mixer: ScanMamba2, which: int) -> Mamba2:
    """A plain mixer with the weights of one scan."""
    plain = Mamba2(d=16, **OPTIONS)
    own = {name: value for name, value in mixer.state_dict().items() if not name.startswith('others')}
    if which:
        own |= {
            name.removeprefix(f'others.{which - 1}.'): value
            for name, value in mixer.state_dict().items()
            if name.startswith(f'others.{which - 1}.')
        }
    plain.load_state_dict(own)
    return plain


@pytest.mark.parametrize('scan', ['bidirectional', 'cross'])
@pytest.mark.parametrize('grid', [(3, 3), (2, 5), (1, 4), (7, 1)])
def test_a_scan_is_the_mean_of_mixers_on_reordered_grids(scan, grid):
    mixer = ScanMamba2(d=16, scan=scan, **OPTIONS)
    for values in mixer.others.parameters():
        torch.nn.init.normal_(values, std=0.3)
    rows, cols = grid
    u = torch.randn(2, rows * cols, 16)
    wanted = torch.stack(
        [alone(mixer, which)(u[:, order])[:, order.argsort()] for which, order in enumerate(orders(scan, rows, cols))]
    ).mean(0)
    assert (mixer(u, rows=rows, cols=cols) - wanted).abs().max() < 1e-5


@pytest.mark.parametrize('scan', ['bidirectional', 'cross'])
def test_every_token_sees_every_other(scan):
    mixer, u = ScanMamba2(d=16, scan=scan, **OPTIONS), torch.randn(1, 12, 16)
    for token in range(12):
        changed = u.clone()
        changed[:, token] += 1
        moved = (mixer(changed, rows=3, cols=4) - mixer(u, rows=3, cols=4)).abs().amax(-1)[0]
        assert (moved > 0).all()


def test_sizes_of_the_paper():
    with torch.device('meta'):
        mixer = ScanMamba2(d=2560, N=128, P=64)
        assert parameters(mixer) == 40_241_120 == parameters(Mamba2(d=2560)) + 27_120
        assert parameters(SwiGLU(2560)) == 19_668_480
        assert parameters(ScanMamba2(d=2560, N=128, P=64, scan='cross')) == 40_214_000 + 3 * 27_120
        assert parameters(ScanLayer(d=2560, N=128, P=64)) == 40_241_120 + 19_668_480 + 5_120


def test_a_basic_layer_has_no_swiglu():
    layer = ScanLayer(d=16, advanced=False, **OPTIONS)
    x = torch.randn(2, 6, 16)
    assert torch.equal(layer(x, rows=2, cols=3), x + layer.mixer(x, rows=2, cols=3))


def test_dropped_paths_leave_a_sample_as_it_was_and_keep_the_mean():
    layer, x = ScanLayer(d=16, advanced=False, drop_path=0.5, **OPTIONS), torch.randn(1, 6, 16).expand(400, 6, 16)
    y = layer(x, rows=2, cols=3)
    untouched = (y == x).all(-1).all(-1)
    assert 0.4 < untouched.float().mean() < 0.6
    layer.eval()
    branch = layer(x, rows=2, cols=3) - x
    assert torch.allclose((y - x)[~untouched], 2 * branch[~untouched], atol=1e-5)


def test_an_unknown_scan_is_refused():
    with pytest.raises(ValueError, match="scan is 'spiral'; give bidirectional or cross"):
        ScanMamba2(d=16, scan='spiral', **OPTIONS)
