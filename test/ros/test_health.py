"""The status on /diagnostics: level, message and every value, field by field."""

import dataclasses
import math
import threading

import psutil
import pytest
import torch

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.ops.dispatch import KernelChoice
from m3et_ros.ros import health
from m3et_ros.ros.diagnostics import ERROR, OK, WARN
from m3et_ros.ros.health import MIB, WARN_EVERY_S, Health
from m3et_ros.ros.inference_thread import InferenceThread
from m3et_ros.runtime.backends.prepared import Serving
from m3et_ros.runtime.domain import DomainResult
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import untrained
from m3et_ros.runtime.session import Session

SILENT = 'No image has been served in the last seconds; check the camera topics.'


class Clock:
    seconds = 100.0

    def __call__(self):
        return self.seconds


class Bench:
    """The health of a node with a clock that the test moves, an inference thread and the warnings of the node."""

    def __init__(self, ros):
        self.node, self.clock, self.logged = ros.node('model', namespace='robot'), Clock(), []
        self.health = Health(self.node.get_logger(), clock=self.clock)
        self.inference = InferenceThread(print)
        ros.read_log(lambda m: self.logged.append(m.msg))

    def verdict(self, state='active', inference='of the node'):
        status = self.health.status(state, None, self.inference if inference else None, {})
        return status.level, status.message

    def served(self):
        self.health.frame_done(0.1, 0.2)
        self.clock.seconds += 0.1


@pytest.fixture
def bench(ros):
    bench = Bench(ros)
    yield bench
    bench.inference.close()


def test_every_value_is_the_one_measured(bench):
    health, gate = bench.health, threading.Event()
    engine = Engine(untrained('tiny', 3), tokens='adaptive')
    session = Session(engine, memory_frames=4)
    for stamp in range(1, 3):
        session.observe(Frame(torch.zeros(48, 64, 3, dtype=torch.uint8).numpy(), stamp_ns=stamp * 10**9))
    for _ in range(3):
        bench.inference.submit(lambda: gate.wait(60))
    for _ in range(8):
        health.arrived.tick()
    for age, latency, share in ((1.0, 0.01, 0.5), (3.0, 0.03, 0.25), (2.0, 0.02, 0.75), (4.0, 0.04, 1.0)):
        health.frame_done(age, latency, share, depth=age != 3.0)
    health.encoded, health.unneeded = 5, 3
    bench.clock.seconds += 2.0
    health.kernels = [KernelChoice('ssd', 'chunked', 0.1, 'fastest'), KernelChoice('scan', 'blocked', 0.2, 'exact')]
    health.set_runtime(Serving('openvino', 'installed'))
    health.counters.count('frame_superseded', 5)
    health.counters.count('depth_size', 2)
    health.set_cause('rate_low', 'Too slow.')
    health.last_error = 'A sentence.'
    status = health.status('active', session, bench.inference, {'rgb_superseded': 7})
    gate.set()
    values = dict(status.values)
    process_mib = values.pop('process_memory_mib')
    assert process_mib == pytest.approx(psutil.Process().memory_info().rss / MIB, rel=0.2)
    device_mib = values.pop('device_memory_mib')
    assert device_mib == 0.0 or torch.cuda.is_available()
    assert values == {
        'state': 'active',
        'idle': 'no',
        'model_id': 'tiny-random-3',
        'device': 'cpu',
        'rate_in_hz': 4.0,
        'rate_out_hz': 2.0,
        'frames_in': 8,
        'frames_out': 4,
        'frames_encoded': 5,
        'frames_unneeded': 3,
        'frames_without_depth': 1,
        'age_s': {'p50': 2.0, 'p95': 4.0},
        'latency_s': {'p50': 0.02, 'p95': 0.04},
        'tokens': 'adaptive',
        'tokens_encoded': 0.625,
        'domain': 'not checked',
        'depth_fill': 'nothing filled yet',
        'questions_waiting': 3,
        'memory_frames': 2,
        'dropped': {'depth_size': 2, 'frame_superseded': 5},
        'synchroniser': {'rgb_superseded': 7},
        'kernel': {'ssd': 'chunked (fastest)', 'scan': 'blocked (exact)'},
        'runtime': 'openvino (installed)',
        'causes': {'rate_low': 'Too slow.'},
        'last_error': 'A sentence.',
        'started_again': 'no',
    }


