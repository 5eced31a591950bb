"""What surrounds every node: settings before rclpy.init, spinning, and an orderly end."""

import gc
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos_overriding_options import InvalidQosOverridesError
from rclpy.signals import SignalHandlerOptions

from m3et_ros.data.errors import InputError
from m3et_ros.ros.logs import PACKAGE, forwarded

RCLError, UnknownROSArgsError = rclpy_implementation.RCLError, rclpy_implementation.UnknownROSArgsError
REFUSALS = (InputError, ParameterException, InvalidQosOverridesError)
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')  # Jazzy and before; Kilted on
SHARED_MEMORY = Path('/dev/shm')
MIB = 1 << 20
# Profiles from the largest, with the room that some four processes of a robot need; each reserves its segment at once.
PROFILES = (('fastdds.xml', 256 * MIB), ('fastdds_small.xml', 20 * MIB))
WAIT_S = 0.2
N = TypeVar('N', bound=Node)


def share(*parts: str) -> Path:
    """A file of the package: of the source checkout the code runs from, else of an ament prefix, else of the venv.

    Args:
        parts: path below share/m3et_ros, for example 'config', 'robot.yaml'.

    Raises:
        FileNotFoundError: it is nowhere; the message lists where it was looked for.
    """
    checkout = Path(__file__).resolve().parents[2]
    roots = [checkout] if (checkout / 'package.xml').is_file() else []
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    roots += [Path(prefix) / 'share' / PACKAGE for prefix in [*prefixes, sys.prefix] if prefix]
    for root in roots:
        if (path := root.joinpath(*parts)).exists():
            return path
    raise FileNotFoundError(f'{Path(*parts)} is in none of {", ".join(map(str, roots))}; install {PACKAGE} again')


def prepare() -> str:
    """Set what has to stand in the environment before rclpy.init, and leave alone what the user has set.

    AMENT_PREFIX_PATH, which the PyPI wheels leave unset, becomes the prefix of this Python. Fast DDS gets the profile
    for large images (config/fastdds.xml), a smaller one where /dev/shm is small, or none where even that does not fit.

    Returns:
        One sentence for the log: which profile serves and why.
    """
    os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)
    for variable in PROFILE_VARIABLES:
        if os.environ.get(variable):
            return f'Fast DDS uses your profile {os.environ[variable]} ({variable}).'
    free = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 0
    for name, room in PROFILES:
        if free >= room:
            path = str(share('config', name))
            os.environ.update(dict.fromkeys(PROFILE_VARIABLES, path))
            why = '' if name == PROFILES[0][0] else f', because only {free // MIB} MiB of {SHARED_MEMORY} are free'
            return f'Fast DDS uses the profile {path}{why}.'
    return (
        f'Fast DDS keeps its defaults, because only {free // MIB} MiB of {SHARED_MEMORY} are free: large images '
        'are slow and best-effort ones get lost; give the container more shared memory '
        '(docker run --shm-size=512m).'
    )


def settle() -> None:
    """Let Python's collector pass over everything that is there by now, once what is to stay has been loaded.

    Else it looks through all modules and weights every so often, with every thread standing still: a fifth of a second
    of a model node.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


class Stop:
    """Notes SIGINT and SIGTERM instead of letting them fall into whatever runs; for the rest of the process.

    rclpy's own handlers shut the context down at once, and an executor or entity that is just being made then dies
    with tracebacks from its __del__. This one lets the work in hand finish and interrupts it only after a grace.
    """

    # Seconds that a callback may go on after the signal.
    GRACE_S = 1.0

    def __init__(self):
        """Install the handlers; call it on the main thread."""
        self._came = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)
        signal.signal(signal.SIGALRM, self._interrupt)

    def __call__(self) -> bool:
        """Whether a signal came."""
        return self._came

    def settle(self) -> None:
        """From now on interrupt nothing: the orderly end has begun."""
        if self._came:
            # As it ends Python puts the default handlers back and a second Ctrl-C would kill; ignored stays ignored.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
        self._came = True
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _note(self, *_) -> None:
        if not self._came:
            self._came = True
            signal.setitimer(signal.ITIMER_REAL, self.GRACE_S)

    def _interrupt(self, *_) -> None:
        raise KeyboardInterrupt


def spin(target: Node | Executor, stop: Callable[[], bool] = bool) -> None:
    """Serve callbacks until stop() is true or the context is shut down.

    The wait is bounded: an idle rclpy.spin slept through one SIGTERM in sixteen.

    Args:
        target: an executor, or a node to put on a single-threaded one.
        stop: asked several times a second, for example a Stop; by default never true.
    """
    executor = target if isinstance(target, Executor) else SingleThreadedExecutor(context=target.context)
    if executor is not target:
        executor.add_node(target)
    try:
        while executor.context.ok() and not stop():
            executor.spin_once(timeout_sec=WAIT_S)
    except ExternalShutdownException:
        pass
    finally:
        if executor is not target:
            executor.remove_node(target)
            executor.shutdown(timeout_sec=0)


def run(
    make: Callable[[], N],
    args: Sequence[str] | None = None,
    *,
    serve: Callable[[N, Callable[[], bool]], int | None] = spin,
) -> int:
    """Main function of an executable with one node: prepare, init, make the node, serve, end in order.

    Args:
        make: makes the node, in less than a second; longer work belongs into callbacks and threads.
        args: as for rclpy.init; None takes sys.argv.
        serve: called with the node and whether to stop, to be asked several times a second; returns the exit code,
            None for 0.

    Returns:
        Exit code: 0 at the end and after SIGINT, SIGTERM or shutdown; 1 when the command line, a parameter or other
        input is refused (one sentence says why).
    """
    stop, node, code = Stop(), None, 0
    with forwarded() as python_log:
        try:
            _init(prepare(), args)
            node = make()
            python_log.node_logger = node.get_logger().name
            code = serve(node, stop) or 0
        except REFUSALS as error:
            get_logger(PACKAGE).fatal(str(error))
            code = 1
        except KeyboardInterrupt:
            get_logger(PACKAGE).info(f'Work still ran {stop.GRACE_S:g} s after the signal and was interrupted.')
        finally:
            stop.settle()
            if node is not None:
                node.destroy_node()
            rclpy.try_shutdown()
    return code


def _init(sentence: str, args: Sequence[str] | None) -> None:
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except UnknownROSArgsError as error:
        raise InputError('arguments', f'unknown arguments {error} after --ros-args; correct the command line') from None
    except RCLError as error:
        raise InputError('arguments', f'rclpy cannot start: {error}; correct the command line') from None
    get_logger(PACKAGE).info(sentence)
