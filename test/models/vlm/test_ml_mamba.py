"""ML-Mamba: totals of the paper, variants, answers."""

from dataclasses import replace

import pytest
import torch

from m3et_ros.models.vlm.generation import Sampling
from m3et_ros.models.vlm.ml_mamba import PUBLISHED, PUBLISHED_BASIC, PUBLISHED_CROSS, PUBLISHED_MLP, TINY, MLMamba


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_totals_of_the_published_sizes():
    connector = 5_573_120 + 119_834_560 + 58_997_760
    with torch.device('meta'):
        model = MLMamba(PUBLISHED)
        assert parameters(model.connector) == connector
        assert parameters(model) == connector + 2_702_599_680
        language = model.language
        for config, wanted in (
            (PUBLISHED_CROSS, connector + 2 * 2 * 27_120),
            (PUBLISHED_BASIC, connector - 2 * (19_668_480 + 5_120)),
            (PUBLISHED_MLP, 18_948_608 + 22_284_800 + 6_556_160),
        ):
            assert parameters(type(model.connector)(config.connector)) == wanted
        seen = model.connector(torch.zeros(1, 729, 2176))
        assert seen.shape == (1, 729, 2560) and language.config.d == 2560


def test_an_answer_from_visual_tokens_and_words():
    torch.manual_seed(0)
    model = MLMamba(TINY).eval()
    features, ids = torch.randn(2, 81, 48), torch.randint(0, 512, (2, 5))
    assert model(features, ids).logits.shape == (2, 5, 512)
    assert len(list(model.generate(features, ids, sampling=Sampling(max_tokens=3)))) == 3
    # An image of other proportions, on the same weights.
    assert model(torch.randn(1, 28, 48), ids[:1], grid=(4, 7)).logits.shape == (1, 5, 512)


def test_other_layers_are_refused():
    with pytest.raises(ValueError, match="schedule is 'MT'; ML-Mamba has M layers only"):
        MLMamba(replace(TINY, language=replace(TINY.language, schedule='MT')))
