"""NYU Depth V2 from a small .mat of the published layout, and from folders."""

import copy
import sys

import cv2
import numpy as np
import pytest
from torch.utils.data import DataLoader

from m3et_ros.data.datasets.base import LIGHT
from m3et_ros.data.datasets.nyuv2 import CLASSES, NyuFolder, NyuMat, forty, nyuv2
from m3et_ros.data.errors import InputError

NAMES = ['book', 'wall', 'refridgerator', 'unicorn', 'floor']  # ids 1 to 5
H, W = 6, 8


@pytest.fixture(scope='module')
def mat(tmp_path_factory):
    """A file as MATLAB writes it: columns first, names as references to UTF-16 codes."""
    h5py = pytest.importorskip('h5py')
    path = tmp_path_factory.mktemp('nyu') / 'nyu_depth_v2_labeled.mat'
    rng = np.random.default_rng(0)
    raw = rng.uniform(1, 5, (3, W, H)).astype(np.float32)
    filled = raw.copy()
    raw[:, 0, 1], raw[:, 2, 3] = 0, 10
    with h5py.File(path, 'w') as file:
        file['images'] = rng.integers(0, 256, (3, 3, W, H), np.uint8)
        file['depths'], file['rawDepths'] = filled, raw
        file['labels'] = rng.integers(0, 6, (3, W, H)).astype(np.uint16)
        refs = []
        for i, name in enumerate(NAMES):
            file[f'#refs#/{i}'] = np.array([[ord(letter)] for letter in name], np.uint16)
            refs.append(file[f'#refs#/{i}'].ref)
        file['names'] = np.array([refs], h5py.ref_dtype)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two pictures, their depth and labels."""
    for kind in ('rgb', 'depth', 'label'):
        (tmp_path / kind).mkdir()
    for i, name in enumerate(('a.jpg', 'b.png')):
        cv2.imwrite(str(tmp_path / 'rgb' / name), np.full((H, W, 3), 100 * i, np.uint8))
        cv2.imwrite(str(tmp_path / 'depth' / f'{name[0]}.png'), np.full((H, W), 1000 * i, np.uint16))
        cv2.imwrite(str(tmp_path / 'label' / f'{name[0]}.png'), np.full((H, W), 24 * i, np.uint8))
    return tmp_path


def test_the_mat_is_turned_and_its_holes_stay(mat):
    h5py = pytest.importorskip('h5py')
    data = nyuv2(mat, forty())
    assert isinstance(data, NyuMat) and len(data) == 3
    sample = data[1]
    with h5py.File(mat) as file:
        assert (sample.rgb[2, 5] == file['images'][1, :, 5, 2]).all()
        assert sample.clean_depth[4, 7] == file['depths'][1, 7, 4]
        ids = np.array(file['labels'][1].T)
    assert sample.rgb.shape == (H, W, 3) and sample.depth.shape == (H, W)
    assert np.isnan(sample.depth[[1, 3], [0, 2]]).all() and np.isnan(sample.depth).sum() == 2
    assert np.isfinite(sample.clean_depth).all()
    expected = np.array([255, CLASSES.index('books'), 0, CLASSES.index('refrigerator'), 255, 1], np.uint8)
    assert (sample.semseg == expected[ids]).all() and sample.key == 'nyu 2'


def test_names_of_the_mat_can_be_mapped(mat):
    assert set(np.unique(nyuv2(mat, {'unicorn': 7})[0].semseg)) <= {7, 255}
    assert nyuv2(mat, {'submarine': 7})[0].semseg is None


def test_loaders_open_the_mat_for_themselves(mat):
    data = nyuv2(mat, forty())
    loaded = list(DataLoader(data, batch_size=None, num_workers=2))
    assert [sample.key for sample in loaded] == ['nyu 1', 'nyu 2', 'nyu 3']
    assert all((np.asarray(sample.rgb) == data[i].rgb).all() for i, sample in enumerate(loaded))
    assert (copy.copy(data)[2].rgb == data[2].rgb).all()


def test_without_h5py_the_command_is_named(mat, monkeypatch):
    monkeypatch.setitem(sys.modules, 'h5py', None)
    with pytest.raises(InputError, match=r"pip install 'm3et_ros\[nyu\]'") as refused:
        nyuv2(mat, forty())
    assert refused.value.reason == 'needs_extra'


def test_a_foreign_or_cut_mat_is_refused(mat, tmp_path):
    h5py = pytest.importorskip('h5py')
    (tmp_path / 'words.mat').write_text('words')
    (tmp_path / 'cut.mat').write_bytes(mat.read_bytes()[:2000])
    with h5py.File(tmp_path / 'other.mat', 'w') as file:
        file['images'] = np.zeros((1, 3, 4, 4), np.uint8)
    for name in ('words', 'cut', 'other', 'missing'):
        with pytest.raises(InputError, match=f'{name}.mat'):
            nyuv2(tmp_path / f'{name}.mat', forty())


def test_folders(folder):
    data = nyuv2(folder, {'refrigerator': 3})
    first, second = data[0], data[1]
    assert isinstance(data, NyuFolder) and len(data) == 2
    assert (first.rgb == 0).all() and np.isnan(first.depth).all() and (first.semseg == 255).all()
    assert (second.rgb == 100).all() and (second.depth == 1).all() and (second.semseg == 3).all()
    assert second.clean_depth is None and nyuv2(folder, {})[1].semseg is None
    (folder / 'filled').mkdir()
    for name in 'ab':
        cv2.imwrite(str(folder / 'filled' / f'{name}.png'), np.full((H, W), 1250, np.uint16))
    assert (nyuv2(folder, forty())[0].clean_depth == 1.25).all()


def test_incomplete_folders_are_refused(folder):
    cv2.imwrite(str(folder / 'depth/b.png'), np.zeros((2, 2), np.uint16))
    with pytest.raises(InputError, match='sample 1 of .*depth'):
        nyuv2(folder, forty())[1]
    (folder / 'depth/b.png').unlink()
    with pytest.raises(InputError, match='depth lacks 1 depth pictures, the first is b.png'):
        nyuv2(folder, forty())
    for path in (folder / 'rgb').iterdir():
        path.unlink()
    with pytest.raises(InputError, match='no jpg or png'):
        nyuv2(folder, forty())


def test_noise_and_seed_reach_both_forms(mat, folder):
    for path in (mat, folder):
        data = nyuv2(path, forty(), noise=LIGHT, seed=7)
        assert (data.noise, data.seed) == (LIGHT, 7) and (nyuv2(path, forty()).noise, nyuv2(path, forty()).seed) == (
            None,
            0,
        )


def test_measured_depth_ends_at_ten_metres(mat):
    """Ten metres exactly mean out of range; the in-painted depth keeps them."""
    sample = nyuv2(mat, forty())[0]
    assert np.isnan(sample.depth[3, 2]) and np.isfinite(sample.clean_depth[3, 2])
    assert np.isnan(sample.depth[1, 0]) and np.isfinite(sample.depth).sum() == H * W - 2
