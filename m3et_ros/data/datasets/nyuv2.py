"""NYU Depth V2 (Silberman et al., 2012) as samples: the labelled .mat, or folders of pictures.

The depth that the Kinect measured is the input, and the in-painted depth, where the set has it, the target.
Symbols: N pictures, H = 480 and W = 640 of the published set; any size is read.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from m3et_ros.data.datasets.base import SampleSet
from m3et_ros.data.datasets.class_map import class_table
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import UNLABELLED
from m3et_ros.data.images.files import (
    check_complete,
    list_pictures,
    names_in,
    png_of,
    read_depth,
    read_labels,
    read_rgb,
)
from m3et_ros.data.images.messages import known_depth
from m3et_ros.data.noise import Noise
from m3et_ros.data.sample import Sample

CLASSES = (
    'wall',
    'floor',
    'cabinet',
    'bed',
    'chair',
    'sofa',
    'table',
    'door',
    'window',
    'bookshelf',
    'picture',
    'counter',
    'blinds',
    'desk',
    'shelves',
    'curtain',
    'dresser',
    'pillow',
    'mirror',
    'floor mat',
    'clothes',
    'ceiling',
    'books',
    'refrigerator',
    'television',
    'paper',
    'towel',
    'shower curtain',
    'box',
    'whiteboard',
    'person',
    'night stand',
    'toilet',
    'sink',
    'lamp',
    'bathtub',
    'bag',
    'other structure',
    'other furniture',
    'other prop',
)
"""The 40 classes (Gupta et al., CVPR 2013); in label pictures the first one is 1, and 0 is unlabelled."""

ALIASES = {'refridgerator': 'refrigerator', 'book': 'books'}
"""Names of the .mat that spell one of the 40 classes in another way."""

FARTHEST = 10.0
"""Metres from which the .mat's measured depth means 'out of range'."""

ARRAYS = ('images', 'depths', 'rawDepths', 'labels', 'names')


def forty() -> dict[str, int]:
    """Return class names to ids of a model that has the 40 classes in their order, 0 to 39."""
    return {name: number for number, name in enumerate(CLASSES)}


def nyuv2(path: str | Path, classes: Mapping[str, int], *, noise: Noise | None = None, seed: int = 0) -> SampleSet:
    """Open the data set in either form.

    Args:
        path: nyu_depth_v2_labeled.mat, or a folder as NyuFolder takes it.
        classes: class name to the model's id, 0 to 254: `forty()`, or names of the .mat's own 894. Other classes
            are unlabelled, 255; if none is left samples have no label map.
        noise: see SampleSet.
        seed: see SampleSet.

    Raises:
        InputError: see NyuMat and NyuFolder.
    """
    path = Path(path).expanduser()
    return (NyuFolder if path.is_dir() else NyuMat)(path, classes, noise=noise, seed=seed)


