"""One frame labelled by teachers: names, pixels, colours, distances, places, and what is left out."""

import numpy as np
import pytest
from small_place import FlatDepth, RedDetector, RedSegmentation, place_frame

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.kitchen.sim.vocabulary import CLASSES
from m3et_ros.runtime.vlm.model import VlmAnswer
from m3et_ros.training.teach.teachers import Labeller, Teachers, colour_of, in_box, softened, student_name


@pytest.mark.parametrize(
    ('name', 'word'),
    [
        ('cup', 'cup'),
        ('refrigerator, icebox', 'fridge'),
        ('dining table', 'table'),
        ('wine glass', 'glass'),
        ('Potted_Plant', 'potted plant'),
        ('floor, flooring', 'floor'),
    ],
    ids=['same', 'synonym', 'table', 'also', 'new', 'list'],
)
def test_names_are_mapped_to_the_students(name, word):
    assert student_name(name, CLASSES) == word


@pytest.mark.parametrize(
    ('rgb', 'word'),
    [
        ((200, 10, 10), 'red'),
        ((230, 120, 10), 'orange'),
        ((110, 60, 25), 'brown'),
        ((240, 210, 30), 'yellow'),
        ((20, 140, 50), 'green'),
        ((20, 60, 190), 'blue'),
        ((110, 40, 150), 'purple'),
        ((240, 150, 180), 'pink'),
        ((245, 245, 240), 'white'),
        ((128, 130, 129), 'grey'),
        ((12, 12, 14), 'black'),
    ],
    ids=['red', 'orange', 'brown', 'yellow', 'green', 'blue', 'purple', 'pink', 'white', 'grey', 'black'],
)
def test_colours_have_words(rgb, word):
    assert colour_of(np.full((10, 3), rgb, np.uint8)) == word


def test_a_thing_of_several_colours_has_no_word():
    assert colour_of(np.array([(200, 10, 10), (20, 60, 190)] * 5, np.uint8)) == ''


def test_pixels_of_a_box_are_those_at_the_distance_of_its_middle():
    depth = np.full((10, 10), 2, np.float32)
    depth[3:7, 3:7] = 1
    found = in_box(depth, (1, 1, 9, 9))
    assert found.sum() == 16 and found[3:7, 3:7].all()
    assert not in_box(np.full((10, 10), np.nan, np.float32), (1, 1, 9, 9)).any()


def test_a_detected_thing_has_name_pixels_colour_and_distance(student):
    frame = place_frame(1)
    found = Labeller(Teachers(student, detection=RedDetector())).label(frame)
    (thing,) = [fact for fact in found.facts if fact.part == 'thing']
    assert (thing.name, thing.colour, thing.teacher, thing.confidence) == ('glass', 'red', 'red@1', 0.9)
    assert (thing.left, thing.top, thing.right, thing.bottom) == (7 / 64, 20 / 48, 19 / 64, 34 / 48)
    assert thing.across == pytest.approx(13 / 64) and thing.share == pytest.approx(14 * 12 / (48 * 64))
    assert thing.distance == pytest.approx(1.05, abs=0.03)  # along the ray, not the axis
    assert (found.mask[20:34, 7:19] == thing.number).all()
    # The rest has the student's own labels, so that it is not taught that everything is a glass.
    background = [fact for fact in found.facts if fact.part == 'background']
    assert background and all(fact.teacher == f'{student.model_id} (itself)' for fact in background)
    assert (found.mask != 255).all()


def test_without_depth_a_box_has_no_pixels_but_a_place_in_the_picture(student):
    found = Labeller(Teachers(student, detection=RedDetector())).label(place_frame(1, depth=False))
    (thing,) = [fact for fact in found.facts if fact.part == 'thing']
    assert not (found.mask == thing.number).any() and np.isnan(thing.distance) and thing.colour == ''
    assert thing.across == pytest.approx(13 / 64)


def test_regions_of_a_mask_are_things_where_no_detector_knows_their_name(student):
    found = Labeller(Teachers(student, segmentation=RedSegmentation())).label(place_frame(1))
    named = {(fact.name, fact.part) for fact in found.facts}
    assert named == {('wall', 'background'), ('cushion', 'thing')}
    cushion = next(fact for fact in found.facts if fact.name == 'cushion')
    assert (found.mask[20:34, 7:19] == cushion.number).all() and cushion.colour == 'red'


def test_a_depth_network_fills_what_the_sensor_left_open(student):
    frame = place_frame(3)
    found = Labeller(Teachers(student, depth=FlatDepth())).label(frame).depth
    known = np.isfinite(frame.depth)
    assert np.array_equal(found[known], frame.depth[known])
    assert found[~known] == pytest.approx(2)  # 3 m scaled to the wall at 2 m
    alone = Labeller(Teachers(student, depth=FlatDepth())).label(place_frame(3, depth=False)).depth
    assert (alone == 3).all()


def test_relative_depth_without_a_sensor_is_refused(student):
    network = FlatDepth()
    network.metric = False
    with pytest.raises(InputError, match='gives no metres') as refused:
        Labeller(Teachers(student, depth=network)).label(place_frame(3, depth=False))
    assert refused.value.reason == 'depth_relative'


def test_a_name_that_no_teacher_knows_is_refused(student):
    with pytest.raises(InputError, match="no teacher knows 'kettle'; they know bed, glass") as refused:
        Teachers(student, detection=RedDetector(), wanted=('kettle',))
    assert refused.value.reason == 'teacher_class'


def test_wanted_names_alone_are_labelled(student):
    teachers = Teachers(student, detection=RedDetector(), wanted=('bed',))
    assert {fact.part for fact in Labeller(teachers).label(place_frame(1)).facts} == {'background'}


def test_what_the_student_cannot_spell_is_left_out_and_named(student):
    teachers = Teachers(student, detection=RedDetector())
    assert teachers.unspelled == ['qz'] and teachers.names == {'glass', 'bed'}


class Talker:
    """Answers each question with the next of some texts."""

    model_id = 'talker@1'

    def __init__(self, *texts):
        self.texts, self.asked = iter(texts), []

    def answer(self, question, images, *, max_tokens):
        self.asked.append((question, len(images), max_tokens))
        return VlmAnswer(next(self.texts), 0.75, (), 0.0)


def test_short_answers_of_a_vision_language_model_are_kept(student):
    talker = Talker(' Kitchen.\nIt has a sink.', 'I am quite sure that I see a cup', '', 'qz')
    asked = ('What room is this?', 'What is it?', 'What else?', 'What letters?')
    found = Labeller(Teachers(student, answerer=talker, ask=asked)).label(place_frame(1)).answered
    # The second answer is too long, the third empty, and the student cannot spell the fourth.
    assert [(one.question, one.answer, one.confidence, one.teacher) for one in found] == [
        ('What room is this?', 'kitchen', 0.75, 'talker@1')
    ]
    assert talker.asked[0] == ('What room is this? Answer in one to four words.', 1, 16)


def test_depth_that_shards_cannot_hold_becomes_unknown():
    found = softened(np.array([[0, -1, 1, 66]], np.float32))
    assert np.isnan(found[0, [0, 1, 3]]).all() and found[0, 2] == 1
    assert softened(None) is None and Frame(np.zeros((1, 1, 3), np.uint8)).depth is None
