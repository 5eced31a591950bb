"""Named sizes and deterministic weights."""

import pytest
import torch

from m3et_ros.models.m3et.cost import parameters_of
from m3et_ros.models.m3et.model import M3ET
from m3et_ros.models.m3et.sizes import SIZES, build


def test_names_are_those_of_the_configs():
    assert list(SIZES) == ['base', 'base_ssd', 'compact', 'kitchen', 'kitchen2', 'kitchen_twin', 'tiny']
    assert all(config.name == name for name, config in SIZES.items())


def test_weights_depend_on_the_seed_alone():
    one, again, other = build('tiny', seed=3), build('tiny', seed=3), build('tiny', seed=4)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), again.state_dict().values()))
    assert not torch.equal(one.types, other.types)


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    build('tiny', seed=9)
    assert torch.equal(torch.rand(3), expected)


def test_overrides():
    assert build('tiny', answers=3).config.answers == 3
    assert build(SIZES['tiny'], schedule='TT', stages=1).config.schedule == 'TT'


def test_the_twin_differs_by_blocks_and_multimaes_decoders_alone():
    kitchen, twin = SIZES['kitchen'].to_dict(), SIZES['kitchen_twin'].to_dict()
    assert {name for name in kitchen if kitchen[name] != twin[name]} == {
        'name',
        'schedule',
        'decoder_blocks',
        'decoder_queries',
        'context_positions',
        'cross_mlp',
        'semantic_bias',
        'gate',
    }
    assert twin['schedule'] == 'T' * 12 and kitchen['schedule'] == 'MTMT'
    assert (twin['decoder_blocks'], kitchen['decoder_blocks']) == (2, 1)


def test_kitchen_is_a_third_of_its_twin():
    small, large = (sum(parameters_of(SIZES[name]).values()) for name in ('kitchen', 'kitchen_twin'))
    assert 1 - small / large >= 0.66


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="'huge' is unknown; give one of base"):
        build('huge')


def test_base_takes_no_memory_on_the_meta_device():
    with torch.device('meta'):
        model = M3ET(SIZES['base'])
    assert all(p.is_meta for p in model.parameters())


def test_positions_are_not_stored():
    assert not any('positions' in name and 'text' not in name for name in build('tiny').state_dict())
