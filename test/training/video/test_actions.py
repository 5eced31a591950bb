"""The published head on clips: it learns what the features show, and mixed clips have mixed labels."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from m3et_ros.data.epic.class_lists import Classes
from m3et_ros.data.epic.clips import Clips, ClipSample, CollateClips
from m3et_ros.data.epic.frames import ObservedClip
from m3et_ros.training.video.actions import Recognise, answering, clip_head, clip_tokenizer, known_segments, train_clips

CLASSES = Classes(('take', 'put'), ('cup', 'pan', 'tap'), ('a', 'a'), ('b', 'b', 'b'))
SEGMENTS = [SimpleNamespace(narration_id=f'P01_01_{i}', verb=i % 2, noun=2 * (i % 2)) for i in range(16)]
QUESTIONS = {s.narration_id: ('Which thing is it?', 'What is done?') for s in SEGMENTS}


class Shown(Clips):
    """Clips whose features show the verb."""

    def __getitem__(self, index):
        segment, rng = self.segments[index], np.random.default_rng(index)
        features = rng.normal(size=(4, 16)).astype(np.float32) + 3 * segment.verb
        name = segment.narration_id
        return ClipSample(features, QUESTIONS[name], (segment.verb, segment.noun), name)


@pytest.fixture
def data():
    return Shown(SEGMENTS, None, QUESTIONS, ObservedClip())


@pytest.fixture
def head():
    return clip_head(16, clip_tokenizer(QUESTIONS), CLASSES, 0)


def test_it_learns_what_the_features_show(data, head, tmp_path):
    tokenizer = clip_tokenizer(QUESTIONS)
    recipe = Recognise(samples=16 * 80, batch=16, lr=5e-3, smoothing=0.0)
    outcome, trained, _ = train_clips(head, data, tokenizer, tmp_path, recipe=recipe)
    assert outcome.losses['verb'] < 0.3 and outcome.losses['noun'] < 0.3
    assert trained.verb_prior.exp().tolist() == pytest.approx([0.5, 0.5])
    assert trained.noun_prior.exp().tolist() == pytest.approx([8.5 / 17.5, 0.5 / 17.5, 8.5 / 17.5])


def test_the_head_is_that_of_the_paper_and_as_wide_as_the_features(head):
    config = head.config
    assert (config.d_in, config.d, config.patches, config.positions) == (16, 16, 1, 40)
    assert (config.fade, config.hidden, config.busy, config.follow) == (0, 0, 0, False)
    assert (config.dropout, config.pads) == (0.1, True)
    assert not clip_head(16, clip_tokenizer(QUESTIONS), CLASSES, 0, shared=False).config.shared_A


def test_mixed_clips_have_mixed_labels(data, head, monkeypatch):
    batch, _ = CollateClips(clip_tokenizer(QUESTIONS))([data[0], data[1]])
    shown = []
    forward = head.eval().forward
    monkeypatch.setattr(head, 'forward', lambda video, *rest: shown.append(video) or forward(video, *rest))
    generator = torch.Generator().manual_seed(0)
    losses = Recognise(smoothing=0.0, mixup=1.0).losses(head, batch, generator)
    first, second = batch['video']
    share = float(((shown[0][0] - second) / (first - second)).mean())
    assert 0 < share < 1
    torch.testing.assert_close(shown[0][1], share * second + (1 - share) * first, atol=1e-5, rtol=1e-4)
    verbs = head(shown[0], *(batch[n] for n in ('noun_ids', 'verb_ids', 'noun_mask', 'verb_mask')))[0].log_softmax(-1)
    wanted = -(share * (verbs[0, 0] + verbs[1, 1]) + (1 - share) * (verbs[0, 1] + verbs[1, 0])) / 2
    torch.testing.assert_close(losses['verb'], wanted, atol=1e-5, rtol=1e-4)


def test_answers_in_words_are_learnt_and_the_decoder_stays_behind(data, tmp_path):
    tokenizer = clip_tokenizer(QUESTIONS, CLASSES)
    head = clip_head(16, tokenizer, CLASSES, 0)
    recipe = Recognise(samples=16 * 60, batch=16, lr=5e-3, smoothing=0.0, qa=0.5)
    outcome, trained, _ = train_clips(head, data, tokenizer, tmp_path, recipe=recipe, classes=CLASSES)
    assert outcome.losses.keys() == {'verb', 'noun', 'verb_words', 'noun_words'}
    assert max(outcome.losses.values()) < 0.8  # words begin at half the logarithm of 50 pieces, 1.96
    assert trained.state_dict().keys() == head.state_dict().keys()
    with pytest.raises(ValueError, match='no classes are given whose names could be written'):
        train_clips(head, data, tokenizer, tmp_path / 'other', recipe=recipe)


def test_mixed_clips_have_mixed_words(data):
    """The weight scales the loss, and with half a clip of each both answers count."""
    tokenizer = clip_tokenizer(QUESTIONS, CLASSES)
    model = answering(clip_head(16, tokenizer, CLASSES, 0), tokenizer, CLASSES, 0).eval()
    batch, _ = CollateClips(tokenizer)([data[0], data[1]])
    one, two = (Recognise(qa=qa, mixup=1.0).losses(model, batch, torch.Generator().manual_seed(0)) for qa in (1.0, 2.0))
    torch.testing.assert_close(two['noun_words'], 2 * one['noun_words'])
    rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=torch.Generator().manual_seed(0))))
    share = float(rng.beta(1.0, 1.0))
    sums = model(share * batch['video'] + (1 - share) * batch['video'].flip(0), batch)['noun']
    wanted = share * model.answer_loss('noun', sums, batch['label'][:, 1])
    wanted = wanted + (1 - share) * model.answer_loss('noun', sums, batch['label'].flip(0)[:, 1])
    torch.testing.assert_close(one['noun_words'], wanted)


def test_segments_of_unknown_classes_are_left_out():
    odd = SimpleNamespace(narration_id='x', verb=2, noun=0), SimpleNamespace(narration_id='y', verb=0, noun=-1)
    assert known_segments([*SEGMENTS, *odd], CLASSES) == SEGMENTS


@pytest.mark.parametrize(
    ('fields', 'words'),
    [({'mixup': -1}, 'mixup is -1'), ({'qa': -1}, 'qa is -1'), ({'smoothing': 1}, 'smoothing is 1')],
)
def test_values_out_of_range_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        Recognise(**fields)
