"""m3et evaluate on small public data sets of the official layouts: VQAv2, NYU Depth V2 and ImageNet with labels."""

import csv
import json

import cv2
import numpy as np
import pytest
from tiny_vlms import vlm_folder

from m3et_ros.cli.evaluate.public import kind_of
from m3et_ros.cli.main import main
from m3et_ros.data.checkpoints.m3et import save_checkpoint
from m3et_ros.evaluation.metrics.answers import soft_score
from m3et_ros.evaluation.tasks.vlm import PROMPT
from m3et_ros.runtime.open_model import open_checkpoint
from m3et_ros.training.teach.extend import with_answers

PEOPLE = [['two'] * 4 + ['2'] * 6, ['giraffe'] * 3 + ['zebra'] * 7, ['Yes'] * 10]
PUBLIC = [('vqav2:a,b,c', 'vqav2'), ('nyu:x', 'nyu'), ('imagenet:x', 'imagenet'), ('test', ''), ('runs:1', '')]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Pictures and annotations of three data sets, and a model with the answers of VQAv2."""
    root, rng = tmp_path_factory.mktemp('public'), np.random.default_rng(0)
    for name, depth, labels, inner in (
        ('nyu', 'depth', 'label', ''),
        ('imagenet', 'depth', 'semseg', 'n01'),
        ('vqav2', '', '', ''),
    ):
        for part in ('rgb', depth, labels):
            (root / name / part / inner).mkdir(parents=True, exist_ok=True)
        for i in range(3):
            rgb = rng.integers(0, 256, (40, 48, 3), np.uint8)
            cv2.imwrite(str(root / name / 'rgb' / inner / f'{i:012d}.jpg'), rgb)
            if depth:
                metres = np.full((40, 48), 1500 + 100 * i, np.uint16)
                metres[:8] = 0
                cv2.imwrite(str(root / name / depth / inner / f'{i:012d}.png'), metres)
                cv2.imwrite(str(root / name / labels / inner / f'{i:012d}.png'), np.full((40, 48), 1, np.uint8))
    (root / 'imagenet/semseg/classes.json').write_text('["floor", "wall"]')
    asked = [{'question_id': i, 'image_id': i, 'question': 'What is it?'} for i in range(3)]
    said = [
        {'question_id': i, 'answer_type': 'other', 'answers': [{'answer': answer} for answer in people]}
        for i, people in enumerate(PEOPLE)
    ]
    (root / 'q.json').write_text(json.dumps({'questions': asked}))
    (root / 'a.json').write_text(json.dumps({'annotations': said}))
    save_checkpoint(root / 'model', with_answers(open_checkpoint('tiny'), ['2', 'zebra', 'lion']), card='')
    return root


def vqav2(folder):
    return f'vqav2:{folder / "q.json"},{folder / "a.json"},{folder / "vqav2/rgb"}'


def evaluate(verb, data, out, *options):
    return main(['evaluate', verb, '--data', data, '--out', str(out), *map(str, options)])


@pytest.mark.parametrize(('word', 'kind'), PUBLIC, ids=[word for word, _ in PUBLIC])
def test_public_data_is_known_by_its_word(word, kind):
    assert kind_of(word) == kind


def test_vqav2_is_scored_by_the_official_metric(folder, tmp_path, capsys):
    line = ('vqa', vqav2(folder), tmp_path / 'out', '--model', folder / 'model', '--generate')
    assert evaluate(*line, '--json') == 0
    document = json.loads(capsys.readouterr().out)
    rows = list(csv.DictReader((tmp_path / 'out/per_sample.csv').open()))
    scores = [soft_score(row['predicted'], people) for row, people in zip(rows, PEOPLE, strict=True)]
    assert [float(row['score']) for row in rows] == scores
    metrics = document['metrics']
    assert metrics['accuracy']['value'] == pytest.approx(np.mean(scores), abs=1e-6)
    assert metrics['questions'] == 3 and metrics['covered'] == pytest.approx(2 / 3, abs=1e-6)
    assert json.loads((tmp_path / 'out/results.json').read_text()) == [
        {'question_id': i, 'answer': row['predicted']} for i, row in enumerate(rows)
    ]
    assert document['made_by']['data']['files'].keys() == {'q.json', 'a.json'}
    assert document['made_by']['settings'] == {'samples': 3, 'batch': 32, 'shown': ['rgb', 'depth']}
    assert (tmp_path / 'out/pictures/answers.png').exists() and 'written' in metrics
    assert evaluate(*line, '--samples', 1, '--without', 'rgb', '--at-least', 1) == 2
    assert '66.7%' in capsys.readouterr().out


def test_a_vision_language_model_answers_vqav2(folder, tmp_path, capsys):
    made = vlm_folder(tmp_path / 'vlm')
    line = ('vqa', vqav2(folder), tmp_path / 'out', '--answerer', 'vlm', '--answerer-checkpoint', made, '--samples', 1)
    assert evaluate(*line, '--device', 'cpu', '--json') == 0
    document = json.loads(capsys.readouterr().out)
    assert document['made_by']['settings'] == {'samples': 1, 'prompt': PROMPT}
    assert document['metrics']['questions'] == 1 and 'covered' not in document['metrics']


@pytest.mark.parametrize('kind', ['nyu', 'imagenet'])
def test_pictures_of_public_data_are_reconstructed(folder, tmp_path, capsys, kind):
    line = ('reconstruction', f'{kind}:{folder / kind}', tmp_path / 'out', '--model', folder / 'model')
    assert evaluate(*line, '--json') == 0
    document = json.loads(capsys.readouterr().out)
    metrics, settings = document['metrics'], document['made_by']['settings']
    assert metrics['frames'] == settings['frames'] == document['made_by']['data']['samples'] == 3
    assert 0 < metrics['hidden']['psnr_hidden_db']['value'] < 60
    assert metrics['full']['segmentation']['classes'] == 1
    assert list(metrics['full']['segmentation']['iou']) == ['wall']
    # The depth of the files is the input as it is: without a disturbance four fifths of the pixels are known.
    assert metrics['full']['depth_where_measured']['pixels'] == 3 * 32 * 26
    assert (tmp_path / 'out/per_sample.csv').exists()
    assert evaluate(*line, '--frames', 1) == 0
    assert {'nyu': 'hidden patches, m ', 'imagenet': 'steps of the pseudo depth'}[kind] in capsys.readouterr().out


@pytest.mark.parametrize(
    ('verb', 'kind', 'options', 'words'),
    [
        ('vqa', 'vqav2', ('--clean',), '--noise is for kitchens of a cache'),
        ('vqa', 'vqav2', ('--blind', 'tiny'), '--blind is for kitchens'),
        ('vqa', 'nyu', (), 'cannot be measured here; give a cache of kitchens, or vqav2:QUESTIONS'),
        ('reconstruction', 'vqav2', (), 'or nyu:PATH[,MAP.json] or imagenet:ROOT'),
    ],
    ids=['noise', 'blind', 'no questions', 'no depth'],
)
def test_other_data_and_idle_options_are_refused(folder, tmp_path, capsys, verb, kind, options, words):
    data = vqav2(folder) if kind == 'vqav2' else f'{kind}:{folder / kind}'
    assert evaluate(verb, data, tmp_path, '--model', folder / 'model', *options) == 1
    assert words in capsys.readouterr().err
