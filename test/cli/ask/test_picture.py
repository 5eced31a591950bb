import json
import os
import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest
from talkers import talker_folder

from m3et_ros.cli.ask.picture import read_depth, read_frame
from m3et_ros.cli.main import main
from m3et_ros.cli.output import Refused
from m3et_ros.data.errors import InputError


@pytest.fixture
def files(tmp_path):
    """A colour PNG and depth of the same picture in both forms, 6 wide and 4 high."""
    depth = np.full((4, 6), 1.25)
    depth[0, 0] = np.nan
    stored = np.nan_to_num(depth * 1000).astype(np.uint16)
    stored[0, 1] = 65535
    cv2.imwrite(str(tmp_path / 'rgb.png'), np.full((4, 6, 3), (0, 0, 255), np.uint8))
    cv2.imwrite(str(tmp_path / 'depth.png'), stored)
    np.save(tmp_path / 'depth.npy', depth)
    return tmp_path


def test_a_picture_and_its_depth(files):
    frame = read_frame(files / 'rgb.png', files / 'depth.png')
    assert (frame.rgb == (255, 0, 0)).all()
    assert np.isnan(frame.depth[0, :2]).all() and (frame.depth[1:] == np.float32(1.25)).all()
    assert np.isnan(read_depth(files / 'depth.npy')).sum() == 1
    assert frame.K is None
    for depth in (None, files / 'depth.png'):
        assert read_frame(files / 'rgb.png', depth, '50,60,2.5,1.5').K[0].tolist() == [50, 0, 2.5]


def test_depth_in_every_form_is_the_same(files):
    wanted = read_depth(files / 'depth.png')
    stored = cv2.imread(str(files / 'depth.png'), cv2.IMREAD_UNCHANGED)
    metres = np.where((stored == 0) | (stored == 65535), np.nan, stored / 1000).astype(np.float32)
    cv2.imwrite(str(files / 'mm.tiff'), stored)
    cv2.imwrite(str(files / 'm.tif'), metres)
    np.save(files / 'u2.npy', stored)
    np.save(files / 'i4.npy', np.where(stored == 65535, -1, stored.astype(np.int32)))
    np.save(files / 'f8.npy', np.where(np.isnan(metres), np.inf, metres).astype(float))
    for name in ('mm.tiff', 'm.tif', 'u2.npy', 'i4.npy', 'f8.npy'):
        found = read_depth(files / name)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_depth_in_another_unit_is_named(files, capsys):
    np.save(files / 'mm.npy', np.full((4, 6), 1250.0))
    read_frame(files / 'rgb.png', files / 'mm.npy')
    assert 'its median is 1250 m' in capsys.readouterr().err
    read_frame(files / 'rgb.png', files / 'depth.npy')
    assert capsys.readouterr().err == ''


def test_a_turned_picture_is_upright_with_its_depth(files):
    rgb = np.zeros((4, 6, 3), np.uint8)
    rgb[0] = 255  # the top row as stored, the right column once turned clockwise
    exif = b'II*\0' + struct.pack('<IHHHIHHI', 8, 1, 274, 3, 1, 6, 0, 0)
    data = cv2.imencode('.png', rgb)[1].tobytes()
    write(files / 'turned.png', data[:33] + struct.pack('>I', len(exif)) + b'eXIf' + exif + bytes(4) + data[33:])
    depth = np.where(rgb[..., 0] == 255, 2.0, 1.0)
    np.save(files / 'stored.npy', depth)
    np.save(files / 'upright.npy', np.rot90(depth, -1))
    for frame in (
        read_frame(files / 'turned.png'),
        read_frame(files / 'turned.png', files / 'stored.npy'),
        read_frame(files / 'turned.png', files / 'upright.npy'),
    ):
        assert frame.rgb.shape == (6, 4, 3) and (frame.rgb[:, 3] == 255).all() and (frame.rgb[:, :3] == 0).all()
        assert frame.depth is None or ((frame.depth[:, 3] == 2).all() and (frame.depth[:, :3] == 1).all())


