"""Every parameter of the model node arrives where it is used, with the value that was set; a live one again.

A real node runs with a value of its own for every parameter; the calls in which they arrive are recorded.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import torch
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from talkers import talker_folder

from m3et_ros.msg import ActionAnticipation
from m3et_ros.ros import camera_inputs, interfaces, model_node, services
from m3et_ros.ros.camera.subscription import SilenceMonitor
from m3et_ros.ros.convert import stamp_msg, to_image_msg
from m3et_ros.ros.outputs import Perception
from m3et_ros.ros.parameters import PARAMETERS
from m3et_ros.runtime import session as session_module
from m3et_ros.runtime.domain import DomainCheck
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.frame_comb import FrameMemory
from m3et_ros.runtime.session import Session
from m3et_ros.runtime.shared_model import Models
from m3et_ros.srv import AskQuestion

RGB = np.full((48, 64, 3), 90, np.uint8)
ELSEWHERE = (
    'depth_model',
    'segmentation_model',
    'answerer_device',
    'answerer_dtype',
    'answerer_threads',
    'router_confidence',
    'instruction_answerer',
    'memory',
)
"""Parameters of models that this node has none of; test_vlm_node.py and test_networks.py follow them. test_demand.py
follows memory: most others arrive only where it is on."""
WALKED = [spec for spec in PARAMETERS if spec.name not in ELSEWHERE]
LIVE = [spec.name for spec in WALKED if spec.live]
# Owner and attribute of each recorded call.
CALLS = {
    'open': (Models, 'open'),
    'Engine': (model_node, 'Engine'),
    'Adaptive': (model_node, 'Adaptive'),
    'prepare': (Engine, 'prepare'),
    'to': (Engine, 'to'),
    'Session': (model_node, 'Session'),
    'open_answerer': (model_node, 'open_answerer'),
    'set_num_threads': (torch, 'set_num_threads'),
    'setNumThreads': (cv2, 'setNumThreads'),
    'Synchroniser': (camera_inputs, 'Synchroniser'),
    'TopicReader': (camera_inputs, 'TopicReader'),
    'warn_after': (SilenceMonitor, 'warn_after'),
    'attached_frame': (services, 'attached_frame'),
    'publish': (Perception, 'publish'),
    'ask': (Session, 'ask'),
    'write_steps': (Session, 'write_steps'),
    'anticipate': (Session, 'anticipate'),
    'checked_question': (services, 'checked_question'),
    'judged': (session_module, 'judged'),
    'due': (DomainCheck, 'due'),
    'save': (FrameMemory, 'save'),
}


class Arrival(NamedTuple):
    """A call in which a parameter arrives."""

    call: str
    # Name or position of the argument.
    argument: str | int
    # Other arguments that tell this call from others of the same function.
    among: dict[str, Any] = {}  # noqa: RUF012 - never changed
    # Form in which the value arrives.
    form: Callable[[Any], Any] = lambda value: value
    # Calls that count; the inputs hold a synchroniser with default values before they start.
    which: slice = slice(None)
    # Values of the parameter with which the call is made; none = all.
    given: tuple = ()

    def check(self, value, found):
        """Assert that the value arrived in all of the calls, or that there were none."""
        if self.given and value not in self.given:
            assert not found, (self, found)
        else:
            assert found and all(each == self.form(value) for each in found), (self, found)


class Case(NamedTuple):
    """The values of a parameter, the first of them not the default, and its arrivals."""

    values: tuple
    arrivals: tuple[Arrival, ...]


CASES = {
    'model': Case(('tiny',), (Arrival('open', 'name'),)),
    'device': Case(('cpu',), (Arrival('prepare', 'device'), Arrival('to', 'device'))),
    'runtime': Case(('torch',), (Arrival('prepare', 'runtime'),)),
    'precision': Case(('bfloat16',), (Arrival('prepare', 'precision'),)),
    'tokens': Case(('adaptive',), (Arrival('Engine', 'tokens'),)),
    'tokens_threshold': Case((0.7,), (Arrival('Adaptive', 'threshold'),)),
    'threads': Case((1,), (Arrival('set_num_threads', 0), Arrival('setNumThreads', 0))),
    'rgb_transport': Case(
        ('raw',), (Arrival('TopicReader', 'transports', {'follow_durability': False}, lambda _: [interfaces.RGB]),)
    ),
    'depth_transport': Case(('none',), (Arrival('prepare', 'modality_sets', {}, lambda _: (('rgb',),)),)),
    'reliability': Case(('best_effort',), (Arrival('TopicReader', 'reliability'),)),
    'sync_slop_s': Case((0.3,), (Arrival('Synchroniser', 'slop_s', which=slice(1, None)),)),
    'depth_wait_s': Case((0.4,), (Arrival('Synchroniser', 'depth_wait_s', which=slice(1, None)),)),
    'depth_stall': Case(('reuse',), (Arrival('Synchroniser', 'stall', which=slice(1, None)),)),
    'depth_unit_m': Case((0.0001, 0.002), (Arrival('attached_frame', 'unit_m'),)),
    'depth_fill': Case(('always', 'smooth'), (Arrival('publish', 'fill'),)),
    'instruction': Case(
        ('what is this?', 'and that?'), (Arrival('ask', 'question', {'scope': 'frame', 'mode': 'classify'}),)
    ),
    'answer_mode': Case(
        ('generate', 'classify'),
        (
            Arrival('write_steps', 'scope', {'scope': 'episode'}, lambda _: 'episode', given=('generate',)),
            Arrival('ask', 'mode', {'scope': 'episode'}, given=('classify',)),
        ),
    ),
    'answerer': Case(('ml_mamba',), (Arrival('open_answerer', 0),)),
    'answerer_checkpoint': Case(('{folder}',), (Arrival('open_answerer', 1),)),
    'max_sentence_tokens': Case((5,), (Arrival('write_steps', 'max_tokens', {'scope': 'frame'}),)),
    'min_confidence': Case((0.3, 0.4), (Arrival('judged', 'min_confidence'),)),
    'domain_check': Case((3, 0), (Arrival('due', 'every'),)),
    'top_k': Case((3, 4), (Arrival('ask', 'top_k'), Arrival('anticipate', 'top_k'))),
    'horizon_s': Case((2.5, 0.5), (Arrival('anticipate', 'horizon_s'),)),
    'max_answer_tokens': Case((2,), (Arrival('write_steps', 'max_tokens', {'scope': 'episode'}),)),
    'max_question_chars': Case((40, 50), (Arrival('checked_question', 'limit'),)),
    'memory_frames': Case((3,), (Arrival('Session', 'memory_frames'),)),
    'memory_file': Case(('/tmp/one',), (Arrival('save', 'path', {}, Path),)),
    'silent_topic_s': Case((600.0, 700.0), (Arrival('warn_after', 'seconds'),)),
    'overlay_alpha': Case((0.25, 0.75), (Arrival('publish', 'alpha'),)),
    'autostart': Case((True,), ()),
    'seed': Case((4,), (Arrival('open', 'seed'),)),
}


class Recorder:
    """Records the arguments of CALLS by name and by position, defaults included."""

    def __init__(self, patch):
        self.calls = []
        for name, (owner, attribute) in CALLS.items():
            patch.setattr(owner, attribute, self._recorded(name, getattr(owner, attribute), inspect.isclass(owner)))

    def _recorded(self, name, inner, is_method):
        try:
            signature = inspect.signature(inner)
        except ValueError:
            signature = None

        def call(*args, **kwargs):
            arguments = dict(enumerate(args[1:] if is_method else args))
            if signature is not None:
                bound = signature.bind(*args, **kwargs)
                bound.apply_defaults()
                arguments |= bound.arguments
            self.calls.append((name, arguments))
            return inner(*args, **kwargs)

        return call

    def values(self, arrival):
        """The values of an argument in the recorded calls."""
        values = [
            arguments[arrival.argument]
            for name, arguments in list(self.calls)
            if name == arrival.call and all(arguments[key] == value for key, value in arrival.among.items())
        ]
        return values[arrival.which]


class Run(NamedTuple):
    """The node's state after its start, the answerer's folder, and what arrived of the first and second values."""

    state: str
    folder: str
    values: list[dict[int, list]]


def arrivals():
    return [(name, arrival) for name, case in CASES.items() for arrival in case.arrivals]


@pytest.fixture(scope='module')
def run(module_ros, tmp_path_factory):
    ros, threads = module_ros, (torch.get_num_threads(), cv2.getNumThreads())
    folder = str(talker_folder(tmp_path_factory.mktemp('talker') / 'ml_mamba', vision='tiny-random-4'))
    client = ros.node('client')
    ask, save = (client.create_client(*what) for what in ((AskQuestion, '/model/ask'), (Trigger, '/model/save_memory')))
    camera = client.create_publisher(Image, 'rgb/image_raw', 1)
    # Nothing is anticipated for nobody.
    client.create_subscription(ActionAnticipation, '/model/anticipation', lambda _: None, 1)
    values, stamps = [], iter(range(1, 1000))

    def exercise(node):
        """Show a frame, ask about it and about the episode, save, and wait for the next look at the publishers."""
        ros.until(lambda: camera.get_subscription_count() and ask.service_is_ready() and save.service_is_ready(), 60)
        ros.until(lambda: node._anticipations.wanted)
        served = node.health.served.total
        camera.publish(to_image_msg(RGB, 'rgb8', Header(stamp=stamp_msg(next(stamps) * 10**9))))
        ros.until(lambda: node.health.served.total > served)
        for scope in ('frame', 'episode'):
            response = ros.until(ask.call_async(AskQuestion.Request(question='what?', scope=scope)).result, 60)
            assert response.success, response.message
        assert 'has no memory' in ros.until(save.call_async(Trigger.Request()).result).message
        ros.until(lambda: any(name == 'warn_after' for name, _ in list(recorder.calls)))
        values.append({id(arrival): recorder.values(arrival) for _, arrival in arrivals()})

    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(patch)
        first = {name: case.values[0] for name, case in CASES.items()} | {'answerer_checkpoint': folder}
        given = [Parameter(name, value=value) for name, value in first.items()]
        node = ros.add(model_node.ModelNode(context=ros.context, parameter_overrides=given))
        exercise(node)
        state = node.state_label
        changed = [Parameter(name, value=CASES[name].values[1]) for name in LIVE]
        assert all(result.successful for result in node.set_parameters(changed))
        recorder.calls.clear()
        exercise(node)
        yield Run(state, folder, values)
        node.trigger_deactivate()
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


def test_every_parameter_is_walked_and_a_live_one_twice():
    assert list(CASES) == [spec.name for spec in WALKED]
    for spec in WALKED:
        values = CASES[spec.name].values
        assert len(set(values)) == len(values) == 1 + spec.live and spec.default != values[0], spec.name
        assert CASES[spec.name].arrivals or spec.name == 'autostart'


@pytest.mark.parametrize('name', [name for name in CASES if name != 'autostart'])
def test_the_value_arrives_in_every_call(run, name):
    for arrival in CASES[name].arrivals:
        value = CASES[name].values[0].format(folder=run.folder) if name.endswith('point') else CASES[name].values[0]
        arrival.check(value, run.values[0][id(arrival)])


@pytest.mark.parametrize('name', LIVE)
def test_a_change_of_a_live_parameter_arrives_in_every_call(run, name):
    for arrival in CASES[name].arrivals:
        arrival.check(CASES[name].values[1], run.values[1][id(arrival)])


def test_autostart_brings_the_node_up(run):
    assert run.state == 'active'
