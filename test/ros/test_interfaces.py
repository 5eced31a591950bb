"""The node opens the interfaces of the table, and docs/reference.md lists them."""

import pathlib

from rclpy.parameter import Parameter

from m3et_ros.ros import interfaces, parameters
from m3et_ros.ros.model_node import ModelNode

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Topics of every lifecycle node and of the diagnostics.
COMMON = {'/rosout', '/parameter_events', '/diagnostics', '/table/model/transition_event', '/clock'}

PACKED = (interfaces.RGB_COMPRESSED, interfaces.DEPTH_COMPRESSED, interfaces.DEPTH_PICTURE)


def names(node, rows):
    return {node.resolve_topic_name(row.name): [row.type_name] for row in rows}


def test_the_node_opens_the_interfaces_of_the_table(ros):
    node = ModelNode(
        context=ros.context,
        namespace='table',
        parameter_overrides=[Parameter('model', value='tiny'), Parameter('rgb_transport', value='raw')],
    )
    node.trigger_configure()
    node.trigger_activate()
    out = dict(node.get_publisher_names_and_types_by_node('model', '/table'))
    assert {t: k for t, k in out.items() if t not in COMMON and '_action' not in t} == names(node, interfaces.OUTPUTS)
    subscribed = dict(node.get_subscriber_names_and_types_by_node('model', '/table'))
    expected = names(node, [i for i in interfaces.INPUTS if i not in PACKED])
    assert {t: k for t, k in subscribed.items() if t not in COMMON} == expected
    offered = dict(node.get_service_names_and_types_by_node('model', '/table'))
    assert names(node, interfaces.SERVICES).items() <= offered.items()
    assert any('ask_streaming/_action/send_goal' in name for name in offered)
    node.trigger_deactivate()
    node.destroy_node()


def test_the_reference_is_printed_from_the_tables():
    page = (ROOT / 'docs/reference.md').read_text()
    assert interfaces.as_markdown().strip() in page
    assert parameters.as_markdown().strip() in page
