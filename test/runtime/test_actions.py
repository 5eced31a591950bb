"""Ranked actions and the live stream, checked against numbers made by hand."""

import pytest
import torch

from m3et_ros.data.types import Labels
from m3et_ros.models.encoded import Encoded
from m3et_ros.runtime.actions import REGIONS, ActionStream, ranked_actions, video_tokens
from m3et_ros.runtime.models import untrained

LABELS = Labels((), (), (), ('take', 'wash'), ('cup', 'pan', 'tap'), (0, 2), (13, 5, 1000))


def test_a_pair_scores_the_product_of_its_parts():
    verbs, nouns = torch.tensor([.25, .75]).log(), torch.tensor([.5, .3, .2]).log()
    actions = ranked_actions(verbs, nouns, LABELS, 4)
    assert [r.label for r in actions.verbs] == ['wash', 'take'] and [r.id for r in actions.verbs] == [2, 0]
    assert [r.label for r in actions.nouns] == ['cup', 'pan', 'tap']
    assert [(r.label, r.id) for r in actions.actions] == [
        ('wash cup', 2013), ('wash pan', 2005), ('wash tap', 3000), ('take cup', 13)]
    assert [r.score for r in actions.actions] == pytest.approx([.375, .225, .15, .125])


def test_video_tokens_pool_colour_patches_and_end_on_the_global_token():
    grid = torch.arange(36.).reshape(6, 6)
    context = torch.cat([torch.full((4,), -5.), grid.flatten(), torch.full((36,), 99.), torch.tensor([7.])])
    source = torch.tensor([3] * 4 + [0] * 36 + [1] * 36 + [4])
    tokens = video_tokens(Encoded([context[None, :, None]], source[None], None, {}, {}))
    assert tokens.shape == (1, REGIONS ** 2 + 1, 1)
    assert tokens[0, 0, 0] == grid[:2, :2].mean() and tokens[0, 8, 0] == grid[4:, 4:].mean() and tokens[0, -1, 0] == 7


def test_the_state_of_the_stream_does_not_grow():
    checkpoint = untrained('tiny', 0)
    stream = ActionStream(checkpoint)

    def size():
        return sum(t.numel() for t in (*stream._state.mixer, stream._state.total, stream._state.count))

    before = size()
    with torch.inference_mode():
        for _ in range(100):
            stream.update(torch.randn(1, 10, checkpoint.model.config.d))
    assert size() == before and stream._state.count.item() == 1000


def test_an_instruction_steers_what_comes_next_and_nothing_else():
    checkpoint = untrained('tiny', 0)
    stream = ActionStream(checkpoint)
    with torch.inference_mode():
        stream.update(torch.randn(1, 10, checkpoint.model.config.d))
        now, following = stream.read('', 3)
        same_now, steered = stream.read('wash the cup', 3)
    assert now == same_now and following != steered
