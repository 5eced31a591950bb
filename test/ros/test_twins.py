"""Two nodes of one name are reported once the other has been there for longer than DDS remembers the dead."""

from m3et_ros.ros.twins import TWIN_S, TwinWatch


def test_a_twin_is_reported_after_a_while_and_until_it_is_gone(ros):
    now, said = [0.0], []
    node, other = ros.node('one', namespace='robot'), ros.node('one', namespace='other')
    watch = TwinWatch(node, said.append, clock=lambda: now[0])
    watch.check()
    twin = ros.node('one', namespace='robot')
    ros.until(lambda: node.get_node_names_and_namespaces().count(('one', '/robot')) == 2)
    watch.check()
    assert said == ['']
    now[0] += TWIN_S
    watch.check()
    assert said[-1].startswith('2 nodes are called /robot/one')
    ros.executor.remove_node(twin)
    ros.nodes.remove(twin)
    twin.destroy_node()
    ros.until(lambda: node.get_node_names_and_namespaces().count(('one', '/robot')) == 1)
    watch.check()
    assert said[-1] == '' and other
