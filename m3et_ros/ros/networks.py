"""Depth and segmentation networks of others in a node, each on a thread of its own: newest frame first, at its pace.

They publish on the topics of M3ET under the headers of their images. M3ET's answers and actions do not wait for them.
"""

import colorsys
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread, get_native_id
from typing import Any

import numpy as np
import torch
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame, Labels
from m3et_ros.models.m3et.config import UNLABELLED
from m3et_ros.ros.diagnostics import Quantiles, RateMeter
from m3et_ros.ros.health import MIB, Health
from m3et_ros.ros.heartbeat import HEARTBEAT
from m3et_ros.ros.host import Host
from m3et_ros.ros.inference_thread import InferenceThread
from m3et_ros.ros.outputs import Perception
from m3et_ros.runtime.networks.completion import NetworkCompletion
from m3et_ros.runtime.networks.depth import open_depth
from m3et_ros.runtime.networks.folder import LoadedNetwork
from m3et_ros.runtime.networks.segmentation import open_segmentation

NICE = 15
"""Priority of the threads as nice(1) counts it: Linux gives them 1 part in 29 of a core that perception wants, too."""
GOLDEN = 0.618034
"""Step of the hue from class to class; multiples of it never come close to each other."""


@dataclass(frozen=True)
class NetworkFrame:
    """A frame on its way to a network, with what its results need."""

    frame: Frame
    # Header of the colour image.
    header: Header
    # Intrinsics that are published beside depth; None for none.
    info: CameraInfo | None
    # Way of filling holes of the depth, one of data.depth_fill.FILLS.
    fill: str
    # Opacity of the overlay, 0..1.
    alpha: float


