"""The figures of the fairness benchmark, and the order in which the thread before the quota served."""

import threading

from m3et_ros.ros.inference_thread import in_one_step


def test_the_median_of_the_rounds_is_reported_for_each_figure(script):
    rounds = [{'rate_hz': 3.0}, {'rate_hz': 1.0, 'answers_hz': 5.0}, {'rate_hz': 2.0, 'answers_hz': 6.0}]
    assert script('fairness').summary(rounds) == {'rate_hz': 2.0, 'answers_hz': 5.5}


def test_without_the_quota_a_frame_waits_for_every_question_that_came_before_it(script):
    order, gate = [], threading.Event()
    thread = script('fairness').ArrivalThread(order.append)
    thread.submit_steps(in_one_step(gate.wait))
    thread.submit_steps(in_one_step(lambda: order.append('first')))
    assert thread.offer('old') is False
    last = thread.submit_steps(in_one_step(lambda: order.append('second')), client='another')
    assert thread.offer('new') is True
    gate.set()
    last.result(10)
    thread.close()
    assert order == ['first', 'new', 'second']
