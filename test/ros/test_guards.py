"""Requests that make rclpy fail: refused in their reply, counted, and the node lives on."""

import pytest
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.node import Node

from m3et_ros.ros import process
from m3et_ros.ros.guards import guard_services

UNKNOWN_TYPES = (10, 11, 255)


def parameter(name, kind, **value):
    return Parameter(name=name, value=ParameterValue(type=kind, **value))


def call(ros, client, request):
    assert client.wait_for_service(10)
    future = client.call_async(request)
    ros.until(future.done)
    return future.result()


@pytest.mark.parametrize('number', [0, 1, 2, 3, 5, 6, 8, 10, 60, 99, 255])
def test_a_transition_that_is_not_allowed_now_is_refused_by_its_id(module_ros, active, number):
    change, state = active
    assert call(module_ros, change, ChangeState.Request(transition=Transition(id=number))).success is False
    assert call(module_ros, state, GetState.Request()).current_state.id == State.PRIMARY_STATE_ACTIVE


@pytest.fixture(scope='module')
def active(module_ros):
    """Clients of a lifecycle node that is active."""
    from rclpy.lifecycle import LifecycleNode

    node = module_ros.add(LifecycleNode('guarded', context=module_ros.context))
    guard_services(node)
    node.trigger_configure()
    node.trigger_activate()
    other = module_ros.node('other')
    return other.create_client(ChangeState, 'guarded/change_state'), other.create_client(GetState, 'guarded/get_state')


@pytest.mark.parametrize('kind', UNKNOWN_TYPES)
def test_a_parameter_of_an_unknown_type_is_refused_beside_others_that_are_set(ros, kind):
    node, reports = ros.node('parameters'), []
    node.declare_parameter('one', 1)
    node.declare_parameter('two', 2)
    guard_services(node, lambda activity, error: reports.append(activity) or f'{activity}: {error}')
    client = ros.node('other').create_client(SetParameters, 'parameters/set_parameters')
    sent = [
        parameter('one', ParameterType.PARAMETER_INTEGER, integer_value=7),
        parameter('strange', kind),
        parameter('two', ParameterType.PARAMETER_INTEGER, integer_value=8),
    ]
    results = call(ros, client, SetParameters.Request(parameters=sent)).results
    assert [result.successful for result in results] == [True, False, True]
    assert "setting 'strange'" in results[1].reason and len(reports) == 1
    assert (node.get_parameter('one').value, node.get_parameter('two').value) == (7, 8)
    atomically = ros.node('third').create_client(SetParametersAtomically, 'parameters/set_parameters_atomically')
    result = call(ros, atomically, SetParametersAtomically.Request(parameters=sent)).result
    assert not result.successful and str(kind) in result.reason and len(reports) == 2


def test_a_parameter_without_a_name_is_refused(ros):
    node = ros.node('parameters')
    node.declare_parameter('one', 1)
    guard_services(node)
    sent = [
        parameter('', ParameterType.PARAMETER_INTEGER, integer_value=7),
        parameter('one', ParameterType.PARAMETER_INTEGER, integer_value=8),
    ]
    client = ros.node('other').create_client(SetParameters, 'parameters/set_parameters')
    results = call(ros, client, SetParameters.Request(parameters=sent)).results
    assert [result.successful for result in results] == [False, True] and 'without a name' in results[0].reason
    client = ros.node('third').create_client(SetParametersAtomically, 'parameters/set_parameters_atomically')
    result = call(ros, client, SetParametersAtomically.Request(parameters=sent)).result
    assert not result.successful and 'without a name' in result.reason


def test_the_model_node_counts_such_requests_and_goes_on_answering(robot_here, ros):
    robot = robot_here()
    asking = ros.node('hostile')
    change = asking.create_client(ChangeState, '/robot/model/change_state')
    setting = asking.create_client(SetParameters, '/robot/model/set_parameters')
    assert call(ros, change, ChangeState.Request(transition=Transition(id=1))).success is False
    results = call(ros, setting, SetParameters.Request(parameters=[parameter('top_k', 255)])).results
    assert [result.successful for result in results] == [False]
    ros.until(lambda: robot.count('internal_error') == 2)
    robot.ros.until(lambda: robot.diagnosis()['state'] == 'active')
    assert 'No image has arrived' in robot.ask('anybody there?').message


def test_a_callback_that_raises_is_reported_and_the_next_is_called(ros):
    node, reports, calls = Node('raising', context=ros.context), [], []

    def raising():
        calls.append(len(calls))
        raise RuntimeError('on purpose')

    node.create_timer(0.01, raising)
    process.spin(node, lambda: len(calls) >= 3, lambda activity, error: reports.append((activity, str(error))))
    node.destroy_node()
    assert reports[:2] == [('a callback', 'on purpose')] * 2
