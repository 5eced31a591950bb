"""The inference thread: newest frame wins, nobody starves, closing leaves nothing hanging."""

import threading

from m3et_ros.ros.inference_thread import InferenceThread


def test_newest_frame_wins_while_one_is_in_hand():
    started, release, seen = threading.Event(), threading.Event(), []

    def on_frame(frame):
        seen.append(frame)
        started.set()
        release.wait(10)

    worker = InferenceThread(on_frame)
    assert worker.offer(1) is False
    assert started.wait(10)
    assert [worker.offer(n) for n in (2, 3, 4)] == [False, True, True]
    release.set()
    worker.submit(lambda: None).result(10)
    worker.close()
    assert seen == [1, 4]


def test_questions_and_frames_take_turns():
    order, gate = [], threading.Event()
    worker = InferenceThread(order.append)
    first = worker.submit(lambda: gate.wait(10))
    worker.offer('frame a')
    second = worker.submit(lambda: order.append('question'))
    worker.offer('frame b')
    gate.set()
    first.result(10)
    second.result(10)
    worker.close()
    assert order == ['frame b', 'question']


def test_a_full_line_refuses_and_recovers():
    gate = threading.Event()
    worker = InferenceThread(print, max_questions=2)
    waiting = [worker.submit(lambda: gate.wait(10)) for _ in range(2)]
    assert worker.submit(lambda: None) is None
    assert worker.waiting == 2
    gate.set()
    for future in waiting:
        future.result(10)
    last = worker.submit(lambda: 'again')
    assert last is not None and last.result(10) == 'again'
    worker.close()


def test_closing_drops_what_waits_and_refuses_more():
    gate, started = threading.Event(), threading.Event()
    worker = InferenceThread(print)

    def hold():
        started.set()
        gate.wait(10)

    worker.submit(hold)
    queued = worker.submit(lambda: None)
    assert started.wait(10)
    closer = threading.Thread(target=worker.close)
    closer.start()
    gate.set()
    closer.join(10)
    assert not closer.is_alive()
    assert queued.cancelled() or queued.done()
    assert worker.submit(lambda: None) is None
    assert worker.offer(1) is False
