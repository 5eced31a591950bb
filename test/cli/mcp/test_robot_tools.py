"""The tools for agents with a robot whose results are known."""

import threading

import cv2
import numpy as np
import pytest

from m3et_ros.cli.mcp.robot_tools import MOST_CHARS, MOST_NAME, PAST, RobotTools, without_article
from m3et_ros.cli.output import Refused
from m3et_ros.ros.diagnostics import Counters
from m3et_ros.srv import AskQuestion


def pixel(jpeg):
    """The first pixel, R G B."""
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[0, 0, ::-1]


@pytest.mark.parametrize(
    ('show', 'colour'), [('overlay', (55, 155, 205)), ('colour', (200, 100, 50))], ids=['overlay', 'colour']
)
def test_look_has_the_picture_and_what_is_in_it(tools, show, colour):
    report, jpeg = tools.look(None, show, threading.Event())
    np.testing.assert_allclose(pixel(jpeg), colour, atol=6)
    assert (report.robot, report.shows, report.width, report.height) == ('/known', show, 4, 2)
    assert [(one.name, one.share, one.distance_m) for one in report.in_view] == [
        ('table', 0.625, 2),
        ('cup', 0.25, 0.5),
    ]
    assert report.words() == ('Image of /known: 4 x 2 pixels. In view: table 62.5% at 2.00 m; cup 25.0% at 0.50 m.')


def test_look_names_the_model_that_found_the_classes(tools, known):
    assert tools.look(None, 'overlay', threading.Event())[0].model_id == 'known@1'
    known.more['segmentation_network/model_id'] = 'segformer@2'
    named = tools.robots.robot('/known')
    try:
        assert tools.robots.node.wait(lambda: 'segmentation_network/model_id' in named.health.values, 60)
        assert tools.look(None, 'overlay', threading.Event())[0].model_id == 'segformer@2'
    finally:
        known.more.clear()
    assert tools.robots.node.wait(lambda: 'segmentation_network/model_id' not in named.health.values, 60)


def test_a_depth_picture_says_what_its_colours_mean(tools):
    report, _ = tools.look('known', 'depth', threading.Event())
    assert report.depth_range_m == (0.5, 4.0)
    assert 'from 0.50 m (red) to 4.00 m (blue)' in report.words()


def test_a_question_is_asked_as_the_robot_is_configured(tools, known):
    parts = []
    answer = tools.ask('What is it?', 'episode', '/known', threading.Event(), parts.append)
    assert known.goals[-1] == 'What is it?' and ''.join(parts) == 'a cup'
    assert (answer.text, answer.scope, answer.confidence, answer.frames_used) == ('a cup', 'episode', 0.75, 3)
    assert (answer.age_s, answer.latency_s, answer.model_id, answer.alternatives) == (
        0.25,
        0.125,
        'known@1',
        {'no': 0.25},
    )


def test_a_place_is_reported_in_pixels_and_metres(tools, known):
    report = tools.where('the cup', None, threading.Event())
    assert known.asked[-1].question == 'Where is the cup?' and report.found
    (place,) = report.places
    assert (place.label, place.confidence, place.pixel, place.box) == ('cup', 0.875, (3, 1), (3, 0, 1, 2))
    assert (place.position_m, place.size_m) == ((0.25, -0.5, 2), (0.125, 0.25, 0.5))
    assert (place.distance_m, place.measured, report.frame_id) == (2.125, 0.5, 'lens')
    assert report.words() == (
        'on the table (confidence 0.75). cup: pixel (3, 1), 2.12 m away, x 0.25 m, y -0.50 m, z 2.00 m in lens '
        '(confidence 0.88).'
    )


def test_an_answer_without_a_place_says_so(tools, known):
    report = tools.where('Which is nearest?', None, threading.Event())
    assert known.asked[-1].question == 'Which is nearest?'
    assert not report.found and report.words().endswith('The robot gives no place in the image for it.')
    report = tools.where('moon', None, threading.Event())
    assert not report.found
    assert report.words() == 'I cannot tell: The model was never taught "moon". Did you mean: Where is the cup?'


def test_the_past_is_asked_of_the_memory(tools, known):
    tools.choose(None)
    begun = len(known.asked)
    report = tools.what_happened('the cup', None, threading.Event())
    asked = known.asked[begun:]
    assert [one.question for one in asked[: len(PAST)]] == list(PAST) and {one.scope for one in asked} == {'episode'}
    assert [one.question for one in report.about] == [
        'Was there a cup in view before?',
        'Where is the cup now?',
        'Has the cup been taken?',
    ]
    assert (report.remembered_s, report.frames, len(report.actions)) == (2.5, 3, len(PAST))
    assert report.words().startswith(
        '/known remembers 2.5 s (3 images).\nHow many actions have been done? on the table'
    )


