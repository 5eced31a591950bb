"""The action log and the answers of a memory: targets, wordings, padding, and causality."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from m3et_ros.data.class_names import QuestionEncoder
from m3et_ros.data.features.episodes import EncodedEpisodes
from m3et_ros.data.kitchen.cache.episodes import Action, EpisodeFrames
from m3et_ros.models.episode.percepts import PEAK
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.session import Session
from m3et_ros.training.memory.answers import (
    EACH,
    ActionLogEpisodes,
    ActionLogRecipe,
    AnswerRecipe,
    CollateQuestions,
    QuestionEpisodes,
    answer_logits,
    collate_action_logs,
    count_finished,
)


def test_the_memory_in_training_equals_the_memory_of_the_robot(trained, encoded, cache, checkpoint):
    """The live memory, frame by frame, stands where the training's pass over the cache stands."""
    from m3et_ros.data.features.episodes import disturbed
    from m3et_ros.data.frame import Frame
    from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
    from m3et_ros.evaluation.tasks.eqa_cached import asked_questions, memory_answers

    _, head, _ = trained
    frames, episode = KitchenSamples([cache], questions=False), encoded.episodes[1]
    session = Session(Engine(replace(checkpoint, heads={'episode': head})))
    for n in range(episode.question_points[0].frame + 1):
        sample = disturbed(frames[episode.first + n], True)
        session.observe(Frame(sample.rgb, sample.depth, stamp_ns=int(1e9 + 5e8 * n)))
    questions = asked_questions(encoded.episodes)
    encoder = QuestionEncoder(checkpoint.tokenizer, checkpoint.labels.classes, head.config.length)
    given = memory_answers(head, replace(encoded, episodes=[episode]), [[questions[1][0]]], encoder)
    assert len(given) == len(questions[1][0]) > 10
    views = session.views('episode')
    for one in given:
        reply = session.ask(one.question, views, scope='episode', top_k=1)
        assert reply.confidence == pytest.approx(one.confidence, abs=2e-3)
    alone = memory_answers(head, replace(encoded, episodes=[episode]), [[questions[1][0]]], encoder, last=True)
    assert [one.confidence for one in alone] != [one.confidence for one in given]


def test_later_frames_change_no_answer(trained, encoded, checkpoint):
    _, head, _ = trained
    encoder = QuestionEncoder(checkpoint.tokenizer, checkpoint.labels.classes, head.config.length)
    lesson = QuestionEpisodes(head, encoded)[0]
    batch, _ = CollateQuestions(encoder)([lesson])
    with torch.inference_mode():
        before = answer_logits(head, batch)[0]
        batch['percepts'][:, int(batch['frames'][0, 0]) + 1 :] = torch.randn_like(batch['percepts'][:, :1])
        after = answer_logits(head, batch)[0]
    assert torch.allclose(before[0], after[0], atol=1e-5) and not torch.allclose(before[1], after[1], atol=1e-5)


def test_questions_are_worded_anew_in_every_epoch_and_episodes_are_padded(trained, encoded, checkpoint):
    _, head, _ = trained
    encoder = QuestionEncoder(checkpoint.tokenizer, checkpoint.labels.classes, head.config.length)
    lessons = QuestionEpisodes(head, encoded)
    first, same = lessons[0], lessons[0]
    assert first['questions'] == same['questions'] and len(first['questions']) == 2 * EACH
    lessons.epoch = 1
    assert lessons[0]['questions'] != first['questions'] and (lessons[0]['answers'] == first['answers']).all()
    cut = replace(
        encoded,
        episodes=[
            replace(encoded.episodes[0], question_points=encoded.episodes[0].question_points[:1]),
            encoded.episodes[1],
        ],
    )
    short = QuestionEpisodes(head, cut)[0]
    assert (short['answers'][1] == -1).all() and (short['answers'][0] == first['answers'][0]).all()
    batch, _ = CollateQuestions(encoder, 8)([short, QuestionEpisodes(head, cut)[1]])
    assert batch['answers'].shape == (4, 8) and batch['ids'].shape[:2] == (4, 8)
    drafts = encoded.episodes[0].question_points[0].drafts
    assert [head.config.answers[i] for i in first['answers'][0][: len(drafts)]] == [draft[1] for _, draft in drafts]


