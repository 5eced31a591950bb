"""Frames and label sets: what they accept and what they refuse."""

import numpy as np
import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import NANOSECONDS, UNLABELLED, Frame, Labels, check_aligned, check_arrays
from m3et_ros.models.m3et.config import M3ETConfig

RGB = np.zeros((4, 6, 3), np.uint8)


def test_a_frame_has_depth_of_its_own_size_or_none():
    assert Frame(RGB).depth is None
    depth = np.ones((4, 6), np.float32)
    assert Frame(RGB, depth).depth is depth
    with pytest.raises(ValueError, match=r'depth is \(6, 4\) beside rgb \(4, 6\)'):
        Frame(RGB, depth.T)


@pytest.mark.parametrize('rgb', [RGB[..., 0], RGB[..., :2], RGB.astype(np.float32), RGB[None]])
def test_colours_of_another_shape_or_type_are_refused(rgb):
    with pytest.raises(ValueError, match='rgb is .*; give uint8'):
        Frame(rgb)


def test_the_array_that_does_not_fit_is_named():
    check_arrays(RGB, depth=None, clean_depth=np.ones((4, 6)))
    with pytest.raises(ValueError, match='clean_depth is'):
        check_arrays(RGB, depth=np.ones((4, 6)), clean_depth=np.ones((4, 5)))


@pytest.mark.parametrize('depth', [(6, 4), (4, 7), (3, 6)])
def test_depth_of_another_size_is_not_aligned(depth):
    check_aligned((4, 6, 3), (4, 6), 'align it')
    height, width = depth
    with pytest.raises(InputError, match=f'depth is {width}x{height} but colour is 6x4, .*; align it$') as refused:
        check_aligned((4, 6, 3), depth, 'align it')
    assert refused.value.reason == 'depth_size'


def labels(classes=2, colors=None, **ids):
    colors = classes if colors is None else colors
    return Labels(('c',) * classes, ((0, 0, 0),) * colors, (), ('take', 'put'), ('cup',), **ids)


def test_as_many_classes_as_a_mask_has_values_besides_unlabelled():
    assert UNLABELLED == 255 and len(labels(255).classes) == 255
    with pytest.raises(ValueError, match='256 classes do not fit'):
        labels(256)
    assert M3ETConfig(name='x', classes=255).classes == 255


@pytest.mark.parametrize(
    ('fields', 'said'),
    [
        ({'colors': 1}, '1 colors for 2 classes'),
        ({'verb_ids': (3,)}, '1 verb_ids for 2 verbs'),
        ({'noun_ids': (3, 4)}, '2 noun_ids for 1 nouns'),
    ],
)
def test_each_label_has_its_own_colour_and_id(fields, said):
    assert labels(verb_ids=(3, 9), noun_ids=(1,)).verb_ids == (3, 9)
    with pytest.raises(ValueError, match=said):
        labels(**fields)


def test_a_second_has_its_nanoseconds():
    assert NANOSECONDS == 10**9 and isinstance(NANOSECONDS, int)