def test_answers_to_others_are_kept_once(tools, known):
    tools.choose(None)
    kept = tools._answers['/known']

    def arrived():
        known.answers.publish(known.answer('Who is there?', '', 'nobody'))
        return kept

    assert tools.robots.node.wait(arrived, 60)
    known.answers.publish(known.answer('And now?', '', 'a cat'))
    assert tools.robots.node.wait(lambda: kept[-1].text == 'a cat', 60)
    report = tools.what_happened(None, None, threading.Event())
    assert [(one.question, one.text) for one in report.answers] == [('Who is there?', 'nobody'), ('And now?', 'a cat')]


def test_the_next_action_has_its_probability_and_horizon(tools):
    report = tools.what_next(None, threading.Event())
    assert [(one.action, one.probability) for one in report.now] == [('take cup', 0.5), ('wash cup', 0.25)]
    assert (report.horizon_s, report.age_s, report.model_id) == (1.5, 0.125, 'known@1')
    assert report.words() == 'Now: take cup (0.50), wash cup (0.25). In 1.5 s: put cup (0.62).'


def test_health_has_the_figures_of_the_robot_and_of_the_server(robots):
    counters = Counters()
    counters.count('cancelled')
    report = RobotTools(robots, 60, counters).health(None, threading.Event())
    assert (report.level, report.sentence, report.server) == ('ok', 'Running.', {'cancelled': 1})
    assert report.values['rate_out_hz'] == '5' and 'rate_out_hz: 5' in report.words()


def test_robots_are_listed_with_model_and_camera(tools):
    (one,) = tools.list_robots(threading.Event()).robots
    assert (one.robot, one.level, one.model_id, one.camera) == ('/known', 'ok', 'known@1', {'rgb': '/known/eye'})


def test_a_robot_that_is_not_there_is_refused_with_those_that_are(tools, monkeypatch):
    monkeypatch.setattr('m3et_ros.cli.mcp.robot_tools.FOUND_S', 0.2)
    with pytest.raises(Refused, match='No robot answers in /nobody on ROS domain .*; there is /known'):
        tools.health('nobody', threading.Event())
    with pytest.raises(Refused, match='use letters'):
        tools.health('no body', threading.Event())
    with pytest.raises(Refused, match='No robot answers'):
        tools.health('x' * MOST_NAME, threading.Event())
    with pytest.raises(Refused, match=f'`robot` has {MOST_NAME + 1} characters'):
        tools.health('x' * (MOST_NAME + 1), threading.Event())


def test_several_robots_need_a_name_and_one_that_goes_away_may_come_back(tools, known_robot, monkeypatch):
    for _ in range(2):
        with known_robot('/other') as other:
            assert tools.robots.node.wait(lambda: '/other' in tools.robots.namespaces(), 60)
            with pytest.raises(Refused, match='several robots, /known, /other; give `robot` one of these names'):
                tools.look(None, 'overlay', threading.Event())
            assert tools.ask('What is it?', 'frame', '/other', threading.Event()).robot == '/other'
            robot = tools.robots.robot('/other')
            assert tools.robots.node.wait(lambda robot=robot: robot.health.level == 'ok', 60)
            assert tools.look('/other', 'colour', threading.Event())[0].robot == '/other'
            assert other.goals == ['What is it?']
        assert tools.robots.node.wait(lambda: '/other' not in tools.robots.namespaces(), 60)
    monkeypatch.setattr('m3et_ros.cli.mcp.robot_tools.FOUND_S', 0.2)
    with pytest.raises(Refused, match='No robot answers in /other'):
        tools.ask('What is it?', 'frame', '/other', threading.Event())


def test_refusals_of_the_robot_and_long_questions_are_sentences(tools, known):
    with pytest.raises(Refused, match='The robot refuses'):
        tools.ask_request(AskQuestion.Request(question='Refuse?'), None, threading.Event())
    begun = len(known.goals)
    with pytest.raises(Refused, match=f'has {MOST_CHARS + 1} characters and at most {MOST_CHARS}'):
        tools.ask('x' * (MOST_CHARS + 1), 'frame', None, threading.Event())
    assert len(known.goals) == begun
    tools.ask('x' * MOST_CHARS, 'frame', None, threading.Event())
    assert known.goals[-1] == 'x' * MOST_CHARS


def test_a_caller_that_leaves_ends_its_wait(tools):
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(Refused, match='cancelled'):
        tools.ask('What is it?', 'frame', None, stopped)


def test_articles_are_left_out():
    assert [without_article(words) for words in ('the red cup', ' a cup ', 'An apple', 'the', 'cup')] == [
        'red cup',
        'cup',
        'apple',
        'the',
        'cup',
    ]