def test_actions_are_over_when_they_end():
    episode = EpisodeFrames('0', 0, np.arange(8) * 0.4, (Action(0.3, 0.8, 1, 2), Action(1.0, 2.3, 0, 3)))
    assert count_finished(episode).tolist() == [0, 0, 1, 1, 1, 1, 2, 2]
    encoded = EncodedEpisodes(
        [episode, EpisodeFrames('1', 8, np.arange(10) * 0.4, ())],
        np.zeros((18, 4, 9), np.float16),
        np.zeros((18, 6), np.float16),
    )
    rows = ActionLogEpisodes(encoded)
    first = rows[0]
    assert first['fired'].tolist() == [0, 0, 1, 0, 0, 0, 1, 0, 0, 0] and first['there'].sum() == 8
    assert first['now'][:8, 0].tolist() == [-1, 1, -1, 0, 0, 0, -1, -1]
    assert first['last'][:8, 1].tolist() == [-1, -1, 2, 2, 2, 2, 3, 3]
    assert first['weight'][:8].tolist() == pytest.approx([0.2, 0.2, 1, 1, 1, 1, 1, 1])
    assert collate_action_logs([first, rows[1]])[0]['tokens'].shape == (2, 10, 6)


def test_blanked_frames_leave_no_trace(trained, encoded, checkpoint):
    _, head, _ = trained
    encoder = QuestionEncoder(checkpoint.tokenizer, checkpoint.labels.classes, head.config.length)
    batch, _ = CollateQuestions(encoder)([QuestionEpisodes(head, encoded)[0]])
    before = batch['percepts'][..., PEAK].clone()
    with torch.inference_mode():
        open_eyes = answer_logits(head, batch)[0]
        shut = answer_logits(head, batch, blinks=0.99, generator=torch.Generator().manual_seed(0))[0]
    assert not torch.allclose(open_eyes, shut) and torch.equal(before, batch['percepts'][..., PEAK])


def test_naming_the_last_action_has_full_weight_for_four_frames():
    episode = EpisodeFrames('0', 0, np.arange(8) * 0.4, (Action(0.3, 0.8, 1, 2),))
    row = ActionLogEpisodes(EncodedEpisodes([episode], np.zeros((8, 4, 9), np.float16), np.zeros((8, 6), np.float16)))[
        0
    ]
    assert row['weight'].tolist() == pytest.approx([0.2, 0.2, 1, 1, 1, 1, 0.2, 0.2])


def test_options_of_the_action_log_reach_their_losses(trained, encoded):
    _, head, _ = trained
    data = ActionLogEpisodes(encoded)
    batch, keys = collate_action_logs([data[0], data[1]])
    assert len(keys) == 2

    def losses(given=batch, **options):
        with torch.no_grad():
            recipe = ActionLogRecipe(**{'dropout': 0.0} | options)
            return recipe.losses(head, given, torch.Generator().manual_seed(0))

    one = losses()
    assert losses(ends=6.0)['finished'].item() == pytest.approx(2 * one['finished'].item())
    smooth, dropped = losses(smoothing=0.5), losses(dropout=0.9)
    assert {name for name in one if smooth[name] != one[name]} == set(one) - {'finished'}
    assert all(dropped[name] != one[name] for name in one)
    padded = {name: torch.cat([value, torch.zeros_like(value[:, :3])], 1) for name, value in batch.items()}
    for name, value in losses(padded).items():
        torch.testing.assert_close(value, one[name])


def test_options_of_the_answers_reach_their_losses(trained, encoded, checkpoint):
    _, head, _ = trained
    encoder = QuestionEncoder(checkpoint.tokenizer, checkpoint.labels.classes, head.config.length)
    batch, _ = CollateQuestions(encoder, 8)([QuestionEpisodes(head, encoded)[0]])

    def losses(**options):
        with torch.no_grad():
            recipe = AnswerRecipe(**{'blinks': 0.0} | options)
            return recipe.losses(head, batch, torch.Generator().manual_seed(0))

    one, smooth, weighted = losses(), losses(smoothing=0.5), losses(categories=0.3)
    assert smooth['answers'] != one['answers'] and smooth['categories'] == one['categories']
    assert weighted['answers'] == one['answers']
    assert weighted['categories'].item() == pytest.approx(3 * one['categories'].item())
    assert losses(blinks=0.9)['answers'] != one['answers']
