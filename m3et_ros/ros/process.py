"""The process of a node: environment before rclpy.init, spinning, and an orderly end."""

import gc
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import Executor, ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos_overriding_options import InvalidQosOverridesError
from rclpy.signals import SignalHandlerOptions

from m3et_ros.data.errors import InputError
from m3et_ros.ros.clients import NumberingExecutor
from m3et_ros.ros.environment import check_domain, settle
from m3et_ros.ros.guards import log_error
from m3et_ros.ros.heartbeat import HEARTBEAT
from m3et_ros.ros.logs import PACKAGE, forwarded
from m3et_ros.runtime.heap import MIB, keep_freed_memory

RCLError, UnknownROSArgsError = rclpy_implementation.RCLError, rclpy_implementation.UnknownROSArgsError
REFUSALS = (InputError, ParameterException, InvalidQosOverridesError)
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')  # Jazzy and before; Kilted on
SHARED_MEMORY = Path('/dev/shm')
# Profiles, the largest first, with the free shared memory that about four processes of a robot need; each process
# reserves its segment at once.
PROFILES = (('fastdds.xml', 256 * MIB), ('fastdds_small.xml', 20 * MIB))
WAIT_S = 0.2
"""Longest wait of the executor, after which a stop is noticed."""
NodeT = TypeVar('NodeT', bound=Node)


def share(*parts: str) -> Path:
    """Return a file of the package: from the source checkout of this code, an ament prefix or the venv, in this order.

    Args:
        parts: path below share/m3et_ros, for example 'config', 'robot.yaml'.

    Raises:
        FileNotFoundError: it is in none of them; the message lists the folders.
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
    """Set the environment variables that rclpy.init needs, except those that the user has set.

    AMENT_PREFIX_PATH, which the PyPI wheels leave unset, becomes the prefix of this Python. Fast DDS gets the profile
    for large images (config/fastdds.xml), a smaller one if /dev/shm is small, or none if even that does not fit.

    Returns:
        One sentence for the log: the profile and the reason.
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


def freeze_garbage_collector() -> None:
    """Exclude all present objects from garbage collection, once everything that stays has been loaded.

    Otherwise the collector visits all modules and weights again and again while every thread stands still: a fifth of
    a second in a model node.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


class Stop:
    """Records SIGINT and SIGTERM instead of interrupting the code that runs; for the rest of the process.

    rclpy's own handlers shut the context down at once, and an executor or entity that is being created then fails with
    tracebacks from its __del__. This handler lets the current work finish and interrupts it only after GRACE_S.
    """

    # Seconds that a callback may still take after the signal.
    GRACE_S = 1.0
    # Longest time in seconds that the shutdown itself may take.
    END_S = 8.0

    def __init__(self):
        """Install the handlers; to be called on the main thread."""
        self._received = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._record)
        signal.signal(signal.SIGALRM, self._interrupt)

    def __call__(self) -> bool:
        """Return True after a signal."""
        return self._received

    def disarm(self) -> None:
        """Ignore further signals, because the orderly shutdown has begun."""
        if self._received:
            # Python restores default handlers when it exits, so a second Ctrl-C would kill it; SIG_IGN stays.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
        self._received = True
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _record(self, *_: object) -> None:
        if not self._received:
            self._received = True
            signal.setitimer(signal.ITIMER_REAL, self.GRACE_S)

    def _interrupt(self, *_: object) -> None:
        raise KeyboardInterrupt


def spin(
    target: Node | Executor,
    stop: Callable[[], bool] = bool,
    report: Callable[[str, Exception], object] | None = None,
    alive: Callable[[], bool] = lambda: True,
) -> None:
    """Call callbacks until stop() is true or the context is shut down.

    A callback that raises is reported, and the next one is called: no message may end a robot. The wait is bounded,
    because an idle rclpy.spin slept through one SIGTERM in sixteen.

    Args:
        target: an executor, or a node for a single-threaded one.
        stop: called several times a second, for example a Stop; the default never stops.
        report: called after an exception; None = the log of the package.
        alive: returns False while the other threads of the target make no progress; a supervisor then starts the
            process again.
    """
    report = report or partial(log_error, get_logger(PACKAGE))
    executor = target if isinstance(target, Executor) else NumberingExecutor(context=target.context)
    if executor is not target:
        executor.add_node(target)
    try:
        while executor.context.ok() and not stop():
            try:
                executor.spin_once(timeout_sec=WAIT_S)
            except ExternalShutdownException:
                break
            except Exception as error:
                report('a callback', error)
            if alive():
                HEARTBEAT.beat()
    finally:
        if executor is not target:
            executor.remove_node(target)
            executor.shutdown(timeout_sec=0)


def run(
    make: Callable[[], NodeT],
    args: Sequence[str] | None = None,
    *,
    serve: Callable[[NodeT, Callable[[], bool]], int | None] = spin,
) -> int:
    """Run an executable with one node: prepare, initialise, create the node, serve, end in order.

    Args:
        make: creates the node in less than a second; longer work belongs in callbacks and threads.
        args: as for rclpy.init; None takes sys.argv.
        serve: called with the node and a function that says when to stop, which it has to call several times a
            second; returns the exit code, None for 0.

    Returns:
        Exit code: 0 at the end and after SIGINT, SIGTERM or shutdown; 1 when the command line, a parameter or other
        input is refused, with one sentence in the log.
    """
    stop, node, code = Stop(), None, 0
    keep_freed_memory()
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
            get_logger(PACKAGE).info(
                f'The work was interrupted, because it still ran {stop.GRACE_S:g} s after the signal.'
            )
        finally:
            stop.disarm()
            # A thread that hangs in a driver or on a file must not keep the process.
            watchdog = threading.Timer(stop.END_S, os._exit, [1])
            watchdog.daemon = True
            watchdog.start()
            if node is not None:
                node.destroy_node()
            rclpy.try_shutdown()
            watchdog.cancel()
    return code


def _init(sentence: str, args: Sequence[str] | None) -> None:
    check_domain()
    troubles = settle()
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except UnknownROSArgsError as error:
        raise InputError('arguments', f'unknown arguments {error} after --ros-args; correct the command line') from None
    except UnicodeEncodeError as error:
        raise InputError(
            'arguments',
            f'the argument {os.fsencode(error.object)!r} is not UTF-8; type it in UTF-8, or rename the file',
        ) from None
    except RCLError as error:
        sentence = ' '.join(str(error).split()).rstrip('.')
        raise InputError(
            'arguments',
            f'rclpy cannot start ({sentence}); correct the command line, or run "m3et doctor" to see what is wrong',
        ) from None
    for trouble in troubles:
        get_logger(PACKAGE).warning(str(trouble))
    get_logger(PACKAGE).info(sentence)
