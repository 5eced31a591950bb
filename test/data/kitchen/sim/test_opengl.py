"""The OpenGL renderer: its depth by formula, and its context."""

import os

import numpy as np
import pytest

from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.data.kitchen.sim.opengl import OpenGLRenderer, metric_depth
from m3et_ros.data.kitchen.sim.renderers import choose_backend, environment
from m3et_ros.data.kitchen.sim.scene import FAR, NEAR


@pytest.mark.parametrize('metres', [0.11, 0.5, 2.0, 11.9])
def test_a_reversed_depth_buffer_becomes_metres(metres):
    stored = NEAR * (FAR - metres) / (metres * (FAR - NEAR))  # 1 at the near plane, 0 at the far one
    assert metric_depth(np.array([[stored]], np.float32), NEAR, FAR)[0, 0] == pytest.approx(metres, rel=1e-4)


def test_the_planes_are_the_limits_of_depth():
    depth = metric_depth(np.array([1.0, 1e-9, 0.0], np.float32), NEAR, FAR)
    assert depth[:2] == pytest.approx((NEAR, FAR), rel=1e-4) and np.isnan(depth[2]) and depth.dtype == np.float32


@pytest.fixture
def renderer():
    platform = choose_backend('auto')
    if platform == 'raycast':
        pytest.skip('neither EGL nor OSMesa opens a context on this machine')
    episode = Episode(0, width=64, height=48)
    next(episode.run(1))
    made = OpenGLRenderer(episode.model, platform=platform, width=64, height=48)
    yield episode, made, platform
    made.close()


def test_a_frame_has_colour_depth_and_the_ids_of_the_model(renderer):
    episode, made, platform = renderer
    rgb, depth, geoms = made.render(episode.data)
    assert rgb.shape == (48, 64, 3) and rgb.std() > 10
    assert np.nanmin(depth) > NEAR and np.nanmax(depth) < FAR and depth.shape == geoms.shape == (48, 64)
    assert geoms.min() >= -1 and geoms.max() < episode.model.ngeom and len(np.unique(geoms)) > 5
    assert environment(platform).items() <= os.environ.items()


def test_the_id_pass_leaves_the_next_picture_alone(renderer):
    episode, made, _ = renderer
    first, second = made.render(episode.data), made.render(episode.data)
    assert all(np.array_equal(one, other, equal_nan=True) for one, other in zip(first, second))


def test_a_closed_renderer_refuses_and_may_be_closed_again(renderer):
    episode, made, _ = renderer
    made.close()
    made.close()
    with pytest.raises(RuntimeError, match='this renderer is closed'):
        made.render(episode.data)
