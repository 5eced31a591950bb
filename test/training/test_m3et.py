"""The batches and losses of the two stages."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from m3et_ros.data.class_names import ClassNames
from m3et_ros.data.errors import InputError
from m3et_ros.training.m3et import STAGES, Answer, Collate, Pretrain, reconstruction_losses, run


@pytest.fixture
def batch(tiny, toys, tokenizer, answers):
    return Collate(tiny().config, tokenizer, answers)(toys[:8])[0]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_batch_holds_the_tensors_of_the_module_docstring(batch, toys, tiny, tokenizer, answers):
    shapes = {name: tuple(tensor.shape) for name, tensor in batch.items()}
    words = shapes['text'][1]
    assert batch['text_mask'].any(0).all()  # no pads that nobody needs
    assert shapes == {
        'rgb': (8, 3, 32, 32),
        'depth': (8, 1, 32, 32),
        'semseg': (8, 8, 8),
        'text': (8, words),
        'text_mask': (8, words),
        'depth_target': (8, 1, 32, 32),
        'scores': (8, 6),
        'answer': (8, 10),
        'answer_mask': (8, 10),
        'asked': (8,),
    }
    assert batch['scores'].argmax(1).tolist() == [1, 0] * 4  # right, left
    assert tokenizer.decode(batch['answer'][0]) == 'right'
    mute = replace(toys[0], question='', answers={})
    tensors, keys = Collate(tiny().config, tokenizer, answers)([mute, toys[1]])
    assert keys == ['toy 0', 'toy 1'] and tensors['asked'].tolist() == [False, True]
    assert tensors['answer_mask'].any(1).tolist() == [False, True]


@pytest.mark.parametrize('validity', [False, True])
def test_stage_one_counts_hidden_patches_and_unmeasured_depth_alone(batch, tiny, monkeypatch, validity):
    """Predictions of visible patches cost nothing, except where depth was not measured; those of hidden ones do."""
    model = tiny(depth_validity=validity).eval()
    unknown = batch['depth'] == 0  # the toys have no depth in their first two rows
    assert unknown.any(0)[0, :2].all() and not unknown[:, :, 2:].any()
    if validity:
        batch = batch | {'depth': torch.cat([batch['depth'], (~unknown).float()], 1)}
    seen = {}
    encode, decode = model.encode, model.decode
    monkeypatch.setattr(model, 'encode', lambda inputs, visible: seen.setdefault('it', encode(inputs, visible=visible)))

    def spoil(where):
        def decoded(encoded, task):
            out = decode(encoded, task)
            chosen = ~encoded.visible[task] if where == 'hidden' else encoded.visible[task]
            side = out.shape[-1] // 2
            pixels = chosen.view(-1, 1, 2, 2).repeat_interleave(side, 2).repeat_interleave(side, 3)
            if task == 'depth':
                pixels = pixels & (unknown if where == 'holes' else ~unknown)
            return torch.where(pixels, out + torch.randn(out.shape, generator=generator(1)), out)

        monkeypatch.setattr(model, 'decode', decoded)
        return Pretrain().losses(model, batch, generator())

    honest = Pretrain().losses(model, batch, generator())
    visible, hidden, holes = spoil('visible'), spoil('hidden'), spoil('holes')
    assert honest.keys() == {'rgb', 'depth', 'semseg'}
    assert all(visible[name] == honest[name] and hidden[name] != honest[name] for name in honest)
    assert holes['depth'] != honest['depth']  # of visible patches
    assert sum(int(mask.sum()) for mask in seen['it'].visible.values()) == 8 * round(0.3 * 12)


def test_stage_one_learns(batch, tiny):
    model = tiny()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for step in range(40):
        loss = sum(Pretrain().losses(model, batch, generator(step)).values())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        history.append(loss.item())
    assert np.mean(history[-5:]) < 0.6 * np.mean(history[:3])


def test_stage_two_learns_answers_words_depth_and_classes(batch, tiny):
    model, recipe = tiny(), Answer(rehearse=0.0, drop_depth=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    first = recipe.losses(model, batch, generator())
    assert first.keys() == {'answer', 'words', 'depth', 'semseg'}
    for step in range(40):
        sum(recipe.losses(model, batch, generator(step)).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    last = recipe.losses(model, batch, generator())
    assert all(last[name] < 0.6 * first[name] for name in first)
    encoded = model.eval().encode({name: batch[name] for name in ('rgb', 'depth', 'text', 'text_mask')})
    assert (model.answer_logits(encoded).argmax(1) == batch['scores'].argmax(1)).all()


@pytest.mark.parametrize('hear', [False, True])
def test_a_question_asked_twice_about_its_view_counts_as_once(toys, tiny, tokenizer, answers, hear):
    model = tiny(images_hear=hear)
    batch, _ = Collate(model.config, tokenizer, answers, ClassNames(tokenizer, ('ground', 'square')))(toys[:8])
    per_question = ('text', 'text_mask', 'scores', 'answer', 'answer_mask', 'asked', 'pointed')
    twice = batch | {name: batch[name].repeat_interleave(2, 0) for name in per_question}
    recipe = Answer(rehearse=0.0, silent=0.0, drop_depth=0.0)
    once, again = (recipe.losses(model, one, generator()) for one in (batch, twice))
    assert once.keys() == again.keys() == {'answer', 'words', 'pointing', 'depth', 'semseg'}
    for name, loss in once.items():
        torch.testing.assert_close(again[name], loss, atol=1e-5, rtol=1e-4, msg=name)


def test_options_of_stage_two(batch, tiny):
    model = tiny()
    bare = Answer(words=0.0, dense=0.0, rehearse=0.0).losses(model, batch, generator())
    assert bare.keys() == {'answer'}
    double = Answer(answer=2.0, words=0.0, dense=0.0, rehearse=0.0).losses(model, batch, generator())
    assert double['answer'].item() == pytest.approx(2 * bare['answer'].item())
    always = Answer(rehearse=1.0).losses(model, batch, generator())
    assert {'hidden_rgb', 'hidden_depth', 'hidden_semseg'} <= always.keys()
    blind = Answer(words=0.0, dense=0.0, rehearse=0.0, drop_depth=1.0).losses(model, batch, generator())
    other = Answer(words=0.0, dense=0.0, rehearse=0.0, drop_depth=1.0).losses(
        model, {**batch, 'depth': batch['depth'] + 1}, generator()
    )
    assert blind['answer'] == other['answer'] != bare['answer']


def test_a_sample_without_question_or_depth_counts_for_nothing_there(tiny, toys, tokenizer, answers):
    model = tiny()
    mute = replace(toys[0], question='', answers={}, depth=None, clean_depth=None)
    both, _ = Collate(model.config, tokenizer, answers)([mute, toys[1]])
    assert 'depth' not in both and both['depth_target'][0].isnan().all()
    found = Answer(rehearse=1.0).losses(model, both, generator())
    sum(found.values()).backward()
    assert all(loss.isfinite() for loss in found.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_depth_in_holes_counts_three_times_and_evenly_without_a_depth_camera(batch, tiny, monkeypatch):
    model, plain = tiny().eval(), {'rehearse': 0.0, 'words': 0.0, 'rarity': 0.0}
    monkeypatch.setattr(model, 'decode', lambda encoded, task: batch['depth_target'] + torch.arange(1.0, 33)[:, None])
    model.config = replace(model.config, tasks=('depth', 'text'))
    rows = torch.arange(1.0, 33)  # the error of each row; the first two are holes
    for holes in (1.0, 3.0):
        weight = torch.where(rows <= 2, holes, 1.0)
        found = Answer(**plain, holes=holes, drop_depth=0.0).losses(model, batch, generator())
        torch.testing.assert_close(found['depth'], (rows * weight).sum() / weight.sum())
    found = Answer(**plain, holes=3.0, drop_depth=1.0).losses(model, batch, generator())
    torch.testing.assert_close(found['depth'], rows.mean())
    assert Answer().holes == 3


PARTS = {'places': True, 'answer_parts': 5, 'look_parts': 2}


def test_an_answer_head_of_parts_starts_at_equal_probabilities_too(tmp_path, tiny, toys, checkpoint_of):
    recipe = Answer(samples=8, batch=8, lr=1e-9, warm_up=0.0)
    model = tiny(**PARTS)
    matrix = torch.tensor(
        [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 0, 1], [1, 0, 0, 0, 1], [1, 0, 0, 1, 0]]
    )
    model.answer_head.set_parts(matrix.float())
    outcome, trained, _ = run(recipe, checkpoint_of(model), toys, tmp_path / 'fresh')
    assert outcome.losses['answer'] == pytest.approx(math.log(6) - 5 * math.log(5 / 6), rel=0.3)
    before = trained.answer_head.answer_bias().clone()
    assert before.mean() < -1
    _, again, _ = run(recipe, checkpoint_of(trained), toys, tmp_path / 'again')
    torch.testing.assert_close(again.answer_head.answer_bias(), before)


def test_slots_learn_to_find_the_nouns_of_the_question(tmp_path, tiny, toys, tokenizer, answers, checkpoint_of):
    model = tiny(**PARTS)
    recipe = Answer(samples=320, batch=8, lr=1e-2, rehearse=0.0, words=0.0, dense=0.0)
    outcome, _, _ = run(recipe, checkpoint_of(model, ('ground', 'square')), toys, tmp_path / 'with')
    assert outcome.losses['slots'] < 0.5 * recipe.slots
    collate = Collate(model.config, tokenizer, answers, ClassNames(tokenizer, ('ground', 'square')))
    batch, _ = collate(toys[:8])
    text = model.encode_text(model.encode_images({'rgb': batch['rgb']}), batch['text'], batch['text_mask'])
    spelt = [int(place) for place, number in batch['pointed'][0] if number == 1 and place < batch['text'].shape[1]]
    assert (model.readout.slot_weights(text)[:, 0, spelt].sum(-1) > 0.8).all()
    named = 'ground', 'square'
    for name, weights, found in (('no', {'slots': 0.0}, {'pointing'}), ('only', {'pointing': 0.0}, {'slots'})):
        short = replace(recipe, samples=8, **weights)
        outcome, _, _ = run(short, checkpoint_of(tiny(**PARTS), named), toys, tmp_path / name)
        assert outcome.losses.keys() == {'answer'} | found


def test_reconstruction_losses_count_everything_when_nothing_is_hidden(batch, tiny):
    model = tiny().eval()
    encoded = model.encode({'rgb': batch['rgb']})
    found = reconstruction_losses(model, encoded, batch, ('rgb', 'depth', 'semseg'))
    error = model.decode(encoded, 'rgb') - batch['rgb']
    torch.testing.assert_close(found['rgb'], error.square().mean())
    assert reconstruction_losses(tiny(tasks=('rgb',)), encoded, batch, ('depth',)) == {}


def test_an_untrained_answer_head_starts_at_equal_probabilities(tmp_path, tiny, toys, checkpoint_of):
    def first_loss(model, name):
        outcome, _, _ = run(Answer(samples=8, batch=8), checkpoint_of(model), toys, tmp_path / name)
        return outcome.losses['answer']

    assert first_loss(tiny(), 'fresh') == pytest.approx(math.log(6) - 5 * math.log(5 / 6), rel=0.2)
    trained = tiny()
    torch.nn.init.constant_(trained.answer_head.layers[-1].bias, -4.0)
    assert first_loss(trained, 'trained') == pytest.approx(4 + 6 * math.log1p(math.exp(-4)), rel=0.2)


def test_words_and_the_global_token_learn_to_attend_to_what_they_name(
    tmp_path, tiny, toys, tokenizer, answers, checkpoint_of
):
    """Of the toys' question the word 'square' names class 1, a square of 4 of the 16 patches; looking evenly is 1.4."""
    model = tiny(patch=8)
    collate = Collate(model.config, tokenizer, answers, ClassNames(tokenizer, ('ground', 'square')))
    batch, _ = collate(toys[:8])
    length, classes = batch['text'].shape[1], batch['pointed'][0, :, 1]
    spelt = [int(place) for place, number in batch['pointed'][0] if number == 1 and place < length]
    assert tokenizer.decode(batch['text'][0][spelt]) == 'square'  # no pads in this batch
    assert [length, 1] in batch['pointed'][0].tolist() and classes.tolist() == [1] * (len(spelt) + 1)
    recipe = Answer(samples=320, batch=8, lr=3e-3, rehearse=0.0)
    without, _, _ = run(
        replace(recipe, pointing=0.0, samples=8),
        checkpoint_of(tiny(), ('ground', 'square')),
        toys,
        tmp_path / 'without',
    )
    assert 'pointing' not in without.losses
    outcome, _, _ = run(recipe, checkpoint_of(model, ('ground', 'square')), toys, tmp_path / 'with')
    assert outcome.losses['pointing'] < 0.5 * recipe.pointing


