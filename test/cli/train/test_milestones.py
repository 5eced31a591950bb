"""Milestones: whole checkpoints of the weights that a run would deliver, under their step, and no old ones."""

import pytest
import torch

from m3et_ros.cli.train import milestones as module
from m3et_ros.cli.train.milestones import MILESTONES, milestone_writer, milestones
from m3et_ros.data.checkpoints.m3et import load_checkpoint
from m3et_ros.models.m3et.sizes import build
from m3et_ros.runtime.open_model import open_checkpoint
from m3et_ros.training.run_state import Outcome


@pytest.fixture
def write(tmp_path):
    """Write a milestone of a step with the weights of a seed."""
    start = open_checkpoint('tiny')
    write = milestone_writer(tmp_path, start, lambda outcome: f'step {outcome.step} of {outcome.steps}')

    def at(step, seed=1):
        model = build(start.model.config, seed=seed)
        write(Outcome(step, 100, 8 * step, 1.0, {}), model)
        return model

    return at


def test_a_milestone_is_a_trained_checkpoint_with_the_given_weights(write, tmp_path):
    model = write(12)
    made = load_checkpoint(tmp_path / MILESTONES / '00000012')
    assert made.trained and made.model_id.startswith('tiny@')
    assert all(torch.equal(one, other) for one, other in zip(made.model.parameters(), model.parameters(), strict=True))
    assert (tmp_path / MILESTONES / '00000012/README.md').read_text().endswith('step 12 of 100')


def test_the_two_newest_stay_and_a_step_that_is_reached_again_replaces_its_own(write, tmp_path):
    for step in (3, 9, 20):
        write(step)
    assert [path.name for path in milestones(tmp_path)] == ['00000009', '00000020']
    model = write(20, seed=2)
    assert [path.name for path in milestones(tmp_path)] == ['00000009', '00000020']
    made = load_checkpoint(tmp_path / MILESTONES / '00000020').model
    assert torch.equal(made.global_embedding, model.global_embedding)


def test_half_a_milestone_is_none_and_is_replaced(write, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module.Path, 'rename', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write(5)
    assert milestones(tmp_path) == [] and [path.name for path in (tmp_path / MILESTONES).iterdir()] == ['00000005.part']
    write(5)
    assert [path.name for path in (tmp_path / MILESTONES).iterdir()] == ['00000005']


def test_without_a_milestone_there_is_none(tmp_path):
    assert milestones(tmp_path) == []
