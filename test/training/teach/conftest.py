"""A labelled recording of the small place, made once for all tests of this folder, which only read it."""

import pytest
from small_place import RedDetector, tiny_student, write_place

from m3et_ros.training.teach.label import LabelOptions, label
from m3et_ros.training.teach.teachers import Teachers


@pytest.fixture(scope='session')
def student():
    return tiny_student()


@pytest.fixture(scope='session')
def place(tmp_path_factory):
    return write_place(tmp_path_factory.mktemp('place') / 'bag')


@pytest.fixture(scope='session')
def labelled(student, place, tmp_path_factory):
    """The folder of the data set."""
    out = tmp_path_factory.mktemp('place') / 'labels'
    label([place], out, Teachers(student, detection=RedDetector()), LabelOptions(32))
    return out
