"""The model of the next action: nothing of the future, no influence of pads, probabilities, one matrix A."""

from dataclasses import replace

import pytest
import torch

from m3et_ros.models.actions.history import (
    COUNTS,
    TIMES,
    HistoryConfig,
    HistoryModel,
    count_bucket,
    pause_bucket,
    time_bucket,
)

SMALL = HistoryConfig(verbs=5, nouns=7, pairs=6, words=11, d=8, e=6, hidden=10, slots=4, verb_slots=3, N=4)


def batch(config=SMALL, *, windows=2, length=6, targets=5, seed=0):
    g = torch.Generator().manual_seed(seed)

    def ids(high, *size):
        return torch.randint(high, size, generator=g)

    def seconds(*size):
        return 20 * torch.rand(size, generator=g)

    found = {
        'verbs': ids(config.verbs + 1, windows, length),
        'nouns': ids(config.nouns + 1, windows, length),
        'pairs': ids(config.pairs + 1, windows, length),
        'pauses': ids(2 * TIMES, windows, length),
        'lengths_s': seconds(windows, length),
        'mask': torch.ones(windows, length, dtype=torch.bool),
        'window': ids(windows, targets),
        'place': ids(length + 1, targets),
        'cut_s': seconds(targets),
        'last_verb': ids(config.verbs + 1, targets),
        'last_noun': ids(config.nouns + 1, targets),
        'noun_question': 1 + ids(config.words - 1, 3, 5),
        'verb_question': 1 + ids(config.words - 1, 3, 4),
        'asked': ids(3, targets),
    }
    for name, keys, others, slots in (
        ('objects', config.nouns, config.verbs, config.slots),
        ('deeds', config.verbs, config.nouns, config.verb_slots),
    ):
        size = targets, slots
        # Each class stands in one slot at most.
        own = torch.stack([torch.randperm(keys, generator=g)[:slots] for _ in range(targets)])
        found |= {
            f'{name}_key': own.masked_fill(torch.rand(size, generator=g) < 0.3, -1),
            f'{name}_last': ids(others + 1, *size),
            f'{name}_before': ids(others + 2, *size),
            f'{name}_count': 1 + ids(9, *size),
            f'{name}_lag_s': seconds(*size),
        }
    return found


def built(config=SMALL, seed=0):
    torch.manual_seed(seed)
    return HistoryModel(config).eval()


def answers(model, given):
    with torch.inference_mode():
        return model.actions(model.context(given))


@pytest.mark.parametrize('changes', [{}, {'question': False}, {'memory': False}, {'layers': 1}])
def test_actions_are_a_distribution_over_all_pairs(changes):
    config = replace(SMALL, **changes)
    found = answers(built(config), batch(config))
    assert found.shape == (5, 7, 5)
    torch.testing.assert_close(found.exp().sum((1, 2)), torch.ones(5))


def test_the_parts_agree_with_the_whole():
    model, given = built(), batch()
    with torch.inference_mode():
        context = model.context(given)
        for noun in range(7):
            own = model.verbs_of(context, torch.full((5,), noun)).log_softmax(-1)
            whole = own + model.nouns(context).log_softmax(-1)[:, noun : noun + 1]
            torch.testing.assert_close(model.actions(context)[:, noun], whole)


def test_actions_that_end_after_the_cut_have_no_influence():
    model, given = built(), batch(length=8)
    before = answers(model, given)
    for target in range(5):
        window, place = int(given['window'][target]), int(given['place'][target])
        changed = given | {name: given[name].clone() for name in ('verbs', 'nouns', 'pairs', 'pauses', 'lengths_s')}
        for name in ('verbs', 'nouns', 'pairs', 'pauses'):
            changed[name][window, place:] = 0
        changed['lengths_s'][window, place:] = 99.0
        torch.testing.assert_close(answers(model, changed)[target], before[target])


