from dataclasses import replace

import cv2
import numpy as np
import pytest

from m3et_ros.cli.demo.poster import (
    BOTTOM,
    DPI,
    RIGHT,
    TOP,
    UNKNOWN,
    WIDTH,
    WRONG,
    Caption,
    Layout,
    Poster,
    PosterRow,
    draw,
)


def poster_row(depth, **marks):
    shape = depth.shape
    return PosterRow(
        np.full((*shape, 3), 200, np.uint8),
        depth,
        np.ones(shape, np.float32),
        np.zeros((*shape, 3), np.uint8),
        np.ones(shape, np.uint8),
        1.5,
        (Caption('What?', 'cup  0.50', anticipated='now: take cup  0.40', truth='in truth: take cup', **marks),),
    )


def pixels(path, colour):
    wanted = [int(colour[i : i + 2], 16) for i in (5, 3, 1)]  # OpenCV has B G R
    return (cv2.imread(str(path)) == wanted).all(-1).sum()


def test_a_picture_with_a_row_per_moment(tmp_path):
    row = poster_row(np.linspace(1, 2, 12 * 16, dtype=np.float32).reshape(12, 16))
    sizes = []
    for rows in (1, 3):
        path = tmp_path / 'new' / f'{rows}.png'
        draw(Poster('title', 'subtitle', (row,) * rows, {1: ('cup', (1.0, 0.0, 0.0))}), path)
        sizes.append(cv2.imread(str(path)).shape)
    assert sizes[0][1] == sizes[1][1] == WIDTH * DPI and sizes[1][0] > 1.9 * sizes[0][0]


def test_unknown_depth_stands_out_and_classes_have_their_colour(tmp_path):
    path = tmp_path / 'sheet.png'
    draw(Poster('', '', (poster_row(np.full((12, 16), np.nan, np.float32)),), {1: ('cup', (1.0, 0.0, 0.0))}), path)
    assert pixels(path, UNKNOWN) > 20_000  # a whole picture
    assert pixels(path, '#ff0000') > 100


def test_a_poster_without_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match='no rows'):
        draw(Poster('', '', ()), tmp_path / 'sheet.png')


@pytest.mark.parametrize(
    ('marks', 'green', 'red'),
    [
        ({}, False, False),
        ({'right': True, 'expected': True}, True, False),
        ({'right': False, 'true_answer': 'bowl'}, False, True),
        ({'right': True, 'expected': False}, True, True),
    ],
)
def test_right_and_wrong_answers_are_marked_in_green_and_red(tmp_path, marks, green, red):
    path = tmp_path / 'sheet.png'
    draw(Poster('', '', (poster_row(np.ones((12, 16), np.float32), **marks),)), path)
    assert (pixels(path, RIGHT) > 10, pixels(path, WRONG) > 10) == (green, red)


def test_a_long_answer_stays_in_its_column(tmp_path):
    row = poster_row(np.ones((12, 16), np.float32), right=False, true_answer='nothing like that is in view')
    (caption,) = row.captions
    row = replace(row, captions=(replace(caption, answer='the left half of the view  0.97', anticipated='', truth=''),))
    draw(Poster('', '', (row,)), tmp_path / 'sheet.png')
    red = (cv2.imread(str(tmp_path / 'sheet.png')) == [int(WRONG[i : i + 2], 16) for i in (5, 3, 1)]).all(-1)
    layout = Layout.of((row,))
    beyond = np.zeros(len(red[0]), bool)
    beyond[round((layout.left(1) + layout.column) * DPI) :] = True
    below = red[round(TOP * DPI) : -round(BOTTOM * DPI)]  # without the legend of the marks
    assert below.sum() > 100 and not below[:, beyond].any()
