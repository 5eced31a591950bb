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


def test_frames_one_by_one_give_the_memory_of_frames_at_once():
    head, (patches, tokens) = build(), frames()
    whole, state = head.update(head.init_state(2), patches, tokens), head.init_state(2)
    for i in range(7):
        state = head.update(state, patches[:, i : i + 1], tokens[:, i : i + 1])
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(leaves(whole), leaves(state), strict=True))
    asked = questions()
    for a, b in zip(head.read(whole, *asked), head.read(state, *asked)):
        assert torch.allclose(a, b, atol=1e-4)


def test_training_takes_the_slots_that_the_memory_holds():
    head, (patches, tokens) = build(), frames()
    state = head.update(head.init_state(2), patches, tokens)
    slots, after = head.update_slots(head.encode_percepts(patches))
    assert torch.allclose(after, state.slots, atol=1e-5) and slots.shape == (2, 7, 4, 26)
    asked = questions()
    given = head.answer(slots[:, -1], state.newest, state.action_log, *asked)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(given, head.read(state, *asked)))


def test_the_memory_does_not_grow_and_reading_does_not_change_it():
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


def test_answers_depend_on_the_frames_unless_blind():
    (patches, tokens), asked = frames(), questions()
    for blind in (False, True):
        head = build(blind=blind)
        with torch.inference_mode():
            seen = head.read(head.update(head.init_state(2), patches, tokens), *asked)[0]
            other = head.read(head.update(head.init_state(2), -patches, -tokens), *asked)[0]
        assert torch.equal(seen, other) == blind


def test_the_slot_of_a_class_out_of_view_does_not_change():
    head = build()
    percepts = torch.randn(1, 5, 4, head.eye.width)
    percepts[..., -4] = torch.rand(1, 5, 4)
    percepts[:, 2:, 1, -4] = 0
    slots, _ = head.update_slots(percepts)
    assert torch.allclose(slots[:, 1, 1], slots[:, -1, 1], atol=1e-5)
    assert not torch.allclose(slots[:, 1, 0], slots[:, -1, 0], atol=1e-5)


def test_a_word_that_names_a_class_draws_on_its_slot():
    head, (patches, tokens) = build(), frames()
    state = head.update(head.init_state(2), patches, tokens)
    ids, mask, named = questions()
    other = torch.where(named == 1, 2, named)
    assert not torch.allclose(head.read(state, ids, mask, named)[0], head.read(state, ids, mask, other)[0], atol=1e-4)


def test_answers_depend_on_every_part_of_the_memory():
    head, (patches, tokens) = build(), frames()
    state, asked = head.update(head.init_state(2), patches, tokens), questions()
    answers = head.read(state, *asked)[0]
    log = state.action_log.updated(torch.ones(2), torch.eye(3)[[0, 1]], torch.eye(4)[[0, 1]])
    slots = torch.cat([state.slots[:, :52] + 1, state.slots[:, 52:]], 1)
    for other in (state._replace(slots=slots), state._replace(newest=state.newest + 1), state._replace(action_log=log)):
        assert not torch.allclose(head.read(other, *asked)[0], answers, atol=1e-5)


def test_the_recogniser_receives_statistics_and_the_facts_that_actions_change():
    head = build()
    percepts = torch.randn(2, 3, 4, head.eye.width)
    found = head.action_inputs(percepts).unflatten(-1, (4, -1))
    assert found.shape[-1] == 5 + 2  # of the facts of 3 and 2 answers the first lasts
    assert torch.equal(found[..., :5], percepts[..., -5:])
    assert torch.equal(found[..., 5:], head.eye.fact_probabilities(percepts)[..., 3:])


def test_every_size_of_the_config_reaches_its_part():
    head = build(d=24, heads=3, layers=3, blocks=4, d_eye=20, d_value=7, d_slot=9, d_stream=18, entries=11, length=13)
    assert [block.heads for block in head.reader.blocks] == [3] * 4 and head.reader.norm.normalized_shape == (24,)
    assert head.reader.blocks[0].words.heads == 3 and head.reader.places.shape == (13, 24)
    assert len(head.diarist.mixers) == 3 and head.diarist.now.in_features == 18
    assert head.eye.tell.in_features == 20 and head.eye.value.out_features == 7
    state = head.init_state(1)
    assert state.action_log.numbers.shape == (1, 11) and state.action_log.verbs.shape == (1, 11, 3)
    assert state.slots.shape == (1, 2 * 4 * (9 + 5), 1)


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'d': 0}, 'd is 0'),
        ({'heads': 3}, 'heads is 3; give a divisor of d = 16'),
        ({'entries': 1}, 'entries is 1'),
        ({'rate_hz': -1.0}, 'rate_hz is -1'),
        ({'blind': 1}, 'blind is 1'),
        ({'answers': ('yes',), 'fact_answers': (-1, -1, -1, 0, -1)}, '1 answers, pieces of 3'),
        ({'classes': ()}, '0 classes'),
        ({'categories': ()}, '0 categories'),
        ({'facts': (), 'fact_answers': ()}, r'facts is \(\)'),
        ({'facts': (3, 1)}, r'facts is \(3, 1\)'),
        ({'lasting': 3}, 'lasting is 3; give at most the number of facts, 2'),
        ({'fact_answers': (0,)}, 'each of the 5 answers'),
        ({'fact_answers': (2, -1, -1, 1, 3)}, 'give a tuple of whole numbers from -1 to 2'),
        ({'classes': ((40,), (6, 7))}, 'give a tuple of tuples of whole numbers from 0 to 39'),
        ({'layers': True}, 'layers is True'),
    ],
)
def test_other_configs_are_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        EpisodeConfig(**TINY | changes)


@pytest.mark.parametrize(
    'changes',
    [{'lasting': 2}, {'lasting': 0}, {'rate_hz': 1000}, {'rate_hz': 0}, {'entries': 2}, {'classes': ((39,),)}],
)
def test_the_limits_of_a_config_are_accepted(changes):
    config = EpisodeConfig(**TINY | changes)
    assert {name: getattr(config, name) for name in changes} == changes