def test_visible_actions_have_influence():
    model, given = built(), batch()
    given['place'][:] = 6
    changed = given | {'verbs': given['verbs'].clone()}
    changed['verbs'][:, 2] = (changed['verbs'][:, 2] + 1) % 5
    assert (answers(model, changed) - answers(model, given)).abs().amax((1, 2)).min() > 1e-6


def test_pads_have_no_influence():
    model, given = built(), batch()
    longer = dict(given)
    for name in ('verbs', 'nouns', 'pairs', 'pauses', 'lengths_s', 'mask'):
        longer[name] = torch.nn.functional.pad(given[name], (0, 3))
    for name in ('noun_question', 'verb_question'):
        longer[name] = torch.nn.functional.pad(given[name], (0, 2))
    torch.testing.assert_close(answers(model, longer), answers(model, given))


def without(slots):
    """The same memory with nothing in it."""
    return slots._replace(keys=torch.full_like(slots.keys, -1))


def test_a_slot_votes_for_its_own_class():
    model, given = built(), batch()
    given['objects_key'][0] = torch.tensor([2, -1, -1, -1])
    given['deeds_key'][0] = torch.tensor([-1, 4, -1])
    with torch.inference_mode():
        context = model.context(given)
        nouns = model.nouns(context)[0] - model.nouns(context._replace(objects=without(context.objects)))[0]
        verbs = model.verbs(context)[0] - model.verbs(context._replace(deeds=without(context.deeds)))[0]
    assert (nouns.abs() > 1e-7).tolist() == [place == 2 for place in range(7)]
    assert (verbs.abs() > 1e-7).tolist() == [place == 4 for place in range(5)]


def test_an_object_votes_for_repeating_what_was_done_to_it():
    model, given = built(), batch()
    given['objects_key'][0] = torch.tensor([2, 5, -1, -1])
    given['objects_last'][0], given['objects_before'][0] = torch.tensor([1, 5, 0, 0]), torch.tensor([3, 6, 0, 0])
    with torch.inference_mode():
        context = model.context(given)
        logits = torch.zeros(5, 7 * 5)
        votes = model._with_repeats(logits, context.objects, context.verb)[0].view(7, 5)
    # Of noun 2 verb 1 and before it verb 3; of noun 5 an unknown verb and none.
    assert (votes.abs() > 1e-7).nonzero().tolist() == [[2, 1], [2, 3]]


def test_slots_hide_their_class_in_training_only():
    model, given = built(replace(SMALL, forget=1 - 1e-9, dropout=0.0)), batch()
    other = given | {'objects_key': (given['objects_key'] + 1) % 7}
    with torch.inference_mode():
        assert not torch.equal(model.context(given).objects.values, model.context(other).objects.values)
        model.train()
        context, changed = model.context(given).objects, model.context(other).objects
    torch.testing.assert_close(context.values, changed.values)
    assert torch.equal(context.keys, given['objects_key'])  # the vote still goes to its class


