"""Distillation: losses against their definitions, the teacher's input to every replaced layer, students that learn."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from m3et_ros.models.m3et.model import M3ET
from m3et_ros.models.m3et.sizes import build
from m3et_ros.models.vlm.matvlm import TINY_TEACHER, MaTVLM, hybrid_m3et
from m3et_ros.training.distil import (
    DistilConfig,
    LayerRecorder,
    ce_loss,
    distil,
    layer_loss,
    prob_loss,
    stack,
    teacher_fed_loss,
)

SMALL = replace(
    TINY_TEACHER,
    connector=replace(TINY_TEACHER.connector, rows=2, cols=3),
    language=replace(TINY_TEACHER.language, vocabulary=40),
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def teacher_and_student() -> tuple[MaTVLM, MaTVLM]:
    teacher = MaTVLM(SMALL).eval()
    torch.nn.init.normal_(teacher.language.embedding.weight)
    return teacher, MaTVLM.from_teacher(teacher, (1, 3))


def test_losses_equal_their_definitions():
    s, t = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    p, q = t.softmax(-1), s.softmax(-1)
    kl, reverse = (p * (p / q).log()).sum(-1), (q * (q / p).log()).sum(-1)
    m = (p + q) / 2
    js = ((p * (p / m).log()).sum(-1) + (q * (q / m).log()).sum(-1)) / 2
    hard = F.cross_entropy(s.flatten(0, 1), t.argmax(-1).flatten(), reduction='none').view(2, 3)
    for kind, wanted in (
        ('kl', kl),
        ('reverse', reverse),
        ('js', js),
        ('hard', hard),
        ('l2', (s - t).square().sum(-1)),
    ):
        assert torch.allclose(prob_loss(s, t, kind=kind), wanted.mean(), atol=1e-5)
    warm = F.kl_div((s / 2).log_softmax(-1), (t / 2).log_softmax(-1), log_target=True, reduction='sum') / 6
    assert torch.allclose(prob_loss(s, t, temperature=2), 4 * warm, atol=1e-5)
    assert torch.allclose(layer_loss(s, t), (s - t).norm(dim=-1).mean())
    assert torch.allclose(layer_loss(s, t, reduction='released'), (s - t).norm())
    assert torch.allclose(layer_loss(s, t, kind='kl'), kl.mean(), atol=1e-5)


@pytest.mark.parametrize('temperature', [1.0, 2.0])
def test_released_reductions_are_those_of_the_published_code(temperature):
    s, t = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    log_q, p, q = (s / temperature).log_softmax(-1), (t / temperature).softmax(-1), (s / temperature).softmax(-1)
    m = (p + q) / 2
    squared = temperature**2
    wanted = {
        'kl': F.kl_div(log_q, p, reduction='batchmean') * squared,
        'reverse': F.kl_div(p.log(), q, reduction='batchmean') * squared,
        'js': (F.kl_div(log_q, m, reduction='batchmean') + F.kl_div(p.log(), m, reduction='batchmean')) * squared / 2,
        'l2': (t - s).norm(),
        'hard': F.cross_entropy(s.flatten(0, 1), t.argmax(-1).flatten()),
    }
    for kind, loss in wanted.items():
        found = prob_loss(s, t, kind=kind, temperature=temperature, reduction='released')
        torch.testing.assert_close(found, loss, msg=kind)


def test_uncounted_elements_change_nothing():
    s, t, counted = torch.randn(2, 3, 5), torch.randn(2, 3, 5), torch.tensor([[True, True, False], [True] * 3])
    changed = s.clone()
    changed[0, 2] += 7
    for reduction in ('token', 'released'):
        for loss in (prob_loss, layer_loss):
            one, two = (loss(values, t, counted=counted, reduction=reduction) for values in (s, changed))
            assert torch.equal(one, two)
    assert torch.allclose(prob_loss(s, t, counted=counted), prob_loss(s[counted][None], t[counted][None]), atol=1e-6)
    assert prob_loss(s, t, counted=torch.zeros(2, 3, dtype=torch.bool)) == 0


def test_equal_layers_have_loss_and_gradient_zero():
    s = torch.randn(2, 3, 5, requires_grad=True)
    for reduction in ('token', 'released'):
        loss = layer_loss(s, s.detach().clone(), reduction=reduction)
        assert loss == 0
        assert torch.equal(torch.autograd.grad(loss, s)[0], torch.zeros(2, 3, 5))


def test_cross_entropy_of_the_next_word():
    logits, labels = torch.randn(2, 4, 5), torch.tensor([[0, 1, -100, 3], [0, 2, 2, -100]])
    wanted = torch.stack(
        [
            F.cross_entropy(logits[0, [0, 2]], torch.tensor([1, 3]), reduction='sum'),
            F.cross_entropy(logits[1, [0, 1]], torch.tensor([2, 2]), reduction='sum'),
        ]
    ).sum()
    labels[:, 0] = 4  # nothing speaks of the first word; counted in the mean it would be wrong
    assert torch.allclose(ce_loss(logits, labels), wanted / 4)
    answers = torch.tensor([1, 2])
    assert torch.allclose(ce_loss(logits[:, 0], answers), F.cross_entropy(logits[:, 0], answers))
    assert ce_loss(logits, torch.full((2, 4), -100)) == 0


def test_a_student_like_its_teacher_loses_nothing():
    teacher = MaTVLM(SMALL).eval()
    same = MaTVLM(SMALL).eval()
    same.load_state_dict(teacher.state_dict())
    batch = torch.randn(2, 6, 48), torch.randint(0, 40, (2, 5))
    losses = distil(teacher, same, lambda model: model(*batch).logits, config=DistilConfig(), layers=(0, 2))
    assert losses['layer'] == 0 and losses['prob'].abs() < 1e-6


def test_every_replaced_layer_gets_the_input_of_the_teachers_layer():
    teacher, student = teacher_and_student()
    batch = torch.randn(2, 6, 48), torch.randint(0, 40, (2, 5))
    with torch.no_grad():
        hidden = teacher(*batch, keep=(0, 1, 2, 3)).hidden
        wanted = sum(layer_loss(stack(student)[place](hidden[place - 1]), hidden[place]) for place in (1, 3))
    losses = distil(teacher, student, lambda model: model(*batch).logits, config=DistilConfig(prob=0))
    assert set(losses) == {'total', 'layer'} and torch.allclose(losses['layer'], wanted, atol=1e-5)
    assert not stack(teacher)[1]._forward_hooks  # nothing is left behind


def test_pads_do_not_count_in_the_layers_unless_requested():
    teacher, student = teacher_and_student()
    features, ids = torch.randn(2, 6, 48), torch.randint(0, 40, (2, 5))
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])

    def loss(ids: torch.Tensor, **options) -> torch.Tensor:
        return distil(
            teacher,
            student,
            lambda model: model(features, ids, mask=mask).logits,
            config=DistilConfig(prob=0, **options),
        )['layer']

    changed = torch.where(mask, ids, (ids + 1) % 40)
    assert torch.allclose(loss(ids), loss(changed), atol=1e-6)
    assert not torch.allclose(loss(ids, pads=True), loss(ids), atol=1e-3)


@pytest.mark.parametrize('reduction', ['token', 'released'])
def test_a_student_learns_with_mixers_and_connector_alone(reduction):
    teacher, student = teacher_and_student()
    config = DistilConfig(ce=0.1, reduction=reduction)
    frozen = {name: values.clone() for name, values in student.named_parameters() if not values.requires_grad}
    weights = [values for values in student.parameters() if values.requires_grad]
    optimiser, totals = torch.optim.AdamW(weights, lr=6e-3), []
    features, ids = torch.randn(8, 6, 48), torch.randint(0, 40, (8, 5))
    for _ in range(12):
        losses = distil(teacher, student, lambda model: model(features, ids).logits, config=config, labels=ids)
        optimiser.zero_grad()
        losses['total'].backward()
        assert all(values.grad is not None for values in weights)
        optimiser.step()
        totals.append([float(losses[name].detach()) for name in ('layer', 'prob')])
    assert totals[-1][0] < 0.8 * totals[0][0] and totals[-1][1] < 0.8 * totals[0][1]
    assert all(torch.equal(frozen[name], values) for name, values in student.named_parameters() if name in frozen)
    assert torch.allclose(losses['total'], losses['layer'] + losses['prob'] + 0.1 * losses['ce'])


def test_an_m3et_is_distilled_into_its_hybrid():
    teacher = build('tiny', schedule='TTTT', stages=2).eval()
    student = hybrid_m3et(teacher, (1, 2))
    mask = torch.tensor([[True] * 6, [True] * 6, [True] * 4 + [False] * 2, [True] * 5 + [False]])
    inputs = {
        'rgb': torch.randn(4, 3, 32, 32),
        'depth': torch.randn(4, 1, 32, 32),
        'text': torch.randint(1, 64, (4, 6)),
        'text_mask': mask,
    }

    def run(model: M3ET) -> torch.Tensor:
        return model.answer_logits(model.encode(inputs))

    optimiser, totals = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=6e-3), []
    for _ in range(8):
        losses = distil(teacher, student, run, config=DistilConfig(ce=0.1), labels=torch.tensor([0, 1, 2, 3]))
        optimiser.zero_grad()
        losses['total'].backward()
        optimiser.step()
        totals.append([float(losses[name].detach()) for name in ('layer', 'prob')])
    assert totals[-1][0] < 0.8 * totals[0][0] and totals[-1][1] < totals[0][1]


def test_several_questions_about_one_image_continue_from_the_same_state():
    teacher = build('tiny', schedule='TTTT', stages=2).eval()
    student = hybrid_m3et(teacher, (1,)).eval()
    images, questions = {'rgb': torch.randn(2, 3, 32, 32)}, torch.randint(1, 64, (4, 6))
    with torch.no_grad():
        with LayerRecorder(stack(teacher), (1,)) as watch:
            sight = teacher.encode_images(images)
            teacher.encode_text(sight, questions)
            teacher.encode_text(sight, questions.flip(1))
        assert [len(call.x) for call in watch.calls[1]] == [2, 4, 4]
        layer, calls = stack(student)[1], watch.calls[1]
        seen, state = layer(calls[0].x, return_state=True)
        wanted = layer_loss(seen, calls[0].y) + sum(
            layer_loss(layer(call.x, state=state), call.y) for call in calls[1:]
        )
        assert torch.allclose(teacher_fed_loss(stack(student), watch.calls), wanted, atol=1e-5)


def test_other_models_and_missing_labels_are_refused():
    teacher, student = teacher_and_student()
    batch = torch.randn(1, 6, 48), torch.randint(0, 40, (1, 3))

    def run(model):
        return model(*batch).logits

    with pytest.raises(ValueError, match='ce has a weight but there are no labels'):
        distil(teacher, student, run, config=DistilConfig(ce=1))
    with pytest.raises(ValueError, match='the student has no replaced layer; build it with models.vlm.matvlm'):
        distil(teacher, teacher, run, config=DistilConfig())
    with pytest.raises(ValueError, match='the model is a Linear; give a VisualLanguageModel or an M3ET'):
        stack(torch.nn.Linear(1, 1))


@pytest.mark.parametrize(
    ('field', 'value', 'words'),
    [
        ('layer', -1, 'layer is -1; give a number from 0'),
        ('temperature', 0, 'temperature is 0; give a number from'),
        ('prob_kind', 'l1', "prob_kind is 'l1'; give one of kl"),
        ('pads', 1, 'pads is 1; give true or false'),
        ('reduction', 'sum', "reduction is 'sum'; give one of token"),
    ],
)
def test_a_config_out_of_range_is_refused(field, value, words):
    with pytest.raises(ValueError, match=words):
        DistilConfig(**{field: value})
    with pytest.raises(ValueError, match='layer, prob and ce are all 0'):
        DistilConfig(layer=0, prob=0)


@pytest.mark.parametrize(
    ('field', 'value', 'losses'),
    [
        ('layer_kind', 'kl', {'layer'}),
        ('reduction', 'released', {'layer', 'prob'}),
        ('prob_kind', 'reverse', {'prob'}),
        ('temperature', 3.0, {'prob'}),
    ],
)
def test_every_option_reaches_its_losses(field, value, losses):
    teacher, student = teacher_and_student()
    batch = torch.randn(2, 6, 48), torch.randint(0, 40, (2, 5))
    with torch.no_grad():
        plain, other = (
            distil(teacher, student, lambda model: model(*batch).logits, config=DistilConfig(**options))
            for options in ({}, {field: value})
        )
    assert {name for name in ('layer', 'prob') if not torch.allclose(plain[name], other[name])} == losses
