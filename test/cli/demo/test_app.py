"""The whole robot for a few seconds: real processes on real DDS."""

import json

import cv2
import pytest

SMALL = ('--model', 'tiny', '--width', '96', '--height', '72', '--seconds', '2', '--rows', '2')


@pytest.fixture(scope='module')
def shown(m3et, tmp_path_factory):
    """A short demo, its output and its folder."""
    folder = tmp_path_factory.mktemp('demo')
    result = m3et('demo', *SMALL, '--out', folder, timeout=100)
    assert result.returncode == 0, result.stderr
    return result, folder


def test_the_first_line_says_that_the_weights_are_random(shown):
    assert shown[0].stdout.startswith('tiny has no trained weights yet: this is tiny-random-0')


def test_answers_come_with_what_they_rest_on(shown):
    answers = [line for line in shown[0].stdout.splitlines() if 'confidence' in line]
    assert len(answers) == 4
    assert all('tiny-random-0' in line and 'ms old' in line for line in answers)
    assert shown[0].stdout.count('(in truth: ') == 2
    assert 'frames/s in' in shown[0].stdout and 'age of a result' in shown[0].stdout


def test_the_picture_is_written(shown):
    picture = cv2.imread(str(shown[1] / 'sheet.png'))
    assert picture.shape[1] == 1540 and picture.shape[0] > 900
    assert len(set(map(tuple, picture.reshape(-1, 3)[::7]))) > 500


def test_a_program_reads_numbers(m3et, tmp_path):
    result = m3et('demo', *SMALL, '--rows', '1', '--no-sheet', '--json', '--out', tmp_path / 'none', timeout=100)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found['model_id'] == 'tiny-random-0' and not found['trained'] and not (tmp_path / 'none').exists()
    assert found['frames_out'] > 0 and 0 < found['age_s']['p50'] <= found['age_s']['p95']
    (moment,) = found['moments']
    assert len(moment['answers']) == 2 and set(moment['truth']) == {'now', 'next'}
    assert {'now', 'next'} < set(moment['anticipation'])


def test_a_model_that_is_not_there_ends_the_demo_with_the_reason(m3et):
    result = m3et('demo', '--model', '/none', *SMALL[2:], timeout=100)
    assert result.returncode == 1
    assert 'The model node cannot start' in result.stderr and '/none' in result.stderr


def test_a_node_that_dies_is_quoted(m3et, tmp_path, monkeypatch):
    (tmp_path / 'mujoco.py').write_text('raise ImportError("no simulator")\n')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    result = m3et('demo', *SMALL, timeout=100)
    assert result.returncode == 1 and 'Traceback' not in result.stderr
    assert 'camera ended by itself with exit code 1; its last lines:' in result.stderr
