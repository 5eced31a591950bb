"""Samples and what a model is given of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from m3et_ros.data.frame import Frame
from m3et_ros.data.preprocess import image_inputs
from m3et_ros.data.sample import QuestionAnswers, Sample, collate
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.m3et.sizes import SIZES, build

CONFIG = SIZES['tiny']
TOKENIZER = Tokenizer.train(['where is the cup', 'is it red'], 40)


def sample(picture=0, **fields):
    rng = np.random.default_rng(picture)
    values = {
        'rgb': rng.integers(0, 256, (24, 32, 3), np.uint8),
        'depth': rng.uniform(1, 3, (24, 32)).astype('f4'),
        'semseg': rng.integers(0, 5, (12, 16), np.uint8),
        'question': 'where is the cup',
        'answers': {'red': 0.3, 'cup': 1.0},
    }
    return Sample(**values | fields)


def test_a_batch_feeds_the_model():
    batch = collate([sample(0), sample(1, question='')], CONFIG, TOKENIZER, answers=('cup', 'is', 'red'))
    assert set(batch.inputs) == {'rgb', 'depth', 'semseg', 'text', 'text_mask'} and len(batch) == 2
    model = build('tiny').eval()
    with torch.no_grad():
        outputs = model(batch.inputs, tasks=('rgb', 'depth', 'semseg'))
    assert all(output.isfinite().all() for output in outputs.values())
    torch.testing.assert_close(batch.scores, torch.tensor([[1, 0, 0.3]] * 2))
    assert batch.answers == ('cup', 'cup') and batch.now.tolist() == [[-1, -1]] * 2


def test_a_batch_says_where_depth_was_measured():
    """A sample without depth in a part of its view beside one with depth all over."""
    config = replace(CONFIG, depth_validity=True, stem='conv', adapter_width=4)
    half = sample().depth.copy()
    half[:12] = np.nan
    batch = collate([sample(depth=half), sample(1)], config)
    assert batch.inputs['depth'].shape == (2, 2, 32, 32) and batch.depth.shape == (2, 1, 32, 32)
    assert batch.inputs['depth'][0, :, :16].eq(0).all() and batch.inputs['depth'][0, 1, 16:].eq(1).all()
    assert batch.inputs['depth'][1, 1].eq(1).all()
    with torch.no_grad():
        encoding = build(config).eval().encode_images(batch.inputs)
    assert encoding.visible['depth'].tolist() == [[False, False, True, True], [True] * 4]
    inputs, _ = image_inputs(Frame(sample().rgb, half), config)
    torch.testing.assert_close(inputs['depth'], batch.inputs['depth'][:1])


def test_a_missing_question_is_as_good_as_no_text():
    model = build('tiny').eval()
    mixed = collate([sample(0), sample(1, question='')], CONFIG, TOKENIZER).inputs
    silent = collate([sample(1, question='')], CONFIG, TOKENIZER).inputs
    assert 'text' not in silent
    with torch.no_grad():
        beside, alone = model.encode(mixed), model.encode(silent)
    torch.testing.assert_close(model.global_token(beside)[1:], model.global_token(alone), atol=1e-4, rtol=1e-3)


def test_inputs_are_those_of_the_robot():
    one = sample()
    inputs, _ = image_inputs(Frame(one.rgb, one.depth), CONFIG)
    batch = collate([one], CONFIG)
    for name, value in inputs.items():
        torch.testing.assert_close(batch.inputs[name], value)


def test_a_modality_enters_only_where_every_sample_has_it():
    blind = np.full((24, 32), np.nan, np.float32)
    for lacking in ({'depth': None}, {'depth': blind}, {'semseg': None}):
        batch = collate([sample(), sample(1, **lacking)], CONFIG)
        assert set(batch.inputs) == {'rgb', 'depth', 'semseg'} - set(lacking)


def test_the_depth_to_predict_is_the_clean_one_in_metres():
    clean = np.full((24, 32), 2, np.float32)
    clean[:, 16:] = np.nan
    batch = collate([sample(clean_depth=clean), sample(1, depth=None)], CONFIG)
    metres = batch.depth * batch.scale[:, 1, None, None, None] + batch.scale[:, 0, None, None, None]
    torch.testing.assert_close(metres[0, 0, :, :16], torch.full((32, 16), 2.0))
    assert batch.depth[0, 0, :, 17:].isnan().all() and batch.depth[1].isnan().all()
    assert collate([sample(depth=None)], CONFIG).depth is None


def test_label_maps_of_the_right_size_stay():
    labels = np.random.default_rng(3).integers(0, 5, (8, 8), np.uint8)
    assert (collate([sample(semseg=labels)], CONFIG).inputs['semseg'][0].numpy() == labels).all()


@pytest.mark.parametrize(
    ('fields', 'word'),
    [
        ({'rgb': np.zeros((4, 4, 3))}, 'rgb'),
        ({'depth': np.zeros((3, 3), np.float32)}, 'depth is'),
        ({'clean_depth': np.zeros((3, 3), np.float32)}, 'clean_depth is'),
        ({'semseg': np.zeros((4, 4))}, 'semseg'),
        ({'answers': {'yes': 1.5}}, 'answers'),
    ],
)
def test_wrong_fields_are_named(fields, word):
    with pytest.raises(ValueError, match=word):
        sample(**fields)


def test_questions_of_a_view_stand_side_by_side():
    more = (QuestionAnswers('is it red', {'is': 1.0}, 'colour'),)
    batch = collate([sample(0, further=more), sample(1, further=more)], CONFIG, TOKENIZER, answers=('cup', 'is', 'red'))
    assert batch.inputs['rgb'].shape[0] == len(batch) == 2
    assert batch.inputs['text'].shape[0] == len(batch.scores) == 4
    assert batch.questions == ('where is the cup', 'is it red') * 2 and batch.families == ('', 'colour') * 2
    assert batch.scores[1].tolist() == [0, 1, 0] and batch.answers[1] == 'is'
    with pytest.raises(ValueError, match='uneven'):
        collate([sample(0, further=more), sample(1)], CONFIG, TOKENIZER)


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match='empty'):
        collate([], CONFIG)


@pytest.mark.parametrize('score', [0, 1, 0.5])
def test_scores_from_0_to_1_are_accepted(score):
    assert sample(answers={'yes': score}).asked[0].answers == {'yes': score}


@pytest.mark.parametrize('score', [-0.01, 1.01])
def test_a_score_outside_0_to_1_is_refused_in_further_questions_too(score):
    with pytest.raises(ValueError, match='answers hold a score'):
        sample(further=(QuestionAnswers('is it red', {'yes': score}),))


def test_the_target_depth_is_the_clean_one_where_there_is_one():
    one, clean = sample(), np.full((24, 32), 2, np.float32)
    assert one.target_depth is one.depth
    assert sample(clean_depth=clean).target_depth is clean and sample(depth=None).target_depth is None


def test_every_field_of_a_sample_arrives_in_the_batch():
    first = sample(0, now=(1, 2), next=(3, 4), key='seed 7 tick 3', family='place')
    second = sample(1, now=(5, 6), next=(7, 8), key='b', family='colour', answers={'is': 0.6})
    batch = collate([first, second], CONFIG, TOKENIZER, answers=('cup', 'is', 'red'))
    assert batch.now.tolist() == [[1, 2], [5, 6]] and batch.next.tolist() == [[3, 4], [7, 8]]
    assert batch.keys == ('seed 7 tick 3', 'b') and batch.families == ('place', 'colour')
    assert batch.answers == ('cup', 'is') and batch.questions == ('where is the cup',) * 2
    torch.testing.assert_close(batch.scores, torch.tensor([[1, 0, 0.3], [0, 0.6, 0]]))


def test_only_a_sample_of_the_kitchen_has_a_seed_and_a_tick():
    assert (sample().seed, sample().tick) == (None, None)
    assert (sample(seed=7, tick=3).seed, sample(seed=7, tick=3).tick) == (7, 3)
