"""Write RGB-D frames as a rosbag2 recording with the topics of a RealSense camera, without a ROS installation.

with BagWriter('recording', images='compressed') as bag:
    for state in episode.run(300):
        bag.write_observation(camera.observe(state), start_ns)
"""

import errno
import json
import math
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from m3et_ros.data.bags.cdr import typestore
from m3et_ros.data.bags.reader import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import NANOSECONDS, Frame
from m3et_ros.data.images.compressed import encode_depth, encode_rgb
from m3et_ros.data.images.messages import depth_to_mm

if TYPE_CHECKING:
    from m3et_ros.data.kitchen.sim.camera import Observation
    from m3et_ros.data.kitchen.sim.world import WorldState

COLOR_TOPIC = '/camera/camera/color/image_raw'
DEPTH_TOPIC = '/camera/camera/aligned_depth_to_color/image_raw'
INFO_TOPIC = '/camera/camera/color/camera_info'
POSE_TOPIC = '/camera/pose'
MASK_TOPIC = '/episode/segmentation'
LABELS_TOPIC = '/episode/labels'
POSE = 'geometry_msgs/msg/PoseStamped'
STRING = 'std_msgs/msg/String'
OPTICAL_FRAME = 'camera_color_optical_frame'
STORAGES = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}
IMAGES = ('raw', 'compressed', 'both')
JPEG_QUALITY = 92
LISTED = 5
"""Finished actions that `truth` lists."""
FOREVER = QosTime(9223372036, 854775807)
"""RMW_DURATION_INFINITE: no deadline."""


