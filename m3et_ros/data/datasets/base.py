"""The base of all data sets: samples by number, with disturbances drawn anew in every epoch."""

import numpy as np
import torch
from torch.utils.data import Dataset

from m3et_ros.data.errors import InputError
from m3et_ros.data.noise import Noise, disturb
from m3et_ros.data.sample import Sample

LIGHT = Noise(min_range=0, max_range=(1e4, 1e4), disparity=0, quantum=0, edge=0, blobs=(0, 0), specks=0)
"""Augmentation of pictures from a real camera: other light and mirroring. Their depth has real faults already."""


class SampleSet(Dataset[Sample]):
    """A map-style data set; the same seed, epoch and index always give the same sample.

    Args:
        count: number of samples, N.
        where: folder or file of the set, its name in messages.
        noise: disturbances of the samples; None leaves them as they are.
        seed: seed of the disturbances.
    """

    def __init__(self, count: int, where: str, *, noise: Noise | None, seed: int):
        self._count, self.where, self.noise, self.seed = count, where, noise, seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # shared with the workers of loaders

    @property
    def epoch(self) -> int:
        """Epoch of the disturbances; set it before a loader starts on it."""
        return int(self._epoch)

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._epoch.fill_(value)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        """Return one sample.

        Raises:
            IndexError: index is not in 0..N - 1.
            InputError: its files cannot be read, or do not fit together.
        """
        if not 0 <= index < len(self):
            raise IndexError(f'index is {index}; give 0 to {len(self) - 1}')
        try:
            sample = self.view(index)
        except InputError:
            raise
        except ValueError as error:  # raised by Sample where the contents of the files do not fit together
            raise InputError('data_format', f'sample {index} of {self.where} is not valid: {error}') from error
        rng = np.random.default_rng((self.seed, self.epoch, index))
        return disturb(sample, self.noise, rng) if self.noise else sample

    def view(self, index: int) -> Sample:
        """Return sample `index`, 0 to N - 1, as the files have it; a subclass defines this or __getitem__."""
        raise NotImplementedError
