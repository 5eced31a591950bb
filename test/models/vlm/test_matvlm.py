"""MaTVLM: replaced, seeded, shared and frozen tensors, released checkpoints, published totals, M3ET as teacher."""

from dataclasses import replace

import pytest
import torch
from released_names import matvlm_tensors

from m3et_ros.layers.mamba import AttentionMamba2
from m3et_ros.models.m3et.sizes import build
from m3et_ros.models.vlm.import_weights import fill, visual_language_tensors
from m3et_ros.models.vlm.matvlm import (
    PUBLISHED,
    TEACHER,
    TINY_TEACHER,
    MaTVLM,
    hybrid_language,
    hybrid_m3et,
    replaced,
    spread,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_layers_are_spread_evenly():
    assert spread(32, 1 / 4) == tuple(range(0, 32, 4))
    assert spread(32, 1 / 2) == tuple(range(0, 32, 2))
    assert spread(32, 1 / 8) == (0, 8, 16, 24)
    assert spread(4, 1) == (0, 1, 2, 3)
    assert (spread(8, 1 / 4, 'first'), spread(8, 1 / 4, 'middle'), spread(8, 1 / 4, 'last')) == ((0, 1), (3, 4), (6, 7))
    with pytest.raises(ValueError, match="spread is 'random'; give one of even, first, middle, last"):
        spread(8, 1 / 4, 'random')
    assert PUBLISHED['1/8'].language.schedule.count('S') == 4
    assert [place for place, letter in enumerate(PUBLISHED['1/8'].language.schedule) if letter == 'S'] == [0, 6, 12, 18]


def test_a_student_is_the_teacher_but_for_seeded_mixers():
    teacher = MaTVLM(TINY_TEACHER).eval()
    student = MaTVLM.from_teacher(teacher, (1, 3))
    assert student.config.language.schedule == 'TSTS'
    for place in (1, 3):
        attention, mixer = teacher.language.layers[place].mixer, student.language.layers[place].mixer
        _, x, B, C, _ = mixer.in_proj.weight.split([64, 64, 64, 64, 4])
        for ours, theirs in (
            (C, attention.q_proj),
            (B, attention.k_proj),
            (x, attention.v_proj),
            (mixer.out_proj.weight, attention.dense),
        ):
            assert torch.equal(ours, getattr(theirs, 'weight', theirs))
        assert torch.equal(student.language.layers[place].fc1.weight, teacher.language.layers[place].fc1.weight)
    # No parameter was left on the meta device, and layers before the first replaced one give the same.
    assert not any(values.is_meta for values in student.parameters())
    features, ids = torch.randn(1, 81, 48), torch.randint(0, 512, (1, 4))
    ours, theirs = (model.eval()(features, ids, keep=(0,)) for model in (student, teacher))
    assert torch.equal(ours.hidden[0], theirs.hidden[0])
    assert not torch.allclose(ours.logits, theirs.logits, atol=1e-3)


def test_only_mixers_and_connector_train_and_the_rest_is_shared():
    teacher = MaTVLM(TINY_TEACHER)
    student = MaTVLM.from_teacher(teacher, (0, 2))
    wanted = {name for name, values in student.named_parameters() if values.requires_grad}
    assert wanted == {
        name
        for name, _ in student.named_parameters()
        if name.startswith(('connector.', 'language.layers.0.mixer.', 'language.layers.2.mixer.'))
    }
    theirs, shared = dict(teacher.named_parameters()), 0
    for name, values in student.named_parameters():
        if not values.requires_grad:
            assert values.data_ptr() == theirs[name].data_ptr()
            shared += 1
        elif name in theirs:
            assert values.data_ptr() != theirs[name].data_ptr()
    assert shared > 30
    assert all(values.requires_grad for values in teacher.parameters())  # the teacher is left as it was
    # Parameters that must not decay keep their mark.
    mixer = student.language.layers[0].mixer
    assert all(mixer.get_parameter(name)._no_weight_decay for name in ('A_log', 'D', 'dt_bias'))


def test_the_seed_alone_sets_the_parameters_without_counterpart():
    teacher = MaTVLM(TINY_TEACHER).language
    one, again, other = (hybrid_language(teacher, (0,), seed=seed).layers[0].mixer for seed in (1, 1, 2))
    assert torch.equal(one.in_proj.weight, again.in_proj.weight) and torch.equal(one.A_log, again.A_log)
    assert not torch.equal(one.A_log, other.A_log)


def test_grouped_key_heads_stay_grouped():
    config = replace(TINY_TEACHER, language=replace(TINY_TEACHER.language, kv_heads=2))
    student = MaTVLM.from_teacher(MaTVLM(config), (1,))
    assert student.language.layers[1].mixer.in_proj.weight.shape == (64 + 32 + 32 + 64 + 4, 64)
    assert student(torch.randn(1, 81, 48), torch.ones(1, 3, dtype=torch.int64)).logits.shape == (1, 3, 512)


def test_a_released_checkpoint_is_read_by_name():
    config = replace(TINY_TEACHER, language=replaced(TINY_TEACHER.language, (0, 2)))
    tensors = matvlm_tensors(config.language, 48)
    model = fill(MaTVLM(config), visual_language_tensors(tensors, config.language))
    assert torch.equal(model.connector.projector[2].weight, tensors['connector._connector.2.weight'])
    assert torch.equal(model.language.layers[2].mixer.D, tensors['language_model.model.layers.2.mamba.D'])


@pytest.mark.parametrize(('share', 'count'), [('1/8', 4), ('1/4', 8), ('1/2', 16)])
def test_totals_of_the_published_sizes(share, count):
    connector = 1153 * 2560 + 2561 * 2560
    with torch.device('meta'):
        config = PUBLISHED[share]
        model = MaTVLM(config)
        wanted = 2_779_683_840 + count * (32_890_976 - 26_224_640) + connector
        assert sum(p.numel() for p in model.parameters()) == wanted
        found = visual_language_tensors(matvlm_tensors(config.language, 1152), config.language)
        assert {name: value.shape for name, value in found.items()} == {
            name: value.shape for name, value in model.state_dict().items()
        }
        assert TEACHER.language.schedule == 'T' * 32


def test_an_all_transformer_m3et_becomes_a_hybrid():
    teacher = build('tiny', schedule='TTTT', stages=2).eval()
    student = hybrid_m3et(teacher, (1, 3)).eval()
    assert student.config.schedule == 'TSTS'
    assert [student.encoder.layers[place].backward for place in (1, 3)] == [False, True]
    q, k, v = teacher.encoder.layers[1].attention.qkv.weight.chunk(3)
    mixer = student.encoder.layers[1].mixer
    assert torch.equal(mixer.in_proj.weight[32:128], torch.cat([v, k, q]))
    assert torch.equal(student.encoder.layers[1].mlp[0].weight, teacher.encoder.layers[1].mlp[0].weight)
    assert torch.equal(student.encoder.layers[1].norm.weight, teacher.encoder.layers[1].norm1.weight)
    trains = {name for name, values in student.named_parameters() if values.requires_grad}
    assert trains == {name for name, _ in student.named_parameters() if '.mixer.' in name}
    inputs = {'rgb': torch.randn(2, 3, 32, 32), 'text': torch.randint(1, 64, (2, 5))}
    assert torch.equal(student.encode(inputs).tokens['rgb'], teacher.encode(inputs).tokens['rgb'])
    assert student(inputs, tasks=('answers',))['answers'].shape == (2, 6)
    # The hybrid is an ordinary config: built anew, it takes the same weights.
    build(student.config).load_state_dict(student.state_dict())
    assert isinstance(build(student.config).encoder.layers[3].mixer, AttentionMamba2)


def test_layers_that_stay_keep_their_direction():
    teacher = build('tiny', schedule='MTMTMT')
    student = hybrid_m3et(teacher, (1, 5))
    assert student.config.schedule == 'MSMTMS'
    for place in (0, 2, 4):
        assert student.encoder.layers[place].backward == teacher.encoder.layers[place].backward == (place == 2)
    assert [student.encoder.layers[place].backward for place in (1, 5)] == [False, True]


def test_bad_indices_and_layers_are_refused():
    with pytest.raises(ValueError, match=r'layer 0 is S; give indices of attention layers \(T\) of STTT'):
        replaced(replace(TINY_TEACHER.language, schedule='STTT'), (0,))
    with pytest.raises(ValueError, match='layer 4 is missing'):
        replaced(TINY_TEACHER.language, (4,))
    with pytest.raises(ValueError, match='layer 0 is M'):
        hybrid_m3et(build('tiny', schedule='MTT'), (0,))
    with pytest.raises(ValueError, match="schedule is 'TM'; MaTVLM has T and S layers only"):
        MaTVLM(replace(TINY_TEACHER, language=replace(TINY_TEACHER.language, schedule='TM')))
    with pytest.raises(ValueError, match='share is 0.1, which is less than half a layer of 4; give at least 0.25'):
        spread(4, 0.1)
    with pytest.raises(ValueError, match='share is 0; give a number above 0'):
        spread(4, 0)


def test_seed_and_sizes_of_the_language_model_reach_the_mixers():
    language = replace(TINY_TEACHER.language, d_conv=3, chunk=16)
    teacher = MaTVLM(replace(TINY_TEACHER, language=language))
    one, again, other = (MaTVLM.from_teacher(teacher, (1,), seed=seed).language.layers[1].mixer for seed in (1, 1, 2))
    assert torch.equal(one.A_log, again.A_log) and not torch.equal(one.A_log, other.A_log)
    assert one.conv1d.kernel_size == (3,) and one.chunk == 16
    found, wanted = (hybrid_m3et(build('tiny', schedule='TTTT', stages=2), (1,), seed=seed) for seed in (3, 3))
    assert torch.equal(found.encoder.layers[1].mixer.A_log, wanted.encoder.layers[1].mixer.A_log)


@pytest.mark.parametrize(('share', 'count'), [(1e-9 + 1 / 8, 1), (1.0, 4)])
def test_shares_at_the_ends_of_their_range_are_accepted(share, count):
    assert len(spread(4, share)) == count
    for beyond in (0.0, -0.1, 1.01):
        with pytest.raises(ValueError, match='give a number above 0, at most 1'):
            spread(4, beyond)


@torch.no_grad()
def test_a_student_reads_out_places_in_the_t_layers_that_it_keeps():
    teacher = build('tiny', schedule='TTT', stages=1, places=True, answer_parts=5, look_parts=2).eval()
    student = hybrid_m3et(teacher, [0, 2]).eval()
    assert list(student.readout.maps) == ['1'] and student.readout.last == 1
    assert torch.equal(student.readout.slots.weight, teacher.readout.slots.weight)
    inputs = {'rgb': torch.randn(2, 3, 32, 32), 'text': torch.randint(5, 64, (2, 6))}
    assert student.answer_logits(student.encode(inputs)).isfinite().all()
    with pytest.raises(ValueError, match='give a schedule with a T layer'):
        hybrid_m3et(teacher, [0, 1, 2])