def test_answer_about_files_without_ros(files):
    code = (
        'import sys; from m3et_ros.cli.main import main; code = main(sys.argv[1:]);'
        'assert not {"rclpy", "sensor_msgs"} & set(sys.modules); sys.exit(code)'
    )
    result = subprocess.run(
        [
            sys.executable,
            '-c',
            code,
            'ask',
            'What is in the hand?',
            '--image',
            files / 'rgb.png',
            '--depth',
            files / 'depth.npy',
            '--model',
            'tiny',
            '--top-k',
            '3',
            '--json',
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer['text'] == answer['alternatives'][0]['label'] and len(answer['alternatives']) == 3
    assert answer['model_id'] == 'tiny-random-0' and answer['age_s'] is None and answer['frames_used'] == 1
    assert 'random' in result.stderr


def write(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ('image', 'depth', 'words'),
    [
        ('none.png', None, 'cannot be read'),
        ('text.png', None, 'damaged'),
        ('empty.png', None, 'damaged'),
        ('rgb.png', 'rgb.png', '16-bit PNG'),
        ('rgb.png', 'wide.npy', '7x4'),
        ('rgb.png', 'whole.npy', 'int64'),
        ('rgb.png', 'text.npy', 'NumPy'),
        ('rgb.png', 'none.npy', 'NumPy'),
        ('rgb.png', 'huge.npy', '64 million'),
        ('rgb.png', 'several.npy', 'several arrays'),
        ('huge.png', None, '64 million'),
        ('fifo.png', None, 'a FIFO and no regular file'),
        ('rgb.png', 'fifo.png', 'a FIFO and no regular file'),
        ('rgb.png', 'fifo.npy', 'a FIFO and no regular file'),
        ('folder.png', None, 'a folder and no regular file'),
        ('/dev/zero', None, 'a device and no regular file'),
    ],
)
def test_files_that_do_not_fit_are_refused(files, image, depth, words):
    for name in ('text.png', 'text.npy'):
        write(files / name, b'no picture at all')
    write(files / 'empty.png', b'')
    np.save(files / 'wide.npy', np.ones((4, 7)))
    np.save(files / 'whole.npy', np.ones((4, 6), int))
    # A sparse file: the header and nothing else takes room.
    np.lib.format.open_memmap(files / 'huge.npy', 'w+', np.float16, (1, 64_000_001))
    np.savez(files / 'several.npz', np.ones((4, 6)))
    (files / 'several.npz').rename(files / 'several.npy')
    png = (files / 'rgb.png').read_bytes()
    write(files / 'huge.png', png[:16] + struct.pack('>II', 8001, 8000) + png[24:])
    os.mkfifo(files / 'fifo.png')
    os.mkfifo(files / 'fifo.npy')
    (files / 'folder.png').mkdir()
    with pytest.raises((Refused, InputError), match=words):
        read_frame(files / image, depth and files / depth)


def test_an_array_with_objects_is_not_loaded(files):
    np.save(files / 'objects.npy', np.array([[{}]]), allow_pickle=True)
    with pytest.raises(Refused, match='cannot be read'):
        read_depth(files / 'objects.npy')


def test_a_vision_language_model_writes_about_an_image(files, tmp_path, capsys):
    talker = talker_folder(tmp_path / 'talker', 'matvlm')
    line = ['ask', 'Describe the scene.', '--image', files / 'rgb.png', '--model', 'tiny', '--answerer', 'matvlm']
    line = [*map(str, [*line, '--answerer-checkpoint', talker])]
    assert main([*line, '--json']) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer['model_id'] == 'matvlm-random-0' and answer['frames_used'] == 1
    assert main([*line, '--stream']) == 0
    assert capsys.readouterr().out.startswith(answer['text'])
