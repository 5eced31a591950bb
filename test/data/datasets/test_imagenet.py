"""Class folders with pseudo labels."""

import json

import cv2
import numpy as np
import pytest

from m3et_ros.data.datasets.base import LIGHT
from m3et_ros.data.datasets.imagenet import ImageNetSamples
from m3et_ros.data.errors import InputError


@pytest.fixture
def root(tmp_path):
    """Three pictures of two classes; the semseg ids are 0, 1 and 2."""
    for i, (folder, name) in enumerate((('n01', 'a.JPEG'), ('n01', 'b.jpg'), ('n02', 'a.png'))):
        for kind, pixels in (
            ('rgb', np.full((6, 8, 3), 50 * i, np.uint8)),
            ('depth', np.full((6, 8), 2000 + i, np.uint16)),
            ('semseg', np.full((3, 4), i, np.uint8)),
        ):
            (tmp_path / kind / folder).mkdir(parents=True, exist_ok=True)
            file = name if kind == 'rgb' else f'{name[0]}.png'
            cv2.imwrite(str(tmp_path / kind / folder / file), pixels)
    (tmp_path / 'rgb/notes.txt').touch()
    (tmp_path / 'semseg/classes.json').write_text(json.dumps(['person', 'cup', 'floor']))
    return tmp_path


def test_pictures_with_their_pseudo_labels(root):
    data = ImageNetSamples(root)
    assert [data[i].key for i in range(len(data))] == ['n01/a.JPEG', 'n01/b.jpg', 'n02/a.png']
    last = data[2]
    assert (last.rgb == 100).all() and last.depth[0, 0] == np.float32(2.002) and (last.semseg == 2).all()
    assert not last.question and not last.answers


def test_classes_come_over_by_name(root):
    data = ImageNetSamples(root, classes={'cup': 20, 'floor': 2}, depth=False)
    assert [int(data[i].semseg[0, 0]) for i in range(3)] == [255, 20, 2] and data[0].depth is None
    assert ImageNetSamples(root, classes={'moon': 1})[0].semseg is None


@pytest.mark.parametrize('names', [None, '{"person": 0}', '[1, 2]', json.dumps(['a'] * 256)])
def test_labels_without_names_are_refused(root, names):
    path = root / 'semseg/classes.json'
    path.unlink() if names is None else path.write_text(names)
    assert (ImageNetSamples(root)[1].semseg == 1).all()
    with pytest.raises(InputError, match='classes 0, 1, 2'):
        ImageNetSamples(root, classes={'cup': 20})


def test_trees_may_be_missing_but_not_incomplete(root):
    (root / 'depth/n01/b.png').unlink()
    with pytest.raises(InputError, match='depth/n01 lacks 1 depth pictures, the first is b.png'):
        ImageNetSamples(root)
    (root / 'depth').rename(root / 'other')
    assert ImageNetSamples(root)[0].depth is None
    (root / 'rgb').rename(root / 'pictures')
    with pytest.raises(InputError, match='rgb cannot be listed'):
        ImageNetSamples(root)
    (root / 'rgb').mkdir()
    with pytest.raises(InputError, match='holds no CLASS/NAME.jpg'):
        ImageNetSamples(root)


def test_noise_and_seed_reach_the_samples(root):
    data = ImageNetSamples(root, noise=LIGHT, seed=7)
    assert (data.noise, data.seed) == (LIGHT, 7)
