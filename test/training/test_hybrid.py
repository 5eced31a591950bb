"""M3ET distilled into a hybrid: layers replaced, losses, mixers alone learn, refusals."""

from dataclasses import replace

import pytest
import torch

from m3et_ros.data.errors import InputError
from m3et_ros.models.m3et.sizes import build
from m3et_ros.models.vlm.matvlm import hybrid_m3et
from m3et_ros.runtime.open_model import open_checkpoint
from m3et_ros.training.hybrid import Imitate, imitate, replaced_layers
from m3et_ros.training.talk import DistilledStudent


@pytest.fixture(scope='module')
def pair():
    teacher = build('tiny', schedule='TTTT', stages=2).eval()
    return DistilledStudent(hybrid_m3et(teacher, (1, 3)), teacher)


@pytest.fixture
def batch():
    """Two views with two questions each, the last of which is a filler."""
    rng = torch.Generator().manual_seed(0)
    scores = torch.zeros(4, 354)
    scores[range(4), [3, 1, 2, 0]] = 1
    return {
        'rgb': torch.randn(2, 3, 32, 32, generator=rng),
        'depth': torch.randn(2, 1, 32, 32, generator=rng),
        'text': torch.randint(5, 64, (4, 12), generator=rng),
        'text_mask': torch.arange(12)[None] < torch.tensor([[5], [12], [7], [3]]),
        'scores': scores,
        'asked': torch.tensor([True, True, True, False]),
    }


def test_only_transformer_layers_are_replaced_and_spread_among_themselves():
    model = build('tiny', schedule='MTMTTT', stages=2)
    assert replaced_layers(model, 0.5) == (1, 4) and replaced_layers(model, 0.5, 'last') == (4, 5)
    with pytest.raises(ValueError, match='the layers are MMMM; give a model with Transformer layers'):
        replaced_layers(build('tiny', schedule='MMMM', stages=2), 0.5)


def test_losses_have_their_weights_and_fillers_count_in_none(pair, batch):
    def losses(given=batch, **weights):
        return Imitate(**weights).losses(pair, given, torch.Generator())

    one, other = losses(ce=1.0), losses(layer=2.0, prob=3.0, ce=4.0)
    assert set(losses()) == {'layer', 'prob'} and set(one) == {'layer', 'prob', 'ce'}
    assert one['layer'] > 0 and one['ce'] > 0
    for name, factor in (('layer', 2), ('prob', 3), ('ce', 4)):
        assert other[name].item() == pytest.approx(factor * one[name].item(), rel=1e-4)
    text = batch['text'].clone()
    text[3] = 7
    changed = losses({**batch, 'text': text}, ce=1.0)
    torch.testing.assert_close((changed['prob'], changed['ce']), (one['prob'], one['ce']))
    with pytest.raises(ValueError, match='layer, prob and ce are all 0'):
        Imitate(layer=0, prob=0)


def test_a_student_like_its_teacher_loses_nothing(batch):
    teacher = build('tiny', schedule='TTTT', stages=2).eval()
    same = DistilledStudent(build('tiny', schedule='TTTT', stages=2).eval(), teacher)
    same.student.load_state_dict(teacher.state_dict())
    assert Imitate(layer=0).losses(same, batch, torch.Generator())['prob'].abs() < 1e-6


def test_a_model_without_answers_or_layers_to_replace_is_refused(tmp_path):
    tiny = open_checkpoint('tiny')
    for model, words in (
        (build('tiny', answers=0), 'answers no questions'),
        (build('tiny', schedule='MMMM', stages=2), 'the layers are MMMM'),
    ):
        with pytest.raises(InputError, match=words):
            imitate(Imitate(), replace(tiny, model=model), [], tmp_path, share=0.5)
