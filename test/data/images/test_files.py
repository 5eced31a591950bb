"""Pictures on disk, read or refused by name."""

import cv2
import numpy as np
import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.data.images.files import check_complete, list_pictures, png_of, read_depth, read_labels, read_rgb

RGB = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
MM = np.array([[0, 1, 1500], [65535, 65534, 2]], np.uint16)


def put(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def test_colours_depth_and_labels(tmp_path):
    assert (read_rgb(put(tmp_path / 'a.png', RGB[..., ::-1])) == RGB).all()
    assert read_rgb(put(tmp_path / 'a.jpg', RGB)).shape == RGB.shape
    np.testing.assert_array_equal(
        read_depth(put(tmp_path / 'd.png', MM)), np.array([[np.nan, 0.001, 1.5], [np.nan, 65.534, 0.002]], np.float32)
    )
    for labels in (MM, MM.astype(np.uint8)):
        assert (read_labels(put(tmp_path / 'l.png', labels)) == labels).all()


def test_names_pair_up(tmp_path):
    for name in ('b.JPEG', 'a.png', 'c.txt'):
        (tmp_path / name).touch()
    assert list_pictures(tmp_path) == ['a.png', 'b.JPEG']
    assert png_of('x.1.jpg') == 'x.1.png'
    check_complete(['a.png'], tmp_path, 'depth pictures')
    with pytest.raises(InputError, match='lacks 2 depth pictures, the first is y.png'):
        check_complete(['a.png', 'y.png', 'z.png'], tmp_path, 'depth pictures')
    with pytest.raises(InputError, match='nowhere'):
        list_pictures(tmp_path / 'nowhere')


@pytest.mark.parametrize('read', [read_rgb, read_depth, read_labels])
def test_broken_files_are_refused_by_name(tmp_path, read):
    good = put(tmp_path / 'good.jpg', np.repeat(RGB, 20, 0)).read_bytes()
    for name, data in (('empty.jpg', b''), ('cut.jpg', good[: len(good) // 2]), ('words.png', b'words')):
        (tmp_path / name).write_bytes(data)
    names = ['empty.jpg', 'words.png', 'missing.jpg', *(['cut.jpg'] if read is read_rgb else ['good.jpg'])]
    for name in names:
        with pytest.raises(InputError, match=name):
            read(tmp_path / name)


def test_depth_of_eight_bits_is_refused(tmp_path):
    with pytest.raises(InputError, match='uint8 and depth is 16-bit'):
        read_depth(put(tmp_path / 'd.png', MM.astype(np.uint8)))


@pytest.mark.parametrize('name', ['a.jpg', 'a.JPG', 'a.jpeg', 'a.PNG'])
def test_suffixes_count_in_any_case(tmp_path, name):
    (tmp_path / name).touch()
    assert list_pictures(tmp_path) == [name]


def test_labels_of_colours_are_refused(tmp_path):
    with pytest.raises(InputError, match='not one grey value') as refused:
        read_labels(put(tmp_path / 'l.png', RGB))
    assert refused.value.reason == 'image_file'
