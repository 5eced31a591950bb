"""The percepts of a memory: classes of cells, and facts from the questions of a frame."""

import torch

from m3et_ros.data.kitchen.cache.recipe import read_shards
from m3et_ros.data.shards import open_shard
from m3et_ros.models.episode.percepts import CELLS
from m3et_ros.training.memory.percepts import FACTS, PerceptFrames, cell_classes, collate_percepts, frame_facts


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
