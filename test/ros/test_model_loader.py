"""The loader: one model at a time, on a thread of its own."""

import threading

from m3et_ros.ros.model_loader import ModelLoader


def test_one_model_is_loaded_at_a_time_beside_the_caller():
    loader, gate = ModelLoader(), threading.Event()
    first = loader.start(lambda: gate.wait(60) and threading.current_thread().daemon)
    assert loader.start(lambda: 2) is None
    gate.set()
    assert first.result(60) is True
    assert loader.start(lambda: 3).result(60) == 3


def test_a_load_that_fails_leaves_the_loader_free():
    loader = ModelLoader()

    def fail():
        raise KeyError('on purpose')

    assert isinstance(loader.start(fail).exception(10), KeyError)
    assert loader.start(lambda: 3).result(60) == 3
