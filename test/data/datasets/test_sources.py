"""Words of a command line open one data set."""

import json

import cv2
import numpy as np
import pytest
from torch.utils.data import DataLoader

from m3et_ros.data.bags.writer import COLOR_TOPIC, DEPTH_TOPIC, BagWriter
from m3et_ros.data.datasets.base import LIGHT
from m3et_ros.data.datasets.sources import SourceOptions, Sources, open_sources
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.lerobot.schema import CAMERA, EpisodeFrame
from m3et_ros.data.lerobot.writer import LeRobotWriter
from m3et_ros.data.sample import Sample

CLASSES = ('floor', 'fridge', 'cup')


class Numbers:
    """A data set whose pictures hold index and epoch."""

    def __init__(self, count, start):
        self.count, self.start, self.epoch = count, start, 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return Sample(np.full((2, 2, 3), self.start + index, np.uint8), key=f'epoch {self.epoch}')


@pytest.fixture
def words(tmp_path):
    """One small set of every kind; semseg of the pictures is a fridge."""
    for kind in ('rgb', 'depth', 'label', 'nested/rgb/c', 'nested/depth/c', 'nested/semseg/c', 'images'):
        (tmp_path / kind).mkdir(parents=True)
    for folder in (tmp_path, tmp_path / 'nested'):
        sub = 'c' if folder.name == 'nested' else ''
        cv2.imwrite(str(folder / 'rgb' / sub / 'a.jpg'), np.zeros((4, 4, 3), np.uint8))
        cv2.imwrite(str(folder / 'depth' / sub / 'a.png'), np.full((4, 4), 1000, np.uint16))
    cv2.imwrite(str(tmp_path / 'label/a.png'), np.full((4, 4), 24, np.uint8))
    cv2.imwrite(str(tmp_path / 'nested/semseg/c/a.png'), np.full((4, 4), 1, np.uint8))
    (tmp_path / 'nested/semseg/classes.json').write_text('["ground", "fridge"]')
    (tmp_path / 'map.json').write_text('{"refrigerator": "fridge", "ground": "floor"}')
    cv2.imwrite(str(tmp_path / 'images/COCO_val2014_000000000005.jpg'), np.zeros((4, 4, 3), np.uint8))
    (tmp_path / 'q.json').write_text(
        json.dumps({'questions': [{'question_id': 1, 'image_id': 5, 'question': 'What?'}]})
    )
    (tmp_path / 'a.json').write_text(
        json.dumps({'annotations': [{'question_id': 1, 'answer_type': 'other', 'answers': [{'answer': 'cup'}] * 10}]})
    )
    with BagWriter(tmp_path / 'bag') as bag:
        for i in range(4):
            bag.write_frame(Frame(np.full((4, 4, 3), i, np.uint8), np.ones((4, 4), np.float32), 10**9 + i * 10**8))
    return {
        'nyu': f'nyu:{tmp_path}',
        'map': f'nyu:{tmp_path},{tmp_path / "map.json"}',
        'bag': f'bag:{tmp_path / "bag"}',
        'imagenet': f'imagenet:{tmp_path / "nested"}',
        'vqav2': f'vqav2:{tmp_path / "q.json"},{tmp_path / "a.json"},{tmp_path / "images"}',
    }


def opening(tmp_path, **options):
    return SourceOptions(**{'classes': CLASSES, 'size': 8, 'cache': tmp_path / 'cache', 'noise': None, **options})


def no_kitchen(folders):
    raise AssertionError(folders)


def test_sources_stand_one_after_the_other():
    data = Sources([Numbers(3, 0), Numbers(2, 10)], ['a', 'b'])
    assert data.parts == (3, 2) and len(data) == 5
    data.epoch = 4
    assert data.epoch == 4
    assert [(int(data[i].rgb[0, 0, 0]), data[i].key) for i in range(5)] == [(i, 'epoch 4') for i in (0, 1, 2, 10, 11)]
    assert len(list(DataLoader(data, batch_size=None))) == 5
    for index in (-1, 5):
        with pytest.raises(IndexError, match='0 to 4'):
            data[index]
    with pytest.raises(ValueError, match='0 sets'):
        Sources([], [])


def test_every_kind_opens(tmp_path, words):
    kinds = ('nyu', 'map', 'imagenet', 'vqav2', 'bag')
    data = open_sources([words[kind] for kind in kinds], opening(tmp_path, every=2), kitchen=no_kitchen)
    assert data.parts == (1, 1, 1, 1, 2) and data.names[0] == words['nyu']
    plain, mapped, pseudo, asked, first, last = (data[i] for i in range(6))
    assert (plain.semseg == 255).all() and (mapped.semseg == 1).all() and (pseudo.semseg == 1).all()
    assert (plain.depth == 1).all() and (pseudo.depth == 1).all() and asked.depth is None
    assert asked.question == 'What?' and asked.answer == 'cup'
    assert (first.rgb == 0).all() and (last.rgb == 2).all() and first.rgb.shape == (8, 8, 3)


def test_pseudo_depth_has_no_metres(tmp_path, words):
    assert open_sources([words['imagenet']], opening(tmp_path, metric=True), kitchen=no_kitchen)[0].depth is None


