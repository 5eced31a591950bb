"""Language models: logits of transformers' Mamba and Phi at once and by steps, totals of the papers, refusals."""

from dataclasses import replace

import pytest
import torch
from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM, PhiConfig, PhiForCausalLM

from m3et_ros.layers.causal import MambaState
from m3et_ros.layers.kv_cache import AttentionState
from m3et_ros.models.vlm.import_weights import config_from, fill, language_tensors
from m3et_ros.models.vlm.language_model import MAMBA2_2B7, PHI2, TINY_MAMBA, TINY_PHI, LanguageConfig, LanguageModel


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def theirs(kind: str, number: int) -> torch.nn.Module:
    """A random model of transformers; number is groups, states or key heads."""
    if kind == 'mamba2':
        model = Mamba2ForCausalLM(
            Mamba2Config(
                hidden_size=32,
                num_heads=8,
                head_dim=8,
                state_size=16,
                n_groups=number,
                num_hidden_layers=2,
                vocab_size=60,
                chunk_size=16,
            )
        )
    elif kind == 'mamba':
        model = MambaForCausalLM(
            MambaConfig(
                hidden_size=32, state_size=number, num_hidden_layers=2, vocab_size=60, tie_word_embeddings=False
            )
        )
    else:
        model = PhiForCausalLM(
            PhiConfig(
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                vocab_size=60,
                num_key_value_heads=number,
                partial_rotary_factor=0.5,
                rope_theta=500.0,
            )
        )
    for name, values in model.named_parameters():
        if name.endswith(('bias', '.D', 'norm.weight')) and 'dt' not in name:
            torch.nn.init.normal_(values, std=0.5)
    return model.eval()


def ours(model: torch.nn.Module) -> LanguageModel:
    config = config_from(model.config.to_dict(), name='copy')
    return fill(LanguageModel(config), language_tensors(model.state_dict(), config)).eval()


@pytest.mark.parametrize(
    ('kind', 'number'), [('mamba', 16), ('mamba2', 1), ('mamba2', 4), ('mamba2', 8), ('phi', 4), ('phi', 2)]
)
def test_logits_are_those_of_transformers(kind, number):
    published = theirs(kind, number)
    model, ids = ours(published), torch.randint(0, 60, (2, 37))
    with torch.no_grad():
        wanted = published(ids).logits
        assert wanted.abs().max() > 0.3
        assert (model(ids).logits - wanted).abs().max() < 1e-4
        output = model(ids[:, :20], return_states=True)
        logits = [output.logits]
        for t in range(20, 37):
            output = model(ids[:, t : t + 1], states=output.states, return_states=True)
            logits.append(output.logits)
        assert (torch.cat(logits, 1) - wanted).abs().max() < 1e-4


def test_parameter_totals_of_the_published_models():
    with torch.device('meta'):
        assert sum(p.numel() for p in LanguageModel(MAMBA2_2B7).parameters()) == 2_702_599_680
        phi = LanguageModel(PHI2)
        assert sum(p.numel() for p in phi.parameters()) == 2_779_683_840
        assert phi(torch.zeros(1, 3, dtype=torch.int64)).logits.shape == (1, 3, 51200)


def test_memory_of_mamba_layers_is_constant_and_that_of_attention_grows():
    model = LanguageModel(LanguageConfig(schedule='MTS', channels=8)).eval()
    sizes = []
    for length in (4, 40):
        states = model(torch.randint(0, 512, (1, length)), return_states=True).states
        assert [type(state) for state in states] == [MambaState, AttentionState, MambaState]
        sizes.append([sum(part.numel() for part in state if part is not None) for state in states])
    assert sizes[0][0] == sizes[1][0] and sizes[0][2] == sizes[1][2]
    assert sizes[1][1] == 10 * sizes[0][1]


def test_logits_of_the_last_positions_alone():
    model, ids = LanguageModel(TINY_MAMBA), torch.randint(0, 512, (2, 9))
    assert torch.allclose(model(ids, last=2).logits, model(ids).logits[:, -2:], atol=1e-6)


def test_vectors_serve_as_well_as_words():
    model, ids = LanguageModel(TINY_PHI), torch.randint(0, 512, (2, 9))
    assert torch.equal(model(model.embedding(ids)).logits, model(ids).logits)


@pytest.mark.parametrize('config', [TINY_MAMBA, TINY_PHI, replace(TINY_PHI, schedule='TSMS')])
def test_every_parameter_learns(config):
    model = LanguageModel(config)
    model(torch.randint(0, 512, (2, 9))).logits.square().sum().backward()
    assert not [name for name, values in model.named_parameters() if values.grad is None or not values.grad.any()]