def test_before_configuration_there_is_no_model(ros):
    values = dict(Health(ros.node('n').get_logger()).status('unconfigured', None, None, {}).values)
    for measured in ('process_memory_mib', 'device_memory_mib'):
        values.pop(measured)
    assert math.isnan(values.pop('tokens_encoded'))
    assert all(math.isnan(q) for name in ('age_s', 'latency_s') for q in values.pop(name).values())
    assert values == {
        'state': 'unconfigured',
        'idle': 'no',
        'model_id': 'none',
        'device': 'none',
        'rate_in_hz': 0.0,
        'rate_out_hz': 0.0,
        'frames_in': 0,
        'frames_out': 0,
        'frames_encoded': 0,
        'frames_unneeded': 0,
        'frames_without_depth': 0,
        'tokens': 'none',
        'domain': 'none',
        'depth_fill': 'none',
        'questions_waiting': 0,
        'memory_frames': 0,
        'dropped': {},
        'synchroniser': {},
        'kernel': {},
        'runtime': 'none (no model is configured)',
        'causes': {},
        'last_error': 'none',
        'started_again': 'no',
    }


def test_an_idle_node_is_well_while_images_arrive(bench):
    bench.health.arrived.tick()
    bench.clock.seconds += 1
    assert bench.verdict() == (WARN, SILENT)
    bench.health.idle = True
    level, message = bench.verdict()
    assert level == OK and message.startswith('Idle: nobody subscribes to a result')
    assert dict(bench.health.status('active', None, bench.inference, {}).values)['idle'] == 'yes'
    bench.clock.seconds += 10
    assert bench.verdict() == (WARN, SILENT)


@pytest.mark.parametrize('state', ['unconfigured', 'inactive', 'finalized'])
def test_a_node_that_is_not_active_warns_even_if_it_served_a_moment_ago(bench, state):
    bench.served()
    assert bench.verdict(state, inference=None) == (WARN, f'The node is {state}; activate it to get results.')


def test_a_transition_that_failed_is_an_error_until_one_succeeds(bench):
    bench.health.failure = 'There is no model x.'
    assert bench.verdict('unconfigured', inference=None) == (ERROR, 'There is no model x.')
    bench.health.failure = ''
    assert bench.verdict('unconfigured', inference=None)[0] == WARN


def test_a_twin_is_counted_and_warns_while_it_is_there(bench):
    bench.served()
    bench.health.set_twin('2 nodes are called /robot/model; stop one.')
    assert bench.health.counters['twin_node'] == 1
    assert bench.verdict() == (WARN, '2 nodes are called /robot/model; stop one.')
    assert bench.verdict()[0] == WARN
    bench.health.set_twin('')
    assert bench.verdict() == (OK, 'Running.')


def test_a_cause_warns_while_it_lasts_and_is_logged_once_a_minute(ros, bench):
    bench.served()
    for _ in range(2):
        bench.health.set_cause('stamp_old', 'The images are 99 s old.')
    assert bench.verdict() == (WARN, 'The images are 99 s old.')
    bench.health.set_cause('depth_unit', 'The unit is wrong.')
    assert bench.verdict() == (WARN, 'The images are 99 s old. (2 causes; see causes/*)')
    bench.health.set_cause('stamp_old', '')
    assert bench.verdict() == (WARN, 'The unit is wrong.')
    bench.health.set_cause('depth_unit', '')
    bench.health.set_cause('depth_unit', '')
    assert bench.verdict() == (OK, 'Running.') and bench.health.counters.snapshot() == {}
    bench.clock.seconds += health.CAUSE_EVERY_S - 1
    bench.health.set_cause('stamp_old', 'The images are 99 s old.')
    bench.clock.seconds += 1.1
    bench.health.set_cause('stamp_old', 'The images are 98 s old.')
    ros.until(lambda: 'The images are 98 s old.' in bench.logged)
    assert bench.logged == ['The images are 99 s old.', 'The unit is wrong.', 'The images are 98 s old.']


def test_a_cause_that_its_finder_has_logged_is_not_logged_again(ros, bench):
    bench.served()
    bench.health.set_cause('rgb_silent', 'Nothing comes.', logged=True)
    assert bench.verdict() == (WARN, 'Nothing comes.') and bench.health.last_error == 'Nothing comes.'
    bench.health.set_cause('rate_low', 'Slow.')
    ros.until(lambda: 'Slow.' in bench.logged)
    assert bench.logged == ['Slow.']


