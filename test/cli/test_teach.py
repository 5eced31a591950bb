"""m3et teach: a small lesson with its card and table, every option where it arrives, and a stop."""

import json
from pathlib import Path

import pytest
from small_place import tiny_student, write_place

from m3et_ros.cli.label import TeacherOptions
from m3et_ros.cli.main import main
from m3et_ros.training.teach.run import LessonEnd

OPTIONS = ('--minutes', '7.5', '--every', '2', '--seed', '9', '--workers', '1', '--bf16', '--keep', 'cache')
TEACHERS = (
    *('--depth', 'deep', '--segmentation', 'regions', '--detection', 'boxes', '--questions', 'words'),
    *('--ask', 'Is it tidy?', '--name', 'glass', '--device', 'cpu'),
)


@pytest.fixture(scope='module')
def student():
    return tiny_student()


def test_a_lesson_ends_with_a_checkpoint_a_card_and_a_table(tmp_path, capsys):
    bag, out = write_place(tmp_path / 'bag'), tmp_path / 'out'
    assert main(['teach', str(bag), '--from', 'tiny', '--minutes', '0.01', '-o', str(out), '--json']) == 0
    document = json.loads(capsys.readouterr().out)
    assert document['schema'] == 1 and document['checkpoint'] == str(out / 'checkpoint')
    assert document['heads'] == ['mambavl'] and document['labels']['frames_seen'] == 36
    assert set(document['before']['depth']['rmse_m']) == {'auto', 'model', 'navier_stokes'}
    card = (out / 'checkpoint/README.md').read_text()
    for words in (f'm3et teach {bag} ', 'tiny-random-0', 'no teacher', 'heads: Kept as they were',
                  'no kitchens were rehearsed', '| held-out frames | without a model | before | after |'):  # fmt: skip
        assert words in card
    assert (out / 'labels/sheet.png').exists()


def test_every_option_arrives(border, monkeypatch, reach, every_option, student):
    opened = border('m3et_ros.runtime.open_model.open_checkpoint', student)
    networks = []
    monkeypatch.setattr(TeacherOptions, 'open', lambda *given: networks.append(given) or 'the teachers')
    checked = border('m3et_ros.cli.train.common.check_training_split')
    taught = border('m3et_ros.training.teach.run.teach', last=True)
    line = ['teach', 'one', 'two', '--out', 'place', '--from', 'tiny', *OPTIONS, *TEACHERS]
    reach(*line)
    every_option([*line, '--json'])
    assert opened == [{'name': 'tiny'}] and checked == [{'caches': [Path('cache')]}]
    (call,) = taught
    lesson = call['lesson']
    assert (lesson.bags, call['out']) == ((Path('one'), Path('two')), Path('place'))
    assert (lesson.minutes, lesson.every, lesson.seed, lesson.workers) == (7.5, 2, 9, 1)
    assert lesson.bf16 and lesson.keep == Path('cache') and lesson.teachers == 'the teachers'
    ((given, _),) = networks
    assert (given.depth, given.segmentation, given.detection) == ('deep', 'regions', 'boxes')
    assert (given.questions, given.ask, given.name, given.device) == ('words', ['Is it tidy?'], ['glass'], 'cpu')


def test_a_stopped_lesson_says_how_to_continue(border, capsys, student):
    border('m3et_ros.runtime.open_model.open_checkpoint', student)
    border('m3et_ros.training.teach.run.teach', LessonEnd(None, {}, {}, {}, {}, (), (), 1.0))
    assert main(['teach', 'bag', '-o', 'place']) == 0
    assert 'the same command continues it' in capsys.readouterr().out
