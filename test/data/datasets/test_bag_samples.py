"""Bags as samples: decoded once, found again, damage told; and the real kitchen where it is at hand."""

import logging
import shutil

import numpy as np
import pytest
from shared_data import SHARED

from m3et_ros.data.bags.writer import COLOR_TOPIC, DEPTH_TOPIC, BagWriter
from m3et_ros.data.datasets import bag_samples
from m3et_ros.data.datasets.bag_samples import BagSamples
from m3et_ros.data.datasets.base import LIGHT
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame

REAL = SHARED / 'real_kitchen/bag'
START, STEP = 1_700_000_000_000_000_000, 100_000_000


def write(path, count=10, depth=lambda i: i + 1.0, **options):
    """Frames numbered in their colours; depth gives metres, None for none."""
    with BagWriter(path, **options) as bag:
        for i in range(count):
            metres = depth(i)
            bag.write_frame(
                Frame(
                    np.full((16, 24, 3), i, np.uint8),
                    metres and np.full((16, 24), metres, np.float32),
                    START + i * STEP,
                )
            )
    return path


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(bag_samples, 'BLOCK', 4)


def test_frames_come_in_order_with_their_depth(tmp_path, small_blocks):
    data = BagSamples(write(tmp_path / 'bag'), tmp_path / 'cache', size=8)
    assert len(data) == 10
    for i in range(10):
        sample = data[i]
        assert sample.rgb.shape == (8, 8, 3) and (sample.rgb == i).all() and (sample.depth == i + 1).all()
        assert sample.semseg is None and not sample.question
        assert sample.key == f'{tmp_path / "bag"} at {START + i * STEP} ns'


def test_holes_do_not_bleed(tmp_path):
    depth = np.full((16, 24), 2, np.float32)
    depth[:, :6] = np.nan
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_frame(Frame(np.zeros((16, 24, 3), np.uint8), depth, START))
    seen = BagSamples(tmp_path / 'bag', tmp_path / 'cache', size=8)[0].depth
    assert np.isnan(seen[:, :2]).all() and (seen[:, 2:] == 2).all()


def test_every_nth_frame(tmp_path):
    data = BagSamples(write(tmp_path / 'bag', images='compressed'), tmp_path / 'cache', size=8, every=4)
    assert [round(float(data[i].depth[0, 0])) for i in range(len(data))] == [1, 5, 9]


def test_the_cache_is_found_again_and_follows_the_bag(tmp_path, caplog):
    bag, cache = write(tmp_path / 'bag'), tmp_path / 'cache'
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            BagSamples(bag, cache, size=8)
        assert caplog.text.count('are decoded') == 1
        BagSamples(bag, cache, size=12)
        shutil.rmtree(bag)
        assert len(BagSamples(write(bag, count=3), cache, size=8)) == 3
    assert caplog.text.count('are decoded') == 3 and len(list(cache.iterdir())) == 3


def test_a_killed_run_is_done_again(tmp_path, small_blocks):
    bag, cache = write(tmp_path / 'bag'), tmp_path / 'cache'
    BagSamples(bag, cache, size=8)
    (folder,) = cache.iterdir()
    (folder / 'bag.json').unlink()
    shutil.rmtree(folder / '0000001')
    assert [int(BagSamples(bag, cache, size=8)[i].rgb[0, 0, 0]) for i in range(10)] == list(range(10))
    (folder / 'bag.json').write_text('{"shards": [')
    with pytest.raises(InputError, match='damaged .*delete'):
        BagSamples(bag, cache, size=8)


def test_without_depth_colours_are_left(tmp_path, caplog):
    bag = write(tmp_path / 'bag', depth=lambda i: None)
    for _ in range(2):
        caplog.clear()
        data = BagSamples(bag, tmp_path / 'cache', size=8)
        assert len(data) == 10 and data[3].depth is None and (data[3].rgb == 3).all()
        assert 'depth is absent' in caplog.text


def test_frames_without_their_depth_are_left_out(tmp_path, caplog):
    bag = write(tmp_path / 'bag', depth=lambda i: 1.0 if i % 3 else None)
    data = BagSamples(bag, tmp_path / 'cache', size=8)
    assert [int(data[i].rgb[0, 0, 0]) for i in range(len(data))] == [1, 2, 4, 5, 7, 8]
    assert '4 frames' in caplog.text and 'no depth came' in caplog.text
    with BagWriter(tmp_path / 'apart') as writer:
        writer.write_frame(Frame(np.zeros((16, 24, 3), np.uint8), stamp_ns=START))
        writer.write_depth(np.ones((16, 24), np.float32), START + 5 * STEP)
    with pytest.raises(InputError, match=f'1 of its colour images have no depth .*{DEPTH_TOPIC}') as refused:
        BagSamples(tmp_path / 'apart', tmp_path / 'cache', size=8)
    assert refused.value.reason == 'bag_depth'


