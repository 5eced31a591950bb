import pytest
import torch
from torch import nn

from m3et_ros.models.m3et.sizes import build
from m3et_ros.training.optim import Muon, build_optimiser, decays, layer_scale, orthogonalised, set_rate, warm_up_cosine

SCHEDULE = {'total': 110, 'warm_up': 10, 'peak': 1.0, 'start': 0.0}


@pytest.fixture(scope='module', params=['mamba1', 'mamba2'])
def model(request):
    options = {'N': 4} if request.param == 'mamba1' else {'N': 8, 'P': 16, 'chunk': 8}
    return build('tiny', mixer=request.param, mixer_options=options)


def test_weight_decay_spares_vectors_and_marked_parameters(model):
    bare = {name for name, parameter in model.named_parameters() if not decays(name, parameter)}
    decayed = {name for name, _ in model.named_parameters()} - bare
    for word in ('bias', 'norm', 'A_log', '.D', 'beta', 'mask_token', 'types', 'global_embedding', 'text.positions'):
        assert not [name for name in decayed if word in name], word
        assert [name for name in bare if word in name], word
    assert {
        'adapters.text.table.weight',
        'adapters.rgb.project.weight',
        'encoder.layers.1.mixer.in_proj.weight',
        'encoder.layers.0.attention.qkv.weight',
        'decoders.text.output.weight',
    } <= decayed


@pytest.mark.parametrize(
    ('name', 'scale'),
    [
        ('encoder.layers.5.norm.weight', 1.0),
        ('encoder.layers.4.norm1.weight', 0.5),
        ('encoder.layers.0.x', 0.5**5),
        ('adapters.rgb.project.weight', 0.5**6),
        ('types', 0.5**6),
        ('unmeasured', 0.5**6),
        ('decoders.rgb.context_types', 1.0),
        ('adapters.text.table.weight', 1.0),
        ('encoder.norm.weight', 1.0),
        ('answer_head.layers.0.weight', 1.0),
        ('decoders.rgb.output.bias', 1.0),
    ],
)
def test_lower_layers_learn_more_slowly(name, scale):
    assert layer_scale(name, layers=6, decay=0.5) == scale


def test_vectors_of_the_switches_do_not_decay_and_matrices_of_their_mlp_go_to_muon():
    switches = {
        'stem': 'conv',
        'adapter_width': 4,
        'depth_validity': True,
        'context_positions': True,
        'cross_mlp': True,
    }
    model = build('tiny', **switches)
    parameters = dict(model.named_parameters())
    assert not any(decays(name, parameters[name]) for name in ('unmeasured', 'decoders.depth.context_types'))
    assert decays('adapters.rgb.convs.0.weight', parameters['adapters.rgb.convs.0.weight'])
    muon = build_optimiser(model, kind='muon', weight_decay=0.1).parts[1]
    hidden = {id(parameter) for group in muon.param_groups for parameter in group['params']}
    for name in ('decoders.depth.cross_mlp.layers.2.weight', 'adapters.depth.project.weight'):
        assert id(parameters[name]) in hidden, name
    for name in ('adapters.rgb.convs.3.weight', 'decoders.depth.context_types', 'unmeasured'):
        assert id(parameters[name]) not in hidden, name


def test_every_parameter_once_and_rates_scaled(model):
    optimizer = build_optimiser(model, weight_decay=0.05, layer_decay=0.5, encoder_scale=0.1)
    members = [id(p) for group in optimizer.param_groups for p in group['params']]
    assert sorted(members) == sorted(id(p) for p in model.parameters())
    set_rate(optimizer.param_groups, 2e-3)
    rate = {id(p): group['lr'] for group in optimizer.param_groups for p in group['params']}
    assert rate[id(model.text_bias)] == 2e-3
    assert rate[id(model.encoder.norm.weight)] == pytest.approx(2e-4)
    assert rate[id(model.encoder.layers[4].norm1.weight)] == pytest.approx(1e-4)
    assert rate[id(model.types)] == pytest.approx(2e-4 * 0.5**6)


def test_a_step_is_that_of_adamw(model):
    weight = model.decoders['rgb'].output.weight
    before, start = weight.detach().clone(), weight.detach().clone()
    optimizer = build_optimiser(model, weight_decay=0.1)
    weight.grad = torch.full_like(weight, 3.0)
    set_rate(optimizer.param_groups, 0.01)
    optimizer.step()
    optimizer.zero_grad()
    # The first step of Adam has length lr whatever the gradient's size.
    torch.testing.assert_close(weight.detach(), before * (1 - 0.01 * 0.1) - 0.01)
    with torch.no_grad():
        weight.copy_(start)