def quaternion(rotation: np.ndarray) -> tuple[float, float, float, float]:
    """Turn a rotation matrix (3, 3) into the unit quaternion (x, y, z, w) with w >= 0.

    It is the eigenvector of the largest eigenvalue of K, which is stable for half turns too (Bar-Itzhack, 2000).
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    K = np.array(
        [
            [xx - yy - zz, 0, 0, 0],
            [yx + xy, yy - xx - zz, 0, 0],
            [zx + xz, zy + yz, zz - xx - yy, 0],
            [zy - yz, xz - zx, yx - xy, xx + yy + zz],
        ]
    )
    vector = np.linalg.eigh(K)[1][:, -1]  # eigh reads the lower triangle only
    x, y, z, w = (float(value) for value in math.copysign(1.0, vector[3]) * vector)
    return x, y, z, w


def truth(state: 'WorldState') -> dict:
    """Return the true actions of the person in the simulated kitchen: the one under way and the last finished ones."""
    return {
        'source': 'ground truth of the simulator',
        'current': state.current and asdict(state.current),
        'finished': [asdict(action) for action in state.finished[-LISTED:]],
    }


class BagWriter:
    """A new rosbag2 folder in the layout of version 9 (Jazzy and later).

    Args:
        path: folder to create; it must not exist.
        storage: 'mcap' or 'sqlite3'.
        images: 'raw' (rgb8 and 16UC1), 'compressed' (JPEG and compressedDepth PNG) or 'both'.
        zstd: compress the MCAP chunks; sqlite3 has none.

    Raises:
        InputError: the path exists ('bag_exists'), or an argument is not one of the above ('bag_option').
        OSError: the folder cannot be written; so does every method that writes. No metadata.yaml then says that the
            recording is whole.
    """

    def __init__(self, path: str | Path, storage: str = 'mcap', *, images: str = 'raw', zstd: bool = False):
        self.path = Path(path).expanduser()
        if storage not in STORAGES:
            raise InputError('bag_option', f'storage is {storage!r}; give one of {", ".join(STORAGES)}')
        if images not in IMAGES:
            raise InputError('bag_option', f'images is {images!r}; give one of {", ".join(IMAGES)}')
        if zstd and storage != 'mcap':
            raise InputError('bag_option', f'zstd compresses chunks and {storage} has none; give storage mcap')
        if self.path.exists():
            raise InputError(
                'bag_exists',
                f'{self.path} exists already and bags are never overwritten; remove it or give another path',
            )
        self._raw, self._compressed = images != 'compressed', images != 'raw'
        self._store = typestore()
        self._connections: dict[str, Connection] = {}
        self._labels: dict | None = None
        self._writer: Writer | None = Writer(self.path, version=9, storage_plugin=STORAGES[storage])
        if zstd:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        with _disk_errors():
            self._writer.open()

    def __enter__(self) -> 'BagWriter':
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        # An interrupted recording is closed like a finished one, so that it can be read; the disk may be full, though.
        if isinstance(error, OSError):
            self._abort()
        else:
            self.close()

    def close(self) -> None:
        """Write the index and metadata.yaml; a second call does nothing."""
        if self._writer is None:
            return
        try:
            with _disk_errors():
                self._writer.close()
            self._writer = None
        finally:
            self._abort()

    def _abort(self) -> None:
        """Close the files without an index and metadata, unless they are closed already."""
        writer, self._writer = self._writer, None
        if writer is not None:
            # A full disk has been reported already.
            with suppress(OSError, sqlite3.Error):
                writer.abort()

    def write_observation(self, observation: 'Observation', start_ns: int) -> None:
        """Write an observation of the simulated kitchen, and its labels whenever they change.

        Args:
            observation: picture, depth, mask, pose and actions at one tick.
            start_ns: beginning of the episode in ns since the epoch; the observation's stamp counts from there.
        """
        stamp_ns = start_ns + round(observation.stamp_s * NANOSECONDS)
        frame = Frame(observation.rgb, observation.depth, stamp_ns, frame_id=OPTICAL_FRAME, K=observation.K)
        self.write_frame(frame, pose=observation.pose, mask=observation.semantic)
        labels = truth(observation.state)
        if labels != self._labels:
            self._labels = labels
            self.write_labels(stamp_ns, labels)

    def write_frame(self, frame: Frame, *, pose: np.ndarray | None = None, mask: np.ndarray | None = None) -> None:
        """Write one frame: colour, and depth and camera_info where the frame has them.

        Args:
            frame: its stamp is both the header stamp and the time of recording.
            pose: camera in the map, (4, 4), optical axes (REP 103: z forward, x right); None writes no pose.
            mask: class ids (H, W) uint8, 255 unlabelled; None writes no mask.
        """
        header = self._header(frame.stamp_ns, frame.frame_id or OPTICAL_FRAME)
        if self._raw:
            self.write_message(COLOR_TOPIC, IMAGE, self._image(frame.rgb, 'rgb8', header), frame.stamp_ns)
        if self._compressed:
            message = self._packed(header, *encode_rgb(frame.rgb, quality=JPEG_QUALITY))
            self.write_message(f'{COLOR_TOPIC}/compressed', COMPRESSED_IMAGE, message, frame.stamp_ns)
        if frame.depth is not None:
            self.write_depth(frame.depth, frame.stamp_ns, header.frame_id)
        if frame.K is not None:
            self.write_message(INFO_TOPIC, CAMERA_INFO, self._info(frame, header), frame.stamp_ns)
        if pose is not None:
            self.write_message(POSE_TOPIC, POSE, self._pose(pose, self._header(frame.stamp_ns, 'map')), frame.stamp_ns)
        if mask is not None:
            self.write_message(MASK_TOPIC, IMAGE, self._image(mask, 'mono8', header), frame.stamp_ns)

    def write_depth(self, depth: np.ndarray, stamp_ns: int, frame_id: str = OPTICAL_FRAME) -> None:
        """Write a depth image alone; depth (H, W) in metres, NaN where unknown."""
        header = self._header(stamp_ns, frame_id)
        if self._raw:
            self.write_message(DEPTH_TOPIC, IMAGE, self._image(depth_to_mm(depth), '16UC1', header), stamp_ns)
        if self._compressed:
            message = self._packed(header, *encode_depth(depth))
            self.write_message(f'{DEPTH_TOPIC}/compressedDepth', COMPRESSED_IMAGE, message, stamp_ns)

    def write_labels(self, stamp_ns: int, labels: Mapping) -> None:
        """Write the labels that hold from this moment on, as JSON."""
        self.write_message(LABELS_TOPIC, STRING, self._new(STRING, data=json.dumps(labels)), stamp_ns, latched=True)

    def write_message(self, topic: str, type: str, message: Any, stamp_ns: int, *, latched: bool = False) -> None:
        """Write a message of any type of bags.cdr.typestore; a latched topic offers late subscribers its last one."""
        self.write_serialized(topic, type, self._store.serialize_cdr(message, type), stamp_ns, latched=latched)

    def write_serialized(
        self, topic: str, type: str, raw: bytes | memoryview, stamp_ns: int, *, latched: bool = False
    ) -> None:
        """Write a message as it came over DDS, in CDR; otherwise as write_message."""
        if self._writer is None:
            raise ValueError(f'{self.path} is closed; write before close()')
        with _disk_errors():
            if topic not in self._connections:
                self._connections[topic] = self._writer.add_connection(
                    topic, type, typestore=self._store, offered_qos_profiles=[_qos(latched)]
                )
            self._writer.write(self._connections[topic], stamp_ns, raw)

    def _new(self, type: str, **fields) -> Any:
        return self._store.types[type](**fields)

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        stamp = self._new('builtin_interfaces/msg/Time', sec=stamp_ns // NANOSECONDS, nanosec=stamp_ns % NANOSECONDS)
        return self._new('std_msgs/msg/Header', stamp=stamp, frame_id=frame_id)

    def _image(self, pixels: np.ndarray, encoding: str, header: Any) -> Any:
        pixels = np.ascontiguousarray(pixels)
        return self._new(
            IMAGE,
            header=header,
            height=pixels.shape[0],
            width=pixels.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=pixels.strides[0],
            data=pixels.view(np.uint8).ravel(),
        )

    def _packed(self, header: Any, form: str, data: bytes) -> Any:
        return self._new(COMPRESSED_IMAGE, header=header, format=form, data=np.frombuffer(data, np.uint8))

    def _info(self, frame: Frame, header: Any) -> Any:
        K = np.asarray(frame.K, np.float64)
        roi = self._new('sensor_msgs/msg/RegionOfInterest', x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
        return self._new(
            CAMERA_INFO,
            header=header,
            height=frame.rgb.shape[0],
            width=frame.rgb.shape[1],
            distortion_model='plumb_bob',
            d=np.zeros(5),
            k=K.ravel(),
            r=np.eye(3).ravel(),
            p=np.hstack([K, np.zeros((3, 1))]).ravel(),
            binning_x=0,
            binning_y=0,
            roi=roi,
        )

    def _pose(self, pose: np.ndarray, header: Any) -> Any:
        position = self._new('geometry_msgs/msg/Point', **dict(zip('xyz', map(float, pose[:3, 3]), strict=True)))
        orientation = self._new(
            'geometry_msgs/msg/Quaternion', **dict(zip('xyzw', quaternion(pose[:3, :3]), strict=True))
        )
        return self._new(
            POSE, header=header, pose=self._new('geometry_msgs/msg/Pose', position=position, orientation=orientation)
        )


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Turn the error of a full, read-only or broken disk into an OSError in sqlite3 too, as files raise it."""
    try:
        yield
    except sqlite3.OperationalError as error:
        full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error


def _qos(latched: bool) -> Qos:
    """Return the QoS that the camera driver (reliable, volatile) or a latched publisher offers."""
    durability = QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE
    return Qos(
        QosHistory.KEEP_LAST,
        10,
        QosReliability.RELIABLE,
        durability,
        FOREVER,
        FOREVER,
        QosLiveliness.AUTOMATIC,
        FOREVER,
        False,
    )