def test_both_scans_share_one_matrix():
    model, given = built().train(), batch()
    assert [name for name, _ in model.named_parameters() if name.endswith('A_log')] == ['A_log']
    context = model.context(given)
    (model.actions(context).sum() + model.verbs(context).sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    grads = []
    for question in (True, False):
        torch.manual_seed(0)
        other = HistoryModel(replace(SMALL, question=question, dropout=0.0))
        other.load_state_dict(model.state_dict(), strict=False)
        other.nouns(other.context(given)).sum().backward()
        grads.append(other.A_log.grad)
    assert not torch.allclose(*grads)


def test_times_and_counts_fall_into_buckets():
    seconds = torch.tensor([0.0, 0.1, 1.0, 10.0, 100.0, 1e6])
    found = time_bucket(seconds)
    assert found[0] == found[1] == 0 and found[-1] == TIMES - 1 and (found[2:].diff() > 0).all()
    assert count_bucket(torch.tensor([1, 2, 4, 1000])).tolist() == [0, 1, 3, COUNTS - 1]
    pauses = pause_bucket(torch.tensor([-1e6, -1.0, -0.01, 0.0, 1.0, 1e6]))
    assert pauses.tolist() == [
        0,
        TIMES - 1 - int(time_bucket(torch.tensor(1.0))),
        TIMES - 1,
        TIMES,
        TIMES + int(time_bucket(torch.tensor(1.0))),
        2 * TIMES - 1,
    ]


def test_every_size_of_the_config_reaches_its_part():
    config = replace(SMALL, d=10, e=5, hidden=9, layers=3, slots=4, verb_slots=2, N=6, d_conv=3, words=13)
    model = HistoryModel(config)
    mixers = [*model.encoder.layers, model.text_mixer]
    assert len(model.encoder.layers) == 3 and len(model.encoder.norms) == 4
    assert all((m.d_in, m.N, m.conv1d.kernel_size) == (20, 6, (3,)) for m in mixers) and model.A_log.shape == (20, 6)
    assert model.objects.rank.weight.shape == (4, 5) and model.deeds.rank.weight.shape == (2, 5)
    assert model.objects.key.num_embeddings == 8 and model.deeds.key.num_embeddings == 6
    assert model.word.weight.shape == (13, 10) and model.verb_head.in_features == 9
    assert model.encoder.pair.num_embeddings == config.pairs + 1


def test_shares_of_the_config_reach_every_dropout():
    model = HistoryModel(replace(SMALL, dropout=0.25, forget=0.125))
    dropouts = [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    assert dropouts == [0.25] * 4 and model.objects.forget == model.deeds.forget == 0.125


@pytest.mark.parametrize('part', ['key', 'last', 'before', 'count', 'lag_s'])
@pytest.mark.parametrize('memory', ['objects', 'deeds'])
def test_every_part_of_a_memory_has_influence(memory, part):
    model, given = built(), batch()
    name = f'{memory}_{part}'
    value = torch.roll(given[name], 1, 1)
    if part in ('count', 'lag_s'):  # which are put into buckets
        value = torch.where(given[name] > 5, 1, 900).to(given[name].dtype)
    assert not torch.equal(answers(model, given | {name: value}), answers(model, given))


@pytest.mark.parametrize(
    'name', ['verbs', 'nouns', 'pairs', 'pauses', 'lengths_s', 'cut_s', 'last_verb', 'last_noun', 'asked']
)
def test_every_part_of_the_past_has_influence(name):
    model, given = built(), batch()
    given['place'][:] = 6
    value = 300 - given[name] if name.endswith('_s') else (given[name] + 1) % 3
    assert not torch.equal(answers(model, given | {name: value}), answers(model, given))


def test_each_question_serves_its_own_label():
    model, given = built(), batch()
    with torch.inference_mode():
        before = model.context(given)
        after = model.context(given | {'noun_question': given['noun_question'].flip(1) % 10 + 1})
    assert torch.equal(before.verb, after.verb) and not torch.equal(before.noun, after.noun)


@pytest.mark.parametrize(
    'field, value',
    [
        ('verbs', 0),
        ('d', 1.5),
        ('layers', True),
        ('dropout', 1.0),
        ('dropout', 'a'),
        ('forget', -0.1),
        ('forget', True),
        ('question', 1),
    ],
)
def test_configs_out_of_range_are_refused(field, value):
    with pytest.raises(ValueError, match=f'{field} is'):
        HistoryConfig(**{field: value})


def test_the_limits_of_a_config_are_accepted():
    config = HistoryConfig(dropout=0, forget=0.999, verbs=1, slots=1024)
    assert (config.dropout, config.forget, config.verbs, config.slots) == (0, 0.999, 1, 1024)


def test_configs_survive_json():
    assert HistoryConfig.from_dict(SMALL.to_dict()) == SMALL
    with pytest.raises(ValueError, match="holds 'colour'; the fields are verbs, nouns"):
        HistoryConfig.from_dict({'colour': 3})