def test_muon_takes_the_hidden_matrices_of_an_answer_head_of_parts():
    model = build('tiny', places=True, answer_parts=5, look_parts=2)
    parts = build_optimiser(model, kind='muon', weight_decay=0.0).parts
    muon = {id(p) for group in parts[1].param_groups for p in group['params']}
    names = {name for name, p in model.named_parameters() if id(p) in muon and name.startswith(('answer', 'read'))}
    assert names == {'answer_head.layers.0.weight', 'answer_head.look.bare.1.weight'}


def test_muon_takes_the_hidden_matrices_and_nothing_else(model):
    optimizer = build_optimiser(model, kind='muon', weight_decay=0.05)
    adamw, muon = ({id(p) for group in part.param_groups for p in group['params']} for part in optimizer.parts)
    assert not adamw & muon and adamw | muon == {id(p) for p in model.parameters()}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in muon}
    assert {
        'encoder.layers.0.attention.qkv.weight',
        'encoder.layers.1.mixer.in_proj.weight',
        'gate.w1.weight',
        'adapters.rgb.project.weight',
        'decoders.rgb.attention.w_k.weight',
        'answer_head.layers.0.weight',
    } <= names
    assert not [
        name
        for name in names
        if any(word in name for word in ('table', 'output', 'bias', '.layers.3.')) and not name.startswith('encoder.')
    ]
    weight = model.gate.w1.weight
    before = weight.detach().clone()
    weight.grad = torch.randn_like(weight)
    set_rate(optimizer.param_groups, 0.01)
    optimizer.step()
    optimizer.zero_grad()
    # An orthogonal step as large as AdamW's mostly are: 0.2 a value in the mean square.
    assert (weight - before).square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.35)
    with torch.no_grad():
        weight.copy_(before)


@pytest.mark.parametrize(
    'options', [{'kind': 'sgd'}, {'layer_decay': 0.0}, {'layer_decay': 1.1}, {'encoder_scale': -1}]
)
def test_factors_out_of_range_are_refused(model, options):
    with pytest.raises(ValueError, match='sgd' if 'kind' in options else next(iter(options))):
        build_optimiser(model, weight_decay=0.05, **options)


@pytest.mark.parametrize(
    ('step', 'rate'), [(0, 0.0), (5, 0.5), (10, 1.0), (60, 0.5), (35, 0.8535533905932737), (110, 0.0), (1000, 0.0)]
)
def test_the_rate_rises_then_falls_as_half_a_cosine(step, rate):
    assert warm_up_cosine(step, **SCHEDULE) == pytest.approx(rate)


def test_the_rate_ends_as_given_and_never_rises_after_the_peak():
    rates = [warm_up_cosine(step, **SCHEDULE, end=0.1) for step in range(10, 111)]
    assert rates[-1] == pytest.approx(0.1) and rates == sorted(rates, reverse=True)


def test_no_warm_up_starts_at_the_peak():
    assert warm_up_cosine(0, total=5, warm_up=0, peak=0.3) == 0.3


@pytest.mark.parametrize('warm_up', [-1, 5, 6])
def test_a_warm_up_as_long_as_the_run_is_refused(warm_up):
    with pytest.raises(ValueError, match=f'warm_up is {warm_up} of 5'):
        warm_up_cosine(0, total=5, warm_up=warm_up, peak=1.0)


@pytest.mark.parametrize('shape', [(24, 60), (60, 24), (16, 16)])
def test_muon_steps_as_torch_has_them_but_in_float32(shape):
    torch.manual_seed(4)
    ours, theirs = (nn.Parameter(torch.ones(shape)) for _ in range(2))
    muon = Muon([{'params': [ours], 'weight_decay': 0.1}])
    reference = torch.optim.Muon([theirs], weight_decay=0.1, adjust_lr_fn='match_rms_adamw')
    for rate in (0.03, 0.02, 0.01):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        for optimizer in (muon, reference):
            optimizer.param_groups[0]['lr'] = rate
            optimizer.step()
    # Of bfloat16's 8 bits, five Newton-Schulz steps leave about 5.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.03 * (1 - ours).abs().max().item())


def test_an_orthogonalised_matrix_has_singular_values_near_1():
    torch.manual_seed(0)
    for shape in ((40, 90), (90, 40)):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)))
        assert values.min() > 0.6 and values.max() < 1.3
    assert not orthogonalised(torch.zeros(4, 6)).any()
