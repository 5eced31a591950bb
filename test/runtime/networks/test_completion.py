"""Depth of a network in a stream: metres by the sensor, measured pixels unchanged, nothing relative as metres."""

import numpy as np
import pytest
from tiny_networks import depth_anything

from m3et_ros.data.frame import Frame
from m3et_ros.runtime.networks.completion import NetworkCompletion
from m3et_ros.runtime.networks.depth import open_depth

RGB = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
RGB[10:30, 20:50] = 200


@pytest.fixture(scope='module', params=[False, True], ids=['relative', 'metric'])
def network(request, tmp_path_factory):
    return open_depth(depth_anything(tmp_path_factory.mktemp('depth'), metric=request.param))


def truth(network):
    """Return depth of which the network is right up to scale, and shift of disparity."""
    predicted = network.predict(RGB)
    if network.metric:
        return 1.5 * predicted
    spread = (predicted - predicted.min()) / np.ptp(predicted)
    return (1 / (0.5 * spread + 0.25)).astype(np.float32)


def with_hole(depth):
    holed = depth.copy()
    holed[12:36, 16:48] = np.nan
    return holed


@pytest.mark.parametrize('fill', ['always', 'auto'], ids=['always', 'auto'])
def test_a_hole_gets_the_depth_of_the_network_in_the_metres_of_the_sensor(network, fill):
    true = truth(network)
    measured = with_hole(true)
    completion = NetworkCompletion(network)
    depth = completion.complete(Frame(RGB, measured), fill)
    known = np.isfinite(measured)
    np.testing.assert_array_equal(depth[known], measured[known])
    error = np.abs(depth - true)[~known].mean()
    flat = np.abs(np.nanmean(measured) - true)[~known].mean()
    # `auto` mixes the smooth surface in.
    assert error < (0.3 if fill == 'always' else 0.6) * flat
    assert completion.problem is None
    assert completion.described.startswith(fill)


@pytest.mark.parametrize('fill', ['never', 'smooth'], ids=['never', 'smooth'])
def test_a_way_of_filling_without_a_model_does_not_run_the_network(network, fill, monkeypatch):
    monkeypatch.setattr(network, 'predict', None)
    measured = with_hole(truth_of := np.full((48, 64), 2, np.float32))
    depth = NetworkCompletion(network).complete(Frame(RGB, measured), fill)
    np.testing.assert_allclose(depth, measured if fill == 'never' else truth_of, rtol=1e-4)


def test_without_a_sensor_only_metres_are_given(network):
    completion = NetworkCompletion(network)
    for depth in (None, np.full((48, 64), np.nan, np.float32)):
        completed = completion.complete(Frame(RGB, depth), 'auto')
        if network.metric:
            assert completed.shape == (48, 64)
            np.testing.assert_allclose(np.median(completed), np.median(network.predict(RGB)), rtol=0.05)
            assert completion.problem is None
        else:
            assert completed is None
            assert completion.problem.reason == 'depth_relative'
            assert completion.described == 'no prediction (depth_relative)'


def test_what_cannot_be_aligned_is_reported_and_filled_without_the_network(network):
    few = np.full((48, 64), np.nan, np.float32)
    few[20, 20:22] = 2
    completion = NetworkCompletion(network)
    depth = completion.complete(Frame(RGB, few), 'auto')
    np.testing.assert_allclose(depth, 2, rtol=1e-4)
    assert completion.problem.reason == 'depth_alignment'
    completion.complete(Frame(RGB, truth(network)), 'auto')
    assert completion.problem is None


def test_what_the_network_takes_for_too_far_stays_unknown_in_a_hole(network, monkeypatch):
    if network.metric:
        far = np.full((48, 64), 3, np.float32)
        far[14:30, 20:40] = 1000
    else:
        far = np.full((48, 64), 1, np.float32)
        far[:, ::2] = 1.5
        far[14:30, 20:40] = -3
    measured = with_hole(3 / far if not network.metric else np.full((48, 64), 3, np.float32))
    monkeypatch.setattr(network, 'predict', lambda rgb: far)
    depth = NetworkCompletion(network).complete(Frame(RGB, measured), 'always')
    assert np.isnan(depth[16:28, 22:38]).all()
    known = np.isfinite(measured)
    np.testing.assert_array_equal(depth[known], measured[known])
