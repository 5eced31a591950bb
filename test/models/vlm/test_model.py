"""Connector and language model in one: visual tokens first, pads change nothing, options reach generation."""

from dataclasses import replace

import pytest
import torch

from m3et_ros.models.vlm.connectors import ConnectorConfig
from m3et_ros.models.vlm.generation import Sampling, collect_answers
from m3et_ros.models.vlm.language_model import LanguageConfig
from m3et_ros.models.vlm.model import VisualLanguageConfig, VisualLanguageModel

CONNECTOR = ConnectorConfig(kind='mlp', d_vision=12, d=32, rows=2, cols=3)
LANGUAGE = LanguageConfig(d=32, schedule='MTS', heads=4, channels=4, hidden=48, N=8, P=8, vocabulary=64)


@pytest.fixture
def model() -> VisualLanguageModel:
    torch.manual_seed(0)
    model = VisualLanguageModel(VisualLanguageConfig(CONNECTOR, LANGUAGE)).eval()
    torch.nn.init.normal_(model.language.embedding.weight)
    return model


def test_visual_tokens_stand_before_the_words(model):
    features, ids = torch.randn(2, 6, 12), torch.randint(0, 64, (2, 5))
    output = model(features, ids, keep=(0, 2))
    x = torch.cat([model.connector(features), model.language.embedding(ids)], 1)
    wanted = model.language(x, keep=(0, 2))
    assert torch.allclose(output.logits, wanted.logits[:, 6:], atol=1e-6)
    assert all(torch.equal(output.hidden[place], wanted.hidden[place]) for place in (0, 2))
    other = model(torch.randn(2, 6, 12), ids).logits
    assert (other - output.logits).abs().max() > 1e-2


def test_words_may_stand_before_the_visual_tokens_too(model):
    features, ids = torch.randn(2, 6, 12), torch.randint(0, 64, (2, 5))
    words = model.language.embedding(ids)
    x = torch.cat([words[:, :2], model.connector(features), words[:, 2:]], 1)
    wanted = model.language(x, keep=(1,))
    output = model(features, ids, before=2, keep=(1,))
    assert torch.allclose(output.logits, wanted.logits[:, [0, 1, 8, 9, 10]], atol=1e-6)
    assert torch.allclose(output.hidden[1][:, :6], wanted.hidden[1][:, 2:8], atol=1e-6)
    # A pad among the words behind changes nothing.
    padded = torch.cat([ids[:, :3], ids[:, :1], ids[:, 3:]], 1)
    mask = torch.tensor([[True] * 3 + [False] + [True] * 2] * 2)
    found = model(features, padded, before=2, mask=mask)
    assert torch.allclose(found.logits[:, [0, 1, 2, 4, 5]], output.logits, atol=1e-5)
    steps = model.generate(features, ids, before=2, sampling=Sampling(1))
    assert torch.equal(next(steps)[0], wanted.logits[:, -1].argmax(-1))
    with pytest.raises(ValueError, match='before is 6; give 0 to 5'):
        model(features, ids, before=6)


@pytest.mark.parametrize('mask', [[True] * 3 + [False] * 2, [False] * 2 + [True] * 3, [True, False, True, False, True]])
def test_pads_wherever_they_stand_change_nothing(model, mask):
    features, words = torch.randn(2, 6, 12), torch.randint(0, 64, (2, 5))
    mask = torch.tensor([mask, [True] * 5])
    output = model(features, words, mask=mask, keep=(1,))
    alone = model(features[:1], words[:1, mask[0]], keep=(1,))
    assert (output.logits[0, mask[0]] - alone.logits[0]).abs().max() < 1e-5
    assert (output.logits[1] - model(features[1:], words[1:]).logits[0]).abs().max() < 1e-5
    seen = torch.cat([torch.ones(6, dtype=torch.bool), mask[0]])
    assert (output.hidden[1][0, seen] - alone.hidden[1][0]).abs().max() < 1e-5


def test_answers_are_those_of_reading_everything_again(model):
    features, ids = torch.randn(2, 6, 12), torch.randint(0, 64, (2, 4))
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    steps = model.generate(features, ids, mask=mask, sampling=Sampling(max_tokens=5))
    answers = collect_answers(steps, 2, ())
    for row, words in enumerate((ids[:1], ids[1:, :2])):
        for token in answers[row]:
            assert token == int(model(features[row : row + 1], words).logits[0, -1].argmax())
            words = torch.cat([words, torch.tensor([[token]])], 1)


def test_bad_input_is_refused(model):
    features = torch.randn(1, 6, 12)
    with pytest.raises(ValueError, match='the prompt is empty; give at least one token'):
        model(features, torch.zeros(1, 0, dtype=torch.int64))
    with pytest.raises(ValueError, match=r'there are 7 visual tokens and the model was built for 6 \(2 x 3\)'):
        model(torch.randn(1, 7, 12), torch.ones(1, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match='connector.d is 16; give 32, the width of the language model'):
        VisualLanguageConfig(replace(CONNECTOR, d=16), LANGUAGE)


def test_the_grid_of_the_visual_tokens_reaches_the_connector():
    config = VisualLanguageConfig(replace(CONNECTOR, kind='basic', scan='cross', N=8, P=8), LANGUAGE)
    torch.manual_seed(0)
    model = VisualLanguageModel(config).eval()
    features, ids = torch.randn(1, 4, 12), torch.randint(0, 64, (1, 3))
    wanted = torch.cat([model.connector(features, grid=(2, 2)), model.language.embedding(ids)], 1)
    assert torch.equal(model.prompt(features, ids, grid=(2, 2)).x, wanted)
    torch.testing.assert_close(model(features, ids, grid=(2, 2)).logits, model.language(wanted).logits[:, 4:])
    (token, _), *_ = model.generate(features, ids, grid=(2, 2), sampling=Sampling(max_tokens=1))
    assert int(token) == int(model.language(wanted).logits[0, -1].argmax())
    with pytest.raises(ValueError, match='do not fill a grid of 2 x 3'):
        model.generate(features, ids)


def test_draws_follow_the_generator(model):
    features, ids, sampling = torch.randn(2, 6, 12), torch.randint(0, 64, (2, 4)), Sampling(8, temperature=2.0)
    answers = [
        collect_answers(
            model.generate(features, ids, sampling=sampling, generator=torch.Generator().manual_seed(seed)), 2, ()
        )
        for seed in (1, 1, 2)
    ]
    assert answers[0] == answers[1] != answers[2]
