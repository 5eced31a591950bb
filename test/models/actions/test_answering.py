"""Answers of MambaVL's questions in words: the loss beside one that is computed word by word."""

import pytest
import torch

from m3et_ros.models.actions.answering import AnsweringMambaVL, WrittenAnswers
from m3et_ros.models.actions.mambavl import PAPER, MambaVL, MambaVLConfig

VERBS = WrittenAnswers(torch.tensor([[2, 7, 3, 0], [2, 8, 9, 3]]), torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool())
NOUNS = WrittenAnswers(torch.tensor([[2, 10, 3]]), torch.ones(1, 3, dtype=torch.bool))


@pytest.fixture
def model():
    torch.manual_seed(0)
    head = MambaVL(MambaVLConfig(**PAPER, d_in=16, d=16, d_word=16, vocabulary=12, verbs=2, nouns=1))
    return AnsweringMambaVL(head, VERBS, NOUNS)


def test_the_loss_is_that_of_the_words_one_after_the_other(model):
    z, classes = torch.randn(2, 16), torch.tensor([1, 0])
    found = model.answer_loss('verb', z, classes)
    losses = []
    for row, answer in ((0, [8, 9, 3]), (1, [7, 3])):
        x = z[row : row + 1]
        for word in answer:
            logits = model.output(model.norm(x[None] + model.mixer(x[None])))[0, -1]
            losses.append(-logits.log_softmax(0)[word])
            x = torch.cat([x, model.head.txt_proj(model.head.words(torch.tensor([word])))])
    torch.testing.assert_close(found, torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)


def test_the_sums_are_those_that_the_head_classifies(model):
    video, ids = torch.randn(2, 4, 16), torch.randint(5, 12, (2, 3))
    mask = torch.tensor([[True, True, True], [True, True, False]])
    asked = {'noun_ids': ids, 'noun_mask': mask, 'verb_ids': ids.flip(1), 'verb_mask': mask}
    sums = model(video, asked)
    verbs, nouns = model.head(video, asked['noun_ids'], asked['verb_ids'], mask, mask)
    torch.testing.assert_close(model.head.verb_head(sums['verb']), verbs)
    torch.testing.assert_close(model.head.noun_head(sums['noun']), nouns)


def test_the_words_of_the_classes_are_not_stored(model):
    assert not [name for name in model.state_dict() if name.endswith(('_ids', '_mask'))]
