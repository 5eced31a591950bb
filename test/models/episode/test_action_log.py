"""A diary: an entry for an action, the first ones kept, the oldest of the others given up."""

import torch

from m3et_ros.models.episode.action_log import PINNED, Diarist, empty_diary, written

VERBS, NOUNS = 3, 5


def fill(entries, chances):
    """A diary after frames with these chances; the verb of frame i is i modulo 3."""
    diary = empty_diary(1, entries, VERBS, NOUNS, torch.zeros(1))
    for i, chance in enumerate(chances):
        verb = torch.eye(VERBS)[i % VERBS][None]
        diary = written(diary, torch.tensor([chance]), verb, torch.full((1, NOUNS), 1 / NOUNS))
    return diary


def test_one_entry_for_an_action_however_its_end_is_spread():
    for chances in ([0.9], [0.3, 0.3, 0.3], [0.45, 0.5], [0.9, 0.5]):
        diary = fill(12, [0.0, *chances, 0.0, 0.0])
        assert int(diary.count) == 1 and diary.numbers[0].tolist() == [0] + [-1] * 11
    assert int(fill(12, [0.05] * 500).count) == 0
    assert int(fill(12, [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]).count) == 3


def test_the_first_entries_stay_and_of_the_others_the_newest():
    diary = fill(PINNED + 4, [1.0, 0.0, 0.0, 0.0, 0.0] * 200)
    assert int(diary.count) == 200
    assert diary.numbers[0, :PINNED].tolist() == list(range(PINNED))
    assert sorted(diary.numbers[0, PINNED:].tolist()) == [196, 197, 198, 199]
    place = diary.numbers[0].tolist().index(198)
    assert int(diary.verbs[0, place].argmax()) == 198 * 5 % VERBS


def test_what_is_told_of_a_frame_needs_no_later_one():
    torch.manual_seed(0)
    diarist = Diarist(d_in=6, d_percepts=4, d=16, layers=2, verbs=VERBS, nouns=NOUNS).eval()
    tokens, percepts = torch.randn(2, 9, 6), torch.randn(2, 9, 4)
    whole, _ = diarist(tokens, percepts)
    assert whole.verb.shape == (2, 9, VERBS + 1) and whole.finished.shape == (2, 9)
    states = None
    for i in range(9):
        part, states = diarist(tokens[:, i : i + 1], percepts[:, i : i + 1], states)
        assert all(torch.allclose(a[:, i : i + 1], b, atol=1e-5) for a, b in zip(whole, part))
