"""Counters, rates, quantiles and the message on /diagnostics."""

import math
import threading

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.parameter import Parameter

from m3et_ros.ros.diagnostics import ERROR, OK, WARN, Counters, Diagnostics, Quantiles, RateMeter, Status, key_values


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


def test_counters_add_up_across_threads():
    counters = Counters()
    threads = [threading.Thread(target=lambda: [counters.count('b') for _ in range(2000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert counters.count('a', 3) == 3
    assert counters['b'] == 8000 and counters['never'] == 0
    assert list(counters.snapshot()) == ['a', 'b']


def test_a_rate_is_that_of_the_window():
    clock = Clock()
    meter = RateMeter(5.0, clock=clock)
    assert meter.hz == 0.0
    for number in range(1, 61):
        clock.seconds = number / 30
        meter.tick()
    assert meter.hz == pytest.approx(30), 'of the two seconds since the start'
    clock.seconds = 6.0
    assert meter.hz == pytest.approx(31 / 5), 'the first second has left the window'
    clock.seconds = 60.0
    assert meter.hz == 0.0 and meter.total == 60


def test_a_rate_beyond_the_memory_comes_from_the_newest():
    clock = Clock()
    meter = RateMeter(5.0, clock=clock)
    for number in range(5000):
        clock.seconds = number / 2000
        meter.tick()
    assert meter.hz == pytest.approx(2000, rel=0.01)


def test_a_window_needs_a_length():
    with pytest.raises(ValueError, match='above 0'):
        RateMeter(0)


def test_quantiles_of_the_last_values():
    quantiles = Quantiles(size=100)
    assert math.isnan(quantiles.p50) and math.isnan(quantiles.mean)
    for value in [1e9] * 50 + list(range(100, 0, -1)):
        quantiles.add(value)
    assert (quantiles.p50, quantiles.p95, quantiles.quantile(0), quantiles.quantile(1)) == (50, 95, 1, 100)
    assert quantiles.mean == 50.5


def test_values_become_text():
    pairs = key_values({'rate': 29.98765, 'model': 'tiny', 'drops': {'late': 2, 'in': {'a': True}}})
    assert [(p.key, p.value) for p in pairs] == [
        ('rate', '29.99'),
        ('model', 'tiny'),
        ('drops/late', '2'),
        ('drops/in/a', 'True'),
    ]


def listen(ros):
    received = []
    ros.node('listener').create_subscription(DiagnosticArray, '/diagnostics', received.append, 10)
    return received


def test_the_status_of_a_node_is_published_periodically(ros):
    received, node = listen(ros), ros.node('n', namespace='robot')
    status = Status(WARN, 'No depth; start the camera.', {'hz': 3.0})
    Diagnostics(node, lambda: status, hardware_id='cpu', period_s=0.05)
    message = ros.until(lambda: received and received[-1])
    sent = message.status[0]
    assert (sent.name, sent.level, sent.message, sent.hardware_id) == ('/robot/n', WARN, status.message, 'cpu')
    assert [(v.key, v.value) for v in sent.values] == [('hz', '3')] and message.header.stamp.sec > 0


def test_it_goes_on_under_simulated_time_without_a_clock(ros):
    received, node = listen(ros), ros.node('n', parameter_overrides=[Parameter('use_sim_time', value=True)])
    Diagnostics(node, Status, period_s=0.05)
    assert ros.until(lambda: received and received[-1]).status[0].level == OK


def test_a_failing_source_is_published_as_an_error_and_close_ends_it(ros):
    received, node = listen(ros), ros.node('n')
    diagnostics = Diagnostics(node, lambda: Status(values={'x': 1 / 0}), period_s=0.05)
    status = ros.until(lambda: received and received[-1]).status[0]
    assert status.level == ERROR and 'ZeroDivisionError' in status.message
    diagnostics.close()
    assert not list(node.timers)
