"""Every test process gets a DDS domain of its own, before anything imports rclpy; children inherit it."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for epic_folder, which several rooms share

worker = os.environ.get('PYTEST_XDIST_WORKER')  # 'gw0', 'gw1', ... under pytest -n
seed = os.getppid() * 7 + int(worker[2:]) if worker else os.getpid()
# Domains above 101 may meet the ephemeral port range.
os.environ['ROS_DOMAIN_ID'] = str(1 + seed % 100)
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)  # the wheels do not set it
os.environ.setdefault('ROS_PYTHON_CHECK_FIELDS', '1')  # wrong types in message fields raise
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # two spinning workers on two cores are slower than one
# Which runtime serves must not depend on what is installed, and building graphs takes minutes.
os.environ.setdefault('M3ET_RUNTIME', 'torch')
os.environ.setdefault('M3ET_KERNELS', 'off')
