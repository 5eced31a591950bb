"""Places in another frame, by the TF of the robot; it is looked up only when a frame is asked for."""

from geometry_msgs.msg import Transform
from rclpy.time import Time

from m3et_ros.cli.ask.client import Client
from m3et_ros.cli.output import Refused
from m3et_ros.ros.convert import stamp_msg


def transform_to(node: Client, target: str, source: str, stamp_ns: int, timeout_s: float) -> Transform:
    """Return the transform that moves points of one frame into another at the time of an image.

    Args:
        node: listens to /tf and /tf_static.
        target: frame of the results, such as 'base_link'.
        source: frame of the points, that of the image.
        stamp_ns: stamp of the image in nanoseconds.
        timeout_s: longest wait in seconds.

    Raises:
        Refused: tf2_ros is not installed, or no transform between these frames has come for that time.
    """
    try:
        import tf2_ros
    except ImportError:
        raise Refused(
            '--frame needs tf2_ros, which comes with a ROS 2 installation and not from pip; source one, or leave '
            f'--frame out and transform from {source!r} yourself.'
        ) from None
    buffer, time = tf2_ros.Buffer(), Time.from_msg(stamp_msg(stamp_ns))
    listener = tf2_ros.TransformListener(buffer, node)
    try:
        if not node.wait(lambda: buffer.can_transform(target, source, time), timeout_s):
            raise Refused(
                f'No transform from {source!r} to {target!r} at the time of the image has come in {timeout_s:g} s; '
                'check the names, and that the robot publishes TF for its camera.'
            )
        return buffer.lookup_transform(target, source, time).transform
    finally:
        listener.unregister()


def moved(point: tuple[float, float, float], transform: Transform) -> tuple[float, float, float]:
    """Return a point (x, y, z) in metres after a transform: turned by its unit quaternion, then shifted."""
    q, shift = transform.rotation, transform.translation
    x, y, z = point
    # t = 2 q x p and p' = p + w t + q x t, with the vector part q and the scalar part w.
    tx, ty, tz = 2 * (q.y * z - q.z * y), 2 * (q.z * x - q.x * z), 2 * (q.x * y - q.y * x)
    return (
        x + q.w * tx + q.y * tz - q.z * ty + shift.x,
        y + q.w * ty + q.z * tx - q.x * tz + shift.y,
        z + q.w * tz + q.x * ty - q.y * tx + shift.z,
    )
