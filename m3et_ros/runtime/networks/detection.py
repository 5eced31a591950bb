"""Detection networks of others: boxes of named objects, by transformers or from an ONNX file of YOLOX.

YOLOX (Ge et al. 2021): every cell of three grids of strides 8, 16 and 32 gives a box, its objectness and the scores of
the classes. OpenCV runs the file; nothing of it is executed as Python.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import check_arrays
from m3et_ros.runtime.model_folder import ModelFolder, id_of
from m3et_ros.runtime.networks.folder import LoadedNetwork, find_network
from m3et_ros.runtime.networks.segmentation import class_names

STRIDES = (8, 16, 32)
SIDE = 416
"""Side in pixels of the square input of YOLOX-Nano and Tiny."""
GREY = 114
"""Value of the input beside the image."""
LEAST = 0.3
"""Score below which a box is left out, as in the demo of YOLOX."""
OVERLAP = 0.45
"""Intersection over union above which the weaker of two boxes of a class is left out, as in that demo."""
ARCHITECTURES = (
    'ConditionalDetrForObjectDetection',
    'DeformableDetrForObjectDetection',
    'DetrForObjectDetection',
    'RTDetrForObjectDetection',
    'RTDetrV2ForObjectDetection',
    'YolosForObjectDetection',
)
"""Detection networks of transformers."""
COCO_NAMES = (
    'person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,'
    'bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,'
    'skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,'
    'cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,'
    'potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,'
    'refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush'
)
COCO = tuple(COCO_NAMES.split(','))
"""The 80 classes of COCO in the order of YOLOX."""


@dataclass(frozen=True)
class Detection:
    """An object in an image."""

    name: str
    # 0..1.
    score: float
    # Left, top, right and bottom in pixels of the image, inside of it.
    box: tuple[float, float, float, float]


class DetectionNetwork(Protocol):
    """A detector: YoloxNetwork or ObjectNetwork.

    Attributes:
        model_id: its name and the first digits of the checksum of its weights.
        names: its classes.
    """

    model_id: str
    names: tuple[str, ...]

    def predict(self, rgb: np.ndarray) -> list[Detection]:
        """Return the objects of an image (H, W, 3) uint8, the surest first."""
        ...


class YoloxNetwork:
    """An ONNX file of YOLOX with the 80 classes of COCO, run by OpenCV on the CPU; see DetectionNetwork."""

    def __init__(self, path: Path, least: float = LEAST):
        """Read the file.

        Args:
            path: the file.
            least: score below which a box is left out, 0..1.

        Raises:
            InputError: model_missing, or model_config: it is no YOLOX of 80 classes for images of 416 pixels.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(
                'model_missing', f'{path} cannot be read ({error.strerror}); give an ONNX file.'
            ) from error
        self.model_id, self.names = id_of(path.stem, hashlib.sha256(data).hexdigest()), COCO
        self._least = least
        sides = [SIDE // stride for stride in STRIDES]
        try:
            self._net = cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8))
            rows = self._forward(np.full((SIDE, SIDE, 3), GREY, np.uint8))
        except cv2.error as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                'model_config', f'{path} cannot be read as ONNX ({reason}); copy the file again.'
            ) from error
        expected = sum(side * side for side in sides), 5 + len(COCO)
        if rows.shape != expected:
            raise InputError(
                'model_config',
                f'{path} gives {rows.shape} values and a YOLOX of {SIDE} pixels and {len(COCO)} classes {expected}; '
                'give YOLOX-Nano or Tiny.',
            )
        cells = [np.stack(np.meshgrid(range(side), range(side)), -1).reshape(-1, 2) for side in sides]
        self._cells = np.concatenate(cells).astype(np.float32)
        self._strides = np.repeat(STRIDES, [len(grid) for grid in cells]).astype(np.float32)[:, None]

    def _forward(self, square: np.ndarray) -> np.ndarray:
        """Return the rows (cells, 85) of an image (416, 416, 3) uint8 R G B: the network takes B G R, 0 to 255."""
        self._net.setInput(cv2.dnn.blobFromImage(square, swapRB=True))
        return np.asarray(self._net.forward())[0]

    def predict(self, rgb: np.ndarray) -> list[Detection]:
        """Return the objects of an image.

        Args:
            rgb: (H, W, 3) uint8.

        Raises:
            ValueError: rgb is of another shape or type.
        """
        check_arrays(rgb)
        height, width = rgb.shape[:2]
        scale = min(SIDE / height, SIDE / width)
        size = max(int(width * scale), 1), max(int(height * scale), 1)
        square = np.full((SIDE, SIDE, 3), GREY, np.uint8)
        square[: size[1], : size[0]] = cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR)
        rows = self._forward(square)
        centres = (rows[:, :2] + self._cells) * self._strides / scale
        sizes = np.exp(rows[:, 2:4]) * self._strides / scale
        scores = rows[:, 4:5] * rows[:, 5:]
        classes = scores.argmax(1)
        best = scores[np.arange(len(scores)), classes]
        corners = np.concatenate([centres - sizes / 2, sizes], 1)
        chosen = cv2.dnn.NMSBoxesBatched(corners.tolist(), best.tolist(), classes.tolist(), self._least, OVERLAP)
        limits = np.array([width, height, width, height], np.float32)
        boxes = np.clip(np.concatenate([centres - sizes / 2, centres + sizes / 2], 1), 0, limits)
        found = [Detection(COCO[classes[i]], float(best[i]), _box(boxes[i])) for i in np.asarray(chosen).ravel()]
        return sorted(found, key=lambda detection: -detection.score)


