"""The model node as its parts use it."""

from rclpy.lifecycle import LifecycleNode

from m3et_ros.ros.health import Health
from m3et_ros.ros.inference_thread import InferenceThread
from m3et_ros.ros.parameters import Settings
from m3et_ros.ros.vlm_thread import VlmThread
from m3et_ros.runtime.session import Session


class Host(LifecycleNode):
    """A lifecycle node with the state that camera inputs and services read.

    A base class and not a Protocol, because rclpy creates subscriptions, services and actions of a Node only.
    """

    # Values of the parameters; replaced when a live parameter changes.
    settings: Settings
    # Counters, rates and the last error.
    health: Health
    # Model and episode while the node is configured; else None. Replaced when another model is loaded.
    session: Session | None = None
    # Runs all inference while the node is active; else None.
    inference_thread: InferenceThread | None = None
    # The vision-language model that answers questions, while the node is configured with one; else None.
    vlm: VlmThread | None = None

    def observe_newest(self) -> None:
        """Encode the newest frame if nobody has needed it until now; on the inference thread."""
        raise NotImplementedError
