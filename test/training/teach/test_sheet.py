"""The contact sheet: frames in order, things boxed in their colours."""

import shutil

import cv2
import numpy as np

from m3et_ros.training.teach.sheet import ABREAST, HEIGHT, MARGIN, SHOWN, WIDTH, draw_sheet


def test_the_sheet_shows_frames_of_both_splits_with_their_things(labelled, student, tmp_path):
    own = shutil.copytree(labelled, tmp_path / 'own')
    sheet = cv2.imread(str(draw_sheet(own, student.labels.classes)))
    assert sheet.shape == (SHOWN // ABREAST * (HEIGHT + MARGIN), ABREAST * WIDTH, 3)
    boxed = sheet.copy()
    table = own / 'objects.csv'
    table.write_text('\n'.join(line for line in table.read_text().splitlines() if ',glass,' not in line))
    bare = cv2.imread(str(draw_sheet(own, student.labels.classes)))
    changed = (boxed != bare).any(2)
    frames = changed.reshape(SHOWN // ABREAST, -1, ABREAST, WIDTH).any((1, 3))
    assert frames.any() and not frames.all()  # the thing is in two frames of three
    assert np.array_equal(boxed[:MARGIN], bare[:MARGIN])
