"""The benchmark of many robots: a batch does the arithmetic of its frames, and the rates follow from the times."""

import pytest


def test_rates_follow_from_the_arithmetic_and_the_times(script, monkeypatch):
    fleet = script('fleet')
    monkeypatch.setattr(fleet, 'interleaved', lambda work, *_: {key: 0.5 if key == 'peak' else 4.0 for key in work})
    one, two = (fleet.utilisation('kitchen', [1, 2], 1)[size] for size in ('1', '2'))
    assert (one['cpu_ms_a_frame'], two['cpu_ms_a_frame']) == (4.0, 2.0)
    assert (one['openvino_cpu_ms_a_frame'], two['openvino_cpu_ms_a_frame']) == (4.0, 2.0)
    assert one['gflop_a_frame'] == pytest.approx(two['gflop_a_frame'], rel=0.02) and one['gflop_a_frame'] > 1
    assert two['gflop_a_second'] == pytest.approx(2 * two['gflop_a_frame'] / 4e-3, rel=0.01)
    peak = 2 * fleet.SIDE**3 / 0.5e-3 / 1e9
    assert two['share_of_peak'] == pytest.approx(two['gflop_a_second'] / peak, abs=1e-3)
