"""The stages of the generative family: parts trained, losses, resumed runs."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from m3et_ros.data.features.visual_tokens import Views
from m3et_ros.data.kitchen.cache.dialogues import Dialogue, Turn
from m3et_ros.models.m3et.adapters import ImageAdapter, patchify
from m3et_ros.models.vlm.variants import VARIANTS, kitchen_config, read_texts
from m3et_ros.training.distil import DistilConfig, distil
from m3et_ros.training.run_state import Interrupted, TrainingSession, read_header
from m3et_ros.training.talk import (
    Chat,
    CollateTalk,
    Connect,
    Distil,
    DistilledStudent,
    TalkRecipe,
    TalkRun,
    Words,
    alignment_loss,
    alignment_weight,
    encode_turns,
    talk_tokenizer,
)

COLOURS = ('red', 'green', 'blue', 'white')
SMALL = {'samples': 12, 'batch': 4}


class Toys:
    """Eight views in which a cup has the colour that their features tell."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        colour = COLOURS[index % 4]
        turns = (
            Turn('What colour is the cup?', f'The cup is {colour}.', 'colour'),
            Turn('Is the cup red?', 'Yes, the cup is red.' if colour == 'red' else 'No, the cup is not red.', 'colour'),
        )
        return Dialogue(
            index,
            turns,
            Turn('What do you see?', f'I can see a {colour} cup.', 'describe'),
            np.full((112, 112, 3), 20 * index, np.uint8),
            f'seed {index} tick 0',
        )


@pytest.fixture(scope='module')
def tokenizer():
    return talk_tokenizer()


@pytest.fixture(scope='module')
def views():
    features = np.random.default_rng(0).standard_normal((4, 81, 16)).astype(np.float16)
    return Views(np.concatenate([features, features]), np.arange(8), (9, 9), 'tiny-random-0')


@pytest.fixture(scope='module')
def batch(tokenizer, views):
    return CollateTalk(tokenizer, views)([Toys()[i] for i in range(4)])[0]


@pytest.fixture
def recipe_of(tokenizer):
    def make(variant, **changes):
        config = kitchen_config(variant, d_vision=16, vocabulary=tokenizer.vocabulary, d=64, layers=4)
        given = {'words': Words(**SMALL), 'connect': Connect(**SMALL), 'chat': Chat(**SMALL)} | changes
        return TalkRecipe(config, **given)

    return make