class NetworkThread:
    """Runs one network while the node is active.

    The inference thread hands over frames and never waits; a newer frame replaces one that waits.
    """

    def __init__(self, name: str, network: LoadedNetwork, serve: Callable[[NetworkFrame], None], health: Health):
        """Take a loaded network; `start` lets it serve.

        Args:
            name: 'depth' or 'segmentation'.
            network: the network; its device while the node is active is the one that it has now.
            serve: predicts for a frame and publishes; on the thread.
            health: counts what is refused.
        """
        self._name, self._network, self._serve, self._health = name, network, serve, health
        self._device = str(network.device)
        self._thread: InferenceThread[NetworkFrame] | None = None
        self._served, self._latency, self._replaced = RateMeter(), Quantiles(), 0

    def start(self) -> None:
        """Move the network to its device and start the thread."""
        self._network.to(self._device)
        self._thread = InferenceThread(self._process, name=f'{self._name}_network')
        # Half of the processors, so that perception has the others.
        self._thread.submit_urgent(lambda: give_way(max(1, (os.cpu_count() or 2) // 2)))

    def stop(self) -> None:
        """Finish the present frame, end the thread and free the device."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.close()
            self._network.to('cpu')

    def offer(self, frame: NetworkFrame) -> None:
        """Hand over the newest frame; do nothing while the thread is stopped."""
        thread = self._thread
        if thread is not None:
            self._replaced += thread.offer(frame)

    def values(self) -> dict[str, Any]:
        """Return the figures for /diagnostics; times in seconds."""
        return {
            'model_id': self._network.model_id,
            'device': str(self._network.device),
            'weights_mib': self._network.weight_bytes / MIB,
            'rate_hz': self._served.hz,
            'frames': self._served.total,
            'frames_replaced': self._replaced,
            'latency_s': {'p50': self._latency.p50, 'p95': self._latency.p95},
        }

    def _process(self, frame: NetworkFrame) -> None:
        start = time.perf_counter()
        try:
            self._serve(frame)
        except InputError as error:
            self._health.refuse(error)
        except Exception as error:
            self._health.internal_error(f'the {self._name} network', error)
        else:
            self._latency.add(time.perf_counter() - start)
            self._served.tick()


def give_way(threads: int) -> None:
    """Give the calling thread a number of CPU threads and a low priority, so that perception comes first.

    torch gives threads that begin later the number of the last call anywhere, so another thread puts it back.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    restore = Thread(target=torch.set_num_threads, args=(before,))
    restore.start()
    restore.join()
    if hasattr(os, 'setpriority') and os.uname().sysname == 'Linux':  # elsewhere it would be of the whole process
        own = get_native_id()
        os.setpriority(os.PRIO_PROCESS, own, max(NICE, os.getpriority(os.PRIO_PROCESS, own)))


class Networks:
    """The networks that serve depth and segmentation in the place of M3ET, as the parameters say.

    Attributes:
        depth: serves ~/depth/image; None = M3ET does.
        segmentation: serves ~/segmentation/mask and ~/segmentation/overlay; None = M3ET does.
        labels: classes of the segmentation network; None for those of M3ET.
    """

    def __init__(self, host: Host, perception: Perception):
        """Serve nothing until networks are loaded.

        Args:
            host: node with the parameters.
            perception: publishes the results.
        """
        self._host, self._perception = host, perception
        self.drop()

    def drop(self) -> None:
        """Let M3ET serve everything; the threads have been stopped."""
        self.depth: NetworkThread | None = None
        self.segmentation: NetworkThread | None = None
        self.labels: Labels | None = None
        self._completion: NetworkCompletion | None = None

    def load(self) -> None:
        """Load the networks that the parameters name.

        Raises:
            InputError: one cannot be used; depth_relative: the depth network needs a depth camera and there is none.
        """
        self.drop()
        settings = self._host.settings
        if settings.depth_model:
            network = open_depth(settings.depth_model, settings.device)
            if settings.depth_transport == 'none' and not network.metric:
                raise InputError(
                    'depth_relative',
                    f'{network.model_id} gives relative depth, which becomes metres only by measured depth, and '
                    'depth_transport is none; give a metric network, or a depth camera.',
                )
            self._completion = NetworkCompletion(network)
            self.depth = NetworkThread('depth', network, self._serve_depth, self._host.health)
        if settings.segmentation_model:
            classes = open_segmentation(settings.segmentation_model, settings.device)
            self.labels = network_labels(classes.model_id, classes.names)

            def serve(given: NetworkFrame) -> None:
                mask = classes.predict(given.frame.rgb).labels.astype(np.uint8)
                self._perception.publish_mask(mask, given.frame, given.header, given.alpha)

            self.segmentation = NetworkThread('segmentation', classes, serve, self._host.health)

    def start(self) -> None:
        """Start the threads."""
        for thread in (self.depth, self.segmentation):
            if thread is not None:
                thread.start()

    def stop(self) -> None:
        """Finish the present frames, end the threads and free the device."""
        # A network may take many seconds for a frame.
        with HEARTBEAT.long_work():
            for thread in (self.depth, self.segmentation):
                if thread is not None:
                    thread.stop()

    def offer(self, frame: NetworkFrame) -> None:
        """Hand the newest frame to the networks whose results somebody subscribes to."""
        if self.depth is not None and self._perception.wants_depth:
            self.depth.offer(frame)
        if self.segmentation is not None and self._perception.wants_mask:
            self.segmentation.offer(frame)

    def values(self) -> dict[str, Any]:
        """Return the figures for /diagnostics, under depth_network and segmentation_network."""
        values: dict[str, Any] = {}
        if self.depth is not None and self._completion is not None:
            values['depth_network'] = self.depth.values() | {'depth_fill': self._completion.described}
        if self.segmentation is not None:
            values['segmentation_network'] = self.segmentation.values()
        return values

    def _serve_depth(self, given: NetworkFrame) -> None:
        assert self._completion is not None
        depth = self._completion.complete(given.frame, given.fill)
        if self._completion.problem is not None:
            self._host.health.refuse(self._completion.problem)
        if depth is not None:
            self._perception.publish_depth(depth, given.frame, given.header, given.info)


def network_labels(model_id: str, names: tuple[str, ...]) -> Labels:
    """Return the classes of a network with a colour for each, for the label map and the overlay.

    Raises:
        InputError: model_config: more classes than a mono8 mask holds.
    """
    if len(names) > UNLABELLED:
        raise InputError(
            'model_config',
            f'{model_id} has {len(names)} classes and a mono8 mask holds {UNLABELLED}; take a network with fewer.',
        )
    hues = [(i * GOLDEN % 1, (0.85, 0.55)[i % 2], (0.95, 0.75, 0.55)[i % 3]) for i in range(len(names))]
    colors = tuple(
        (round(255 * r), round(255 * g), round(255 * b)) for r, g, b in (colorsys.hsv_to_rgb(*h) for h in hues)
    )
    return Labels(names, colors, answers=(), verbs=(), nouns=())
