"""Ranked actions and the live stream, checked against numbers made by hand."""

import pytest
import torch

from m3et_ros.data.frame import Labels
from m3et_ros.runtime import action_stream
from m3et_ros.runtime.action_stream import ActionStream, ranked_actions
from m3et_ros.runtime.open_model import untrained

LABELS = Labels((), (), (), ('take', 'wash'), ('cup', 'pan', 'tap'), (0, 2), (13, 5, 1000))


def test_a_pair_scores_the_product_of_its_parts():
    verbs, nouns = torch.tensor([0.25, 0.75]).log(), torch.tensor([0.5, 0.3, 0.2]).log()
    actions = ranked_actions(verbs, nouns, LABELS, 4)
    assert [r.label for r in actions.verbs] == ['wash', 'take'] and [r.id for r in actions.verbs] == [2, 0]
    assert [r.label for r in actions.nouns] == ['cup', 'pan', 'tap']
    assert [(r.label, r.id) for r in actions.actions] == [
        ('wash cup', 2013),
        ('wash pan', 2005),
        ('wash tap', 3000),
        ('take cup', 13),
    ]
    assert [r.score for r in actions.actions] == pytest.approx([0.375, 0.225, 0.15, 0.125])


def test_nouns_may_depend_on_the_verb():
    verbs, nouns = torch.tensor([0.4, 0.6]).log(), torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5]]).log()
    actions = ranked_actions(verbs, nouns, LABELS, 3)
    assert [(r.label, r.id) for r in actions.actions] == [('take cup', 13), ('wash tap', 3000), ('wash pan', 2005)]
    assert [r.score for r in actions.actions] == pytest.approx([0.36, 0.3, 0.18])
    assert [r.label for r in actions.nouns] == ['cup', 'tap', 'pan']
    assert [r.score for r in actions.nouns] == pytest.approx([0.48, 0.3, 0.22])


def test_a_pair_is_named_in_words_and_its_parts_by_their_keys():
    labels = Labels((), (), (), ('turn-on',), ('board:chopping',), (6,), (40,))
    actions = ranked_actions(torch.zeros(1), torch.zeros(1), labels, 1)
    (verb,), (noun,), (pair,) = actions.verbs, actions.nouns, actions.actions
    assert (verb.label, noun.label, pair.label) == ('turn-on', 'board:chopping', 'turn on chopping board')


@pytest.mark.parametrize(('top_k', 'lengths'), [(1, (1, 1, 1)), (2, (2, 2, 2)), (3, (2, 3, 3)), (50, (2, 3, 6))])
def test_lists_have_top_k_entries_or_all_there_are(top_k, lengths):
    actions = ranked_actions(torch.zeros(2), torch.zeros(3), LABELS, top_k)
    assert tuple(map(len, (actions.verbs, actions.nouns, actions.actions))) == lengths


@pytest.fixture
def stream():
    return ActionStream(untrained('tiny', 0))


@pytest.fixture
def encodings():
    """Image encodings of four frames by a tiny model."""
    model, random = untrained('tiny', 0).model.eval(), torch.Generator().manual_seed(0)
    with torch.inference_mode():
        return [model.encode_images({'rgb': torch.randn(1, 3, 32, 32, generator=random)}) for _ in range(4)]


def stored(stream):
    return torch.cat([part.flatten().clone() for part in (*stream._state.mixer, *stream._state[1:])])


def milliseconds(count):
    return count * 1_000_000


def test_the_state_of_the_stream_does_not_grow(stream, encodings):
    before = len(stored(stream))
    with torch.inference_mode():
        for i in range(50):
            assert stream.update(encodings[i % 4], milliseconds(200 * i)) == ''
    assert len(stored(stream)) == before


def test_the_state_takes_frames_at_its_own_rate_and_answers_at_the_cameras(stream, encodings):
    """At 20 frames a second every eighth is kept: the state is that of a camera of 2.5 frames a second."""
    slow = ActionStream(untrained('tiny', 0))
    with torch.inference_mode():
        answers = set()
        for i in range(32):
            stream.update(encodings[i // 8 if i % 8 == 0 else 3 - i // 8], milliseconds(5000 + i * 50.1))
            answers.add(stream.read('', 1)[0].verbs[0].score)
            if i % 8 == 0:
                slow.update(encodings[i // 8], milliseconds(5000 + i * 50.1))
    torch.testing.assert_close(stored(stream), stored(slow))
    assert len(answers) > 4


def test_frames_in_between_cost_nothing_where_nobody_reads_and_the_state_is_the_same(stream, encodings, monkeypatch):
    read, made = ActionStream(untrained('tiny', 0)), []
    token = stream.token
    monkeypatch.setattr(stream, 'token', lambda images: made.append(1) or token(images))
    with torch.inference_mode():
        for i in range(20):
            assert stream.update(encodings[i % 4], milliseconds(5000 + i * 50.1), unread=True) == ''
            read.update(encodings[i % 4], milliseconds(5000 + i * 50.1))
        assert len(made) == 3 and torch.equal(stored(stream), stored(read))
        for one in (stream, read):
            one.update(encodings[1], milliseconds(5000 + 20 * 50.1))
        assert stream.read('', 3) == read.read('', 3)
        assert stream.update(encodings[0], milliseconds(100_000), unread=True) == 'stream_gap'


@pytest.mark.parametrize(('step', 'why'), [(200, ''), (0, ''), (5000, ''), (5001, 'stream_gap'), (-1, 'stream_back')])
def test_a_jump_of_the_clock_begins_a_new_stream(stream, encodings, step, why):
    fresh = ActionStream(untrained('tiny', 0))
    with torch.inference_mode():
        stream.update(encodings[0], milliseconds(10_000))
        assert stream.update(encodings[1], milliseconds(10_000 + step)) == why
        fresh.update(encodings[1], 0)
    assert torch.equal(stored(stream), stored(fresh)) == bool(why)


def test_jumps_are_all_reported_and_logged_once_in_a_while(stream, encodings, caplog, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(action_stream.time, 'monotonic', lambda: now[0])
    with torch.inference_mode():
        stream.update(encodings[0], milliseconds(100_000))
        why = [stream.update(encodings[0], milliseconds(100_000 - n)) for n in range(1, 6)]
        now[0] = action_stream.WARN_EVERY_S
        stream.update(encodings[0], 0)
    assert why == ['stream_back'] * 5 and caplog.text.count('begins anew') == 2


def test_present_actions_score_little_where_the_head_sees_no_activity(stream, encodings):
    with torch.inference_mode():
        stream.update(encodings[0], 0)
        stream._head.busy_head[-1].weight.zero_()
        scores = {}
        for logit in (9.0, -3.0):
            stream._head.busy_head[-1].bias.fill_(logit)
            now, following = stream.read('', 10**6)
            scores[logit] = sum(ranked.score for ranked in now.actions)
            assert sum(ranked.score for ranked in following.actions) == pytest.approx(1, abs=1e-4)
    assert scores == pytest.approx({9.0: 0.99988, -3.0: 0.04743}, abs=1e-4)


def test_an_instruction_steers_what_comes_next_and_nothing_else(stream, encodings):
    with torch.inference_mode():
        stream.update(encodings[0], 0)
        now, following = stream.read('', 3)
        same_now, steered = stream.read('wash the cup', 3)
    assert now == same_now and following != steered
