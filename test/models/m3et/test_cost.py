"""The ledger of docs/papers.md 1 and 2.2, row by row."""

from dataclasses import replace

import pytest
import torch

from m3et_ros.models.m3et import cost
from m3et_ros.models.m3et.config import IMAGE_MODALITIES
from m3et_ros.models.m3et.model import M3ET
from m3et_ros.models.m3et.sizes import SIZES, build

BASE = SIZES['base']
LEDGER = {
    'encoder layers': 32_580_864,
    'final norm': 1_536,
    'rgb adapter': 590_592,
    'depth adapter': 197_376,
    'semseg adapter': 795_712,
    'word table': 23_440_896,
    'text positions': 24_576,
    'type embeddings': 3_072,
    'global token': 768,
    'decoder q, k, v': 2_362_368,
    'decoder o': 263_168,
    'decoder input norms': 12_288,
    'decoder blocks': 3_159_040,
    'decoder output norms': 2_048,
    'mask tokens': 3_072,
    'semantic bias': 32,
    'semantic gate': 918_272,
    'rgb output': 197_376,
    'depth output': 65_792,
    'semseg output': 546_896,
    'text output': 197_376,
    'text output bias': 30_522,
}


def total(config):
    return sum(cost.parameters_of(config).values())


@pytest.fixture(scope='module')
def base_parts():
    return cost.parameters_of(BASE)


@pytest.mark.parametrize('part, expected', LEDGER.items())
def test_row_of_the_ledger(base_parts, part, expected):
    assert base_parts[part] == expected


def test_the_ledger_is_complete(base_parts):
    assert base_parts.keys() == LEDGER.keys()
    assert sum(base_parts.values()) == 65_393_642
    assert f'{1 - 65_393_642 / 195.97e6:.4f}' == '0.6663'


@pytest.mark.parametrize(
    'changes, expected',
    [
        ({'modalities': IMAGE_MODALITIES, 'tasks': IMAGE_MODALITIES}, 40_249_768),
        ({'modalities': ('rgb', 'text'), 'tasks': (), 'answers': 3129}, 62_635_833),
        ({'mixer': 'mamba2', 'mixer_options': {'N': 64, 'P': 64}}, 65_077_826),
    ],
)
def test_subsets_of_base(changes, expected):
    assert total(replace(BASE, **changes)) == expected


def test_the_answer_head():
    assert cost.parameters_of(replace(BASE, answers=3129))['answer head'] == 5_993_529


def test_the_answer_head_of_parts_and_the_read_out():
    config = replace(SIZES['tiny'], places=True, answer_parts=5, look_parts=2)
    parts, layers = cost.parameters_of(config), config.schedule.count('T')
    head = 33 * 32 + 22 * 32 + (32 + 21 + 32 + 1) * 64 + 2 * 64 + (64 + 1) * 3
    look = (32 + 1) * 2 + 2 * 32 + (32 + 1) * 32 + 32 * 2
    assert parts['answer head'] == head + look
    assert parts['read-out'] == layers * 8 * 32 + 2 * 32 + 15 + 1
    plain = cost.mac_parts(replace(config, answer_parts=0, look_parts=0), 8)['answers']
    assert plain == 64 * (85 + 6) + 32 * (32 + 21) + layers * ((32 + 8) * 16 + 6 * 8 + 7 * 32)
    whole = cost.mac_parts(config, 8)['answers']
    assert whole == plain + 64 * (3 - 6) + 6 * 5 + 2 * 8 * 32 + 32 * 36 + 14


def test_compact_is_two_thirds_smaller_than_multimae():
    compact = replace(SIZES['compact'], modalities=IMAGE_MODALITIES, tasks=IMAGE_MODALITIES)
    assert total(compact) == 32_495_592
    assert 1 - total(compact) / cost.MULTIMAE_PARAMETERS >= 0.6663


def test_kitchen_fits_25_megabytes_in_half_precision():
    assert 2 * total(replace(SIZES['kitchen'], classes=255, answers=1000)) < 25_000_000


def test_parts_sum_to_the_whole():
    model = build('tiny')
    assert sum(cost.parameters(model).values()) == sum(p.numel() for p in model.parameters())


def test_an_unknown_part_is_refused():
    model = build('tiny')
    model.extra = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match='extra.weight'):
        cost.parameters(model)


@pytest.mark.parametrize('tokens, ours, multimae', [(98, 4.57, 11.17), (176, 7.33, 18.32), (588, 22.86, 59.84)])
def test_multiply_accumulates(tokens, ours, multimae):
    assert cost.macs(BASE, tokens) / 1e9 == pytest.approx(ours, rel=0.01)
    assert cost.multimae_macs(tokens) / 1e9 == pytest.approx(multimae, rel=0.01)


def test_the_encoder_of_a_visual_question():
    parts = cost.mac_parts(BASE, 196 + 48, modalities=('rgb',), tasks=())
    assert parts['encoder'] / 1e9 == pytest.approx(8.28, rel=0.01)
    assert parts['decoders'] == parts['gate'] == parts['answers'] == 0


