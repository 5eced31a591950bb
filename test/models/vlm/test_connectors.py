"""Connectors: variants and grids, sizes of the paper, refusals."""

from dataclasses import replace

import pytest
import torch

from m3et_ros.layers.scan2d import ScanLayer
from m3et_ros.models.vlm.connectors import Connector, ConnectorConfig

SMALL = ConnectorConfig(d_vision=12, d=16, rows=3, cols=4, N=8, P=8, chunk=8)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize('kind', ['mlp', 'short', 'basic', 'advanced'])
@pytest.mark.parametrize('scan', ['bidirectional', 'cross'])
def test_every_variant_has_the_right_shape_and_learns(kind, scan):
    connector, features = Connector(replace(SMALL, kind=kind, scan=scan, drop_path=0.0)), torch.randn(2, 12, 12)
    y = connector(features)
    assert y.shape == (2, 12, 16)
    y.square().sum().backward()
    assert all(values.grad is not None and values.grad.any() for values in connector.parameters())


@pytest.mark.parametrize(('kind', 'others'), [('mlp', 0), ('short', 0), ('basic', 11), ('advanced', 11)])
def test_scans_mix_tokens_and_plain_connectors_do_not(kind, others):
    connector, features = Connector(replace(SMALL, kind=kind)).eval(), torch.randn(1, 12, 12)
    changed = features.clone()
    changed[:, 5] += 1
    moved = (connector(changed) - connector(features)).abs().amax(-1)[0] > 0
    assert moved[5] and moved.sum() == others + 1


def test_a_cross_scan_depends_on_rows_and_columns():
    features = torch.randn(1, 12, 12)
    for scan, same in (('bidirectional', True), ('cross', False)):
        connector = Connector(replace(SMALL, scan=scan)).eval()
        wide, tall = connector(features), connector(features, grid=(6, 2))
        assert torch.allclose(wide, tall, atol=1e-6) == same


def test_sizes_of_the_paper():
    published = ConnectorConfig(kind='advanced', d_vision=2176, d=2560, rows=27, cols=27, N=128, P=64)
    with torch.device('meta'):
        connector = Connector(published)
        assert parameters(connector.input) == 5_573_120
        assert parameters(connector.projector) == 58_997_760
        # Two layers of 40,241,120 + 19,668,480 with a LayerNorm each, and the last LayerNorm.
        assert parameters(connector.layers) + parameters(connector.norm) == 119_834_560
        mlp = Connector(replace(published, kind='mlp'))
        assert parameters(mlp) == (2176 + 1) * 8704 + (8704 + 1) * 2560 + (2560 + 1) * 2560
        short = Connector(replace(published, kind='short', d_vision=1152))
        assert parameters(short) == (1152 + 1) * 2560 + (2560 + 1) * 2560


def test_wrong_visual_tokens_are_refused():
    connector = Connector(SMALL)
    with pytest.raises(ValueError, match=r'there are 13 visual tokens and the model was built for 12 \(3 x 4\)'):
        connector(torch.zeros(1, 13, 12))
    with pytest.raises(ValueError, match='6 visual tokens do not fill a grid of 3 x 4; give the grid'):
        connector(torch.zeros(1, 6, 12))
    with pytest.raises(ValueError, match=r'the visual tokens are \(1, 12, 11\); give \(batch, tokens, 12\)'):
        connector(torch.zeros(1, 12, 11))
    assert connector(torch.zeros(1, 6, 12), grid=(2, 3)).shape == (1, 6, 16)
    assert Connector(replace(SMALL, kind='mlp'))(torch.zeros(1, 5, 12)).shape == (1, 5, 16)


@pytest.mark.parametrize(
    ('field', 'value', 'words'),
    [
        ('kind', 'deep', "kind is 'deep'; give one of mlp, short"),
        ('scan', 'up', "scan is 'up'; give one of bid"),
        ('rows', 0, 'rows is 0; give a whole number from 1'),
        ('P', 24, 'P is 24; give a divisor of expand'),
        ('G', 3, 'G is 3; give a divisor of the heads = 4'),
        ('drop_path', 1.0, 'drop_path is 1.0; give a number from 0 to 0.9'),
    ],
)
def test_a_config_out_of_range_is_refused(field, value, words):
    with pytest.raises(ValueError, match=words):
        replace(SMALL, **{field: value})


def test_every_size_reaches_the_scan_layers():
    config = replace(SMALL, kind='advanced', scan='cross', layers=3, expand=4, N=4, P=16, G=2, d_conv=3, chunk=8)
    connector = Connector(replace(config, drop_path=0.3))
    assert len(connector.layers) == 3
    for index, layer in enumerate(connector.layers):
        wanted = ScanLayer(
            d=16, advanced=True, drop_path=0.15 * index, scan='cross', expand=4, N=4, P=16, G=2, d_conv=3, chunk=8
        )
        assert repr(layer) == repr(wanted)
        assert {n: v.shape for n, v in layer.state_dict().items()} == {
            n: v.shape for n, v in wanted.state_dict().items()
        }
        assert [getattr(layer.mixer, n) for n in ('chunk', 'N', 'P', 'G')] == [8, 4, 16, 2]


def test_the_drop_path_rises_from_0_to_its_rate():
    for layers, rates in ((1, [0.0]), (2, [0.0, 0.2]), (3, [0.0, 0.1, 0.2])):
        connector = Connector(replace(SMALL, layers=layers, drop_path=0.2))
        assert [layer.drop_path for layer in connector.layers] == pytest.approx(rates)


@pytest.mark.parametrize(
    ('field', 'low', 'high'), [('layers', 1, 64), ('d_conv', 1, 64), ('chunk', 1, 4096), ('drop_path', 0, 0.9)]
)
def test_sizes_at_the_ends_of_their_ranges_are_accepted(field, low, high):
    for value, beyond in ((low, low - 1), (high, high + 1)):
        assert getattr(replace(SMALL, **{field: value}), field) == value
        with pytest.raises(ValueError, match=f'{field} is '):
            replace(SMALL, **{field: beyond})
