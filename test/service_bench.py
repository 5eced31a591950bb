"""A model node in this process with clients of all its services, which several files of test/ros share."""

import numpy as np
from rclpy.action import ActionClient
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from m3et_ros.action import AskQuestion as AskStreaming
from m3et_ros.data.frame import Frame
from m3et_ros.msg import Answer
from m3et_ros.ros.model_node import ModelNode
from m3et_ros.srv import AskQuestion, LoadModel

RGB = np.random.default_rng(2).integers(0, 256, (48, 64, 3), dtype=np.uint8)
SERVICES = {
    'ask': AskQuestion,
    'load_model': LoadModel,
    'reset_memory': Trigger,
    'save_memory': Trigger,
    'restore_memory': Trigger,
}


class Bench:
    """A model node in this process, and a client for each of its services."""

    def __init__(self, ros, **settings):
        self.ros = ros
        given = [Parameter(name, value=value) for name, value in {'model': 'tiny', 'top_k': 3, **settings}.items()]
        self.node = ros.add(ModelNode(context=ros.context, namespace='robot', parameter_overrides=given))
        client = ros.node('client')
        self.clients = {name: client.create_client(kind, f'/robot/model/{name}') for name, kind in SERVICES.items()}
        self.streaming = ActionClient(client, AskStreaming, '/robot/model/ask_streaming')
        self.answers, self.feedback = [], []
        client.create_subscription(Answer, '/robot/model/answer', self.answers.append, 10)
        ros.until(lambda: all(c.service_is_ready() for c in self.clients.values()) and self.streaming.server_is_ready())

    def activate(self):
        self.node.trigger_configure()
        self.node.trigger_activate()
        self.ros.until(lambda: self.clients['ask'].service_is_ready())
        return self

    def observe(self, *stamps_ns, depth=None):
        for stamp in stamps_ns:
            frame = Frame(RGB, depth, stamp_ns=stamp, frame_id='lens')
            self.node.inference_thread.submit(lambda frame=frame: self.node.session.observe(frame)).result(60)
        return self

    def now_ns(self):
        return self.node.get_clock().now().nanoseconds

    def send(self, name, **request):
        return self.clients[name].call_async(SERVICES[name].Request(**request))

    def call(self, name, **request):
        return self.ros.until(self.send(name, **request).result, 60)

    def goal(self, **request):
        def keep(message):
            self.feedback.append(message.feedback)

        sent = self.streaming.send_goal_async(AskStreaming.Goal(**request), feedback_callback=keep)
        return self.ros.until(sent.result)

    def stream(self, **request):
        return self.ros.until(self.goal(**request).get_result_async().result, 60)

    def refusals(self):
        return self.node.health.counters.snapshot()
