"""Shared behaviour of the real data sets: epochs, disturbances and refusals."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from m3et_ros.data.datasets.base import LIGHT, SampleSet
from m3et_ros.data.errors import InputError
from m3et_ros.data.sample import Sample


class Grey(SampleSet):
    """Grey pictures with a ramp of depth; number 3 does not fit together."""

    def view(self, index):
        depth = np.linspace(0.2, 12, 64, dtype=np.float32).reshape(8, 8)
        depth[0, :3] = np.nan
        return Sample(np.full((8, 8, 3), 40 * index, np.uint8), depth[:4] if index == 3 else depth)


def grey(noise=LIGHT, **options):
    return Grey(4, 'grey', noise=noise, **{'seed': 5, **options})


def test_disturbances_follow_seed_epoch_and_index():
    data = grey()
    first = data[1].rgb
    assert (data[1].rgb == first).all() and (grey()[1].rgb == first).all()
    data.epoch = 1
    assert data.epoch == 1 and (data[1].rgb != first).any()
    assert (grey(seed=6)[1].rgb != first).any()
    assert (grey(noise=None)[1].rgb == 40).all()


def test_light_leaves_depth_as_it_was_measured():
    data, plain = grey(), grey(noise=None)[1].depth
    mirrored = set()
    for epoch in range(8):
        data.epoch = epoch
        seen = data[1].depth
        mirrored.add(bool(np.isnan(seen[0, -1])))
        np.testing.assert_allclose(seen[:, ::-1] if np.isnan(seen[0, -1]) else seen, plain, rtol=1e-6)
        np.testing.assert_array_equal(np.isnan(data[1].clean_depth), np.isnan(seen))
    assert mirrored == {True, False}


def test_workers_see_the_epoch():
    data = grey()
    loader = DataLoader(data, batch_size=None, sampler=[1, 2], num_workers=1)
    for epoch in (0, 3):
        data.epoch = epoch
        for index, sample in zip((1, 2), loader):
            assert torch.equal(torch.as_tensor(sample.rgb), torch.from_numpy(data[index].rgb))


def test_a_sample_that_does_not_fit_is_named():
    with pytest.raises(InputError, match='sample 3 of grey .*depth'):
        grey()[3]
    for index in (-1, 4):
        with pytest.raises(IndexError, match='0 to 3'):
            grey()[index]
