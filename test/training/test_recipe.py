"""The order of samples from several sources, and runs on them: with modalities that only some of them have."""

from dataclasses import replace

import pytest
import torch
from torch.utils.data import Dataset

from m3et_ros.data.datasets.sources import Sources
from m3et_ros.data.errors import InputError
from m3et_ros.training.m3et import Answer, Pretrain, run
from m3et_ros.training.recipe import Order
from m3et_ros.training.run_state import TrainingSession


class Listed(Dataset):
    """Samples in a list, which note the epoch they are read in."""

    def __init__(self, samples):
        self.samples, self.epoch, self.met = samples, -1, []

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        self.met.append((self.epoch, index))
        return self.samples[index]


@pytest.fixture
def sources(toys):
    """The toys; the same as a bag with depth has them; and as one without: no labels, no questions."""
    bag = [
        replace(toy, semseg=None, clean_depth=None, question='', answers={}, key=f'bag {i}')
        for i, toy in enumerate(toys[:18])
    ]
    blind = [replace(one, depth=None, key=f'blind {i}') for i, one in enumerate(bag[:10])]
    return [Listed(toys), Listed(bag), Listed(blind)]


@pytest.fixture
def train(tiny, checkpoint_of):
    def go(recipe, data, folder, **options):
        losses = []
        session = TrainingSession(
            **{'log_steps': 1, 'save_minutes': 0, **options}, report=lambda _, entry: losses.append(entry.losses)
        )
        outcome, model, _ = run(recipe, checkpoint_of(tiny()), data, folder, session=session)
        return outcome, model, losses

    return go


def test_each_step_is_of_one_part_and_an_epoch_of_all():
    order = Order(count=23, batch=4, seed=1, parts=(10, 4, 9))
    assert order.length == 2 + 1 + 2
    steps = [order.step(step) for step in range(10)]
    parts = [{(i >= 10) + (i >= 14) for i in ids} for ids in steps]
    assert all(len(part) == 1 and len(set(ids)) == 4 for part, ids in zip(parts, steps))
    for epoch in (slice(0, 5), slice(5, 10)):
        assert sorted(min(part) for part in parts[epoch]) == [0, 0, 1, 2, 2]
        assert len({i for ids in steps[epoch] for i in ids}) == 20
    assert steps[:5] != steps[5:]
    assert steps[7] == replace(order).step(7) != replace(order, seed=2).step(7)


def test_a_single_part_is_no_part():
    assert [Order(10, 4, 1, (10,)).step(i) for i in range(4)] == [Order(10, 4, 1).step(i) for i in range(4)]


@pytest.mark.parametrize('parts', [(5, 4), (7, 3)])
def test_parts_with_other_counts_are_refused(parts):
    with pytest.raises(ValueError, match='parts'):
        Order(count=10, batch=4, seed=0, parts=parts)


def test_pretraining_uses_the_modalities_of_every_source(tmp_path, sources, train):
    data = Sources(sources, ['kitchen', 'bag', 'blind'])
    outcome, _, losses = train(Pretrain(samples=2 * 6 * 8, batch=8, lr=1e-3), data, tmp_path)
    assert outcome.step == 12 and all(value == value for entry in losses for value in entry.values())
    kinds = sorted(tuple(sorted(entry)) for entry in losses)
    assert kinds == 4 * [('depth', 'rgb')] + 6 * [('depth', 'rgb', 'semseg')] + 2 * [('rgb',)]
    for source, seen in zip(sources, (24, 16, 8)):
        assert {epoch for epoch, _ in source.met} == {0, 1} and len(source.met) == 2 * seen


@pytest.mark.parametrize(('which', 'names'), [(1, {'rgb', 'depth'}), (2, {'rgb'})])
def test_pretraining_works_on_a_bag_alone(tmp_path, sources, train, which, names):
    outcome, _, losses = train(Pretrain(samples=30 * 8, batch=8, lr=3e-3), sources[which], tmp_path)
    assert set(outcome.losses) == names
    assert sum(entry['rgb'] for entry in losses[-10:]) < 0.9 * sum(entry['rgb'] for entry in losses[:10])


def test_questions_from_sources_with_and_without_depth(tmp_path, toys, train):
    plain = Listed([replace(toy, depth=None, clean_depth=None, semseg=None) for toy in toys[:16]])
    data = Sources([Listed(toys), plain], ['kitchen', 'vqav2'])
    _, _, losses = train(Answer(samples=5 * 8, batch=8, lr=1e-3, rehearse=1.0), data, tmp_path)
    assert sorted('depth' in entry for entry in losses) == [False] * 2 + [True] * 3
    assert all({'answer', 'words', 'hidden_rgb'} <= set(entry) for entry in losses)


def test_two_sessions_on_sources_equal_one(tmp_path, sources, train):
    recipe = Pretrain(samples=6 * 8, batch=8, lr=1e-3)
    data = Sources(sources, ['kitchen', 'bag', 'blind'])
    _, whole, _ = train(recipe, data, tmp_path / 'whole')
    train(recipe, data, tmp_path / 'parts', minutes=0)
    _, parts, _ = train(recipe, data, tmp_path / 'parts', resume=True)
    assert all(torch.equal(one, other) for one, other in zip(whole.state_dict().values(), parts.state_dict().values()))
    with pytest.raises(InputError, match=r'with data \[24, 18, 10\]'):
        train(recipe, Sources(sources[:2], ['kitchen', 'bag']), tmp_path / 'parts', resume=True)


def test_a_source_smaller_than_a_batch_is_named(tmp_path, sources, train):
    with pytest.raises(InputError, match='The source blind has 10 samples, fewer than a batch of 12'):
        train(Pretrain(samples=48, batch=12), Sources(sources, ['kitchen', 'bag', 'blind']), tmp_path)


@pytest.mark.parametrize(
    'fields',
    [
        {'samples': 8, 'batch': 8},
        {'lr': 1},
        {'layer_decay': 1.0},
        {'encoder_scale': 1},
        {'warm_up': 0},
        {'weight_decay': 0.999},
        {'average': 0.0},
        {'clip': 1e9},
        {'visible': 1.0},
    ],
)
def test_the_ends_of_the_ranges_are_allowed(fields):
    assert Pretrain(**fields).steps >= 1


@pytest.mark.parametrize(
    ('fields', 'words'),
    [
        ({'samples': 7, 'batch': 8}, 'samples is 7; give at least one batch of 8'),
        ({'batch': True}, 'batch is True; give a whole number from 1'),
        ({'lr': 0}, 'lr is 0; give a number above 0 to 1'),
        ({'lr': 1.1}, 'lr is 1.1; give'),
        ({'layer_decay': 0}, 'layer_decay is 0; give'),
        ({'weight_decay': 1}, 'weight_decay is 1; give a number from 0 to less than 1'),
        ({'warm_up': 1}, 'warm_up is 1; give'),
        ({'average': 1.0}, 'average is 1.0; give'),
        ({'clip': 0}, 'clip is 0; give a number above 0'),
        ({'tokens': -1}, 'tokens is -1; give a whole number from 0'),
        ({'alpha': 0}, 'alpha is 0; give a number above 0'),
        ({'optimiser': 'sgd'}, "optimiser is 'sgd'; give one of adamw, muon"),
    ],
)
def test_values_outside_the_ranges_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        Pretrain(**fields)
