"""Processes that run no model do not pay for torch: two seconds and 300 MB each."""

import subprocess
import sys

from m3et_ros.runtime.limits import QUESTION_CHARS, ROUTER_CONFIDENCE, TOKENS

LIGHT = (
    'm3et_ros.ros.replay_node',
    'm3et_ros.ros.camera_sim',
    'm3et_ros.ros.camera_video',
    'm3et_ros.ros.parameters',
    'm3et_ros.cli.ask.client',
    'm3et_ros.cli.robots',
    'm3et_ros.cli.view.robot_feed',
    'm3et_ros.cli.view.server',
    'm3et_ros.cli.mcp.robot_tools',
)
SCRIPT = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    assert 'torch' not in sys.modules, f'{name} imports torch'
"""


def test_the_values_are_those_that_parameters_offer():
    assert (TOKENS, ROUTER_CONFIDENCE, QUESTION_CHARS) == (('full', 'adaptive'), 0.7, 1000)


def test_nodes_and_clients_without_a_model_do_not_import_torch():
    ended = subprocess.run([sys.executable, '-c', SCRIPT, *LIGHT], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
