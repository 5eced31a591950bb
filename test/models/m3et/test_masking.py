"""Masking: every draw has the exact total."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m3et_ros.models.m3et.masking import allocate, draw, visible_total

IMAGES = {'rgb': 196, 'depth': 196, 'semseg': 196}


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    share=st.floats(0.01, 1.0),
    alpha=st.floats(0.01, 100.0),
    batch=st.integers(1, 5),
    seed=st.integers(0, 2**31),
    subsets=st.booleans(),
)
def test_every_draw_keeps_exactly_the_total(counts, share, alpha, batch, seed, subsets):
    counts = dict(zip('abcd', counts))
    total = max(1, int(share * sum(counts.values())))
    made = draw(
        counts, batch=batch, total=total, alpha=alpha, subsets=subsets, generator=torch.Generator().manual_seed(seed)
    )
    assert made.visible.shape == (batch, total)
    assert (made.visible.diff(dim=1) > 0).all()
    together = torch.cat([made.masks[name] for name in counts], 1)
    assert torch.equal(together.nonzero()[:, 1].view(batch, total), made.visible)
    assert all(mask.shape == (batch, counts[name]) for name, mask in made.masks.items())


@settings(max_examples=100, deadline=None)
@given(data=st.data(), M=st.integers(1, 5))
def test_every_split_is_exact_and_within_capacity(data, M):
    capacity = data.draw(st.lists(st.integers(0, 50), min_size=M, max_size=M).filter(any))
    shares = data.draw(st.lists(st.floats(0, 1, allow_subnormal=False), min_size=M, max_size=M).filter(any))
    total = data.draw(st.integers(1, sum(capacity)))
    quota = allocate(torch.tensor([shares], dtype=torch.float64), torch.tensor([capacity]), total)[0]
    assert int(quota.sum()) == total
    assert (quota >= 0).all() and (quota <= torch.tensor(capacity)).all()


def test_a_split_follows_the_shares_and_passes_excess_on():
    shares = torch.tensor([[0.5, 0.3, 0.2], [0.8, 0.1, 0.1]], dtype=torch.float64)
    capacity = torch.tensor([[100, 100, 100], [10, 100, 100]])
    assert allocate(shares, capacity, 50).tolist() == [[25, 15, 10], [10, 20, 20]]


@pytest.mark.parametrize(
    'counts, expected', [(IMAGES, 176), ({'rgb': 196, 'depth': 196}, 118), (IMAGES | {'text': 32}, 186)]
)
def test_default_totals_are_thirty_per_cent(counts, expected):
    assert visible_total(counts) == expected
    assert draw(counts, batch=1).visible.shape == (1, expected)


def test_the_total_of_multimae():
    assert draw(IMAGES, batch=2, total=98).visible.shape == (2, 98)


def test_the_generator_decides_and_the_global_one_does_not_change():
    torch.manual_seed(0)
    one = draw(IMAGES, batch=4, generator=torch.Generator().manual_seed(5)).visible
    after = torch.rand(1)
    two = draw(IMAGES, batch=4, generator=torch.Generator().manual_seed(5)).visible
    other = draw(IMAGES, batch=4, generator=torch.Generator().manual_seed(6)).visible
    assert torch.equal(one, two) and not torch.equal(one, other)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1))


def test_the_global_generator_is_used_by_default():
    torch.manual_seed(1)
    one = draw(IMAGES, batch=2).visible
    two = draw(IMAGES, batch=2).visible
    torch.manual_seed(1)
    assert torch.equal(draw(IMAGES, batch=2).visible, one) and not torch.equal(one, two)


def test_alpha_sets_how_even_the_shares_are():
    def spread(alpha):
        made = draw(IMAGES, batch=200, alpha=alpha, total=150, generator=torch.Generator().manual_seed(0))
        return made.masks['rgb'].sum(1).double().std()

    assert spread(0.1) > 2 * spread(100.0)


def test_shares_are_even_on_average():
    made = draw(IMAGES, batch=2000, total=98, generator=torch.Generator().manual_seed(0))
    means = torch.stack([mask.sum(1).double().mean() for mask in made.masks.values()])
    torch.testing.assert_close(means, torch.full((3,), 98 / 3, dtype=torch.float64), atol=2.0, rtol=0)
    assert (made.masks['rgb'].double().mean(0) - 98 / 588).abs().max() < 0.06  # no place is favoured


def test_subsets_leave_whole_modalities_out():
    made = draw(IMAGES, batch=300, total=98, subsets=True, generator=torch.Generator().manual_seed(0))
    missing = torch.stack([mask.sum(1) == 0 for mask in made.masks.values()], 1)
    # Of the 7 subsets 1 is complete, 3 lack one modality and 3 lack two.
    shares = torch.bincount(missing.sum(1), minlength=3) / 300
    torch.testing.assert_close(shares, torch.tensor([1, 3, 3]) / 7, atol=0.1, rtol=0)


def test_pads_are_never_visible():
    counts, valid = {'rgb': 4, 'text': 6}, torch.arange(6)[None] < torch.tensor([[2], [6]])
    made = draw(counts, batch=2, total=6, valid={'text': valid}, generator=torch.Generator().manual_seed(0))
    assert not (made.masks['text'] & ~valid).any()
    assert made.masks['rgb'][0].all()  # 4 + 2 is all that the first sample has


@pytest.mark.parametrize(
    'options, word',
    [
        ({'total': 0}, 'total is 0'),
        ({'total': 589}, '1 to 588'),
        ({'alpha': 0.0}, 'alpha is 0'),
        ({'valid': {'rgb': torch.ones(1, 3, dtype=torch.bool)}}, 'valid'),
    ],
)
def test_impossible_draws_are_refused(options, word):
    with pytest.raises(ValueError, match=word):
        draw(IMAGES, batch=2, **options)


def test_a_total_may_be_all_tokens_that_the_poorest_sample_has():
    valid = {'text': torch.tensor([[True, True, False], [True] * 3])}
    made = draw({'rgb': 4, 'text': 3}, batch=2, total=6, valid=valid)
    assert made.masks['rgb'][0].all() and made.masks['text'][0].tolist() == [True, True, False]
    with pytest.raises(ValueError, match='total is 7; give 1 to 6'):
        draw({'rgb': 4, 'text': 3}, batch=2, total=7, valid=valid)
