"""The action log: one entry per action, the first entries pinned, the oldest of the others overwritten."""

import pytest
import torch

from m3et_ros.models.episode.action_log import (
    PINNED,
    THRESHOLD,
    ActionReadout,
    ActionRecogniser,
    action_logs,
    empty_action_log,
)

VERBS, NOUNS = 3, 5


def fill(entries, chances):
    """Return the log after frames with these probabilities; the verb of frame i is i modulo 3."""
    log = empty_action_log(1, entries, VERBS, NOUNS, torch.zeros(1))
    for i, chance in enumerate(chances):
        verb = torch.eye(VERBS)[i % VERBS][None]
        log = log.updated(torch.tensor([chance]), verb, torch.full((1, NOUNS), 1 / NOUNS))
    return log


def recogniser(layers=2):
    torch.manual_seed(0)
    return ActionRecogniser(d_in=6, d_percepts=4, d=16, layers=layers, verbs=VERBS, nouns=NOUNS).eval()


def test_an_action_has_one_entry_however_its_end_is_spread():
    for chances in ([0.9], [0.3, 0.3, 0.3], [0.45, 0.5], [0.9, 0.5]):
        log = fill(12, [0.0, *chances, 0.0, 0.0])
        assert int(log.total) == 1 and log.numbers[0].tolist() == [0] + [-1] * 11
    assert int(fill(12, [0.05] * 500).total) == 0
    assert int(fill(12, [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]).total) == 3


def test_the_threshold_itself_makes_an_entry():
    assert int(fill(12, [THRESHOLD]).total) == 1
    assert int(fill(12, [THRESHOLD - 1e-3]).total) == 0


def test_the_first_entries_stay_and_of_the_others_the_newest():
    log = fill(PINNED + 4, [1.0, 0.0, 0.0, 0.0, 0.0] * 200)
    assert int(log.total) == 200
    assert log.numbers[0, :PINNED].tolist() == list(range(PINNED))
    assert sorted(log.numbers[0, PINNED:].tolist()) == [196, 197, 198, 199]
    place = log.numbers[0].tolist().index(198)
    assert int(log.verbs[0, place].argmax()) == 198 * 5 % VERBS


def test_a_short_log_pins_all_entries_but_one():
    log = fill(3, [1.0, 0.0, 0.0, 0.0, 0.0] * 9)
    assert log.numbers[0].tolist() == [0, 1, 8]


def test_logs_follow_the_readout_frame_by_frame():
    readout = ActionReadout(
        verb=torch.zeros(1, 3, VERBS + 1),
        noun=torch.zeros(1, 3, NOUNS),
        finished=torch.tensor([[-9.0, 9.0, -9.0]]),
        done_verb=9 * torch.eye(VERBS)[None, [0, 1, 2]],
        done_noun=9 * torch.eye(NOUNS)[None, [0, 4, 2]],
        stream=torch.zeros(1, 3, 16),
    )
    logs = action_logs(readout, empty_action_log(1, 4, VERBS, NOUNS, torch.zeros(1)))
    assert [int(log.total) for log in logs] == [0, 1, 1]
    assert (int(logs[-1].verbs[0, 0].argmax()), int(logs[-1].nouns[0, 0].argmax())) == (1, 4)
    assert float(logs[-1].verbs[0, 0].sum()) == pytest.approx(1)


def test_rows_select_episodes():
    log = empty_action_log(3, 4, VERBS, NOUNS, torch.zeros(1))
    log = log.updated(torch.tensor([0.0, 1.0, 0.0]), torch.zeros(3, VERBS), torch.zeros(3, NOUNS))
    assert log.at(torch.tensor([1, 1, 0])).total.tolist() == [1, 1, 0]


def test_the_readout_of_a_frame_needs_no_later_one():
    model, tokens, percepts = recogniser(), torch.randn(2, 9, 6), torch.randn(2, 9, 4)
    whole, _ = model(tokens, percepts)
    assert whole.verb.shape == (2, 9, VERBS + 1) and whole.finished.shape == (2, 9)
    states = None
    for i in range(9):
        part, states = model(tokens[:, i : i + 1], percepts[:, i : i + 1], states)
        assert all(torch.allclose(a[:, i : i + 1], b, atol=1e-5) for a, b in zip(whole, part))


def test_every_head_reads_its_own_logits():
    model, tokens, percepts = recogniser(), torch.randn(1, 3, 6), torch.randn(1, 3, 4)
    readout, _ = model(tokens, percepts)
    for name, head in (
        ('verb', model.now),
        ('noun', model.noun),
        ('done_verb', model.done_verb),
        ('done_noun', model.done_noun),
    ):
        assert torch.equal(getattr(readout, name), head(readout.stream)), name
    assert torch.equal(readout.finished, model.finished(readout.stream)[..., 0])


@pytest.mark.parametrize('layers', [1, 3])
def test_there_is_a_state_for_each_layer(layers):
    model = recogniser(layers)
    assert len(model.init_states(2)) == len(model.mixers) == layers
    _, states = model(torch.randn(2, 1, 6), torch.randn(2, 1, 4))
    assert len(states) == layers
