"""The inference thread: the newest frame wins, nothing starves, closing leaves nothing waiting."""

import threading

from m3et_ros.ros.inference_thread import InferenceThread


def test_the_newest_frame_wins_while_another_is_processed():
    started, release, processed = threading.Event(), threading.Event(), []

    def on_frame(frame):
        processed.append(frame)
        started.set()
        release.wait(60)

    thread = InferenceThread(on_frame)
    assert thread.offer(1) is False
    assert started.wait(60)
    assert [thread.offer(n) for n in (2, 3, 4)] == [False, True, True]
    release.set()
    thread.submit(lambda: None).result(60)
    thread.close()
    assert processed == [1, 4]


def test_questions_and_frames_take_turns():
    order, gate = [], threading.Event()
    thread = InferenceThread(order.append)
    first = thread.submit(lambda: gate.wait(60))
    thread.offer('frame a')
    second = thread.submit(lambda: order.append('question'))
    thread.offer('frame b')
    gate.set()
    first.result(60)
    second.result(60)
    thread.close()
    assert order == ['frame b', 'question']


def test_a_full_line_refuses_and_recovers():
    gate = threading.Event()
    thread = InferenceThread(print, max_questions=2)
    waiting = [thread.submit(lambda: gate.wait(60)) for _ in range(2)]
    assert thread.submit(lambda: None) is None
    assert thread.waiting == 2
    gate.set()
    for future in waiting:
        future.result(60)
    last = thread.submit(lambda: 'again')
    assert last is not None and last.result(60) == 'again'
    thread.close()


def test_closing_cancels_waiting_jobs_and_refuses_new_ones():
    gate, started = threading.Event(), threading.Event()
    thread = InferenceThread(print)

    def hold():
        started.set()
        gate.wait(60)

    thread.submit(hold)
    queued = thread.submit(lambda: None)
    assert started.wait(60)
    closer = threading.Thread(target=thread.close)
    closer.start()
    gate.set()
    closer.join(10)
    assert not closer.is_alive()
    assert queued.cancelled() or queued.done()
    assert thread.submit(lambda: None) is None
    assert thread.offer(1) is False
