"""Clients of a service are told apart by the numbers of their requests."""

from rclpy.action import ActionClient
from rclpy.node import Node
from std_srvs.srv import Trigger

from m3et_ros.action import AskQuestion as AskStreaming
from m3et_ros.ros import process
from m3et_ros.ros.clients import REQUEST_NUMBER, Clients, NumberingActionServer


def test_a_request_that_continues_a_series_is_of_the_same_client():
    clients = Clients()
    many = clients.of(1)
    assert [clients.of(n) for n in (2, 3, 4)] == [many] * 3
    few = clients.of(1)
    assert few != many and clients.of(5) == many and clients.of(2) == few
    assert clients.of(100) not in (many, few)  # its earlier requests were lost, or went to another server


def test_of_two_clients_with_the_same_number_the_one_that_waited_longest_asks():
    clients = Clients()
    one, other = clients.of(1), clients.of(1)
    assert one != other and [clients.of(2), clients.of(2)] == [one, other]


def test_without_a_number_all_are_one_client():
    assert {Clients().of(0), Clients().of(0)} == {0}


def test_the_client_that_was_silent_for_longest_is_forgotten():
    clients = Clients(limit=2)
    first = clients.of(1)
    clients.of(10), clients.of(20)
    assert clients.of(2) != first


def test_the_numbers_of_requests_and_goals_arrive_at_their_callbacks(ros):
    node, seen = Node('numbered', context=ros.context), []

    def on_request(_, response):
        seen.append(('service', REQUEST_NUMBER.get()))
        return response

    def on_goal(goal):
        seen.append(('action', server.take_number(goal)))
        assert server.take_number(goal) == 0
        goal.succeed()
        return AskStreaming.Result()

    node.create_service(Trigger, 'ask', on_request)
    server = NumberingActionServer(node, AskStreaming, 'stream', on_goal)
    asking = ros.node('asking')
    one, other = (asking.create_client(Trigger, 'ask') for _ in range(2))
    goals = ActionClient(asking, AskStreaming, 'stream')
    ros.until(lambda: one.service_is_ready() and other.service_is_ready() and goals.server_is_ready())
    for client in (one, one, other):
        client.call_async(Trigger.Request())
    for _ in range(2):
        goals.send_goal_async(AskStreaming.Goal())
    process.spin(node, lambda: len(seen) == 5)
    server.destroy()
    node.destroy_node()
    assert sorted(seen) == [('action', 1), ('action', 2), ('service', 1), ('service', 1), ('service', 2)]
