"""Points, instances and boxes: values against geometry worked out by hand."""

import numpy as np
import pytest

from m3et_ros.runtime.space import PixelRegion, instances, jumps, points_of, solid

K = np.array([[100.0, 0, 31.5], [0, 50.0, 23.5], [0, 0, 1]])
H, W = 48, 64


def board(label=3, at=(10, 20), size=(8, 12), depth=1.5, behind=3.0):
    """A rectangle of a class before a wall of class 0; `at` and `size` are rows and columns."""
    mask, metres = np.zeros((H, W), np.uint8), np.full((H, W), behind, np.float32)
    area = slice(at[0], at[0] + size[0]), slice(at[1], at[1] + size[1])
    mask[area], metres[area] = label, depth
    return mask, metres


def of(label, found):
    return [one for one in found if one.label == label]


def test_the_point_of_a_pixel_follows_from_depth_and_intrinsics():
    depth = np.full((H, W), 2.0, np.float32)
    depth[0, 0] = np.nan
    points = points_of(depth, K)
    assert points.dtype == np.float32 and points.shape == (H, W, 3)
    assert np.isnan(points[0, 0]).all()
    assert points[47, 63] == pytest.approx([(63 - 31.5) / 100 * 2, (47 - 23.5) / 50 * 2, 2])


def test_an_instance_has_the_box_and_the_pixels_of_its_class():
    mask, depth = board()
    (one,) = of(3, instances(mask, depth))
    # The column and the row beside the jump of depth belong to no instance.
    assert one.box == (20, 10, 11, 7) and one.area == 77
    assert (mask[one.v, one.u] == 3).all()
    (whole,) = of(3, instances(mask))
    assert whole.box == (20, 10, 12, 8) and whole.area == 96


def test_two_things_of_a_class_at_different_depths_are_two_instances():
    mask, depth = board(size=(8, 12))
    depth[10:18, 26:32] = 1.0
    assert len(of(3, instances(mask, depth))) == 2
    assert len(of(3, instances(mask, np.where(depth > 2, depth, np.float32(1.5))))) == 1


@pytest.mark.parametrize('columns, found', [(4, 1), (9, 2)], ids=['sliver', 'half'])
def test_a_sliver_of_the_mask_on_what_lies_behind_is_no_instance(columns, found):
    mask, depth = board(size=(10, 20), depth=1.5)
    depth[10:20, 40 - columns : 40] = 3.0
    assert len(of(3, instances(mask, depth))) == found


@pytest.mark.parametrize('pixels, found', [(1, 0), (2, 1)])
def test_tiny_instances_are_dropped(pixels, found):
    mask = np.zeros((H, W), np.uint8)
    mask[5, 5 : 5 + pixels] = 3
    assert len(of(3, instances(mask))) == found


def test_unlabelled_pixels_are_no_instance_and_the_large_ones_come_first():
    mask, _ = board()
    mask[:4] = 255
    assert [one.label for one in instances(mask)] == [0, 3]


def test_a_large_image_is_read_at_a_coarser_step_and_the_box_keeps_its_pixels():
    mask = np.zeros((481, 641), np.uint8)
    mask[100:200, 300:641] = 3
    (one,) = of(3, instances(mask))
    assert one.step == 2 and one.box == (300, 100, 341, 100)
    assert one.u.max() == 640 and one.v.max() == 198


def test_the_inner_pixel_lies_deep_in_the_instance_even_where_the_middle_of_its_box_does_not():
    mask = np.zeros((H, W), np.uint8)
    mask[5:40, 5:9] = mask[31:40, 5:40] = 3
    (one,) = of(3, instances(mask))
    u, v = one.inner()
    assert mask[v, u] == 3 and mask[v - 3 : v + 4, u - 3 : u + 4].min() == 3
    assert mask[22, 22] == 0


def test_jumps_are_beside_edges_of_depth_and_not_on_slopes():
    depth = np.tile(np.linspace(1, 2, W, dtype=np.float32), (H, 1))
    assert not jumps(depth).any()
    depth[:, 40:] += 0.5
    found = jumps(depth)
    assert found[:, 39].all() and found.sum() == H
    depth[:] = np.nan
    assert not jumps(depth).any()


def test_a_box_has_the_position_and_size_of_the_board_although_the_mask_overlaps_the_wall():
    mask, depth = board(size=(20, 30), at=(10, 20))
    mask[10:30, 50:53] = 3
    (one,) = of(3, instances(mask))
    box = solid(one, depth, K)
    x = (np.array([20, 49]) - 31.5) / 100 * 1.5
    y = (np.array([10, 29]) - 23.5) / 50 * 1.5
    assert box.position == pytest.approx([x.mean(), y.mean(), 1.5], abs=0.01)
    assert box.size == pytest.approx([np.ptp(x), np.ptp(y), 0], abs=0.05)
    assert box.measured == 1.0


def test_a_box_knows_how_much_of_its_depth_was_measured():
    mask, depth = board(size=(8, 10))
    (one,) = of(3, instances(mask))
    measured = depth.copy()
    measured[10:18, 20:25] = np.nan
    assert solid(one, depth, K, measured).measured == 0.5


def test_there_is_no_box_without_depth():
    mask, depth = board()
    (one,) = of(3, instances(mask))
    assert solid(one, np.full_like(depth, np.nan), K) is None


def test_an_instance_of_one_pixel_has_that_pixel_as_its_inner_one():
    assert PixelRegion(3, (7, 9, 1, 1), np.array([7]), np.array([9])).inner() == (7, 9)
