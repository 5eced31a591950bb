"""Train an action head and its idle detection in a world where a token identifies the action."""

import numpy as np
import pytest
import torch
from action_world import LABELS, RATE, WIDTH, build, world

from m3et_ros.data.action_questions import NEXT, NOW
from m3et_ros.data.kitchen.labels import corpus
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.evaluation.tasks.actions import Examiner, examine, examine_idle_detection
from m3et_ros.training.actions import (
    Act,
    CollateWindows,
    Windows,
    count_priors,
    frame_features,
    train_head,
    train_idle_detection,
)
from m3et_ros.training.run_state import TrainingSession, read_header


@pytest.fixture(scope='module')
def tokenizer():
    return Tokenizer.train(corpus(), vocabulary=200)


def test_a_window_asks_for_what_is_done_there_and_what_comes_a_second_later():
    tokens, episodes = world(4, 0)
    data = Windows(tokens, episodes, LABELS, length=50, asked=8)
    assert len(data) == 8
    windows = [data[i] for i in range(8)]
    for window in windows:
        seed, start = int(window.key.split()[1]), int(window.key.split()[3])
        episode = episodes[seed]
        np.testing.assert_array_equal(window.tokens, tokens[100 * seed + start : 100 * seed + start + 50])
        for place, now, following, last in zip(window.places, window.now, window.next, window.last):
            stamp = (start + place) / RATE
            under_way = [(a.verb, a.noun) for a in episode.actions if a.start_s <= stamp < a.stop_s]
            later = [(a.verb, a.noun) for a in episode.actions if a.start_s >= stamp + 1 - 1e-9]
            begun = [(a.verb, a.noun) for a in episode.actions if a.start_s <= stamp]
            assert tuple(now) == (under_way or [(-1, -1)])[0] and tuple(following) == (later or [(-1, -1)])[0]
            assert tuple(last) == ([(-1, -1)] + begun)[-1]
    pairs = [pair for window in windows for pair in window.questions]
    assert len(windows[0].questions) == 24 and {NOW, NEXT} < set(pairs)
    assert any('[MASK]' in noun for noun, _ in pairs) and any('After the action' in noun for noun, _ in pairs)
    assert (data[3].tokens == windows[3].tokens).all()
    data.epoch = 1
    assert any(data[i].key != windows[i].key for i in range(8))
    assert set(Windows(tokens, episodes, LABELS, length=50, ask=False)[0].questions) == {('', '')}
    with pytest.raises(ValueError, match='no episode has 200 frames'):
        Windows(tokens, episodes, LABELS, length=200)


def test_a_head_learns_to_recognise_and_to_anticipate(tmp_path, tokenizer):
    """The order of the actions is fixed, so what comes next can be known; guessing finds one in nine."""
    tokens, episodes = world(24, 1)
    head = build(tokenizer)
    recipe = Act(samples=1280, batch=8, lr=5e-3, dropout=0.0, smoothing=0.0)
    outcome, trained, main = train_head(
        head, Windows(tokens, episodes, LABELS, length=40), tokenizer, 20, tmp_path / 'run', recipe=recipe
    )
    assert main and outcome.step == 160
    tested = world(6, 2)
    found = examine(Examiner(trained.eval(), *tested, tokenizer, LABELS, 20))
    assert found['recognition']['generic']['all']['action']['top1']['value'] > 0.9
    assert all(found['anticipation'][way]['all']['action']['top1']['value'] > 0.4 for way in ('generic', 'chain'))
    assert found['recognition']['chain']['all']['action']['top1']['value'] > 0.9
    assert found['anticipation']['generic']['all']['samples'] == 48 - found['anticipation']['left_out'].get(
        'outside_the_frames', 0
    )
    assert set(found['recognition']) == {'left_out', 'generic', 'masked', 'two_pass', 'chain', 'oracle'}


def test_priors_are_shares_of_the_classes_and_where_the_head_starts(tokenizer):
    _, episodes = world(10, 3)
    head = build(tokenizer, hidden=0)
    count_priors(head, episodes)
    verbs = [action.verb for episode in episodes for action in episode.actions]
    torch.testing.assert_close(
        head.verb_prior.exp(), torch.tensor([(verbs.count(verb) + 0.5) / (len(verbs) + 1.5) for verb in range(3)])
    )
    assert torch.equal(head.verb_head.bias, head.verb_prior)


def test_transitions_are_counted_and_combined_with_the_predictions_of_the_head(tokenizer):
    """wash follows put follows take, and after three of them comes the next noun."""
    _, episodes = world(10, 3)
    head = build(tokenizer, follow=True)
    count_priors(head, episodes)
    torch.testing.assert_close(head.follows.sum(1), torch.ones(9))
    torch.testing.assert_close(head.pair_prior.exp().sum(), torch.tensor(1.0))
    surely = torch.full((1, 3, 3), -9.0).index_put(
        (torch.tensor(0), torch.tensor(1), torch.tensor(2)), torch.tensor(9.0)
    )
    flat = torch.zeros(1, 3), torch.zeros(1, 3, 3)
    verbs, nouns = head.anticipate((surely.logsumexp(2), surely), flat)
    assert verbs.argmax() == 2 and nouns[0, 2].argmax() == 2
    torch.testing.assert_close((verbs[..., None] + nouns).exp().sum(), torch.tensor(1.0))
    with pytest.raises(ValueError, match='follow=True'):
        build(tokenizer).anticipate(flat, flat)


