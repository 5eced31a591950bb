"""The memory of an episode: constant size, the same in one go as frame by frame, and read without being changed."""

import pytest
import torch

from m3et_ros.models.episode.model import EpisodeConfig, EpisodeHead

TINY = {
    'd_patch': 24,
    'd_in': 12,
    'grid': 3,
    'vocabulary': 40,
    'length': 12,
    'verbs': 3,
    'nouns': 4,
    'classes': ((5,), (6, 7), (8,), (9,)),
    'answers': ('yes', 'no', 'take cup'),
    'answer_pieces': ((10,), (11,), (12, 5)),
    'categories': ('state', 'history'),
    'facts': (3, 2),
    'lasting': 1,
    'fact_answers': (2, -1, -1, 1, 0),
    'd': 16,
    'd_eye': 16,
    'd_value': 6,
    'd_slot': 8,
    'd_stream': 16,
    'entries': 10,
}


def build(**changes):
    torch.manual_seed(0)
    return EpisodeHead(EpisodeConfig(**TINY | changes)).eval()


def frames(B=2, L=7):
    torch.manual_seed(1)
    return torch.randn(B, L, 9, 24), torch.randn(B, L, 12)


def questions(B=2, Q=3, T=6):
    named = torch.full((B, Q, T), -1)
    named[:, :, 2] = 1
    return torch.randint(40, (B, Q, T)), torch.ones(B, Q, T, dtype=torch.bool), named


def leaves(state):
    return [state] if isinstance(state, torch.Tensor) else [leaf for part in state for leaf in leaves(part)]


def test_frame_by_frame_is_as_good_as_in_one_go():
    head, (patches, tokens) = build(), frames()
    whole, state = head.update(head.init_state(2), patches, tokens), head.init_state(2)
    for i in range(7):
        state = head.update(state, patches[:, i : i + 1], tokens[:, i : i + 1])
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(leaves(whole), leaves(state), strict=True))
    asked = questions()
    for a, b in zip(head.read(whole, *asked), head.read(state, *asked)):
        assert torch.allclose(a, b, atol=1e-4)


def test_what_is_learnt_from_is_what_is_remembered():
    """Slots of a whole episode, as training takes them, are those of the state."""
    head, (patches, tokens) = build(), frames()
    state = head.update(head.init_state(2), patches, tokens)
    kept, after = head.keep(head.look(patches))
    assert torch.allclose(after, state.slots, atol=1e-5) and kept.shape == (2, 7, 4, 26)
    asked = questions()
    given = head.answer(kept[:, -1], state.newest, state.diary, *asked)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(given, head.read(state, *asked)))


def test_the_state_does_not_grow_and_reading_leaves_it_alone():
    head, (patches, tokens) = build(), frames(1, 50)
    sizes = []
    with torch.inference_mode():
        state = head.init_state(1)
        for _ in range(20):
            state = head.update(state, patches, tokens)
            sizes.append(sum(leaf.numel() for leaf in leaves(state)))
        before = [leaf.clone() for leaf in leaves(state)]
        head.read(state, *questions(1))
    assert len(set(sizes)) == 1 and all(torch.isfinite(leaf).all() for leaf in leaves(state))
    assert all(torch.equal(a, b) for a, b in zip(before, leaves(state)))


def test_pads_and_other_questions_change_nothing():
    head, (patches, tokens) = build(), frames()
    state = head.update(head.init_state(2), patches, tokens)
    ids, mask, named = questions()
    alone = head.read(state, ids[:, :1], mask[:, :1], named[:, :1])[0]
    longer = [
        torch.nn.functional.pad(part, (0, 2), value=value) for part, value in ((ids, 0), (mask, False), (named, -1))
    ]
    assert torch.allclose(head.read(state, *longer)[0][:, :1], alone, atol=1e-5)


def test_answers_rest_on_what_was_seen_unless_blind():
    (patches, tokens), asked = frames(), questions()
    for blind in (False, True):
        head = build(blind=blind)
        with torch.inference_mode():
            seen = head.read(head.update(head.init_state(2), patches, tokens), *asked)[0]
            other = head.read(head.update(head.init_state(2), -patches, -tokens), *asked)[0]
        assert torch.equal(seen, other) == blind


def test_a_class_that_is_out_of_view_stands_still():
    head = build()
    percepts = torch.randn(1, 5, 4, head.eye.width)
    percepts[..., -4] = torch.rand(1, 5, 4)
    percepts[:, 2:, 1, -4] = 0
    kept, _ = head.keep(percepts)
    assert torch.allclose(kept[:, 1, 1], kept[:, -1, 1], atol=1e-5)
    assert not torch.allclose(kept[:, 1, 0], kept[:, -1, 0], atol=1e-5)


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'d': 0}, 'd is 0'),
        ({'entries': 1}, 'entries is 1'),
        ({'rate_hz': -1.0}, 'rate_hz is -1'),
        ({'blind': 1}, 'blind is 1'),
        ({'answers': ('yes',)}, '1 answers and pieces of 3'),
        ({'classes': ()}, '0 classes'),
        ({'facts': ()}, 'facts is'),
        ({'lasting': 3}, 'lasting 3'),
        ({'fact_answers': (0,)}, 'fact_answers is'),
        ({'layers': True}, 'layers is True'),
    ],
)
def test_sizes_are_checked(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        EpisodeConfig(**TINY | changes)