class ObjectNetwork(LoadedNetwork):
    """A detection network of transformers; see DetectionNetwork."""

    def __init__(self, folder: ModelFolder, device: str = 'cpu', least: float = LEAST):
        """Load a network.

        Args:
            folder: the checked folder of one of ARCHITECTURES.
            device: auto, cpu, cuda or cuda:N.
            least: score below which a box is left out, 0..1.

        Raises:
            InputError: as LoadedNetwork; model_config also for a network without class names.
        """
        self.names, self._least = class_names(folder), least
        super().__init__(folder, device)

    def predict(self, rgb: np.ndarray) -> list[Detection]:
        """Return the objects of an image, as YoloxNetwork.predict."""
        check_arrays(rgb)
        height, width = rgb.shape[:2]
        inputs = self._processor(images=rgb, input_data_format='channels_last', return_tensors='pt')
        given = {name: inputs[name].to(self.device) for name in ('pixel_values', 'pixel_mask') if name in inputs}
        with torch.inference_mode():
            outputs = self._model(**given)
            (found,) = self._processor.post_process_object_detection(
                outputs, threshold=self._least, target_sizes=[(height, width)]
            )
        limits = torch.tensor([width, height, width, height], dtype=torch.float32)
        boxes = found['boxes'].float().cpu().clamp(min=torch.zeros(4), max=limits).numpy()
        rows = zip(found['labels'].tolist(), found['scores'].tolist(), boxes, strict=True)
        detections = [Detection(self.names[label], score, _box(box)) for label, score, box in rows]
        return sorted(detections, key=lambda detection: -detection.score)


def _box(corners: np.ndarray) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(value) for value in corners)
    return left, top, right, bottom


def open_detection(name: str, device: str = 'cpu', least: float = LEAST) -> DetectionNetwork:
    """Open a detector.

    Args:
        name: an ONNX file of YOLOX with the classes of COCO, a folder as transformers writes it, or
            hf:owner/name[@revision].
        device: auto, cpu, cuda or cuda:N; OpenCV runs ONNX files on the CPU in any case.
        least: score below which a box is left out, 0..1.

    Raises:
        InputError: there is no such network, it is damaged, of another kind, or too large.
    """
    if name.endswith('.onnx'):
        return YoloxNetwork(Path(name).expanduser(), least)
    return ObjectNetwork(find_network(name, ARCHITECTURES, 'detection network'), device, least)
