"""The places of things: which questions ask for them, and where the trained model finds the things of a kitchen."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from m3et_ros.data.checkpoints import DEFAULT_MODEL
from m3et_ros.data.frame import Frame
from m3et_ros.data.kitchen.sim.camera import Camera
from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.data.kitchen.sim.vocabulary import CLASS_OF
from m3et_ros.data.questions.reader import Reading
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import open_checkpoint, untrained
from m3et_ros.runtime.places import LEAST, Locator, cut_out, draw_places, nouns_asked_for
from m3et_ros.runtime.results import Place, Ranked, Reply
from m3et_ros.runtime.session import Session

CLASSES = ('board', 'chopping board', 'cup', 'pan')
PAN = CLASS_OF['pan']


def reply(text, *others):
    return Reply('?', text, 0.9, (Ranked(0, text, 0.9), *(Ranked(-1, o, 0.8) for o in others)), 'frame', 1, 0, 0, 0.1)


@pytest.mark.parametrize(
    'kind, values, answer, expected',
    [
        ('location', {'a': 'cup'}, 'on the table', ('cup',)),
        ('region', {'a': 'pan'}, 'left', ('pan',)),
        ('distance', {'a': 'cup'}, '1.5 m', ('cup',)),
        ('location', {'a': 'unicorn'}, 'on the table', ()),
        ('nearest', {}, 'red chopping board', ('chopping board',)),
        ('closer', {'a': 'cup', 'b': 'pan'}, 'pan', ('pan',)),
        ('held', {}, 'nothing', ()),
        ('colour', {'a': 'cup'}, 'red', ()),
        ('existence', {'article': 'cup'}, 'yes', ()),
    ],
    ids=['where', 'region', 'distance', 'unknown', 'nearest', 'closer', 'nothing held', 'colour', 'existence'],
)
def test_questions_with_where_and_which_ask_for_places(kind, values, answer, expected):
    assert nouns_asked_for(Reading('?', kind, values), reply(answer), CLASSES) == expected


def test_a_question_for_the_things_at_a_place_asks_for_all_of_them():
    asked = nouns_asked_for(Reading('?', 'at_place', {}), reply('I see.', 'red cup', 'pan', 'blue cup'), CLASSES)
    assert asked == ('cup', 'pan')


def test_a_thing_is_cut_out_by_its_colours():
    rgb, heat = np.full((120, 160, 3), 200, np.uint8), np.zeros((120, 160), np.float32)
    rgb[20:30, 30:40] = (200, 20, 20)
    rows, columns = np.indices(heat.shape)
    heat[:] = np.exp(-((rows - 22) ** 2 + (columns - 33) ** 2) / 100)
    thing = cut_out(rgb, heat, 3)
    assert thing.label == 3 and thing.box == (30, 20, 10, 10) and thing.area == 100


def test_where_colours_tell_nothing_the_probable_pixels_are_the_thing():
    rgb, heat = np.full((60, 80, 3), 90, np.uint8), np.full((60, 80), 0.2, np.float32)
    heat[20:30, 30:40] = 0.9
    assert cut_out(rgb, heat, 3).box == (30, 20, 10, 10)


@pytest.fixture(scope='module')
def engine():
    return Engine(open_checkpoint(DEFAULT_MODEL))


@pytest.fixture(scope='module')
def seen():
    """A picture of a kitchen of the test split, in which a single pan is in view."""
    episode = Episode(20027, width=320, height=240)
    with Camera(episode, backend='raycast') as camera:
        *_, state = episode.run(20)
        return camera.observe(state)


def frame_of(seen, **changes):
    return replace(Frame(seen.rgb, seen.depth, frame_id='lens', K=seen.K), **changes)


def pan_of(seen):
    return seen.semantic == PAN


def on_the_pan(place, seen, scale=1):
    u, v = (int((at + 0.5) / scale) for at in place.pixel)
    return bool(pan_of(seen)[v, u])


@pytest.mark.parametrize('closely', [True, False], ids=['closely', 'at a glance'])
def test_the_place_of_a_thing_lies_on_it_and_has_its_box_position_and_distance(engine, seen, closely):
    place = Locator(engine, closely=closely).place('pan', engine.encode(frame_of(seen)))
    assert place.label == 'pan' and LEAST <= place.confidence <= 1
    assert on_the_pan(place, seen)
    rows, columns = np.nonzero(pan_of(seen))
    left, top, width, height = place.box
    assert left < columns.mean() < left + width and top < rows.mean() < top + height
    z = seen.depth[rows, columns]
    x, y = ((at - seen.K[i, 2]) / seen.K[i, i] * z for i, at in enumerate((columns, rows)))
    middle = [(axis.min() + axis.max()) / 2 for axis in (x, y, z)]
    assert place.position_m == pytest.approx(middle, abs=0.1)
    assert place.distance_m == pytest.approx(np.linalg.norm(place.position_m))
    assert 0.05 < place.size_m[0] < 0.6 and place.measured == 1


def test_the_places_of_a_large_picture_are_in_its_own_pixels(engine, seen):
    rgb, depth = (cv2.resize(image, (1600, 1200), interpolation=cv2.INTER_NEAREST) for image in (seen.rgb, seen.depth))
    place = Locator(engine).place('pan', engine.encode(Frame(rgb, depth)))
    assert on_the_pan(place, seen, scale=5)
    assert place.box[0] < place.pixel[0] < place.box[0] + place.box[2]


def test_without_intrinsics_a_place_has_the_depth_and_no_point(engine, seen):
    place = Locator(engine).place('pan', engine.encode(frame_of(seen, K=None)))
    assert place.position_m is None and place.size_m is None
    assert place.distance_m == pytest.approx(np.median(seen.depth[pan_of(seen)]), abs=0.05)
    assert place.measured == 1


def test_without_depth_a_place_has_pixels_alone(engine, seen):
    place = Locator(engine).place('pan', engine.encode(frame_of(seen, depth=None)))
    assert on_the_pan(place, seen)
    assert (place.position_m, place.size_m, place.distance_m, place.measured) == (None,) * 4


@pytest.mark.parametrize('fill, measured', [('smooth', 0.0), ('never', None)])
def test_a_thing_whose_depth_was_not_measured_gets_the_filled_depth_that_the_node_publishes(
    engine, seen, fill, measured
):
    holed = np.where(cv2.dilate(pan_of(seen).astype(np.uint8), np.ones((15, 15), np.uint8)) > 0, np.nan, seen.depth)
    view = engine.encode(frame_of(seen, depth=holed.astype(np.float32)))
    place = Locator(engine, fill).place('pan', view)
    assert place.measured == measured and (place.position_m is None) == (measured is None)


def test_of_several_things_the_nearest_is_that_of_the_nearest_instance(engine, seen):
    view = engine.encode(frame_of(seen))
    mask = np.full(seen.semantic.shape, 255, np.uint8)
    mask[20:40, 20:40] = mask[200:220, 200:220] = PAN
    view.decoded['mask'] = mask
    depth = seen.depth.copy()
    depth[20:40, 20:40], depth[200:220, 200:220] = 1.0, 2.0
    view = replace(view, frame=replace(view.frame, depth=depth))
    weights = Locator(engine)._nearest(PAN, view, (240, 320))
    assert weights[30, 30] == 1 and weights[210, 210] == 0


def test_a_thing_that_is_not_there_has_no_place(engine, seen):
    assert Locator(engine).place('microwave', engine.encode(frame_of(seen))) is None


def test_a_question_where_gets_a_place_and_other_questions_get_none(engine, seen):
    session = Session(engine)
    view = session.observe(frame_of(seen))

    def ask(question, scope='frame'):
        return session.ask(question, [view], scope=scope, top_k=1)

    assert ask('Where is the pan?').places == ()
    session.locator = Locator(engine)
    found = ask('Where is the pan?')
    assert [place.label for place in found.places] == ['pan'] and on_the_pan(found.places[0], seen)
    assert ask('What colour is the pan?').places == ()
    assert ask('Where is the pan?', scope='episode').places == ()
    assert session.ask('Where is the pan?', [view], scope='frame', top_k=1, mode='generate').places == found.places
    session.min_confidence = 1.0
    unsure = ask('Where is the pan?')
    assert not unsure.answerable and unsure.places == ()


def test_where_a_model_points_weighs_in(seen):
    pointing = Engine(untrained('kitchen2', 0))
    view = pointing.encode(frame_of(seen))
    x, y, *_ = pointed = pointing.pointing('Where is the pan?', view)
    assert pointed.shape == (7,) and np.isfinite(pointed).all()
    weights = Locator(pointing)._pointing('pan', view, (240, 320))
    row, column = np.unravel_index(weights.argmax(), weights.shape)
    assert weights.max() == pytest.approx(1, abs=0.01)
    assert (column / 320, row / 240) == pytest.approx((x, y), abs=0.01)


def test_a_model_that_does_not_point_weighs_all_pixels_alike(seen):
    engine = Engine(open_checkpoint('kitchen'))
    view = engine.encode(frame_of(seen))
    assert engine.pointing('Where is the pan?', view) is None
    assert (Locator(engine)._pointing('pan', view, (3, 4)) == 1).all()


def test_a_model_without_a_segmentation_gives_no_places(seen):
    engine = Engine(untrained('tiny', 0))
    engine.config = replace(engine.config, tasks=('depth',))
    asked = Reading('?', 'location', {'a': 'pan'})
    assert Locator(engine).places(asked, reply('on the hob'), engine.encode(frame_of(seen))) == ()


def test_a_ring_and_a_name_are_drawn_beside_the_place_and_the_image_stays():
    image = np.full((200, 300, 3), 90, np.uint8)
    drawn = draw_places(image, (Place('cup', 0.9, (150.0, 100.0), (140, 90, 20, 20), distance_m=1.5),))
    assert (image == 90).all()
    assert (drawn[100, 162] > 200).all() and (drawn[100, 138] > 200).all()  # the ring, 12 pixels around the middle
    assert (drawn[95:105, 145:155] == 90).all()
    changed = np.nonzero((drawn != 90).any(2))[0]
    assert changed.min() < 88  # the name, above the ring
    top = draw_places(image, (Place('cup', 0.9, (150.0, 5.0), (140, 0, 20, 10)),))
    assert (top != 90).any(2).nonzero()[0].max() > 20  # below it where there is no room
