"""More classes and answers: the old ones keep their outputs, and new ones never win before they are learnt."""

import shutil
from dataclasses import replace

import pytest
import torch

from m3et_ros.data.answer_parts import answer_parts
from m3et_ros.data.checkpoints.m3et import load_checkpoint, random_checkpoint, save_checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.labelled.samples import LabelledSamples
from m3et_ros.data.questions.reader import QuestionReader
from m3et_ros.models.m3et.sizes import TINY
from m3et_ros.training.teach.extend import extended, extended_taught, relatives, with_answers

PLACED = replace(TINY, name='placed', places=True, answer_parts=2, look_parts=1)


def images(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {'rgb': torch.randn(2, 3, 32, 32, generator=generator)}


def outputs(checkpoint):
    model = checkpoint.model.eval()
    ids, mask = checkpoint.tokenizer.encode(['Is there a cup?', 'What is it?'], 12)
    with torch.no_grad():
        view = model.encode_images(images())
        text = model.encode_text(view, ids, mask)
        return model.answer_logits(text), model.decode(model.add_text(view), 'semseg')


@pytest.mark.parametrize('config', [TINY, PLACED], ids=['plain head', 'head of parts'])
def test_old_outputs_stay_and_new_ones_do_not_win(student, config):
    before = random_checkpoint(config, student.tokenizer, student.labels, 1)
    after = extended(before, ['cushion', 'cup', 'lamp'], ['lamp', 'yes', 'red lamp'])
    assert after.labels.classes == (*before.labels.classes, 'cushion', 'lamp')
    assert after.labels.answers == (*before.labels.answers, 'lamp', 'red lamp')
    (old_answers, old_masks), (answers, masks) = outputs(before), outputs(after)
    count, classes = len(before.labels.answers), len(before.labels.classes)
    assert torch.allclose(answers[:, :count], old_answers, atol=1e-5)
    assert torch.equal(masks[:, :classes], old_masks)
    assert torch.equal(masks.argmax(1), old_masks.argmax(1))
    assert (answers[:, count:].max(1).values <= old_answers.max(1).values + 1e-5).all()


@pytest.mark.parametrize('config', [TINY, PLACED], ids=['plain head', 'head of parts'])
def test_other_answers_get_a_new_head_and_the_rest_stays(student, config):
    before = random_checkpoint(config, student.tokenizer, student.labels, 1)
    after = with_answers(before, ['left', 'red cup', 'yes'], seed=2)
    assert after.labels == replace(before.labels, answers=('left', 'red cup', 'yes'))
    assert outputs(after)[0].shape == (2, 3) and torch.equal(outputs(after)[1], outputs(before)[1])
    own, kept = before.model.state_dict(), after.model.state_dict()
    assert all(torch.equal(own[name], kept[name]) for name in own if not name.startswith('answer_head.'))
    assert torch.equal(outputs(after)[0], outputs(with_answers(before, after.labels.answers, seed=2))[0])
    if config is PLACED:
        assert torch.equal(after.model.answer_head.parts, answer_parts(after.labels).matrix)


def test_answers_behind_those_of_the_model_extend_its_head(student):
    own = student.labels.answers
    assert with_answers(student, own) is student
    after = with_answers(student, (*own, 'giraffe'))
    assert torch.equal(outputs(after)[0][:, : len(own)], outputs(student)[0])


def test_an_extended_checkpoint_is_saved_and_loaded(student, tmp_path):
    after = extended(student, ['lamp'], ['lamp'])
    save_checkpoint(tmp_path, after, card='')
    found = load_checkpoint(tmp_path)
    assert found.labels == after.labels and set(found.heads) == set(student.heads)
    assert torch.equal(outputs(found)[0], outputs(after)[0])


def test_parts_of_new_answers_are_those_of_their_words(student):
    after = extended(random_checkpoint(PLACED, student.tokenizer, student.labels, 1), ['lamp'], ['red lamp'])
    assert torch.equal(after.model.answer_head.parts, answer_parts(after.labels).matrix)


def test_a_name_starts_from_names_and_a_coloured_thing_from_its_colour(student):
    labels = student.labels
    assert {labels.answers[i] for i in relatives('lamp', labels)} == set(labels.classes) & set(labels.answers)
    assert all(labels.answers[i].startswith('red ') for i in relatives('red lamp', labels))


def test_too_many_classes_are_refused(student):
    with pytest.raises(InputError, match='255 fit a mask') as refused:
        extended(student, [f'name {i}' for i in range(300)], [])
    assert refused.value.reason == 'labels_full'


def test_nothing_new_leaves_the_labels(student):
    assert extended(student, ['cup'], ['yes']).labels == student.labels


def test_new_words_can_be_asked_about(student, labelled, tmp_path):
    own = shutil.copytree(labelled, tmp_path / 'own')
    table = own / 'objects.csv'
    table.write_text(table.read_text().replace(',glass,', ',lamp,'))
    reader = QuestionReader(extended_taught(student, LabelledSamples(own, classes=student.labels.classes)))
    assert reader.read('Is there a lamp in view?').question == 'Is there a lamp in view?'
    assert reader.read('How many cups are in view?').question  # what it knew, it still knows
    assert reader.read('Is there a dragon in view?').reason == 'unknown_word'
    assert QuestionReader(student.labels.taught).read('Is there a lamp in view?').reason == 'unknown_word'
