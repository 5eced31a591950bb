"""Intrinsics as a person gives them."""

import numpy as np
import pytest

from m3et_ros.cli.ask.intrinsics import read_intrinsics
from m3et_ros.cli.output import Refused

SHAPE = 48, 64, 3
YAML = """image_width: {}
image_height: {}
camera_name: head
camera_matrix:
  rows: 3
  cols: 3
  data: [50.0, 0, 31.5, 0, 60.0, 23.5, 0, 0, 1]
"""
EXPECTED = [[50, 0, 31.5], [0, 60, 23.5], [0, 0, 1]]


def test_four_numbers_and_a_calibration_file_give_the_same_intrinsics(tmp_path):
    (tmp_path / 'head.yaml').write_text(YAML.format(64, 48))
    assert np.array_equal(read_intrinsics('50,60,31.5,23.5', SHAPE), EXPECTED)
    assert np.array_equal(read_intrinsics(str(tmp_path / 'head.yaml'), SHAPE), EXPECTED)


@pytest.mark.parametrize('given', ['50,60,31.5', '0,60,31.5,23.5', 'nan,60,1,1', 'head'], ids='abcd')
def test_what_gives_no_intrinsics_is_refused(given):
    with pytest.raises(Refused, match='gives no intrinsics; give FX,FY,CX,CY'):
        read_intrinsics(given, SHAPE)


@pytest.mark.parametrize('text', ['- 1', 'camera_matrix: {data: [1]}', '{', '\xff'], ids='abcd')
def test_a_file_without_a_camera_matrix_is_refused(tmp_path, text):
    path = tmp_path / 'head.yml'
    path.write_bytes(text.encode('latin-1'))
    with pytest.raises(Refused, match='gives no intrinsics'):
        read_intrinsics(str(path), SHAPE)


def test_intrinsics_of_another_size_and_a_missing_file_are_refused(tmp_path):
    (tmp_path / 'head.yaml').write_text(YAML.format(128, 96))
    with pytest.raises(Refused, match='is for images of 128x96, and the image is 64x48'):
        read_intrinsics(str(tmp_path / 'head.yaml'), SHAPE)
    with pytest.raises(Refused, match='cannot be read'):
        read_intrinsics(str(tmp_path / 'absent.yaml'), SHAPE)
