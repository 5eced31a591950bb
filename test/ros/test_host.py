"""The parts of the model node use of it what Host and LifecycleNode have, and nothing else."""

import ast
from pathlib import Path

import pytest
from rclpy.lifecycle import LifecycleNode

from m3et_ros.ros import camera_inputs, model_node, services
from m3et_ros.ros.host import Host

STATE = {'settings', 'health', 'session', 'inference_thread', 'vlm'}


def used_of_host(module):
    """The attributes of `host` and `self._host` in a module."""
    names = set()
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ('host', 'self._host'):
            names.add(node.attr)
    return names


def test_a_host_has_the_state_that_its_parts_use_and_no_more():
    assert set(Host.__annotations__) == STATE
    used = (used_of_host(services) | used_of_host(camera_inputs)) - set(dir(LifecycleNode))
    assert used == STATE | {'observe_newest'}


@pytest.mark.parametrize('module', [services, camera_inputs])
def test_parts_use_public_names_only(module):
    assert not [name for name in used_of_host(module) if name.startswith('_')]


def test_a_host_has_neither_session_nor_inference_thread_before_it_is_configured():
    assert issubclass(model_node.ModelNode, Host)
    assert Host.session is None and Host.inference_thread is None
