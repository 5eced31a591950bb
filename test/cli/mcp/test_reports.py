"""Reports for agents: what the tests of the tools do not reach."""

import pytest

from m3et_ros.cli.mcp.reports import ActionReport, AnswerReport, LookReport, NextReport, RobotsReport, rounded

ANSWER = {
    'robot': '/m3et',
    'question': 'What is it?',
    'text': 'a cup',
    'answerable': True,
    'confidence': 0.5,
    'reason': '',
    'explanation': '',
    'suggestions': [],
    'alternatives': {},
    'read_as': '',
    'scope': 'frame',
    'frames_used': 1,
    'age_s': None,
    'frame_id': 'lens',
    'places': [],
    'model_id': 'm@1',
    'latency_s': 0.1,
}
LOOK = {
    'robot': '/m3et',
    'shows': 'depth',
    'width': 4,
    'height': 2,
    'scale': 1,
    'frame_id': 'lens',
    'stamp_ns': 1,
    'age_s': 0.25,
    'in_view': [],
    'depth_range_m': None,
    'model_id': 'm@1',
}


def report_next(**fields):
    common = {'robot': '/m3et', 'now': [], 'next': [], 'horizon_s': 1, 'age_s': None, 'stamp_ns': 1, 'model_id': 'm@1'}
    return NextReport(**common | fields)


def test_numbers_have_four_decimals_wherever_they_are():
    assert rounded({'a': [0.123456, (1.00004, 2)], 'b': 'x', 'c': None}) == {
        'a': [0.1235, [1.0, 2]],
        'b': 'x',
        'c': None,
    }


def test_the_answer_itself_and_guesses_without_words_are_no_alternatives():
    labels = [{'label': 'a cup', 'score': 0.5}, {'label': 'a jar', 'score': 0.123456}, {'label': '', 'score': 0.0}]
    fields = {name: value for name, value in ANSWER.items() if name != 'robot'}
    report = AnswerReport.of('/m3et', fields | {'alternatives': labels, 'confidence': 0.123456})
    assert report.alternatives == {'a jar': 0.1235} and report.confidence == 0.1235


def test_untrained_weights_are_warned_of():
    assert AnswerReport(**ANSWER).words() == 'a cup (confidence 0.50)'
    assert 'no trained weights' in AnswerReport(**ANSWER | {'model_id': 'tiny-random-0'}).words()
    assert 'no trained weights' in LookReport(**LOOK | {'model_id': 'tiny-random-0'}).words()
    assert 'no trained weights' in report_next(model_id='tiny-random-0').words()


def test_a_written_answer_without_words_says_so():
    assert AnswerReport(**ANSWER | {'text': ''}).words() == '(no words) (confidence 0.50)'


def test_nothing_in_view_and_no_depth_are_said():
    words = LookReport(**LOOK).words()
    assert words == 'Image of /m3et: 4 x 2 pixels, 0.25 s old. Depth is unknown everywhere. No class is in view.'


@pytest.mark.parametrize(
    ('probability', 'words'),
    [(0.5, 'Now: take cup (0.50).'), (0.49, 'Now: no action (probability 0.51).')],
    ids=['likely', 'unlikely'],
)
def test_a_present_action_is_named_where_there_is_likely_one(probability, words):
    now = [ActionReport(action='take cup', probability=probability)]
    assert report_next(now=now).words() == f'{words} The next action is unknown.'


def test_no_robots_are_a_sentence():
    assert RobotsReport(robots=[]).words() == 'No robot answers; start one with "m3et robot".'
