"""m3et train talk, m3et evaluate talk and m3et ask --answerer, on real, small kitchens."""

import json

import cv2
import numpy as np
import pytest

from m3et_ros.cli.main import main
from m3et_ros.data.checkpoints.talk import load_talk
from m3et_ros.data.kitchen.cache.generate import generate


@pytest.fixture(scope='module')
def caches(tmp_path_factory):
    pytest.importorskip('mujoco')
    root = tmp_path_factory.mktemp('caches')
    return [
        generate(root, seeds=seeds, size=32, stride=25, frames=6, backend='raycast', workers=0, progress=False)
        for seeds in (range(3), range(20_003, 20_005))
    ]


def command(*words):
    return main([*map(str, words)])


SMALL = (
    '--from',
    'tiny',
    '--every',
    1,
    '--side',
    3,
    '--width',
    64,
    '--samples',
    8,
    '--words',
    4,
    '--connect',
    4,
    '--batch',
    4,
    '--questions',
    2,
)


@pytest.fixture(scope='module')
def trained(caches, tmp_path_factory):
    out = tmp_path_factory.mktemp('runs') / 'talk'
    assert command('train', 'talk', '--data', caches[0], '--out', out, '--distil', 4, '--share', 0.5, *SMALL) == 0
    return out


def test_the_hybrid_and_its_teacher_are_written(trained, caches):
    made, teacher = load_talk(trained / 'checkpoint'), load_talk(trained / 'teacher')
    assert made.config.model.language.schedule == 'STST' and teacher.config.model.language.schedule == 'TTTT'
    assert made.vision == 'tiny-random-0' and made.model_id.startswith('matvlm@')
    card = (trained / 'checkpoint/README.md').read_text()
    assert '3_distil: 1 steps' in card and '--share 0.5' in card and 'not a test result' in card


def test_a_student_of_a_teacher_trained_before(trained, caches, tmp_path, capsys):
    assert (
        command(
            'train',
            'talk',
            '--data',
            caches[0],
            '--out',
            tmp_path,
            '--teacher',
            trained / 'teacher',
            '--views',
            trained / 'views',
            '--distil',
            4,
            *SMALL,
            '--half',
            '--json',
        )
        == 0
    )
    assert [stage['stage'] for stage in json.loads(capsys.readouterr().out)['stages']] == ['3_distil']
    assert load_talk(tmp_path / 'checkpoint').config.model.language.schedule == 'STTT'


def test_emma_is_trained_and_measured(caches, trained, tmp_path, capsys):
    assert (
        command(
            'train',
            'talk',
            '--variant',
            'emma',
            '--data',
            caches[0],
            '--out',
            tmp_path / 'emma',
            '--views',
            trained / 'views',
            *SMALL,
        )
        == 0
    )
    words = (
        'evaluate',
        'talk',
        '--model',
        tmp_path / 'emma/checkpoint',
        '--from',
        'tiny',
        '--data',
        caches[1],
        '--samples',
        13,
        '--views',
        3,
        '--out',
        tmp_path / 'found',
    )
    assert command(*words) == 0
    before = (tmp_path / 'found/metrics.json').read_bytes()
    metrics = json.loads(before)['metrics']
    assert metrics['answers']['all']['samples'] == 13 and metrics['descriptions']['descriptions'] == 3
    assert len((tmp_path / 'found/descriptions.csv').read_text().splitlines()) == 4
    assert 'descriptions' in capsys.readouterr().out
    assert command(*words) == 0 and (tmp_path / 'found/metrics.json').read_bytes() == before


def test_a_picture_is_told_about(trained, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / 'x.png'), np.full((24, 32, 3), 90, np.uint8))
    words = (
        'ask',
        'Describe the scene.',
        '--image',
        tmp_path / 'x.png',
        '--model',
        'tiny',
        '--answerer',
        'matvlm',
        '--answerer-checkpoint',
        trained / 'checkpoint',
    )
    assert command(*words, '--json') == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer['model_id'].startswith('matvlm@') and answer['frames_used'] == 1
    assert command(*words, '--stream') == 0
    assert capsys.readouterr().out.startswith(answer['text'])


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (('train', 'talk', '--data', 1, *SMALL), 'no training kitchens'),
        (('train', 'talk', '--data', 0, '--variant', 'emma', *SMALL, '--side', 4), 'multiples of 3'),
        (('train', 'talk', '--data', 0, '--variant', 'emma', *SMALL, '--teacher', 'x'), 'Only matvlm has a teacher'),
        (('evaluate', 'talk', '--data', 1, '--from', 'tiny', '--model', 'nowhere'), 'There is no nowhere'),
        (('ask', 'x?', '--answerer', 'emma'), 'with --image only'),
    ],
)
def test_what_cannot_be_done_is_one_sentence(caches, tmp_path, capsys, words, sentence):
    words = [
        caches[word] if isinstance(word, int) and i and words[i - 1] == '--data' else word
        for i, word in enumerate(words)
    ]
    out = () if words[0] == 'ask' else ('--out', tmp_path / 'out')
    assert command(*words, *out) != 0
    said = capsys.readouterr().err
    assert sentence in said and 'Traceback' not in said
