"""config/sros2/policies.xml allows each node what it opens, and nothing else."""

import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from rclpy.parameter import Parameter

from m3et_ros.cli.ros_names import camera_remaps
from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.frame import Frame
from m3et_ros.ros import interfaces
from m3et_ros.ros.model_node import ModelNode
from m3et_ros.ros.replay_node import ReplayNode

FOLDER = Path(__file__).resolve().parents[2] / 'config' / 'sros2'
ACTION_SERVICES = ('cancel_goal', 'get_result', 'send_goal')
# vision_msgs is not installed everywhere.
OPTIONAL = {f'/m3et/model/{name}' for name in ('segmentation/label_info', 'detections', 'detections_3d')}


def profiles():
    """Return the rules by enclave: (kind, right) to full names, with the node's name under 'node'."""
    found = {}
    for context in ElementTree.parse(FOLDER / 'policies.xml').getroot().iter('context'):
        (profile,) = context.iter('profile')
        ns, node = profile.get('ns').rstrip('/'), profile.get('node')
        rules = {'node': (node, profile.get('ns'))}
        for group in profile:
            ((right, allowed),) = group.attrib.items()
            assert allowed == 'ALLOW'
            names = [e.text if e.text[0] == '/' else f'{ns}/{e.text.replace("~", node)}' for e in group]
            assert len(names) == len(set(names))
            rules[group.tag, right] = set(names)
        found[context.get('path')] = rules
    return found


RULES = profiles()


def opened(ros, enclave):
    """Return what the graph shows of the node of an enclave, in the groups of a policy."""
    watcher = ros.node('watcher')
    who = RULES[enclave]['node']
    time.sleep(0.2)
    published, subscribed, served, called = (
        {name for name, _ in look(*who)}
        for look in (
            watcher.get_publisher_names_and_types_by_node,
            watcher.get_subscriber_names_and_types_by_node,
            watcher.get_service_names_and_types_by_node,
            watcher.get_client_names_and_types_by_node,
        )
    )
    assert not called
    actions = {name.split('/_action/')[0] for name in served | published if '/_action/' in name}
    for action in actions:
        assert {f'{action}/_action/{part}' for part in ACTION_SERVICES} <= served
    return {
        ('topics', 'publish'): {name for name in published if '/_action/' not in name},
        ('topics', 'subscribe'): subscribed,
        ('services', 'reply'): {name for name in served if '/_action/' not in name},
        **({('actions', 'execute'): actions} if actions else {}),
    }


def allowed(enclave):
    return {key: names - OPTIONAL for key, names in RULES[enclave].items() if key != 'node'}


def test_the_model_node_may_do_what_it_does(ros):
    remaps = [word for rule in camera_remaps('/camera/camera') for word in ('-r', rule)]
    node = ros.add(
        ModelNode(
            context=ros.context,
            namespace='m3et',
            cli_args=['--ros-args', *remaps],
            parameter_overrides=[Parameter('model', value='tiny'), Parameter('use_sim_time', value=True)],
        )
    )
    node.trigger_configure()
    node.trigger_activate()
    found, rules = opened(ros, '/m3et/model'), allowed('/m3et/model')
    # The node reads one transport of colour and of depth at a time.
    inputs = {node.resolve_topic_name(row.name) for row in interfaces.INPUTS}
    subscribed = found.pop(('topics', 'subscribe'))
    assert '/clock' in subscribed and subscribed <= rules.pop(('topics', 'subscribe')) == inputs | {'/clock'}
    assert {key: names - OPTIONAL for key, names in found.items()} == rules
    node.trigger_deactivate()


def test_the_simulated_camera_may_do_what_it_does(ros):
    pytest.importorskip('mujoco')
    from m3et_ros.ros.camera_sim import CameraSim

    sim_time = [Parameter('use_sim_time', value=True)]
    ros.add(CameraSim(context=ros.context, parameter_overrides=[Parameter('backend', value='raycast'), *sim_time]))
    assert opened(ros, '/m3et/camera_sim') == allowed('/m3et/camera_sim')


def test_the_replay_of_a_recording_may_do_what_it_does(ros, tmp_path):
    with BagWriter(tmp_path / 'bag', images='both') as bag:
        frame = Frame(np.zeros((4, 6, 3), np.uint8), np.ones((4, 6), np.float32), 10**18, K=np.eye(3))
        bag.write_frame(frame, pose=np.eye(4), mask=np.zeros((4, 6), np.uint8))
        bag.write_labels(10**18, {})
    values = {'path': str(tmp_path / 'bag'), 'use_sim_time': True}
    ros.add(ReplayNode(context=ros.context, parameter_overrides=[Parameter(k, value=v) for k, v in values.items()]))
    assert opened(ros, '/m3et/replay') == allowed('/m3et/replay')


def test_a_client_may_only_ask_instruct_and_read():
    client, model = RULES['/m3et/client'], RULES['/m3et/model']
    assert client['services', 'request'] == {'/m3et/model/ask', '/m3et/model/get_state'} < model['services', 'reply']
    assert client['actions', 'call'] == model['actions', 'execute']
    assert client['topics', 'publish'] - {'/rosout', '/parameter_events'} < model['topics', 'subscribe']
    assert client['topics', 'subscribe'] - {'/clock'} < model['topics', 'publish']


def test_the_recipe_makes_every_enclave_of_the_policy():
    text = (FOLDER / 'README.md').read_text()
    (line,) = [line for line in text.splitlines() if line.startswith('for enclave in ')]
    assert line.removeprefix('for enclave in ').removesuffix('; do').split() == list(RULES)
    assert all(f'| `{enclave}` |' in text for enclave in RULES)