def test_a_model_without_the_heads_of_stage_two_is_refused(tmp_path, tiny, toys, checkpoint_of):
    with pytest.raises(InputError, match='lacks the answer head'):
        run(Answer(), checkpoint_of(tiny(answers=0)), toys, tmp_path / 'run')


@pytest.mark.parametrize(
    ('stage', 'options'),
    [
        ('pretrain', {'samples': 0}),
        ('pretrain', {'batch': 2.5}),
        ('pretrain', {'samples': 10, 'batch': 64}),
        ('pretrain', {'lr': 0.0}),
        ('pretrain', {'warm_up': 1.0}),
        ('pretrain', {'average': 1.0}),
        ('pretrain', {'visible': 0.0}),
        ('pretrain', {'alpha': 0.0}),
        ('pretrain', {'modalities': ('text',)}),
        ('vqa', {'layer_decay': 1.5}),
        ('vqa', {'rehearse': 1.1}),
        ('vqa', {'drop_depth': -0.1}),
        ('vqa', {'words': -1.0}),
        ('vqa', {'slots': -1.0}),
        ('vqa', {'holes': 0.5}),
    ],
)
def test_fields_out_of_range_are_refused_by_name(stage, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        STAGES[stage](**options)


def test_weights_of_stage_two_scale_their_losses(batch, tiny):
    model, plain = tiny(), {'rehearse': 0.0, 'drop_depth': 0.0, 'silent': 0.0}
    one = Answer(**plain, words=1.0, dense=1.0).losses(model, batch, generator())
    double = Answer(**plain, words=2.0, dense=3.0).losses(model, batch, generator())
    for name, factor in (('answer', 1), ('words', 2), ('depth', 3), ('semseg', 3)):
        assert double[name].item() == pytest.approx(factor * one[name].item(), rel=1e-5), name


def test_rarity_reaches_the_segmentation_alone(batch, tiny):
    model, plain = tiny(), {'rehearse': 0.0, 'drop_depth': 0.0}
    even, rare = (Answer(**plain, rarity=rarity).losses(model, batch, generator()) for rarity in (0.0, 1.0))
    assert even['semseg'] != rare['semseg'] and all(even[n] == rare[n] for n in ('answer', 'words', 'depth'))


def test_a_silent_batch_predicts_depth_without_the_question(batch, tiny):
    model, plain = tiny(), {'rehearse': 0.0, 'drop_depth': 0.0, 'words': 0.0}
    other = {**batch, 'text': batch['text'].flip(0), 'text_mask': batch['text_mask'].flip(0)}
    other['text'][:, -1] = 5
    for silent, same in ((1.0, True), (0.0, False)):
        losses = [Answer(**plain, silent=silent).losses(model, given, generator())['depth'] for given in (batch, other)]
        assert (losses[0] == losses[1]) == same


@pytest.mark.parametrize('changes', [{'alpha': 0.1}, {'subsets': True}, {'visible': 0.6}, {'tokens': 5}])
def test_options_of_stage_one_reach_the_masks(batch, tiny, monkeypatch, changes):
    model, masks = tiny().eval(), []
    encode = model.encode

    def record(inputs, visible):
        masks.append(visible)
        return encode(inputs, visible=visible)

    monkeypatch.setattr(model, 'encode', record)
    for recipe in (Pretrain(), Pretrain(**changes)):
        recipe.losses(model, batch, generator())
    assert masks[0].shape != masks[1].shape or not torch.equal(*masks)


def test_so_many_tokens_are_visible_or_their_share_of_what_a_batch_has(batch, tiny, monkeypatch):
    model, shown = tiny().eval(), []
    encode = model.encode
    monkeypatch.setattr(
        model, 'encode', lambda inputs, visible: shown.append(visible.shape[1]) or encode(inputs, visible=visible)
    )
    for given in (batch, {name: value for name, value in batch.items() if name != 'semseg'}):
        Pretrain(tokens=6).losses(model, given, generator())
    assert model.config.image_tokens == 4 and shown == [6, 4]


def test_a_model_with_too_few_tokens_is_refused_at_the_start(tmp_path, tiny, toys, checkpoint_of):
    with pytest.raises(InputError, match='tokens is 12; give fewer than 12'):
        run(Pretrain(samples=8, batch=8, tokens=12), checkpoint_of(tiny()), toys, tmp_path)


def test_the_seed_of_a_run_reaches_its_order(tmp_path, tiny, toys, checkpoint_of):
    losses = [
        run(Pretrain(samples=8, batch=8), checkpoint_of(tiny()), toys, tmp_path / name, seed=seed)[0].losses
        for name, seed in (('one', 1), ('same', 1), ('other', 2))
    ]
    assert losses[0] == losses[1] != losses[2]