@pytest.mark.parametrize('variant', VARIANTS)
def test_texts_about_one_image_are_read_as_if_alone(recipe_of, batch, variant):
    model = recipe_of(variant).config.build().eval()
    together = read_texts(model, batch['features'], batch['ids'], keep=(1,))
    alone = model(batch['features'].repeat_interleave(2, 0), batch['ids'], keep=(1,))
    torch.testing.assert_close(together.logits, alone.logits, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(together.hidden[1], alone.hidden[1][::2, :81], rtol=1e-3, atol=1e-4)


def test_labels_cover_answers_and_their_ends_and_not_prompts(tokenizer):
    turns = [Toys()[0].turns[0], Toys()[0].description]
    ids, labels = encode_turns(turns, tokenizer)
    for row, turn in enumerate(turns):
        learnt = labels[row][labels[row] >= 0]
        assert tokenizer.decode(learnt[:-1]) == turn.reply.lower() and learnt[-1] == tokenizer.sep
        assert ids[row][labels[row] >= 0].equal(learnt) and ids[row, 0] == tokenizer.cls


def test_pads_cost_nothing(recipe_of, batch):
    model, draw = recipe_of('ml_mamba').config.build().eval(), torch.Generator
    longer = dict(batch)
    for name, fill in (('ids', 0), ('labels', -100), ('description_ids', 0), ('description_labels', -100)):
        longer[name] = torch.nn.functional.pad(batch[name], (0, 5), value=fill)
    for recipe in (Words(**SMALL), Connect(**SMALL, told=1), Chat(**SMALL, told=1)):
        one, two = (recipe.losses(model, given, draw()) for given in (batch, longer))
        assert one.keys() == two.keys() and len(one) == 2
        for name in one:
            torch.testing.assert_close(one[name], two[name])


def test_only_emma_with_its_head_predicts_pixels(recipe_of, batch, tokenizer, views, tmp_path):
    for fusion, taps in ((True, (0, 1, 2, 3)), (False, (3,))):
        run = TalkRun(recipe_of('emma', fusion=fusion), Toys(), views, tokenizer, tmp_path)
        model = run.start()
        found = Chat(**SMALL).losses(model, batch, torch.Generator())
        assert model.alignment.config.taps == taps and found['pixels'] > 0
    bare = TalkRun(recipe_of('emma', aligned=False), Toys(), views, tokenizer, tmp_path).start()
    assert 'pixels' not in Chat(**SMALL).losses(bare, batch, torch.Generator())
    assert 'pixels' not in Chat(**SMALL, align=0).losses(model, batch, torch.Generator())


@pytest.mark.parametrize('target', ['pixels', 'patch', 'deep'])
def test_emma_predicts_the_target_that_is_asked_for(recipe_of, batch, tokenizer, views, tmp_path, target):
    """Of a grid whose targets are known: raw pixels, the encoder's patch embedding, its outputs."""
    adapter = ImageAdapter(channels=3, patch=8, d=8)
    run = TalkRun(recipe_of('emma', target=target), Toys(), views, tokenizer, tmp_path, encoder=(adapter, 8))
    shown = dict(batch)
    if target == 'patch':
        shown = CollateTalk(tokenizer, views, patch=8)([Toys()[i] for i in range(4)])[0]
        assert run.collate.patch == 8
    model = run.start()
    head, stored = model.alignment, dict(model.alignment.named_parameters())
    assert head.config.d_target == {'pixels': 432, 'patch': 8, 'deep': 16}[target]
    found = Chat(**SMALL, align_warm_up=0).losses(model, shown, torch.Generator())
    assert set(found) - {'answer', 'told'} == {target} and found[target] > 0
    wanted = {
        'pixels': lambda: patchify(batch['images'], 12),
        'patch': lambda: adapter(shown['images']).detach(),
        'deep': lambda: batch['features'],
    }[target]()
    wanted = (wanted - wanted.mean(-1, keepdim=True)) / (wanted.var(-1, keepdim=True) + 1e-6).sqrt()
    targets = head.targets(images=shown['images'], features=shown['features'])
    torch.testing.assert_close(targets, wanted[:, head.order(torch.device('cpu'))])
    assert stored.keys() == dict(head.named_parameters()).keys() and not any('patch' in name for name in stored)


def test_the_released_order_and_the_published_sum_reach_the_head(recipe_of, batch, tokenizer, views, tmp_path):
    run = TalkRun(recipe_of('emma', released_order=True), Toys(), views, tokenizer, tmp_path)
    model = run.start().eval()
    assert model.alignment.config.released_order
    mean, total = (
        Chat(**SMALL, align=1, align_loss=loss).losses(model, batch, torch.Generator().manual_seed(0))['pixels']
        for loss in ('mean', 'sum_1e-5')
    )
    assert total.item() == pytest.approx(1e-5 * 4 * 81 * 432 * mean.item(), rel=1e-4)


def test_a_target_of_the_encoder_needs_the_encoder(recipe_of, tokenizer, views, tmp_path):
    with pytest.raises(ValueError, match="the target 'patch' needs the patch embedding of the image encoder"):
        TalkRun(recipe_of('emma', target='patch'), Toys(), views, tokenizer, tmp_path)


def test_the_weight_of_the_alignment_rises_in_a_run(recipe_of, views, tokenizer, tmp_path):
    """Two steps are an epoch of eight views; the weight rises over two epochs, and the log has its losses."""
    weights = [Chat(align=0.5, align_warm_up=2.0).at(step, 2).align for step in range(6)]
    assert weights == [0.0, 0.125, 0.25, 0.375, 0.5, 0.5]
    logged = {}
    for warm_up in (0.0, 1e4):
        chat = Chat(samples=8, batch=4, told=0, align_warm_up=warm_up)
        recipe = recipe_of('emma', words=None, connect=None, chat=chat)
        run = TalkRun(recipe, Toys(), views, tokenizer, tmp_path / str(warm_up))
        run.train()
        logged[warm_up] = run.outcomes['2_chat'].losses['pixels']
    assert 0 < logged[1e4] < 1e-4 * logged[0.0]


def test_each_stage_trains_its_own_part(recipe_of, views, tokenizer, tmp_path):
    run = TalkRun(recipe_of('ml_mamba', words=None, chat=None), Toys(), views, tokenizer, tmp_path)
    before = run.start().state_dict()
    after = run.train()[1].state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith('connector.') for name in changed)
    run = TalkRun(recipe_of('ml_mamba', connect=None, chat=None), Toys(), views, tokenizer, tmp_path / 'words')
    after = run.train()[1].state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith('language.') for name in changed)


