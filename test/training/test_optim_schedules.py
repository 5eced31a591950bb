import pytest

from m3et_ros.training.optim import warm_up_cosine

OPTIONS = {'total': 110, 'warm_up': 10, 'peak': 1.0, 'start': 0.0}


@pytest.mark.parametrize(
    ('step', 'rate'), [(0, 0.0), (5, 0.5), (10, 1.0), (60, 0.5), (35, 0.8535533905932737), (110, 0.0), (1000, 0.0)]
)
def test_rises_then_falls_as_half_a_cosine(step, rate):
    assert warm_up_cosine(step, **OPTIONS) == pytest.approx(rate)


def test_ends_where_told_and_never_rises_after_the_peak():
    rates = [warm_up_cosine(step, **OPTIONS, end=0.1) for step in range(10, 111)]
    assert rates[-1] == pytest.approx(0.1) and rates == sorted(rates, reverse=True)


def test_no_warm_up_starts_at_the_peak():
    assert warm_up_cosine(0, total=5, warm_up=0, peak=0.3) == 0.3


@pytest.mark.parametrize('warm_up', [-1, 5, 6])
def test_a_warm_up_as_long_as_the_run_is_refused(warm_up):
    with pytest.raises(ValueError, match=f'warm_up is {warm_up} of 5'):
        warm_up_cosine(0, total=5, warm_up=warm_up, peak=1.0)