@pytest.mark.parametrize('size', ['base', 'base_ssd'])
def test_linear_layers_cost_what_the_formula_says(size):
    """Every matrix is multiplied with as many tokens as pass through it; counted by hooks on a real forward."""
    config = replace(
        SIZES[size],
        image_size=32,
        d=64,
        heads=4,
        d_decoder=32,
        d_gate=48,
        classes=7,
        tasks=('rgb',),
        modalities=('rgb',),
        schedule='TM',
        stages=1,
        mixer_options={'N': 8},
    )
    counted = 0

    def count(module, inputs, output):
        nonlocal counted
        counted += inputs[0].numel() // inputs[0].shape[-1] * module.weight.numel()

    model = M3ET(config).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(count)
    model({'rgb': torch.zeros(1, 3, 32, 32)})
    n, length, d, width, inner, N = 4, 5, 64, 32, 128, 8
    channels = inner if size == 'base' else inner + 2 * N
    attention = 2 * length**2 * d + 2 * n * length * width + 2 * n**2 * width
    scan = length * (4 * channels + 3 * inner * N)
    # The gate's first matrix is applied in halves, outside the hooks; the semantic bias sends one summary through W_q.
    outside = cost.mac_parts(config, n)['gate'] - n * 48 * width - d * width
    assert sum(cost.mac_parts(config, n).values()) == counted + attention + scan + outside


def test_a_block_with_mamba_for_attention_costs_what_the_formula_says():
    config = replace(SIZES['tiny'], schedule='S', stages=1, modalities=('rgb',), tasks=())
    length, d, heads = 5, config.d, config.heads
    layer = M3ET(config).encoder.layers[0]
    linear = sum(module.weight.numel() for module in layer.modules() if isinstance(module, torch.nn.Linear))
    convolution, scan = layer.mixer.conv1d.weight.numel(), 3 * d * (d // heads)
    assert cost.mac_parts(config, length - 1)['encoder'] == length * (linear + convolution + scan)


@pytest.mark.parametrize('changes', [{'gate': False}, {'cross_attention': False}])
def test_a_gate_costs_only_where_there_is_one(changes):
    config = SIZES['tiny']
    assert cost.mac_parts(config, 4)['gate'] > 0 == cost.mac_parts(replace(config, **changes), 4)['gate']


def test_the_context_costs_only_where_a_decoder_attends_to_it():
    config, n, width = SIZES['tiny'], 4, 16
    with_context, without = (
        cost.mac_parts(replace(config, cross_attention=on), 9, tasks=('depth',))['decoders'] for on in (True, False)
    )
    assert with_context - without == 10 * 2 * config.d * width + 2 * n * 10 * width + n * width**2


def test_defaults_are_the_image_parts_of_the_config():
    config = SIZES['tiny']
    assert cost.mac_parts(config, 5) == cost.mac_parts(config, 5, modalities=IMAGE_MODALITIES, tasks=IMAGE_MODALITIES)
    assert cost.mac_parts(config, 5, tasks=())['decoders'] == 0 == cost.mac_parts(config, 5, modalities=())['adapters']


def test_the_stem_of_kitchen2_by_hand():
    """Four convolutions with norms, 16 to 128 channels for colour and 8 to 64 for depth, and maps to 192."""
    parts, macs = cost.parameters_of(SIZES['kitchen2']), cost.mac_parts(SIZES['kitchen2'], 392)
    colour = (27 * 16 + 144 * 32 + 288 * 64 + 576 * 128) + 240 + 2 * 224 + 129 * 192
    depth = (18 * 8 + 72 * 16 + 144 * 32 + 288 * 64) + 120 + 2 * 112 + 65 * 192
    assert (parts['rgb adapter'], parts['depth adapter']) == (colour, depth) == (122_656, 37_160)
    assert parts['unmeasured token'] == 192
    colour = 112**2 * 27 * 16 + 56**2 * 144 * 32 + 28**2 * 288 * 64 + 14**2 * (576 * 128 + 128 * 192)
    depth = 112**2 * 18 * 8 + 56**2 * 72 * 16 + 28**2 * 144 * 32 + 14**2 * (288 * 64 + 64 * 192)
    assert macs['adapters'] == colour + depth + 196 * (16 * 16) * 192


def test_multimaes_switches_cost_their_own_parts():
    config = SIZES['tiny']
    changed = replace(config, decoder_queries='encoded', context_positions=True, cross_mlp=True)
    less, more = cost.parameters_of(config), cost.parameters_of(changed)
    assert {part: more[part] for part in more.keys() - less.keys()} == {
        'decoder context types': 4 * 5 * 32,
        'decoder cross MLPs': 4 * (2 * 16 + 16 * 64 + 64 + 64 * 16 + 16),
    }
    assert all(less[part] == more[part] for part in less)
    before, after = (cost.mac_parts(one, 9, tasks=('depth',))['decoders'] for one in (config, changed))
    assert after - before == 4 * 2 * 16 * 64


@pytest.mark.parametrize(
    'changes',
    [{}, {'adapter_width': 8}, {'stem': 'conv', 'adapter_width': 8}, {'stem': 'conv', 'adapter_width': 8, 'patch': 8}],
)
@pytest.mark.parametrize('validity', [False, True])
def test_adapters_cost_what_their_matrices_multiply(changes, validity):
    model = build('tiny', depth_validity=validity, **changes)
    counted = 0

    def count(module, inputs, output):
        nonlocal counted
        tokens = inputs[0].shape[:-1] if isinstance(module, torch.nn.Linear) else output[0, 0].shape
        counted += tokens.numel() * module.weight.numel()

    for module in model.adapters.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            module.register_forward_hook(count)
    size, small = model.config.image_size, model.config.semseg_size
    model.adapters['rgb'](torch.zeros(1, 3, size, size))
    model.adapters['depth'](torch.zeros(1, 2 if validity else 1, size, size))
    model.adapters['semseg'](torch.zeros(1, small, small, dtype=torch.int64))
    assert cost.mac_parts(model.config, 5)['adapters'] == counted