def test_bfloat16_is_near_float32_whether_weights_or_products():
    model, ids = LanguageModel(replace(TINY_PHI, schedule='TSMT')), torch.randint(0, 512, (2, 9))
    torch.nn.init.normal_(model.embedding.weight)
    wanted = model(ids).logits
    with torch.autocast('cpu', torch.bfloat16):
        output = model(ids, return_states=True)
        after = model(ids[:, :1], states=output.states).logits
    output.logits.float().square().sum().backward()
    assert all(torch.isfinite(values.grad).all() for values in model.parameters())
    low = model.to(torch.bfloat16)(ids).logits
    for logits in (output.logits, low):
        assert logits.dtype == torch.bfloat16 and (logits - wanted).abs().max() < 0.1 * wanted.abs().max()
    assert after.shape == (2, 1, 512)


@pytest.mark.parametrize(
    ('field', 'value', 'words'),
    [
        ('schedule', 'MX', "schedule is 'MX'; give 1 to 1024 letters"),
        ('d', 0, 'd is 0; give a whole number from 1'),
        ('norm', 'none', "norm is 'none'; give one of rms, layer"),
        ('tied', 1, 'tied is 1; give true or false'),
        ('dropout', 1.0, 'dropout is 1.0; give a number from 0 to 0.99'),
        ('P', 24, 'P is 24; give a divisor'),
        ('G', 3, 'G is 3; give a divisor of the heads of M layers = 8'),
        ('eps', 0, 'eps is 0; give'),
        ('base', 1.0, 'base is 1.0; give a number from 1.001'),
    ],
)
def test_a_config_out_of_range_is_refused(field, value, words):
    with pytest.raises(ValueError, match=words):
        LanguageConfig(**{field: value})


@pytest.mark.parametrize(
    ('fields', 'words'),
    [
        ({'heads': 5}, 'heads is 5; give a divisor of d = 64'),
        ({'kv_heads': 3}, 'kv_heads is 3; give a divisor of heads'),
        ({'channels': 18}, 'channels is 18; give an even number up to the 16'),
    ],
)
def test_attention_that_does_not_divide_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        LanguageConfig(schedule='TT', **fields)
    assert LanguageConfig(schedule='MM', **fields)  # M layers have no such heads


def test_pads_behind_words_are_refused():
    model, ids = LanguageModel(TINY_MAMBA), torch.ones(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match='pads stand behind words; put them in front'):
        model(ids, mask=torch.tensor([[True, True, True], [True, True, False]]), last=1)
    assert model(ids, mask=torch.tensor([[True, True, True], [False, True, True]]), last=1).logits.shape[:2] == (2, 1)


def test_bad_prompts_are_refused():
    model = LanguageModel(TINY_MAMBA)
    with pytest.raises(ValueError, match='the prompt is empty; give at least one token'):
        model(torch.zeros(1, 0, dtype=torch.int64))
    with pytest.raises(ValueError, match='the word pieces run from 3 to 512; give 0 to 511'):
        model(torch.tensor([[3, 512]]))
    with pytest.raises(ValueError, match=r'the vectors are \(1, 2, 63\); give \(batch, tokens, 64\)'):
        model(torch.zeros(1, 2, 63))


def test_limits_are_admitted_as_well_as_refused():
    assert LanguageConfig(schedule='TT', channels=16).channels == 16
    model = LanguageModel(TINY_MAMBA)
    assert model(torch.tensor([[0, 511]])).logits.shape == (1, 2, 512)
    with pytest.raises(ValueError, match='the word pieces run from -1 to 3; give 0 to 511'):
        model(torch.tensor([[3, -1]]))
    assert LanguageConfig(eps=0.1).eps == 0.1 and LanguageConfig(dropout=0.99).dropout == 0.99


@pytest.mark.parametrize(('norm', 'kind'), [('rms', torch.nn.RMSNorm), ('layer', torch.nn.LayerNorm)])
def test_norms_have_the_kind_and_eps_of_the_config(norm, kind):
    model = LanguageModel(LanguageConfig(schedule='MT', norm=norm, eps=0.01, dropout=0.25))
    assert type(model.norm) is kind
    assert {
        module.eps for module in model.modules() if hasattr(module, 'eps') and module is not model.layers[0].mixer.norm
    } == {0.01}


@pytest.mark.parametrize('schedule', ['MO', 'TS'])
def test_an_empty_batch_gives_empty_logits_and_states_to_go_on_from(schedule):
    model = LanguageModel(LanguageConfig(schedule=schedule, channels=8))
    begun = model(torch.zeros(0, 5, dtype=torch.int64), return_states=True)
    assert begun.logits.shape == (0, 5, 512)
    assert model(torch.zeros(0, 1, dtype=torch.int64), states=begun.states).logits.shape == (0, 1, 512)


def test_pads_between_words_are_refused():
    model = LanguageModel(LanguageConfig(schedule='MT', channels=8))
    ids = torch.zeros(2, 3, dtype=torch.int64)
    states = model(ids, return_states=True).states
    with pytest.raises(ValueError, match='pads stand between the words before and these; give sequences of one length'):
        model(ids, mask=torch.tensor([[True] * 3, [False, True, True]]), states=states)
    assert model(ids, mask=torch.ones(2, 3, dtype=torch.bool), states=states).logits.shape == (2, 3, 512)
