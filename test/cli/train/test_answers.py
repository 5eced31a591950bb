"""m3et train vqa on a small VQAv2: its answers become those of the model; data that they do not cover is refused."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from m3et_ros.cli.main import main
from m3et_ros.cli.train.answers import candidates, coverage
from m3et_ros.data.checkpoints.m3et import load_checkpoint
from m3et_ros.data.datasets.vqav2 import VQAv2Samples
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS

SAID = ['giraffe'] * 5 + ['zebra'] * 2 + ['yes']
"""The answer of all people to each question."""


@pytest.fixture(scope='module')
def word(tmp_path_factory):
    """Eight questions about one picture in the official files; returns the word of the source."""
    folder = tmp_path_factory.mktemp('vqav2')
    documents = {
        'questions': [{'question_id': i, 'image_id': 9, 'question': 'What is it?'} for i in range(len(SAID))],
        'annotations': [
            {
                'question_id': i,
                'image_id': 9,
                'answer_type': 'other',
                'multiple_choice_answer': answer,
                'answers': [{'answer': answer, 'answer_id': n} for n in range(10)],
            }
            for i, answer in enumerate(SAID)
        ],
    }
    for name, items in documents.items():
        (folder / f'{name}.json').write_text(json.dumps({name: items}))
    cv2.imwrite(str(folder / '000000000009.jpg'), np.full((40, 40, 3), 90, np.uint8))
    return f'vqav2:{folder / "questions.json"},{folder / "annotations.json"},{folder}'


def train(word, out, *options):
    return main(['train', 'vqa', '--data', word, '--out', str(out), '--model', 'tiny', '--batch', '4', *options])


def test_the_answers_of_the_data_set_are_learnt_and_stored(word, tmp_path, capsys):
    assert train(word, tmp_path / 'one', '--samples', '8', '--json') == 0
    shown = capsys.readouterr()
    assert f'{word}: 3 candidate answers, those of 100.0% of 8 questions.' in shown.err
    made = load_checkpoint(tmp_path / 'one/checkpoint')
    assert made.labels.answers == ('giraffe', 'zebra', 'yes') and made.model.config.answers == 3
    assert json.loads(shown.out)['losses']['answer'] > 0
    # A second run from that checkpoint goes on with its head.
    more = ('train', 'vqa', '--data', word, '--from', str(tmp_path / 'one/checkpoint'), '--out', str(tmp_path / 'two'))
    assert main([*more, '--batch', '4', '--samples', '4', '--lr', '1e-9']) == 0
    again = load_checkpoint(tmp_path / 'two/checkpoint')
    before, after = (one.model.state_dict()['answer_head.layers.3.weight'] for one in (made, again))
    assert np.allclose(before, after, atol=1e-4)


def test_answers_of_a_file_are_used_or_refused_with_the_figure(word, tmp_path, capsys):
    (tmp_path / 'some.txt').write_text('Giraffe\nlion\n')
    assert train(word, tmp_path / 'run', '--samples', '4', '--answers', str(tmp_path / 'some.txt')) == 0
    assert '2 candidate answers, those of 62.5% of 8 questions' in capsys.readouterr().err
    assert load_checkpoint(tmp_path / 'run/checkpoint').labels.answers == ('giraffe', 'lion')
    (tmp_path / 'few.json').write_text('["zebra", "yes"]')
    assert train(word, tmp_path / 'no', '--answers', str(tmp_path / 'few.json')) == 1
    shown = capsys.readouterr()
    assert 'those of 37.5% of the questions' in shown.err and 'give --answers' in shown.err
    assert shown.err.count('\n') == 1 and not (tmp_path / 'no').exists()


def test_beside_kitchens_the_answers_of_the_model_stay(word):
    questions, annotations, images = word.removeprefix('vqav2:').split(',')
    data = VQAv2Samples(questions, annotations, images)

    def sources(*names, caches=()):
        return SimpleNamespace(names=names, sets=[data] * len(names), caches=caches)

    assert candidates(('no', 'yes'), sources('cache', word, caches=['cache']), None) == (
        'no',
        'yes',
        'giraffe',
        'zebra',
    )
    assert candidates(('no', 'yes'), sources(word, 'labelled:one'), None) == ('no', 'yes', 'giraffe', 'zebra')
    assert candidates(('no', 'yes'), SimpleNamespace(names=['cache'], sets=[None], caches=['cache']), None) == (
        'no',
        'yes',
    )


def test_a_model_without_the_answers_of_the_kitchen_does_not_cover_it():
    kitchen = SimpleNamespace(names=['cache'], sets=[None], caches=['cache'])
    assert list(coverage(kitchen, ANSWERS)) == []
    assert list(coverage(kitchen, ['giraffe'])) == [('cache', f'the {len(ANSWERS)} answers of the kitchen', 0.0)]
