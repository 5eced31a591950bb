"""Pictures of the report: the asked frame where it is known, else a strip, and nothing that is not there."""

import base64

import cv2
import numpy as np
import pytest

from m3et_ros.evaluation.jobs import JobResult
from m3et_ros.evaluation.report.thumbnails import Thumbnails, with_pictures
from m3et_ros.evaluation.tasks.eqa_results import EqaRun

GREYS = (20, 120, 220)
LAYOUT = {'width': 40, 'height': 30, 'columns': 2}


def run(sheet=LAYOUT, places=(0, 1, 2, None)):
    answers = [{'question_id': f'q{i}', 'answer': 'x', 'picture': place} for i, place in enumerate(places)]
    part = {'bag': 'a', 'answers': answers} | ({} if sheet == 'none' else {'sheet': sheet})
    return EqaRun({}, (), (JobResult(part, {}),))


@pytest.fixture
def folder(tmp_path):
    """A sheet of three grey pictures in two rows."""
    sheet = np.zeros((60, 80, 3), np.uint8)
    for place, grey in enumerate(GREYS):
        row, column = divmod(place, 2)
        sheet[30 * row : 30 * row + 30, 40 * column : 40 * column + 40] = grey
    cv2.imwrite(str(tmp_path / 'a.jpg'), sheet)
    return tmp_path


def decoded(uri):
    data = base64.b64decode(uri.removeprefix('data:image/jpeg;base64,'))
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def test_a_question_has_the_picture_of_its_frame(folder):
    found = Thumbnails(run(), [folder])
    for place, grey in enumerate(GREYS):
        picture = decoded(found.frame(f'q{place}'))
        assert picture.shape == (30, 40, 3) and abs(picture[5:-5, 5:-5].mean() - grey) < 3
    assert found.frame('q3') == found.frame('strange') == found.strip('a') == ''


def test_a_strip_stands_for_what_is_not_about_a_frame(folder):
    found = Thumbnails(run('none'), [folder.parent / 'nowhere', folder])
    assert found.frame('q0') == '' and decoded(found.strip('a')).shape == (60, 80, 3)
    assert found.strip('other') == ''


def test_pictures_that_are_gone_or_too_small_are_none(folder):
    assert Thumbnails(run(), [folder / 'none']).frame('q0') == ''
    assert Thumbnails(run(places=(7,)), [folder]).frame('q0') == ''
    (folder / 'a.jpg').write_bytes(b'no picture')
    assert Thumbnails(run(), [folder]).frame('q0') == ''


def test_the_asked_frame_of_any_run_goes_before_a_strip(folder):
    samples = [{'question_id': name, 'episode': 'a'} for name in ('q1', 'q9')]
    shown = with_pictures(samples, [Thumbnails(run('none'), [folder]), Thumbnails(run(), [folder])])
    assert [decoded(sample['picture']).shape[:2] for sample in shown] == [(30, 40), (60, 80)]
