"""m3et label: a recording without a teacher, every option where it arrives, and what is refused."""

import json
from pathlib import Path

import pytest
from small_place import FlatDepth, RedDetector, RedSegmentation, tiny_student, write_place

from m3et_ros.cli.label import TeacherOptions
from m3et_ros.cli.main import main
from m3et_ros.cli.output import Refused
from m3et_ros.data.checkpoints.m3et import load_checkpoint
from m3et_ros.training.teach.label import LabelOptions, label
from m3et_ros.training.teach.teachers import ASKED, Teachers

TEACHERS = (
    *('--depth', 'deep', '--segmentation', 'regions', '--detection', 'boxes', '--questions', 'words'),
    *('--ask', 'Is it tidy?', '--name', 'glass', '--device', 'cpu'),
)


@pytest.fixture(scope='module')
def student():
    return tiny_student()


@pytest.fixture
def networks(border):
    """The calls that open the networks."""
    return {
        'depth': border('m3et_ros.runtime.networks.depth.open_depth', FlatDepth()),
        'segmentation': border('m3et_ros.runtime.networks.segmentation.open_segmentation', RedSegmentation()),
        'detection': border('m3et_ros.runtime.networks.detection.open_detection', RedDetector()),
        'questions': border('m3et_ros.runtime.vlm.model.open_vlm', 'a model'),
    }


def test_a_recording_is_labelled_without_a_teacher(tmp_path, capsys):
    bag, out = write_place(tmp_path / 'bag'), tmp_path / 'out'
    assert main(['label', str(bag), '-o', str(out), '--from', 'tiny', '--json']) == 0
    document = json.loads(capsys.readouterr().out)
    assert document['schema'] == 1 and document['path'] == str(out) and document['teachers'] == {}
    assert document['frames_seen'] == 36 and document['train'] + document['held_out'] + document['in_the_gap'] == 36
    assert Path(document['sheet']).stat().st_size > 0
    assert main(['label', str(bag), '-o', str(out), '--from', 'tiny']) == 0
    said = capsys.readouterr().out
    assert 'depth of the camera teaches itself' in said and f'labelled:{out}' in said


def test_every_option_arrives(tmp_path, border, networks, reach, every_option, student):
    opened = border('m3et_ros.runtime.open_model.open_checkpoint', student)
    labelled = border('m3et_ros.training.teach.label.label', last=True)
    line = ['label', 'one', 'two', '--out', 'place', '--from', 'tiny', '--every', '3', *TEACHERS]
    reach(*line)
    every_option([*line, '--json'])
    assert opened == [{'name': 'tiny'}]
    (call,) = labelled
    assert call['bags'] == [Path('one'), Path('two')] and call['out'] == Path('place')
    assert (call['options'].size, call['options'].every) == (32, 3)
    teachers = call['teachers']
    assert [one.model_id for one in (teachers.depth, teachers.segmentation, teachers.detection)] == [
        'flat@1',
        'regions@1',
        'red@1',
    ]
    assert (teachers.ask, teachers.wanted, teachers.answerer) == (('Is it tidy?',), ('glass',), 'a model')
    assert networks['depth'] == [{'name': 'deep', 'device': 'cpu'}]
    assert networks['segmentation'] == [{'name': 'regions', 'device': 'cpu'}]
    assert networks['detection'] == [{'name': 'boxes', 'device': 'cpu', 'least': 0.1}]
    assert networks['questions'] == [{'name': 'words', 'device': 'cpu'}]


def test_without_questions_of_the_user_a_model_answers_ours(networks, student):
    assert TeacherOptions(questions='words').open(student).ask == ASKED


def test_questions_without_a_model_are_refused(student):
    with pytest.raises(Refused, match='give one by --questions'):
        TeacherOptions(ask=['Is it tidy?']).open(student)


def test_both_stages_train_on_a_labelled_recording(tmp_path, student, capsys):
    out = tmp_path / 'labels'
    label([write_place(tmp_path / 'bag')], out, Teachers(student, detection=RedDetector()), LabelOptions(32))
    small = ('--batch', '4', '--samples', '8', '--data', f'labelled:{out}', '--out')
    one, two = str(tmp_path / 'one'), str(tmp_path / 'two')
    assert main(['train', 'pretrain', '--from', 'tiny', *small, one]) == 0
    assert main(['train', 'vqa', '--from', f'{one}/checkpoint', '--questions', '3', *small, two]) == 0
    log = json.loads((tmp_path / 'two/log.jsonl').read_text().splitlines()[-1])
    assert log['step'] == 2 and {'answer', 'pointing', 'words', 'depth', 'semseg'} <= set(log['losses'])
    # Labelled recordings ask in the wordings that the model knows.
    assert load_checkpoint(f'{two}/checkpoint').labels.taught == student.labels.taught
    assert f'labelled:{out}' in (tmp_path / 'two/checkpoint/README.md').read_text()


def test_stage_two_refuses_labels_without_questions(tmp_path, student, capsys):
    out = tmp_path / 'labels'
    label([write_place(tmp_path / 'bag')], out, Teachers(student), LabelOptions(32))
    line = ['train', 'vqa', '--model', 'tiny', '--data', f'labelled:{out}', '--out', str(tmp_path / 'run')]
    assert main(line) == 1
    assert 'label it with a teacher of things, or use m3et teach' in capsys.readouterr().err


def test_three_frames_are_refused_in_one_sentence(tmp_path, capsys):
    bag = write_place(tmp_path / 'bag', 3)
    assert main(['label', str(bag), '-o', str(tmp_path / 'out'), '--from', 'tiny']) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith('m3et: ') and 'at least 8 are needed' in said