def test_frames_without_an_action_count_for_nothing(tokenizer):
    tokens, episodes = world(4, 0)
    batch, keys = CollateWindows(tokenizer, 20)([Windows(tokens, episodes, LABELS, length=50, asked=8)[0]])
    batch['now'][:] = -1
    found = Act(dropout=0.0).losses(build(tokenizer), batch, torch.Generator().manual_seed(0))
    assert found['now_verb'] == found['now_noun'] == 0 and found['next_verb'] > 0 and len(keys) == 1


@pytest.mark.parametrize('field', ['smoothing', 'dropout'])
def test_fields_out_of_range_are_refused_by_name(field):
    with pytest.raises(ValueError, match=field):
        Act(**{field: 1.0})


def test_idle_detection_works_on_unseen_frames_and_changes_nothing_else(tokenizer):
    head = build(tokenizer, busy=24, fade=2)
    before = {name: value.clone() for name, value in head.state_dict().items() if not name.startswith('busy_head')}
    loss = train_idle_detection(head, *world(60, 1))
    assert all(torch.equal(value, head.state_dict()[name]) for name, value in before.items())
    found = examine_idle_detection(Examiner(head, *world(10, 2), tokenizer, LABELS, 20))
    assert loss < 0.5 and found['accuracy']['value'] > 0.8 and found['auroc'] > 0.85
    assert found['frames'] == 1000 and found['within'] == np.mean([e.now() >= 0 for e in world(10, 2)[1]])


def test_the_same_seed_trains_the_same_idle_detection(tokenizer):
    heads = [build(tokenizer, busy=8) for _ in range(2)]
    assert train_idle_detection(heads[0], *world(4, 1)) == train_idle_detection(heads[1], *world(4, 1))
    assert all(torch.equal(a, b) for a, b in zip(heads[0].parameters(), heads[1].parameters()))


def test_frame_features_equal_those_of_a_stream(tokenizer):
    head, (tokens, episodes) = build(tokenizer, busy=8), world(2, 1)
    features, under_way = frame_features(head, tokens, episodes)
    state = head.init_stream(1)
    for number in range(3):
        state = head.update(state, torch.from_numpy(tokens[100 + number]).float().view(1, 1, WIDTH))
    torch.testing.assert_close(head.stream_features(state)[0], features[102], atol=1e-5, rtol=0)
    assert under_way.tolist() == [n >= 0 for e in episodes for n in e.now()]


def test_a_head_without_idle_detection_is_refused(tokenizer):
    head = build(tokenizer)
    with pytest.raises(ValueError, match='build it with busy > 0'):
        head.activity_logits(torch.zeros(1, 24))


def test_episodes_of_exactly_a_window_are_used(tokenizer):
    assert len(Windows(*world(4, 0), LABELS, length=100)) == 4
    with pytest.raises(ValueError, match='no episode has 101 frames'):
        Windows(*world(4, 0), LABELS, length=101)


def test_smoothing_and_dropout_reach_the_losses(tokenizer):
    batch, _ = CollateWindows(tokenizer, 20)([Windows(*world(4, 0), LABELS, length=50, asked=8)[0]])
    head = build(tokenizer)
    bare, smooth, dropped = (
        Act(**{'dropout': 0.0, 'smoothing': 0.0} | options).losses(head, batch, torch.Generator().manual_seed(0))
        for options in ({}, {'smoothing': 0.5}, {'dropout': 0.5})
    )
    assert all(bare[name] != smooth[name] and bare[name] != dropped[name] for name in bare)


def test_a_session_trains_with_the_given_seed_and_questions_and_resumes_with_its_priors(tokenizer, tmp_path):
    tokens, episodes = world(4, 1)
    data = Windows(tokens, episodes, LABELS, length=40)
    recipe = Act(samples=8, batch=4)
    head = build(tokenizer)
    first, _, _ = train_head(
        head, data, tokenizer, 20, tmp_path, recipe=recipe, seed=5, session=TrainingSession(minutes=0.0)
    )
    assert first.step == 1 and not first.finished and read_header(tmp_path)['seed'] == 5
    trained = head.verb_head.bias.clone() if hasattr(head.verb_head, 'bias') else head.verb_head[-1].bias.clone()
    again = build(tokenizer)
    again.load_state_dict(head.state_dict())
    again.verb_prior.zero_()
    second, resumed, _ = train_head(
        again, data, tokenizer, 20, tmp_path, recipe=recipe, seed=5, session=TrainingSession(resume=True)
    )
    assert second.finished and torch.equal(resumed.verb_prior, head.verb_prior) and trained.isfinite().all()


def test_questions_are_cut_at_the_given_length(tokenizer, tmp_path):
    window = Windows(*world(4, 0), LABELS, length=50, asked=8)[0]
    lengths = [CollateWindows(tokenizer, length)([window])[0]['noun_ids'].shape[1] for length in (4, 20)]
    assert lengths[0] == 4 < lengths[1] <= 20
