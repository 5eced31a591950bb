"""Questions to a small real model, and the scores of its predictions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from m3et_ros.data.calibration import Calibration
from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS
from m3et_ros.data.sample import collate
from m3et_ros.evaluation.predictions import Prediction
from m3et_ros.evaluation.tasks.vqa import NOISE, ask, gap, scores_of, subset_samples, vqa_scores


@pytest.fixture(scope='module')
def samples(cache):
    return KitchenSamples(cache, noise=NOISE, length=40, seed=1)


def reply(score, family='count', kitchen=1, written_score=None, closed=None):
    return Prediction(
        index=0,
        key=f'seed {kitchen} tick 0',
        cluster=f'seed {kitchen}',
        family=family,
        question='How many?',
        answer='1',
        predicted='1' if score else '2',
        confidence=0.5,
        score=score,
        closed=closed,
        written=None if written_score is None else 'one',
        written_score=written_score,
    )


def test_a_model_that_always_answers_yes_is_right_where_yes_is_the_answer(samples, tiny):
    with torch.no_grad():
        tiny.model.answer_head.layers[-1].bias[ANSWERS.index('yes')] = 100
    replies = ask(tiny.model, tiny.tokenizer, samples)
    assert [r.index for r in replies] == list(range(40))
    assert {r.predicted for r in replies} == {'yes'} and all(r.confidence > 0.99 for r in replies)
    true = [samples[i].answer for i in range(40)]
    assert [r.answer for r in replies] == true
    assert [r.score for r in replies] == [float(answer == 'yes') for answer in true] and 'yes' in true
    assert vqa_scores(replies)['accuracy']['value'] == pytest.approx(np.mean([a == 'yes' for a in true]))


def test_predictions_do_not_depend_on_the_batch_and_the_mode_is_restored(samples, tiny):
    tiny.model.train()
    whole, parts = (ask(tiny.model, tiny.tokenizer, samples, batch=batch, write=True) for batch in (40, 7))
    assert tiny.model.training
    for a, b in zip(whole, parts):
        assert a.confidence == pytest.approx(b.confidence, abs=2e-6)
        assert replace(a, confidence=0) == replace(b, confidence=0)


def test_written_answers_are_those_of_the_text_decoder(samples, tiny):
    replies = ask(tiny.model, tiny.tokenizer, samples, write=True)
    batch = collate([samples[5]], tiny.model.config, tiny.tokenizer)
    tiny.model.eval()
    with torch.inference_mode():
        encoded = tiny.model.encode({k: v for k, v in batch.inputs.items() if k != 'semseg'})
        steps = tiny.model.generate(encoded, bos=tiny.tokenizer.cls, eos=tiny.tokenizer.sep, max_tokens=8)
        assert replies[5].written == tiny.tokenizer.decode([int(ids) for ids, _ in steps])


def test_a_temperature_changes_the_confidence_and_not_the_answer(samples, tiny):
    plain, warm = (ask(tiny.model, tiny.tokenizer, samples, calibration=Calibration(t)) for t in (1.0, 4.0))
    assert [r.predicted for r in plain] == [r.predicted for r in warm]
    assert all(after.confidence < before.confidence for before, after in zip(plain, warm))


def test_a_hidden_input_changes_no_answer(samples, tiny):
    def asked(*shown):
        return ask(tiny.model, tiny.tokenizer, samples, shown=shown)

    blind, by_question = asked(), {}
    for r in blind:
        by_question.setdefault(r.question, set()).add((r.predicted, round(r.confidence, 5)))
    assert len(by_question) < len(blind) and all(len(said) == 1 for said in by_question.values())
    ways = ((), ('rgb',), ('depth',), ('rgb', 'depth'))
    assert len({tuple(r.confidence for r in asked(*shown)) for shown in ways}) == 4


def test_blind_baselines_are_those_of_the_odds(samples, tiny):
    scores = scores_of(ask(tiny.model, tiny.tokenizer, samples, write=True), samples.balance)
    best, most = samples.balance.best_blind(), samples.balance.majority()
    assert scores['best_blind'] == pytest.approx(np.mean(list(best.values())), abs=1e-6)
    assert scores['majority'] == pytest.approx(np.mean(list(most.values())), abs=1e-6)
    assert scores['above_best_blind'] == pytest.approx(scores['accuracy']['value'] - scores['best_blind'], abs=1e-5)
    one = [best[family] for family in best if family not in ('action_done', 'action_next')]
    assert scores['answerable_from_one_frame']['best_blind'] == pytest.approx(np.mean(one), abs=1e-6)
    for family, part in scores['families'].items():
        assert part['best_blind'] == pytest.approx(best[family], abs=1e-6)
    assert scores['written']['samples'] == scores['samples'] == 40
    assert sum(part['samples'] for part in scores['families'].values()) == 40


def test_scores_by_hand():
    replies = [reply(1.0, 'count', 1), reply(0.0, 'count', 2), reply(1.0, 'colour', 1), reply(0.0, 'action_next', 3)]
    scores = vqa_scores(replies)
    assert scores['accuracy']['value'] == 0.5 and scores['accuracy']['kitchens'] == 3 and 'best_blind' not in scores
    assert scores['answerable_from_one_frame']['accuracy']['value'] == pytest.approx(2 / 3, abs=1e-6)
    assert {name: part['accuracy']['value'] for name, part in scores['families'].items()} == {
        'action_next': 0,
        'colour': 1,
        'count': 0.5,
    }
    written = [reply(0.0, written_score=1.0), reply(0.0, written_score=1.0)]
    assert vqa_scores(written, field='written_score')['accuracy']['value'] == 1
    with pytest.raises(ValueError, match='no samples'):
        vqa_scores([])


def test_open_and_closed_questions_are_scored_apart_in_each_family():
    replies = [
        reply(1.0, 'colour', 1, closed=True),
        reply(0.0, 'colour', 2, closed=True),
        reply(0.0, 'colour', 3, closed=False),
        reply(1.0, 'hand', 4, closed=False),
    ]
    scores = vqa_scores(replies)
    assert {form: (part['accuracy']['value'], part['samples']) for form, part in scores['forms'].items()} == {
        'open': (0.5, 2),
        'closed': (0.5, 2),
    }
    colour, hand = (scores['families'][family]['forms'] for family in ('colour', 'hand'))
    assert (colour['open']['accuracy']['value'], colour['closed']['accuracy']['value']) == (0, 0.5)
    assert list(hand) == ['open'] and colour['closed']['accuracy']['kitchens'] == 2
    assert vqa_scores([reply(1.0)])['forms'] == {}


def test_the_form_of_a_question_reaches_its_prediction(samples, tiny):
    assert [r.closed for r in ask(tiny.model, tiny.tokenizer, samples)] == [samples[i].closed for i in range(40)]


def test_the_calibration_error_is_that_of_the_answer_head():
    replies = [
        reply(1.0, kitchen=1, written_score=1.0),
        reply(0.0, kitchen=2, written_score=0.0),
        reply(1.0, kitchen=3),
    ]
    found = vqa_scores(replies[:3])['calibration_error']
    assert found['value'] == pytest.approx(2 / 3 - 0.5, abs=1e-6)
    assert (found['low'], found['high'], found['kitchens']) == (None, None, 3)
    assert 'calibration_error' not in vqa_scores(replies[:2], field='written_score')
    assert 'calibration_error' not in vqa_scores([replace(replies[0], confidence=None)])


def test_the_gap_is_over_common_families():
    seen = [reply(1.0, 'colour', k) for k in range(6)] + [reply(0.0, 'count', 1)]
    other = [reply(float(k % 2), 'colour', k + 3) for k in range(6)] + [reply(1.0, 'action_next', 9)]
    found = gap(seen, other)
    assert found['families'] == ['colour'] and found['seen']['value'] == 1 and found['other']['value'] == 0.5
    points = found['points']
    assert points['value'] == 0.5 and points['low'] < 0.5 < points['high'] and points['kitchens'] == 9
    assert gap(seen, [reply(1.0, 'hand')]) is None


def test_subsets_without_questions_are_named(cache, tmp_path):
    found, empty = subset_samples(cache, length=9, seed=3)
    assert 'all' in found and set(found) | set(empty) == {'all', 'seen', 'held_out', 'textures'}
    assert all(len(samples) == 9 for samples in found.values()) and all('give more' in why for why in empty.values())
    assert all(samples.seed == 3 for samples in found.values())
    assert found['all'].noise == NOISE and found['all'].noise.mirror == 0
    assert subset_samples(cache, length=9, noise=None, subsets=('all',))[0]['all'].noise is None
    with pytest.raises(InputError, match='not a cache'):
        subset_samples(tmp_path, length=9)


def test_other_candidates_are_answered_by_their_own_names(samples, tiny):
    named = tuple(f'answer {i}' for i in range(len(ANSWERS)))
    predictions = ask(tiny.model, tiny.tokenizer, samples, answers=named)
    assert all(p.predicted.startswith('answer ') and p.score == 0 for p in predictions)


def test_a_prediction_has_every_column_of_the_table(samples, tiny):
    row = ask(tiny.model, tiny.tokenizer, samples, write=True)[7].row()
    sample = samples[7]
    assert list(row) == [
        'index',
        'key',
        'family',
        'question',
        'answer',
        'predicted',
        'confidence',
        'score',
        'written',
        'written_score',
    ]
    assert (row['index'], row['key'], row['family'], row['question'], row['answer']) == (
        7,
        sample.key,
        sample.family,
        sample.question,
        sample.answer,
    )
    assert 0 < row['confidence'] <= 1 and row['score'] == float(row['predicted'] == row['answer'])
    assert isinstance(row['written'], str) and row['written_score'] in (0.0, 1.0)


def test_a_model_without_the_head_is_refused(samples, tiny):
    tiny.model.answer_head = None
    with pytest.raises(ValueError, match='no answer head'):
        ask(tiny.model, tiny.tokenizer, samples)


def test_progress_is_reported_under_the_given_name(samples, tiny):
    reported = []

    def progress(items, total, what, unit):
        reported.append((total, what, unit))
        return items

    ask(tiny.model, tiny.tokenizer, samples, progress=progress, what='questions, seen')
    assert reported == [(40, 'questions, seen', 'question')]
