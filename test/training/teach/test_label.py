"""Recordings labelled: which frames, into which split, continued after a stop, and what is refused."""

import errno
import json
import shutil

import numpy as np
import pytest
from shared_data import SHARED
from small_place import RedDetector, place_frame, write_place

from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.labelled.facts import ObjectFact, read_facts
from m3et_ros.data.shards import open_shard
from m3et_ros.runtime.networks.detection import open_detection
from m3et_ros.training.teach import label as label_module
from m3et_ros.training.teach.label import FrameChoice, LabelOptions, differs, label, thumbnail
from m3et_ros.training.teach.teachers import Teachers

BAG, YOLOX = SHARED / 'real_kitchen/bag', SHARED / 'teachers/yolox_nano.onnx'
START, STEP = 1_700_000_000_000_000_000, 100_000_000


class CountingDetector(RedDetector):
    """Counts its frames, and fails at one of them as a full disk or a stopped command would."""

    def __init__(self, fails_at=10**9):
        self.frames, self.fails_at = 0, fails_at

    def predict(self, rgb):
        self.frames += 1
        if self.frames == self.fails_at:
            raise InputError('cache_unwritable', 'no space left')
        return super().predict(rgb)


def test_the_last_third_is_held_out_after_a_gap(place):
    choice = FrameChoice([place])
    chosen = list(choice)
    times = {split: [one.time_s for one in chosen if one.split == split] for split in ('train', 'held_out')}
    length = 3.5
    assert max(times['train']) < (2 / 3 - 1 / 20) * length and min(times['held_out']) >= 2 / 3 * length - 1e-6
    assert choice.gap > 0 and choice.seen == 36 and choice.damaged == 0
    assert len(chosen) + choice.gap + choice.duplicates == 36


def test_near_duplicates_are_dropped(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for i in range(12):
            shown = place_frame(i // 4)
            bag.write_frame(Frame(shown.rgb, shown.depth, START + i * STEP))
    choice = FrameChoice([tmp_path / 'bag'])
    assert len(list(choice)) + choice.duplicates + choice.gap == 12 and choice.duplicates >= 8


def test_a_picture_that_changes_a_little_is_a_near_duplicate():
    grey = np.full((48, 64, 3), 120, np.uint8)
    moved, noisy = grey.copy(), grey + np.random.default_rng(0).integers(0, 5, grey.shape, np.uint8)
    moved[:, :16] = 20
    assert differs(thumbnail(grey), thumbnail(moved)) and not differs(thumbnail(grey), thumbnail(noisy))


def test_contents_tell_what_was_labelled_by_whom(labelled, student):
    contents = json.loads((labelled / 'labelled.json').read_text())
    assert contents['schema'] == 1 and contents['student'] == student.model_id and contents['masks']
    assert contents['teachers'] == {'detection': 'red@1'}
    # The bed is a name of a teacher that neither the student has nor the recording shows.
    assert contents['known'] == contents['counted'] == ['glass'] and contents['unspelled'] == ['qz']


def test_a_stopped_run_keeps_its_blocks_and_continues(student, place, labelled, tmp_path, monkeypatch):
    monkeypatch.setattr(label_module, 'BLOCK', 8)
    failing = CountingDetector(fails_at=13)
    with pytest.raises(InputError, match='no space left'):
        label([place], tmp_path / 'out', Teachers(student, detection=failing), LabelOptions(32))
    assert not (tmp_path / 'out/labelled.json').exists()
    following = CountingDetector()
    contents = label([place], tmp_path / 'out', Teachers(student, detection=following), LabelOptions(32))
    assert following.frames == len(contents['splits']) - 8
    for name in ('objects.csv', 'questions.csv'):
        assert (tmp_path / 'out' / name).read_text() == (labelled / name).read_text()
    stored, whole = (
        [open_shard(folder / name).frames for name in shards]
        for folder, shards in (
            (tmp_path / 'out', contents['shards']),
            (labelled, json.loads((labelled / 'labelled.json').read_text())['shards']),
        )
    )
    assert np.array_equal(np.concatenate(stored), np.concatenate(whole))


def test_a_full_disk_leaves_no_data_set_behind(student, place, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as patch, pytest.raises(InputError, match='finished blocks are kept') as refused:
        patch.setattr(label_module, 'write_facts', full)
        label([place], tmp_path / 'out', Teachers(student), LabelOptions(32))
    assert refused.value.reason == 'out_unwritable' and not (tmp_path / 'out/labelled.json').exists()
    assert label([place], tmp_path / 'out', Teachers(student), LabelOptions(32))['masks'] is False


@pytest.mark.skipif(not (BAG.exists() and YOLOX.exists()), reason='no real kitchen or detector; set M3ET_DATA')
def test_a_detector_labels_a_real_kitchen(student, tmp_path):
    teachers = Teachers(student, detection=open_detection(str(YOLOX), least=0.1))
    contents = label([BAG], tmp_path, teachers, LabelOptions(32, every=6))
    assert contents['frames_seen'] == 25 and {'chair', 'cup', 'table', 'sink'} <= set(contents['known'])
    facts = [fact for fact in read_facts(tmp_path / 'objects.csv', ObjectFact, 25) if fact.part == 'thing']
    cups = [fact for fact in facts if fact.name == 'cup']
    assert cups and all(fact.colour == 'white' and 1 < fact.distance < 4 for fact in cups)


def test_a_finished_folder_is_not_labelled_again(student, place, labelled, tmp_path):
    own = shutil.copytree(labelled, tmp_path / 'own')
    table = (own / 'objects.csv').read_text() + '\n'
    (own / 'objects.csv').write_text(table)
    again = CountingDetector()
    label([place], own, Teachers(student, detection=again), LabelOptions(32))
    assert again.frames == 0 and (own / 'objects.csv').read_text() == table


def test_another_recipe_in_the_same_folder_is_refused(student, place, labelled):
    with pytest.raises(InputError, match='with other every'):
        label([place], labelled, Teachers(student, detection=RedDetector()), LabelOptions(32, every=2))


def test_three_frames_are_too_few(student, tmp_path):
    with pytest.raises(
        InputError, match=r'gives 2 frames for the split train and at least 8 are needed \(3 frames'
    ) as no:
        label([write_place(tmp_path / 'bag', 3)], tmp_path / 'out', Teachers(student), LabelOptions(32))
    assert no.value.reason == 'few_frames'


def test_a_recording_without_colour_is_refused(student, tmp_path):
    with BagWriter(tmp_path / 'bag'):
        pass
    with pytest.raises(InputError, match='no readable colour images') as refused:
        label([tmp_path / 'bag'], tmp_path / 'out', Teachers(student), LabelOptions(32))
    assert refused.value.reason == 'bag_topic'


def test_a_missing_recording_is_refused(student, tmp_path):
    with pytest.raises(InputError, match='there is no bag at'):
        label([tmp_path / 'none'], tmp_path / 'out', Teachers(student), LabelOptions(32))


def test_teachers_that_find_nothing_are_refused(student, place, tmp_path):
    class Blind(RedDetector):
        def predict(self, rgb):
            return []

    with pytest.raises(InputError, match='red@1 found nothing') as refused:
        label([place], tmp_path / 'out', Teachers(student, detection=Blind()), LabelOptions(32))
    assert refused.value.reason == 'teacher_blind'


@pytest.mark.parametrize('wrong', [{'size': 30}, {'size': 32, 'every': 0}], ids=['size', 'every'])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match='give'):
        LabelOptions(**wrong)