def test_a_hybrid_learns_from_its_unchanged_teacher(recipe_of, views, tokenizer, tmp_path):
    asked = recipe_of('matvlm', distil=Distil(**SMALL), share=0.5)
    run = TalkRun(asked, Toys(), views, tokenizer, tmp_path)
    config, student = run.train()
    assert config.model.language.schedule == 'STST'
    assert set(run.outcomes) == {'0_words', '1_connect', '2_chat', '3_distil'}
    assert set(run.outcomes['3_distil'].losses) == {'layer', 'prob', 'ce'}
    teacher = copy.deepcopy(run.taught.state_dict())
    again = TalkRun(asked, Toys(), views, tokenizer, tmp_path / 'again')
    config, same = again.train(run.taught)
    assert set(again.outcomes) == {'3_distil'} and again.taught is None
    assert all(torch.equal(value, run.taught.state_dict()[name]) for name, value in teacher.items())
    assert all(torch.equal(value, student.state_dict()[name]) for name, value in same.state_dict().items())
    kept = [name for name in teacher if '.mixer.' not in name and name.startswith('language.')]
    assert all(torch.equal(teacher[name], student.state_dict()[name]) for name in kept)


def test_random_mixers_share_nothing_with_attention(recipe_of, views, tokenizer, tmp_path):
    teacher = recipe_of('matvlm').config.build().requires_grad_(False)
    run = {
        seeded: TalkRun(recipe_of('matvlm', seeded=seeded), Toys(), views, tokenizer, tmp_path).student(teacher)
        for seeded in (True, False)
    }
    out = teacher.language.layers[0].mixer.dense.weight
    assert torch.equal(run[True].language.layers[0].mixer.out_proj.weight, out)
    assert not torch.equal(run[False].language.layers[0].mixer.out_proj.weight, out)


def test_a_layer_like_the_teachers_costs_nothing_with_shared_images(recipe_of, batch):
    teacher = recipe_of('matvlm').config.build().eval().requires_grad_(False)
    student = copy.deepcopy(teacher)

    def paid():
        return float(
            distil(
                teacher,
                student,
                lambda model: read_texts(model, batch['features'], batch['ids']).logits,
                config=DistilConfig(prob=0),
                layers=(0, 2),
            )['layer']
        )

    assert paid() == pytest.approx(0, abs=1e-4)
    student.language.layers[2].fc1.weight.data *= 1.5
    assert paid() > 1e-2


def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(recipe_of, views, tokenizer, tmp_path):
    asked = recipe_of('ml_mamba', words=Words(**SMALL), chat=Chat(**SMALL, told=0.5))
    whole = TalkRun(asked, Toys(), views, tokenizer, tmp_path / 'whole').train()[1]
    steps = []

    def stop():
        steps.append(1)
        return len(steps) == 4

    with pytest.raises(Interrupted):
        TalkRun(asked, Toys(), views, tokenizer, tmp_path / 'broken', session=TrainingSession(stop=stop)).train()
    on = TalkRun(asked, Toys(), views, tokenizer, tmp_path / 'broken', session=TrainingSession(resume=True)).train()[1]
    assert len(steps) == 4
    assert all(torch.equal(value, on.state_dict()[name]) for name, value in whole.state_dict().items())


def test_a_run_lowers_its_loss(recipe_of, views, tokenizer, batch, tmp_path):
    chat = Chat(samples=160, batch=8, lr=3e-3, warm_up=0.1, told=0)
    asked = recipe_of('matvlm', words=None, connect=None, chat=chat)
    run = TalkRun(replace(asked, seed=1), Toys(), views, tokenizer, tmp_path)
    first = float(chat.losses(run.start(), batch, torch.Generator())['answer'])
    last = float(chat.losses(run.train()[1], batch, torch.Generator())['answer'])
    assert last < 0.6 * first


def test_the_published_alignment_loss_is_the_mean_times_its_size():
    predicted, target = torch.randn(2, 9, 5), torch.randn(2, 9, 5)
    mean = alignment_loss(predicted, target)
    assert torch.allclose(mean, (predicted - target).square().mean())
    assert torch.allclose(alignment_loss(predicted, target, reduction='sum_1e-5'), 1e-5 * 90 * mean)
    assert alignment_loss(target, target) == 0


def test_images_of_other_shapes_and_unknown_reductions_are_refused():
    with pytest.raises(ValueError, match=r'the prediction is \(1, 2, 3\) and the target \(1, 3, 2\)'):
        alignment_loss(torch.zeros(1, 2, 3), torch.zeros(1, 3, 2))
    with pytest.raises(ValueError, match="reduction is 'sum'; give one of mean, sum_1e-5"):
        alignment_loss(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), reduction='sum')


