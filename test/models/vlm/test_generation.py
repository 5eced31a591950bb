"""Generation: greedy tokens equal those of transformers; stop tokens, pads, top-p; every step is lazy."""

from dataclasses import replace

import pytest
import torch
from transformers import PhiConfig, PhiForCausalLM

from m3et_ros.models.vlm.generation import Sampling, choose, collect_answers, generate
from m3et_ros.models.vlm.import_weights import config_from, fill, language_tensors
from m3et_ros.models.vlm.language_model import TINY_MAMBA, TINY_PHI, LanguageModel

CONFIGS = {'mamba': TINY_MAMBA, 'attention': TINY_PHI, 'hybrid': replace(TINY_PHI, schedule='STSM')}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(params=CONFIGS)
def model(request) -> LanguageModel:
    model = LanguageModel(CONFIGS[request.param]).eval()
    # Larger words than at the start of training, so that answers differ from prompt to prompt.
    torch.nn.init.normal_(model.embedding.weight)
    return model


def complete(model: LanguageModel, prompt: torch.Tensor, *, sampling: Sampling, **options) -> list[list[int]]:
    """Whole answers."""
    return collect_answers(generate(model, prompt, sampling=sampling, **options), len(prompt), sampling.stop)


def greedy(model: LanguageModel, prompt: torch.Tensor, count: int) -> torch.Tensor:
    """Tokens of a model that reads the whole sequence again for each."""
    ids = prompt
    for _ in range(count):
        ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], 1)
    return ids[:, prompt.shape[1] :]


def test_greedy_tokens_are_those_of_reading_everything_again(model):
    prompt = torch.randint(0, 512, (3, 7))
    wanted = greedy(model, prompt, 6)
    assert len(set(map(tuple, wanted.tolist()))) == 3
    steps = list(generate(model, prompt, sampling=Sampling(max_tokens=6)))
    assert torch.equal(torch.stack([ids for ids, _ in steps], 1), wanted)
    first = model(prompt).logits[:, -1].softmax(-1).amax(-1)
    assert torch.allclose(steps[0][1], first, atol=1e-5)


def test_greedy_tokens_are_those_of_transformers():
    published = PhiForCausalLM(
        PhiConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            vocab_size=60,
            num_attention_heads=4,
            initializer_range=0.3,
        )
    ).eval()
    config = config_from(published.config.to_dict(), name='copy')
    model = fill(LanguageModel(config), language_tensors(published.state_dict(), config)).eval()
    prompt = torch.randint(3, 60, (2, 5))
    wanted = published.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=8,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert complete(model, prompt, sampling=Sampling(max_tokens=8)) == wanted[:, 5:].tolist()


def test_prompts_of_different_lengths_answer_as_each_alone(model):
    long, short = torch.randint(0, 512, (1, 7)), torch.randint(0, 512, (1, 4))
    prompt = torch.cat([long, torch.cat([torch.zeros(1, 3, dtype=torch.int64), short], 1)])
    mask = torch.tensor([[True] * 7, [False] * 3 + [True] * 4])
    wanted = [greedy(model, words, 5)[0].tolist() for words in (long, short)]
    assert complete(model, prompt, mask=mask, sampling=Sampling(max_tokens=5)) == wanted


def test_an_answer_ends_before_its_stop_token(model):
    prompt = torch.randint(0, 512, (2, 7))
    one, two = greedy(model, prompt, 6).tolist()
    stop = (one[2], two[4])
    wanted = [next((row[:place] for place, token in enumerate(row) if token in stop), row) for row in (one, two)]
    assert complete(model, prompt, sampling=Sampling(max_tokens=6, stop=stop)) == wanted
    steps = list(generate(model, prompt, sampling=Sampling(max_tokens=6, stop=stop)))
    assert len(steps) == max(map(len, wanted))  # the step in which the last one ends is not yielded
    for row, answer in enumerate(wanted):
        for ids, probability in steps[len(answer) + 1 :]:
            assert int(ids[row]) in stop and probability[row] == 1


def test_tokens_are_computed_only_when_asked_for(model, monkeypatch):
    calls, forward = [], model.forward
    monkeypatch.setattr(model, 'forward', lambda x, **options: calls.append(x.shape[1]) or forward(x, **options))
    steps = generate(model, torch.randint(0, 512, (1, 7)))
    assert not calls
    next(steps), next(steps), next(steps)
    assert calls == [7, 1, 1]  # the prompt once, then one token at a time


def test_top_p_draws_among_the_likeliest_only():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().expand(4000, 4)
    for top_p, allowed in ((0.4, 1), (0.5, 1), (0.6, 2), (0.8, 2), (0.94, 3), (1.0, 4)):
        tokens, probability = choose(logits, Sampling(temperature=1.0, top_p=top_p))
        assert set(tokens.tolist()) == set(range(allowed))
        assert torch.allclose(probability, logits[0].exp()[tokens])
        wanted = logits[0, :allowed].softmax(-1)
        assert (torch.bincount(tokens) / 4000 - wanted).abs().max() < 0.04
    cold, _ = choose(logits, Sampling(temperature=0.1))
    assert (cold == 0).float().mean() > 0.98


def test_draws_depend_on_the_generator_alone(model):
    prompt, sampling = torch.randint(0, 512, (2, 5)), Sampling(max_tokens=5, temperature=1.0, top_p=0.9)
    answers = [
        complete(model, prompt, sampling=sampling, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    ]
    assert answers[0] == answers[1] != answers[2]


def test_bad_prompts_are_refused():
    model = LanguageModel(TINY_MAMBA)
    with pytest.raises(ValueError, match='the prompt is empty'):
        generate(model, torch.zeros(1, 0, dtype=torch.int64))
    ids = torch.ones(1, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match='holds pads only'):
        generate(model, ids, mask=torch.zeros(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match='pads stand behind words'):
        generate(model, ids, mask=torch.tensor([[True, True, False]]))


@pytest.mark.parametrize(
    ('field', 'value', 'words'),
    [
        ('max_tokens', 0, 'max_tokens is 0; give a whole number from 1'),
        ('stop', (-1,), r'stop is \(-1,\); give ids'),
        ('max_tokens', 65537, 'max_tokens is 65537; give a whole number from 1 to 65536'),
        ('temperature', -1.0, 'temperature is -1.0; give a number from 0'),
        ('temperature', 100.1, 'temperature is 100.1; give a number from 0 to 100'),
        ('top_p', 1.01, 'top_p is 1.01; give a number'),
        ('top_p', 0.0, 'top_p is 0.0; give a number'),
    ],
)
def test_sampling_out_of_range_is_refused(field, value, words):
    with pytest.raises(ValueError, match=words):
        Sampling(**{field: value})


def test_sampling_at_the_ends_of_its_ranges_is_accepted():
    model, prompt = LanguageModel(TINY_MAMBA).eval(), torch.ones(1, 2, dtype=torch.int64)
    assert len(complete(model, prompt, sampling=Sampling(max_tokens=1))[0]) == 1
    low, high = Sampling(temperature=0, top_p=1e-6), Sampling(max_tokens=65536, temperature=100, top_p=1)
    assert (low.top_p, high.max_tokens, Sampling(stop=[0]).stop) == (1e-6, 65536, (0,))
    # So small a top_p leaves the likeliest token alone, however hot the draw is.
    sampling = Sampling(max_tokens=3, temperature=100.0, top_p=1e-6)
    assert complete(model, prompt, sampling=sampling) == complete(model, prompt, sampling=Sampling(max_tokens=3))
