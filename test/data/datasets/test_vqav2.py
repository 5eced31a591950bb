"""VQAv2 from small files of the official form; scores against the metric."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3et_ros.data.datasets.base import LIGHT
from m3et_ros.data.datasets.vqav2 import VQAv2Samples, candidate_answers, read_answers, soft_scores
from m3et_ros.data.errors import InputError
from m3et_ros.evaluation.metrics.answers import soft_score


def annotation(number, answers, kind='other'):
    return {
        'question_id': number,
        'image_id': 9,
        'answer_type': kind,
        'multiple_choice_answer': answers[0],
        'answers': [{'answer': answer, 'answer_id': i + 1} for i, answer in enumerate(answers)],
    }


@pytest.fixture
def files(tmp_path):
    """Two questions about one picture, and one about another."""
    documents = {
        'questions': [
            {'question_id': 1, 'image_id': 9, 'question': 'What is red? '},
            {'question_id': 2, 'image_id': 9, 'question': 'Is it on the left?'},
            {'question_id': 7, 'image_id': 25, 'question': 'How many?'},
        ],
        'annotations': [
            annotation(7, ['2'] * 9 + ['3'], 'number'),
            annotation(2, ['Yes', 'yes '] * 2 + ['no'] * 6, 'yes/no'),
            annotation(1, ['cup'] * 3 + ['mug'] * 2 + list('abcde')),
        ],
    }
    for name, items in documents.items():
        (tmp_path / f'{name}.json').write_text(json.dumps({name: items, 'data_subtype': 'train2014'}))
    (tmp_path / 'images').mkdir()
    for number in (9, 25, 33):
        cv2.imwrite(str(tmp_path / f'images/COCO_train2014_{number:012d}.jpg'), np.full((8, 8, 3), number, np.uint8))
    return tmp_path


def opened(folder, **options):
    return VQAv2Samples(folder / 'questions.json', folder / 'annotations.json', folder / 'images', **options)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(['yes', 'no', '2', 'red cup', 'left']), min_size=4, max_size=12))
def test_scores_are_those_of_the_metric(said):
    scores = soft_scores(said)
    assert set(scores) == set(said) and list(scores.values()) == sorted(scores.values(), reverse=True)
    for answer, score in scores.items():
        assert score == pytest.approx(soft_score(answer, said))


def test_samples_ask_in_the_order_of_the_questions(files):
    data = opened(files)
    assert len(data) == 3
    first, second, third = (data[i] for i in range(3))
    assert (first.question, first.family, first.key) == ('What is red?', 'other', 'question 1')
    assert first.answers == pytest.approx({'cup': 0.9, 'mug': 0.6, **dict.fromkeys('abcde', 0.3)})
    assert first.answer == 'cup' and first.depth is None and first.semseg is None
    assert second.answers == {'yes': 1, 'no': 1} and second.family == 'yes/no'
    assert third.answers == pytest.approx({'2': 1, '3': 0.3}) and abs(int(third.rgb.mean()) - 25) <= 1


def test_pictures_without_a_prefix_are_found(files):
    for path in (files / 'images').iterdir():
        path.rename(path.with_name(path.name[-16:]))
    assert opened(files)[2].rgb.shape == (8, 8, 3)


def test_candidates_are_the_common_answers():
    counts = {'blue': 9, 'red': 10, 'green': 8, 'grey': 8}
    assert candidate_answers(counts, most=0) == ('red', 'blue')
    assert candidate_answers(counts, most=3) == ('red', 'blue', 'green')
    assert candidate_answers(counts, least=1, most=0) == candidate_answers(counts) == ('red', 'blue', 'green', 'grey')
    with pytest.raises(ValueError, match='least is 0'):
        candidate_answers(counts, least=0)


def test_the_commonest_answers_of_the_file_are_counted(files):
    document = json.loads((files / 'annotations.json').read_text())
    document['annotations'] += [annotation(8, ['Two Cups'] * 10), annotation(9, ['b'] * 3 + ['a'] * 7)]
    del document['annotations'][-1]['multiple_choice_answer']
    (files / 'annotations.json').write_text(json.dumps(document))
    assert opened(files).commonest == {'2': 1, 'yes': 1, 'cup': 1, 'two cups': 1, 'a': 1}


def test_a_question_is_covered_by_one_of_its_commonest_answers(files):
    data = opened(files)
    assert [data.covered(answers) for answers in ((), ('mug', '3'), ('cup',), ('cup', 'no'), ('2', 'yes', 'cup'))] == [
        0,
        0,
        pytest.approx(1 / 3),
        pytest.approx(2 / 3),
        1,
    ]


def test_the_words_of_all_people_are_there(files):
    data = opened(files)
    assert data.people(1) == ['Yes', 'yes ', 'Yes', 'yes ', *['no'] * 6] and len(data.people(0)) == 10
    assert (data.image(2), data.question_id(2)) == (25, 7)


def test_answers_come_from_a_list_or_from_lines(tmp_path):
    (tmp_path / 'some.json').write_text('["Red ", "blue", "red"]')
    (tmp_path / 'some.txt').write_text('Red\n\n  blue\n')
    assert read_answers(tmp_path / 'some.json') == read_answers(tmp_path / 'some.txt') == ('red', 'blue')
    (tmp_path / 'none.txt').write_text('\n')
    (tmp_path / 'numbers.json').write_text('[1]')
    for name, words in (('none.txt', 'no list'), ('numbers.json', 'no list'), ('other.txt', 'cannot be read')):
        with pytest.raises(InputError, match=words):
            read_answers(tmp_path / name)


@pytest.mark.parametrize(
    ('name', 'change', 'words'),
    [
        ('annotations', lambda items: items.pop(), 'lacks the answers of 1 questions, the first is 1'),
        ('annotations', lambda items: items[0]['answers'].__delitem__(slice(3, None)), 'question 7 .* 3 answers'),
        ('annotations', lambda items: items[0].pop('answers'), 'answers None'),
        ('questions', lambda items: items[0].update(image_id='9'), "image_id '9'"),
        ('questions', lambda items: items[0].update(image_id=404), 'lacks 1 of 3 pictures, .*000000000404.jpg'),
        ('questions', lambda items: items.clear(), 'no list of questions'),
    ],
)
def test_files_that_do_not_fit_are_one_sentence(files, name, change, words):
    path = files / f'{name}.json'
    document = json.loads(path.read_text())
    change(document[name])
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=words):
        opened(files)


def test_missing_and_cut_files(files):
    (files / 'annotations.json').write_text((files / 'annotations.json').read_text()[:200])
    with pytest.raises(InputError, match='annotations.json is not JSON'):
        opened(files)
    (files / 'questions.json').unlink()
    with pytest.raises(InputError, match='questions.json cannot be read'):
        opened(files)
    with pytest.raises(ValueError, match='3 answers'):
        soft_scores(['a', 'b', 'c'])


def test_four_people_are_enough_and_three_are_not(files):
    document = {'annotations': [annotation(number, ['a', 'b', 'c', 'd']) for number in (1, 2, 7)]}
    (files / 'annotations.json').write_text(json.dumps(document))
    assert opened(files)[0].answers.keys() == set('abcd')
    document['annotations'][1]['answers'].pop()
    (files / 'annotations.json').write_text(json.dumps(document))
    with pytest.raises(InputError, match='question 2 in .* has 3 answers'):
        opened(files)
    with pytest.raises(ValueError, match='3 answers'):
        soft_scores(['a'] * 3)


def test_noise_and_seed_reach_the_samples(files):
    data = opened(files, noise=LIGHT, seed=7)
    assert (data.noise, data.seed) == (LIGHT, 7)
