import pytest
import torch

from m3et_ros.evaluation.metrics.temperature import HIGHEST, fit_temperature


def drawn(temperature, count=20_000):
    """Return logits, and answers drawn from them at a temperature."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(count, 6, generator=generator)
    return logits, torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0]


@pytest.mark.parametrize('temperature', (0.5, 1.0, 2.5))
def test_it_finds_the_temperature_that_the_answers_were_drawn_at(temperature):
    assert fit_temperature(*drawn(temperature)) == pytest.approx(temperature, rel=0.03)


def test_answers_by_chance_give_the_highest_temperature():
    logits, _ = drawn(1.0, 2000)
    assert fit_temperature(logits, torch.arange(2000) % 6) == pytest.approx(HIGHEST, rel=1e-3)


@pytest.mark.parametrize('shapes', (((0, 3), (0,)), ((2, 3), (3,)), ((3,), (3,))))
def test_other_shapes_are_refused(shapes):
    with pytest.raises(ValueError, match='logits are'):
        fit_temperature(torch.zeros(shapes[0]), torch.zeros(shapes[1], dtype=torch.int64))