def test_the_weight_of_the_alignment_rises_over_a_tenth_of_an_epoch():
    weights = [alignment_weight(step, steps_per_epoch=100, weight=0.5) for step in (0, 5, 10, 50)]
    assert weights == [0.0, 0.25, 0.5, 0.5]
    assert alignment_weight(0, steps_per_epoch=100, warm_up=0) == 1.0


def test_the_alignment_has_its_weight(recipe_of, batch, tokenizer, views, tmp_path):
    model = TalkRun(recipe_of('emma'), Toys(), views, tokenizer, tmp_path).start().eval()
    one, half = (
        Chat(**SMALL, align=align).losses(model, batch, torch.Generator().manual_seed(0)) for align in (1.0, 0.5)
    )
    assert half['pixels'].item() == pytest.approx(one['pixels'].item() / 2) and half['answer'] == one['answer']


@pytest.mark.parametrize(('share', 'schedule'), [(0.25, 1), (0.5, 2), (1.0, 4)])
def test_the_share_of_replaced_layers_reaches_the_student(recipe_of, views, tokenizer, tmp_path, share, schedule):
    teacher = recipe_of('matvlm').config.build()
    student = TalkRun(recipe_of('matvlm', share=share), Toys(), views, tokenizer, tmp_path).student(teacher)
    assert student.config.language.schedule.count('S') == schedule


def test_the_spread_of_replaced_layers_reaches_the_student(recipe_of, views, tokenizer, tmp_path):
    teacher = recipe_of('matvlm').config.build()
    run = TalkRun(recipe_of('matvlm', share=0.5, spread='last'), Toys(), views, tokenizer, tmp_path)
    assert run.student(teacher).config.language.schedule == 'TTSS'


def test_kinds_of_distillation_reach_its_losses(recipe_of, batch, tokenizer, views, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher = recipe_of('matvlm').config.build()
        torch.nn.init.normal_(teacher.language.embedding.weight, std=0.25)  # logits that differ, none of which is sure
    model = DistilledStudent(TalkRun(recipe_of('matvlm'), Toys(), views, tokenizer, tmp_path).student(teacher), teacher)
    model.eval()

    def losses(**options):
        return Distil(**SMALL, told=0, **options).losses(model, batch, torch.Generator().manual_seed(0))

    plain = losses()
    for changed, option in (
        ({'prob'}, {'prob_kind': 'js'}),
        ({'prob'}, {'temperature': 3.0}),
        ({'layer'}, {'layer_kind': 'kl'}),
        ({'layer', 'prob'}, {'reduction': 'released'}),
    ):
        found = losses(**option)
        assert {name for name in plain if found[name].item() != pytest.approx(plain[name].item(), rel=0.01)} == changed
    assert set(losses(ce=0)) == {'layer', 'prob'}
    with pytest.raises(ValueError, match="prob_kind is 'l1'; give one of kl"):
        Distil(**SMALL, prob_kind='l1')


def test_distillation_has_its_weights_and_its_share_of_descriptions(recipe_of, batch, tokenizer, views, tmp_path):
    teacher = recipe_of('matvlm').config.build()
    run = TalkRun(recipe_of('matvlm'), Toys(), views, tokenizer, tmp_path)
    model = DistilledStudent(run.student(teacher), teacher).eval()

    def losses(given=batch, **options):
        return Distil(**SMALL, **options).losses(model, given, torch.Generator().manual_seed(0))

    one, other = losses(told=0), losses(told=0, layer=2.0, prob=3.0, ce=4.0)
    for name, factor in (('layer', 2), ('prob', 3), ('ce', 4)):
        assert other[name].item() == pytest.approx(factor * one[name].item(), rel=1e-4)
    mute = {**batch, 'description_labels': torch.full_like(batch['description_labels'], -100)}
    assert losses(mute, told=0)['ce'] == one['ce'] and losses(mute, told=1.1)['ce'] == 0


def test_the_seed_reaches_weights_and_order(recipe_of, views, tokenizer, tmp_path):
    recipe = recipe_of('ml_mamba', connect=None, chat=None)
    run = TalkRun(replace(recipe, seed=7), Toys(), views, tokenizer, tmp_path)
    run.train()
    assert read_header(tmp_path / '0_words')['seed'] == 7
    one, same, other = (
        TalkRun(replace(recipe, seed=seed), Toys(), views, tokenizer, tmp_path).start().language.state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_stages_share_the_time_of_a_session(recipe_of, views, tokenizer, tmp_path):
    run = TalkRun(recipe_of('ml_mamba'), Toys(), views, tokenizer, tmp_path, session=TrainingSession(minutes=0.0))
    with pytest.raises(Interrupted):
        run.train()
    assert not run.outcomes  # no time for any stage
