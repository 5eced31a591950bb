"""The percepts of a memory: classes of cells, and facts from the questions of a frame."""

import numpy as np
import pytest
import torch

from m3et_ros.data.kitchen.cache.recipe import read_shards
from m3et_ros.data.shards import open_shard
from m3et_ros.models.episode.percepts import CELLS
from m3et_ros.training.memory.percepts import (
    FACTS,
    MOST_FACTS,
    PerceptFrame,
    PerceptFrames,
    PerceptRecipe,
    TrainablePercepts,
    cell_classes,
    collate_percepts,
    frame_facts,
)


def test_facts_are_those_of_the_questions_of_a_frame(cache, checkpoint):
    shard = open_shard(read_shards(cache)[0])
    facts, first = frame_facts(shard, checkpoint.labels.classes)
    assert len(first) == 45 and first[-1] == len(facts) and (facts >= 0).all()
    told = {
        (kind, fields.get('a'), shard.header['answers'][row['answer']])
        for row in shard.questions
        for kind, fields in [shard.header['questions'][row['question']]]
    }
    for kind, number, answer in facts:
        name = list(FACTS)[kind]
        thing = None if name == 'is_on' else checkpoint.labels.classes[number]
        assert (name, thing, FACTS[name][answer]) in told


def test_cells_have_the_classes_of_their_pixels():
    labels = torch.arange(64).view(1, 8, 8)
    cells = cell_classes(labels, 4)
    assert cells.shape == (1, 16, CELLS**2) and cells[0, 1].tolist() == [2, 3, 10, 11]
    assert torch.equal(cell_classes(labels.repeat_interleave(2, 1).repeat_interleave(2, 2), 4), cells)


def test_percept_frames_count_through_all_shards(trained, cache, checkpoint):
    out, _, _ = trained
    shards = list(read_shards(cache))
    data = PerceptFrames(
        shards, [out / 'frames' / cache.name / path.name for path in shards], checkpoint.labels.classes
    )
    assert len(data) == 88
    batch, _ = collate_percepts([data[0], data[87]])
    assert batch['labels'].shape == (2, 8, 8) and batch['facts'].shape[1:] == (24, 3)


def frame(facts):
    return PerceptFrame(np.zeros((4, 3), np.float16), np.zeros((8, 8), np.uint8), np.array(facts).reshape(-1, 3))


def test_a_batch_holds_at_most_so_many_facts_of_a_frame():
    facts = [[n % 7, n, 0] for n in range(MOST_FACTS + 1)]
    batch, keys = collate_percepts([frame(facts[:-1]), frame(facts), frame([])])
    assert batch['facts'][0].tolist() == batch['facts'][1].tolist() == facts[:-1]
    assert (batch['facts'][2] == -1).all() and keys == [''] * 3


def test_weights_of_facts_and_rarity_reach_their_losses(trained, cache, checkpoint):
    out, head, _ = trained
    shards = list(read_shards(cache))
    data = PerceptFrames(
        shards, [out / 'frames' / cache.name / path.name for path in shards], checkpoint.labels.classes
    )
    batch, _ = collate_percepts([data[n] for n in range(0, 88, 4)])
    model = TrainablePercepts(head.eye, head.config)

    def losses(**options):
        with torch.no_grad():
            return PerceptRecipe(**options).losses(model, batch, torch.Generator())

    one, double, even = losses(facts=0.5), losses(facts=1.0), losses(rarity=0.0)
    kinds = [list(FACTS)[n] for n in sorted(set(batch['facts'][..., 0].flatten().tolist()) - {-1})]
    assert set(one) == {'classes', *kinds} and len(kinds) > 2
    assert all(double[name].item() == pytest.approx(2 * one[name].item()) == 2 * even[name].item() for name in kinds)
    assert one['classes'] == double['classes'] != even['classes']