class NyuMat(SampleSet):
    """nyu_depth_v2_labeled.mat, a MATLAB 7.3 file that is read picture by picture.

    The file names 894 things and has no table from these to the 40 classes: 37 of the classes are found by name, and
    the three 'other' classes stay unlabelled. If you have the table, export label pictures for NyuFolder.

    Raises:
        InputError: 'needs_extra' where h5py is not installed, 'data_missing' or 'data_format' for the file.
    """

    def __init__(self, path: Path, classes: Mapping[str, int], *, noise: Noise | None = None, seed: int = 0):
        self.path = Path(path)
        self._file: Any = None
        self._owner: int | None = None
        arrays = self._open()
        with _as_input_error(self.path):
            shape = arrays['images'].shape
            # MATLAB stores a string as a column of UTF-16 codes.
            names = [''.join(map(chr, np.asarray(arrays[ref]).ravel())) for ref in arrays['names'][0]]
            others = (shape[0], *shape[2:])
            if len(shape) != 4 or shape[1] != 3 or any(arrays[name].shape != others for name in ARRAYS[1:4]):
                raise ValueError(f'images are {shape}, depths {arrays["depths"].shape}')
        known = {name: classes.get(name, classes.get(ALIASES.get(name, name), UNLABELLED)) for name in names}
        table = class_table(names, known, first=1)
        self._table = table if (table != UNLABELLED).any() else None
        super().__init__(shape[0], str(path), noise=noise, seed=seed)

    def view(self, index: int) -> Sample:
        """Read one sample as in SampleSet; MATLAB stores columns first, so every array is transposed."""
        arrays = self._open()
        with _as_input_error(self.path):
            rgb = np.ascontiguousarray(arrays['images'][index].transpose(2, 1, 0))
            raw, filled = (known_depth(arrays[name][index].T) for name in ('rawDepths', 'depths'))
            labels = self._table[arrays['labels'][index].T] if self._table is not None else None
        raw[raw >= FARTHEST] = np.nan
        return Sample(rgb, raw, labels, filled, key=f'nyu {index + 1}')

    def __getstate__(self) -> dict:
        """Leave out the open file: every process opens its own."""
        return self.__dict__ | {'_file': None, '_owner': None}

    def _open(self) -> Any:
        """Return the file, opened by this process: HDF5 handles do not survive a fork."""
        if self._owner != os.getpid():
            h5py = _h5py(self.path)
            if not self.path.is_file():
                raise InputError(
                    'data_missing',
                    f'there is no file {self.path}; give nyu_depth_v2_labeled.mat or a folder with rgb/ and depth/',
                )
            with _as_input_error(self.path):
                self._file, self._owner = h5py.File(self.path, 'r'), os.getpid()
        return self._file


@contextmanager
def _as_input_error(path: Path) -> Iterator[None]:
    """Turn what h5py raises on a foreign or damaged file into an InputError."""
    try:
        yield
    except InputError:
        raise
    except (OSError, KeyError, ValueError, TypeError, IndexError, RuntimeError, AttributeError) as error:
        raise InputError(
            'data_format',
            f'{path} does not read as nyu_depth_v2_labeled.mat, with '
            f'{", ".join(ARRAYS)} ({type(error).__name__}: {error}); fetch it again',
        ) from error


class NyuFolder(SampleSet):
    """Folders of pictures: rgb/NAME.png|jpg, depth/NAME.png (16-bit millimetres) and, optionally, label/NAME.png.

    Label pictures hold the 40 classes as 1 to 40 and 0 for unlabelled. The pictures filled/NAME.png, where there are
    any, are the target depth.

    Raises:
        InputError: 'data_missing' where a folder or a picture is missing.
    """

    def __init__(self, path: Path, classes: Mapping[str, int], *, noise: Noise | None = None, seed: int = 0):
        self.path = Path(path)
        self._names = list_pictures(self.path / 'rgb')
        if not self._names:
            raise InputError('data_missing', f'{self.path / "rgb"} holds no jpg or png; put the pictures there')
        present = set(names_in(self.path))
        self._folders = ['depth', *({'label', 'filled'} & present)]
        for folder in self._folders:
            check_complete(map(png_of, self._names), self.path / folder, f'{folder} pictures')
        table = class_table(CLASSES, classes, first=1)
        self._table = table if 'label' in present and (table != UNLABELLED).any() else None
        super().__init__(len(self._names), str(path), noise=noise, seed=seed)

    def view(self, index: int) -> Sample:
        """See SampleSet."""
        name = self._names[index]
        labels = None if self._table is None else self._table[read_labels(self.path / 'label' / png_of(name))]
        filled = read_depth(self.path / 'filled' / png_of(name)) if 'filled' in self._folders else None
        rgb, depth = read_rgb(self.path / 'rgb' / name), read_depth(self.path / 'depth' / png_of(name))
        return Sample(rgb, depth, labels, filled, key=f'nyu {os.path.splitext(name)[0]}')


def _h5py(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise InputError(
            'needs_extra',
            f'{path} is an HDF5 file and h5py, which reads it, is not installed; run '
            "pip install 'm3et_ros[nyu]' or give a folder with rgb/ and depth/",
        ) from error
    return h5py
