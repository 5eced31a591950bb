"""The frame at which each action is asked for, and the scores, against cases made by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from m3et_ros.data.frame import Labels
from m3et_ros.data.kitchen.cache.episodes import Action, EpisodeFrames
from m3et_ros.evaluation.tasks.actions import (
    Answers,
    Examiner,
    References,
    Target,
    action_scores,
    held_out,
    recall5,
    reference_scores,
    targets,
)
from m3et_ros.runtime.open_model import untrained

TAKE, PUT, WASH = 0, 1, 2
STAMPS = np.arange(21) / 2  # up to 10 s
EPISODE = EpisodeFrames(
    '5',
    0,
    STAMPS,
    (Action(0.6, 1.4, TAKE, 0), Action(2.0, 4.0, PUT, 1), Action(6.2, 6.3, WASH, 1), Action(14.0, 15.0, TAKE, 0)),
)


def test_recognition_is_asked_at_the_last_frame_of_an_action():
    found, missing = targets([EPISODE], 'recognition')
    assert found == [Target(0, 2, 0, -1), Target(0, 7, 1, 0)]
    assert missing == {'shorter_than_a_frame': 1, 'outside_the_frames': 1}


def test_anticipation_is_asked_a_second_before():
    """The first action has no frame so early; at 1.0 s none is over; at 5.0 s two are."""
    found, missing = targets([EPISODE], 'anticipation')
    assert found == [Target(0, 2, 1, -1), Target(0, 10, 2, 1)]
    assert missing == {'outside_the_frames': 2}


def test_actions_inside_a_gap_are_left_out():
    """The stream restarts at 6.5 s: it misses the action that ended at 4 s and the second before the one at 6.2 s."""
    stamps = np.concatenate([STAMPS[STAMPS <= 2], STAMPS[STAMPS >= 6.5]])
    episode = replace(EPISODE, stamps=stamps, breaks=(5,), actions=(*EPISODE.actions[:3], Action(8.0, 9.0, PUT, 0)))
    found, missing = targets([episode], 'recognition')
    assert [(target.number, target.frame) for target in found] == [(0, 2), (3, 9)]
    assert missing == {'outside_the_frames': 2}
    found, missing = targets([episode], 'anticipation')
    assert [(target.number, target.frame) for target in found] == [(1, 2), (3, 6)]
    assert missing == {'outside_the_frames': 2}


def test_a_stream_restarts_after_a_gap():
    checkpoint = untrained('tiny', 0)
    head = checkpoint.heads['mambavl']
    tokens = np.random.default_rng(0).standard_normal((21, head.config.d_in)).astype(np.float16)

    def features(*episodes):
        return Examiner(head, tokens, episodes, checkpoint.tokenizer, checkpoint.labels, 16).features

    (whole,) = features(replace(EPISODE, breaks=(8,)))
    parts = features(replace(EPISODE, stamps=STAMPS[:8]), replace(EPISODE, first=8, stamps=STAMPS[8:]))
    assert torch.equal(whole, torch.cat(parts)) and not torch.allclose(whole, features(EPISODE)[0])


def test_recall_is_the_mean_over_classes():
    ranks, classes = np.array([0, 4, 5, 9, 2]), np.array([7, 7, 7, 9, 8])
    found = recall5(ranks, classes, ['a', 'a', 'b', 'b', 'c'])
    assert found['value'] == pytest.approx((2 / 3 + 0 + 1) / 3, abs=1e-6) and found['low'] is None
    many = recall5(np.tile(ranks, 6), np.tile(classes, 6), [str(n // 3) for n in range(30)])
    assert many['value'] == found['value'] and 0 < many['low'] < many['value'] < many['high'] < 1


def test_scores_rank_pairs_by_the_product_and_recall_by_balanced_scores():
    verbs, nouns = np.log([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]]), np.log([[0.7, 0.3], [0.4, 0.6]])
    turned = verbs[:, ::-1].copy(), nouns[:, ::-1].copy()
    pairs = np.array([[TAKE, 0], [WASH, 0]])
    found = action_scores(Answers(verbs, nouns, turned), pairs, ['a', 'b'])
    assert found['verb']['top1']['value'] == 1 and found['noun']['top1']['value'] == 0.5
    assert found['action']['top1']['value'] == 0.5 and found['action']['top5']['value'] == 1
    # With six pairs only the worst is beyond five: turned round, that is what was best.
    assert found['action']['mean_top5_recall']['value'] == 0.5
    assert found['action']['mean_top5_recall_unbalanced']['value'] == 1


def test_nouns_given_verbs_rank_pairs_by_the_chain():
    """take is likelier than wash, but what would be washed is clear, and what would be taken is not."""
    verbs = np.log([[0.45, 0.4, 0.15]])
    nouns = np.log([[[0.5, 0.5], [0.1, 0.9], [0.5, 0.5]]])
    found = action_scores(Answers(verbs, nouns, (verbs, nouns)), np.array([[1, 1]]), ['a'])
    assert found['action']['top1']['value'] == 1 and found['noun']['top1']['value'] == 1
    assert found['verb']['top1']['value'] == 0 and found['verb']['top5']['value'] == 1


def test_baselines_follow_from_labels_alone():
    """In training take is followed by put; the test repeats that once and breaks it once."""
    learnt = [
        EpisodeFrames(
            '0',
            0,
            STAMPS,
            tuple(Action(2.0 * i, 2.0 * i + 1, verb, 0) for i, verb in enumerate((TAKE, PUT, TAKE, PUT, WASH))),
        )
    ]
    tested = EpisodeFrames(
        '1',
        0,
        STAMPS,
        tuple(Action(start, start + 0.5, verb, 0) for start, verb in ((1.0, TAKE), (3.0, PUT), (5.0, PUT))),
    )
    lines = References(learnt).lines([tested], targets([tested], 'anticipation')[0])
    assert [row[0] for row in lines['prior']] == [0, 0, 0]  # take and put are equally common; take was first
    assert [row[0] for row in lines['repeat_last']] == [0, 0, 1000]
    assert [row[0] for row in lines['bigram']] == [0, 1000, 0]  # what begins, what follows take, what follows put
    assert reference_scores(References(learnt), [tested])['repeat_last']['action']['top1']['value'] == pytest.approx(
        2 / 3, abs=1e-6
    )


def test_held_out_pairs_are_known_by_name():
    labels = Labels((), (), (), ('take', 'wash'), ('cup', 'pan'))
    assert held_out(np.array([[1, 0], [0, 0], [1, 1]]), labels).tolist() == [True, False, False]