def test_kitchens_are_one_source_and_come_first(tmp_path, words):
    seen = []
    data = open_sources(
        ['one', words['vqav2'], 'two:2'],
        opening(tmp_path),
        questions=True,
        kitchen=lambda folders: seen.append(folders) or Numbers(7, 0),
    )
    assert data.parts == (7, 1) and data.names == ('one two:2', words['vqav2'])
    assert [str(path) for path in seen[0]] == ['one', 'two:2']


@pytest.mark.parametrize(
    ('word', 'said'),
    [
        ('nyu:', 'nyu:PATH'),
        ('vqav2:a,b', 'vqav2:QUESTIONS,ANNOTATIONS,IMAGES'),
        ('bag:a,/b,/c,/d', 'bag:PATH'),
        ('imagenet:a,', 'imagenet:ROOT'),
        ('bag:nowhere', 'no bag at nowhere'),
        ('nyu:nowhere', 'nowhere'),
    ],
)
def test_words_of_another_form_are_refused(tmp_path, word, said):
    with pytest.raises(InputError, match=said):
        open_sources([word], opening(tmp_path), kitchen=no_kitchen)


def test_only_what_asks_serves_questions(tmp_path, words):
    with pytest.raises(InputError, match='asks no questions'):
        open_sources([words['vqav2'], words['bag']], opening(tmp_path), questions=True, kitchen=no_kitchen)
    assert not (tmp_path / 'cache').exists()
    with pytest.raises(ValueError, match='every is 0'):
        opening(tmp_path, every=0)
    with pytest.raises(ValueError, match='words is empty'):
        open_sources([], opening(tmp_path), kitchen=no_kitchen)


def test_labelled_recordings_ask_and_are_opened_by_their_folder(tmp_path):
    seen = []
    data = open_sources(
        ['labelled:place'],
        opening(tmp_path),
        questions=True,
        kitchen=no_kitchen,
        labelled=lambda folder: seen.append(folder) or Numbers(3, 0),
    )
    assert data.parts == (3,) and [str(folder) for folder in seen] == ['place']
    with pytest.raises(InputError, match='labelled:place is read by'):
        open_sources(['labelled:place'], opening(tmp_path), kitchen=no_kitchen)


def test_noise_and_seed_reach_every_kind(tmp_path, words):
    kinds = ('nyu', 'imagenet', 'vqav2', 'bag')
    data = open_sources([words[kind] for kind in kinds], opening(tmp_path, noise=LIGHT, seed=7), kitchen=no_kitchen)
    assert [(part.noise, part.seed) for part in data.sets] == [(LIGHT, 7)] * 4
    default = SourceOptions(CLASSES, 8, tmp_path)
    assert (default.noise, default.seed, default.every, default.metric) == (LIGHT, 0, 1, False)


def test_topics_behind_a_bag_are_those_that_are_read(tmp_path, words):
    rgb, depth = COLOR_TOPIC, DEPTH_TOPIC
    for word, camera in ((f'{words["bag"]},{rgb}', (rgb, depth)), (f'{words["bag"]},{rgb},{depth}', (rgb, depth))):
        (data,) = open_sources([word], opening(tmp_path), kitchen=no_kitchen).sets
        assert (data.camera.rgb, data.camera.depth) == camera
    for word in (f'{words["bag"]},/nothing', f'{words["bag"]},{rgb},/nothing'):
        with pytest.raises(InputError, match='no topic /nothing'):
            open_sources([word], opening(tmp_path), kitchen=no_kitchen)


def test_a_lerobot_data_set_opens_with_its_camera_and_its_depth_serves_beside_questions(tmp_path, words):
    with LeRobotWriter(tmp_path / 'set', 10, images='png', depth=True) as data:
        for i in range(4):
            data.write(EpisodeFrame(Frame(np.full((4, 4, 3), i, np.uint8), np.ones((4, 4), np.float32), i)))
    word = f'lerobot:{tmp_path / "set"},{CAMERA}'
    opened = open_sources([word], opening(tmp_path, every=2, noise=LIGHT, seed=7), kitchen=no_kitchen)
    assert opened.parts == (2,) and (opened.sets[0].noise, opened.sets[0].seed) == (LIGHT, 7)
    assert (open_sources([word], opening(tmp_path), kitchen=no_kitchen)[3].rgb == 3).all()
    with pytest.raises(InputError, match='no camera other'):
        open_sources([f'lerobot:{tmp_path / "set"},other'], opening(tmp_path), kitchen=no_kitchen)
    both = open_sources([words['vqav2'], word], opening(tmp_path), questions=True, kitchen=no_kitchen)
    assert both.parts == (1, 4) and (both[1].depth == 1).all()
    with pytest.raises(InputError, match='asks no questions'):
        open_sources([word], opening(tmp_path), questions=True, kitchen=no_kitchen)
    with LeRobotWriter(tmp_path / 'flat', 10, images='png') as data:
        data.write(EpisodeFrame(Frame(np.zeros((4, 4, 3), np.uint8))))
    with pytest.raises(InputError, match='neither questions nor depth'):
        open_sources(
            [words['vqav2'], f'lerobot:{tmp_path / "flat"}'], opening(tmp_path), questions=True, kitchen=no_kitchen
        )
