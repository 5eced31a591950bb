"""Runs a module as a child that does not outlive its parent, however that ends.

    python -m m3et_ros.cli.child m3et_ros.ros.model_node --ros-args -p autostart:=true
"""

import ctypes
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that this process gets when its parent dies."""


def main() -> None:
    """Run the module named by the first argument as if by `python -m`, with the arguments behind it."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)


if __name__ == '__main__':
    main()
