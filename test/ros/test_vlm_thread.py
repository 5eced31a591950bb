"""The thread of a vision-language model: its frames, its counts, and the sentence about a slow answer."""

import threading

import numpy as np
import pytest
from tiny_vlms import vlm_folder

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.ros import vlm_thread
from m3et_ros.ros.inference_thread import in_one_step
from m3et_ros.ros.vlm_thread import VlmThread
from m3et_ros.runtime.vlm.model import open_vlm


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return open_vlm(str(vlm_folder(tmp_path_factory.mktemp('vlm') / 'tiny')), device='cpu')


@pytest.fixture
def thread(model):
    one = VlmThread(model, memory_frames=3)
    yield one
    one.stop()


def frame(number):
    return Frame(np.full((8, 8, 3), number, np.uint8), None, number)


def test_frames_of_the_episode_are_few_spread_evenly_and_end_with_the_newest(thread):
    with pytest.raises(InputError, match='check the lens') as refused:
        thread.frames('frame', 'the lens')
    assert refused.value.reason == 'no_frame'
    for number in range(1, 9):
        thread.observe(frame(number))
    assert [one.stamp_ns for one in thread.frames('frame', '')] == [8]
    stamps = [one.stamp_ns for one in thread.frames('episode', '')]
    assert stamps[0] == 1 and stamps[-1] == 8 and len(stamps) <= 3 and stamps == sorted(stamps)
    thread.reset()
    with pytest.raises(InputError):
        thread.frames('episode', '')


def test_a_frame_that_is_not_to_be_remembered_is_alone(thread):
    for number in (1, 2):
        thread.observe(frame(number), remember=False)
    assert [one.stamp_ns for one in thread.frames('episode', '')] == [2]
    assert [one.stamp_ns for one in thread.frames('frame', '')] == [2]


def test_a_stopped_thread_takes_no_question_and_forgets_the_newest_frame(thread):
    assert thread.submit(in_one_step(lambda: 1), '') is None
    thread.start()
    assert thread.submit(in_one_step(lambda: 1), '').result(60) == 1
    thread.observe(frame(1))
    thread.stop()
    thread.stop()
    assert thread.submit(in_one_step(lambda: 1), '') is None
    with pytest.raises(InputError):
        thread.frames('frame', '')


def test_an_answer_that_takes_long_is_reported_while_it_lasts(thread, monkeypatch):
    assert thread.slow == ''
    thread.start()
    gate, inside = threading.Event(), threading.Event()

    def wait():
        inside.set()
        gate.wait(60)

    done = thread.submit(in_one_step(wait), '')
    assert inside.wait(60) and thread.slow == ''
    monkeypatch.setattr(vlm_thread, 'SLOW_S', -1.0)
    assert 'has been answering one question for' in thread.slow and 'max_sentence_tokens' in thread.slow
    gate.set()
    done.result(60)


def test_events_are_counted(thread):
    assert {name: thread.values()[name] for name in vlm_thread.NOTES} == dict.fromkeys(vlm_thread.NOTES, 0)
    thread.note('handed_on')
    assert thread.values()['handed_on'] == 1 and thread.values()['waiting'] == 0