def test_one_damaged_picture_costs_one_frame(tmp_path, caplog, monkeypatch):
    from m3et_ros.data.bags import writer

    encode = writer.encode_rgb
    monkeypatch.setattr(
        writer,
        'encode_rgb',
        lambda rgb, **options: (
            encode(rgb, **options)[0],
            encode(rgb, **options)[1][:-40] if rgb[0, 0, 0] == 2 else encode(rgb, **options)[1],
        ),
    )
    data = BagSamples(write(tmp_path / 'bag', count=4, images='compressed'), tmp_path / 'cache', size=8)
    assert [round(float(data[i].depth[0, 0])) for i in range(len(data))] == [1, 2, 4]
    assert '1 frames' in caplog.text and 'without its end' in caplog.text


def test_of_a_cut_bag_the_readable_part_is_used(tmp_path, caplog):
    with BagWriter(tmp_path / 'bag') as bag:
        for i in range(10):
            bag.write_frame(Frame(np.full((480, 640, 3), i, np.uint8), stamp_ns=START + i * STEP))
    file = tmp_path / 'bag/bag.mcap'
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    data = BagSamples(file, tmp_path / 'cache', size=8)
    assert 0 < len(data) < 10 and (data[len(data) - 1].rgb == len(data) - 1).all()
    assert 'is cut off' in caplog.text and 'are used' in caplog.text


def test_other_files_and_topics_are_refused(tmp_path):
    (tmp_path / 'words.mcap').write_text('words')
    for name, options, words in (
        ('nowhere', {}, 'no bag at'),
        ('words.mcap', {}, 'damaged'),
        ('bag', {'rgb': '/rgb'}, 'no topic /rgb'),
        ('bag', {'depth': '/d'}, 'no topic /d'),
    ):
        if name == 'bag' and not (tmp_path / 'bag').exists():
            write(tmp_path / 'bag', count=1)
        with pytest.raises(InputError, match=words):
            BagSamples(tmp_path / name, tmp_path / 'cache', size=8, **options)
    with pytest.raises(ValueError, match='every is 0'):
        BagSamples(tmp_path / 'bag', tmp_path / 'cache', size=8, every=0)
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match='could not be written'):
        BagSamples(tmp_path / 'bag', tmp_path / 'file', size=8)


@pytest.mark.skipif(not REAL.exists(), reason=f'the real kitchen is not at {REAL}; set M3ET_DATA')
def test_the_real_kitchen(tmp_path, caplog):
    data = BagSamples(REAL, tmp_path, size=56, every=10)
    assert len(data) == 15 and not caplog.text
    for sample in (data[0], data[14]):
        known = sample.depth[np.isfinite(sample.depth)]
        assert known.size > 0.8 * 56**2 and known.min() > 0.3 and known.max() < 8 and sample.rgb.std() > 20


def test_noise_and_seed_reach_the_samples(tmp_path):
    bag = write(tmp_path / 'bag', count=2)
    data = BagSamples(bag, tmp_path / 'cache', size=8, noise=LIGHT, seed=7)
    assert (data.noise, data.seed) == (LIGHT, 7)
    other = BagSamples(bag, tmp_path / 'cache', size=8, noise=LIGHT, seed=8)
    assert any((data[i].rgb != other[i].rgb).any() for i in range(2))


def test_a_named_topic_is_read_and_makes_another_cache(tmp_path):
    bag = write(tmp_path / 'bag', count=2, images='both')
    for rgb, depth in (
        (None, None),
        (f'{COLOR_TOPIC}/compressed', DEPTH_TOPIC),
        (COLOR_TOPIC, f'{DEPTH_TOPIC}/compressedDepth'),
    ):
        camera = BagSamples(bag, tmp_path / 'cache', size=8, rgb=rgb, depth=depth).camera
        assert (camera.rgb, camera.depth, camera.note) == (rgb or COLOR_TOPIC, depth or DEPTH_TOPIC, '')
    assert len(list((tmp_path / 'cache').iterdir())) == 3


def test_a_block_that_is_just_full_is_one_shard(tmp_path, small_blocks):
    for count, shards in ((3, 1), (4, 1), (5, 2)):
        bag = write(tmp_path / f'bag{count}', count=count)
        data = BagSamples(bag, tmp_path / f'cache{count}', size=8)
        assert len(data) == count and len(list((tmp_path / f'cache{count}').glob('*/000*'))) == shards
        assert [int(data[i].rgb[0, 0, 0]) for i in range(count)] == list(range(count))
