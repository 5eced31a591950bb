"""Scores of frames measured by hand."""

import numpy as np
import pytest

from m3et_ros.evaluation.tasks.reconstruction import Frames
from m3et_ros.evaluation.tasks.reconstruction_scores import frame_rows, reconstruction_scores


def sums(pixels, rmse):
    """Rows of depth sums with this RMSE, all pixels off by as much."""
    return np.array([[n, n * e**2, n * e, 0] for n, e in zip(pixels, rmse)], float)


@pytest.fixture
def frames():
    """Four frames of two kitchens, two classes of three in the truth."""
    matrices = np.zeros((4, 3, 3), np.int64)
    matrices[:, 0, 0], matrices[:, 1, 1], matrices[:, 1, 2] = 6, 1, 1
    holes = {
        f'holes_{name}': sums([10, 30, 0, 0], [error, error, 9, 9])
        for name, error in (
            ('model', 0.2),
            ('model_alone', 0.3),
            ('auto', 0.15),
            ('smooth', 0.25),
            ('nearest', 0.4),
            ('telea', 0.8),
            ('navier_stokes', 0.1),
        )
    }
    return Frames(
        [f'seed {k // 2} tick {k}' for k in range(4)],
        [f'seed {k // 2}' for k in range(4)],
        {
            'psnr_hidden': np.array([10, 20, np.nan, 30]),
            'psnr_pasted': np.array([40, 40, 100, 60.0]),
            'labels': matrices,
            'known': sums([5] * 4, [0.3, 0.3, 0.3, 0.5]),
            **holes,
        },
    )


def test_scores_by_hand(frames):
    scores = reconstruction_scores(frames, ('wall', 'cup', 'pan'))
    assert scores['frames'] == 4 and scores['rgb_only'] == {}
    assert scores['hidden']['psnr_hidden_db']['value'] == 20 and scores['hidden']['psnr_pasted_db']['value'] == 60
    seen = scores['full']['segmentation']
    assert seen['iou'] == {'wall': 1, 'cup': 0.5} and seen['classes'] == 2 and seen['pixels'] == 32
    assert seen['miou']['value'] == 0.75 and seen['pixel_accuracy']['value'] == pytest.approx(7 / 8)
    assert scores['full']['depth_where_measured']['rmse_m']['value'] == pytest.approx(0.13**0.5, abs=1e-6)
    assert scores['full']['depth_where_measured']['rmse_m']['kitchens'] == 2


def test_the_model_against_the_fillers(frames):
    holes = reconstruction_scores(frames)['full']['depth_in_holes']
    assert holes['frames_with_holes'] == 2 and holes['model']['pixels'] == 40
    assert holes['model']['rmse_m']['value'] == pytest.approx(0.2)
    for way, error in (('model_alone', 0.3), ('auto', 0.15), ('smooth', 0.25)):
        assert holes[way]['rmse_m']['value'] == pytest.approx(error)
    below = {name: holes[name]['model_below']['value'] for name in ('nearest', 'telea', 'navier_stokes')}
    assert below == pytest.approx({'nearest': 0.5, 'telea': 0.75, 'navier_stokes': -1})
    assert 'iou' not in reconstruction_scores(frames)['full']['segmentation']


def test_a_row_for_each_frame(frames):
    rows = frame_rows(frames)
    assert [row['key'] for row in rows] == frames.keys
    assert rows[2]['psnr_hidden'] is None and rows[2]['holes_model_rmse_m'] is None
    assert rows[0]['holes_telea_rmse_m'] == pytest.approx(0.8) and rows[0]['holes_telea_pixels'] == 10
    assert rows[1]['labels_miou'] == 0.75 and rows[1]['labels_pixel_accuracy'] == 0.875


def test_a_measure_without_any_score_is_none():
    scores = reconstruction_scores(Frames(['seed 1 tick 0'], ['seed 1'], {'psnr_hidden': np.array([np.nan])}))
    assert scores['hidden'] == {'psnr_hidden_db': {'value': None}}