def test_an_unknown_age_is_left_out_of_the_quantiles(bench):
    bench.health.frame_done(float('nan'), 0.1)
    assert math.isnan(bench.health.age.p50)
    bench.health.frame_done(2.0, 0.1)
    assert bench.health.age.p50 == 2.0 and bench.health.served.total == 2


def test_a_node_that_was_started_again_says_so_for_a_minute(bench, monkeypatch):
    monkeypatch.setattr(health, 'RESTARTED', 'it was killed by signal 9, restart 2')
    bench.served()
    sentence = 'The node was started again: it was killed by signal 9, restart 2.'
    assert bench.verdict() == (WARN, sentence)
    status = bench.health.status('active', None, bench.inference, {})
    assert status.values['started_again'] == 'it was killed by signal 9, restart 2'
    bench.clock.seconds += health.RESTART_WARN_S
    bench.served()
    assert bench.verdict() == (OK, 'Running.')


def test_frames_unlike_those_of_training_warn(bench):
    bench.served()
    session = Session(Engine(untrained('tiny', 3)))
    session.domain = DomainResult(score=0.75, limit=0.5, above=1.0)
    status = bench.health.status('active', session, bench.inference, {})
    assert (status.level, status.message) == (
        WARN,
        'The frames are unlike those of training (score 0.750, limit 0.500, above 100.0% of the frames of validation).',
    )
    session.domain = DomainResult(score=0.5, limit=0.5)
    assert bench.health.status('active', session, bench.inference, {}).level == OK


def test_an_active_node_is_ok_only_while_it_serves(bench):
    assert bench.verdict() == (WARN, SILENT)
    bench.served()
    assert bench.verdict() == (OK, 'Running.')
    bench.clock.seconds += 5.0
    assert bench.verdict() == (WARN, SILENT)


def test_a_new_error_warns_once_and_a_superseded_frame_never(bench):
    bench.served()
    bench.health.counters.count('frame_superseded', 9)
    assert bench.verdict() == (OK, 'Running.')
    bench.health.counters.count('incompatible_qos')
    assert bench.verdict() == (WARN, 'Input was refused; see dropped/*.')
    assert bench.verdict() == (OK, 'Running.')
    bench.health.refuse(InputError('depth_size', 'Depth does not fit; align it.'))
    bench.health.counters.count('frame_superseded')
    assert bench.verdict() == (WARN, 'Depth does not fit; align it.')
    assert bench.verdict() == (OK, 'Running.')


def test_an_error_while_inactive_is_not_reported_again_after_activation(bench):
    bench.health.refuse(InputError('model', 'There is no model.'))
    assert bench.verdict('unconfigured', inference=None)[0] == WARN
    bench.served()
    assert bench.verdict() == (OK, 'Running.')


def test_each_reason_is_logged_at_most_every_ten_seconds_and_counted_every_time(ros, bench):
    def refuse(reason, text):
        bench.health.refuse(InputError(reason, text))
        assert bench.health.last_error == text

    refuse('a', 'first a')
    bench.clock.seconds += WARN_EVERY_S - 0.01
    refuse('a', 'second a')
    refuse('b', 'first b')
    bench.clock.seconds += 0.01
    refuse('a', 'third a')
    ros.until(lambda: 'third a' in bench.logged)
    assert [line for line in bench.logged if line[-1] in 'ab'] == ['first a', 'first b', 'third a']
    assert bench.health.counters.snapshot() == {'a': 3, 'b': 1}


def test_an_internal_error_is_one_sentence_counted_and_logged(ros, bench):
    sentence = bench.health.internal_error('a frame', ZeroDivisionError('by zero'))
    assert sentence == 'An internal error stopped a frame (ZeroDivisionError: by zero); the node goes on.'
    assert bench.health.last_error == sentence and bench.health.counters.snapshot() == {'internal_error': 1}
    ros.until(lambda: sentence in bench.logged)


def test_a_fallback_is_counted_once_and_a_runtime_as_chosen_never(bench):
    health, fallback = bench.health, Serving('torch', 'cuda cannot serve', fallback=True)
    health.set_runtime(Serving('torch', 'chosen'))
    assert health.counters.snapshot() == {} and health.last_error == ''
    health.set_runtime(fallback)
    health.set_runtime(dataclasses.replace(fallback))
    assert health.counters.snapshot() == {'runtime_fallback': 1} and health.serving == fallback
    assert health.last_error == 'Runtime cuda cannot serve; torch serves.'
