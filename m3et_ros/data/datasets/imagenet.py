"""Pictures in class folders with pseudo labels beside them, in the layout of MultiMAE.

    ROOT/rgb/CLASS/NAME.jpg  ROOT/depth/CLASS/NAME.png (16-bit)  ROOT/semseg/CLASS/NAME.png (8-bit)

depth/ and semseg/ may be missing; if present they are complete. The names of the class folders are not used as text.
Symbols: N pictures.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from m3et_ros.data.datasets.base import SampleSet
from m3et_ros.data.datasets.class_map import class_table, read_json
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
from m3et_ros.data.noise import Noise
from m3et_ros.data.sample import Sample

NAMES = 'semseg/classes.json'
"""File with the names of the classes 0, 1, 2 ... in the semseg pictures: ids differ from one labeller to the next."""


class ImageNetSamples(SampleSet):
    """One sample per picture.

    Args:
        root: folder in the layout of the module docstring.
        classes: name in semseg/classes.json to the model's class id, 0 to 254; None keeps the ids of the pictures, for
            a model with the same classes as the pseudo labels.
        depth: read depth. Pseudo depth usually is not in metres: it suits models that standardise each image by itself
            (depth_norm 'image'), where unit and offset do not matter.
        noise, seed: see SampleSet.

    Raises:
        InputError: a folder is missing or empty, a picture has no pseudo label, or `classes` are given and the file of
            names is missing.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        classes: Mapping[str, int] | None = None,
        depth: bool = True,
        noise: Noise | None = None,
        seed: int = 0,
    ):
        self.root = Path(root).expanduser()
        present = set(names_in(self.root))
        self._parts = [name for name in ('depth', 'semseg') if name in present and (depth or name != 'depth')]
        self._table = self._classes(classes) if 'semseg' in self._parts else None
        self._folders = sorted(name for name in names_in(self.root / 'rgb') if (self.root / 'rgb' / name).is_dir())
        names: list[str] = []
        owners: list[np.ndarray] = []
        for number, folder in enumerate(self._folders):
            found = list_pictures(self.root / 'rgb' / folder)
            for part in self._parts:
                check_complete(map(png_of, found), self.root / part / folder, f'{part} pictures')
            names += found
            owners.append(np.full(len(found), number, np.int32))
        if not names:
            raise InputError('data_missing', f'{self.root / "rgb"} holds no CLASS/NAME.jpg; put the pictures there')
        self._names, self._owners = np.array([os.fsencode(name) for name in names]), np.concatenate(owners)
        super().__init__(len(names), str(self.root), noise=noise, seed=seed)

    def view(self, index: int) -> Sample:
        """See SampleSet."""
        folder, name = self._folders[self._owners[index]], os.fsdecode(self._names[index])
        parts = {part: self.root / part / folder / png_of(name) for part in self._parts}
        labels = None if self._table is None else self._table[read_labels(parts['semseg'])]
        return Sample(
            read_rgb(self.root / 'rgb' / folder / name),
            read_depth(parts['depth']) if 'depth' in parts else None,
            labels,
            key=f'{folder}/{name}',
        )

    def _classes(self, classes: Mapping[str, int] | None) -> np.ndarray | None:
        """Return a table from the pictures' ids to the model's; None if the model has none of these classes."""
        if classes is None:
            return np.minimum(np.arange(65536), UNLABELLED).astype(np.uint8)
        if not (self.root / NAMES).exists():
            raise InputError(
                'class_map',
                f'{self.root} has semseg/ without classes.json, so the meaning of its ids is '
                'unknown; write the list of the names of its classes 0, 1, 2 ... there, or remove semseg/',
            )
        names = read_json(self.root / NAMES)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) > UNLABELLED:
            raise InputError(
                'class_map',
                f'{self.root / NAMES} is not a list of up to {UNLABELLED} names; write the '
                'names of the classes 0, 1, 2 ... of the semseg pictures into it',
            )
        table = class_table(names, classes)
        return table if (table != UNLABELLED).any() else None
