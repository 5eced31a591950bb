"""Nodes, topics and everything else that uses rclpy.

A camera frame passes these files on its way to the first tensor:

1. camera/wait_thread.py: WaitThread takes the serialized message from DDS and calls the subscription's callback.
2. camera_inputs.py: CameraInputs._on_rgb or _on_depth parses the message, without a copy of its pixels.
3. camera/sync.py: Synchroniser pairs colour and depth by stamp and returns a finished pair to CameraInputs.
4. inference_thread.py: InferenceThread.offer stores the pair, with its instruction, in a slot; a newer pair replaces
   it. The inference thread calls ModelNode._process_frame with the newest one.
5. model_node.py: ModelNode._process_frame decodes the pair (PairedMessages.decode of camera_inputs.py) and calls
   Session.observe of runtime/session.py, whose engine turns the frame into tensors.

The results leave through outputs.py (depth, mask, overlay, anticipation) and services.py (answers); convert.py makes
the messages. camera/subscription.py only chooses the topics and their quality of service; health.py counts refused
input.
"""

from m3et_ros.ros.environment import drop_middleware

drop_middleware()
