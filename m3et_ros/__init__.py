"""Embodied vision-language on ROS 2; the rooms are described in docs/architecture.md."""

from pkgutil import extend_path

from m3et_ros.data.checkpoints.auto import watch

# A source checkout first on sys.path must still reach the generated modules (msg, srv, action) of the installed copy.
__path__ = extend_path(__path__, __name__)
__version__ = '0.2.0'

watch()
