"""Contact sheets: what is chosen, and that it can be drawn."""

import cv2
import numpy as np
import pytest

from m3et_ros.evaluation.predictions import Prediction
from m3et_ros.evaluation.report.pictures import COLUMNS, choose_predictions, draw_frames, draw_predictions


def prediction(index, family, score):
    return Prediction(
        index=index,
        key=f'seed {index} tick 0',
        cluster=f'seed {index}',
        family=family,
        question='Is there a cup in view?',
        answer='yes',
        predicted='yes' if score else 'no',
        confidence=0.5,
        score=float(score),
    )


def images(rng, *left_out):
    made = {name: rng.random((16, 16, 3)) for name in ('rgb', 'masked', 'rebuilt')}
    made |= {name: rng.uniform(0.5, 3, (16, 16)) for name in ('measured', 'completed', 'depth')}
    made |= {name: rng.integers(0, 5, (4, 4)) for name in ('predicted', 'labels')}
    made['measured'][:8] = np.nan
    made['labels'][0] = 255
    return {name: image for name, image in made.items() if name not in left_out}


def test_right_and_wrong_ones_from_many_families():
    predictions = [prediction(i, 'abcd'[i % 4 if i < 30 else 0], i % 3 == 0) for i in range(60)]
    chosen = choose_predictions(predictions, 16)
    assert [bool(r.score) for r in chosen] == [True] * 8 + [False] * 8
    assert {r.family for r in chosen[:4]} == {r.family for r in chosen[8:12]} == set('abcd')
    few = [prediction(0, 'a', True)] + [prediction(i, 'a', False) for i in range(1, 30)]
    assert [bool(r.score) for r in choose_predictions(few, 16)] == [True] + [False] * 15
    assert choose_predictions(few[:2], 16) == few[:2]


@pytest.mark.parametrize('left_out', [(), ('measured', 'completed', 'depth'), ('rgb', 'masked', 'rebuilt', 'labels')])
def test_frames_are_drawn_with_what_there_is(tmp_path, left_out):
    rng = np.random.default_rng(0)
    path = tmp_path / 'pictures' / 'frames.png'
    draw_frames([(f'seed {i} tick 0', images(rng, *left_out)) for i in range(2)], path, 'a title')
    drawn = cv2.imread(str(path))
    columns = len(COLUMNS) - len(left_out)
    assert drawn.shape[1] == pytest.approx(40 + columns * 181, abs=2) and (drawn != 255).mean() > 0.3
    with pytest.raises(ValueError, match='no frames'):
        draw_frames([], path, 'a title')


def test_answers_are_green_or_red(tmp_path):
    path, picture = tmp_path / 'answers.png', np.full((16, 16, 3), 120, np.uint8)
    found = []
    for score in (True, False):
        draw_predictions([(prediction(0, 'existence', score), picture)], path, '')
        _blue, green, red = cv2.imread(str(path)).astype(int).transpose(2, 0, 1)
        found.append(((green - red > 60).any(), (red - green > 60).any()))
    assert found == [(True, False), (False, True)]
    with pytest.raises(ValueError, match='no predictions'):
        draw_predictions([], path, '')
