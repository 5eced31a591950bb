"""A model taught the small place: every part of a lesson, stopped and continued, and what is refused."""

import json

import pytest
from small_place import RedDetector, write_place

from m3et_ros.data.errors import InputError
from m3et_ros.runtime.open_model import open_checkpoint
from m3et_ros.training.teach import run
from m3et_ros.training.teach.run import Clock, Lesson, save_taught, teach
from m3et_ros.training.teach.teachers import Teachers

BRIEF = 0.001
"""Minutes of which every stage gets only its least steps."""


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A shorter recording than that of the folder: each lesson labels and measures all of it."""
    return write_place(tmp_path_factory.mktemp('place') / 'bag', 24)


@pytest.fixture(scope='module')
def taught(student, place, tmp_path_factory):
    out = tmp_path_factory.mktemp('lesson')
    entries = []
    lesson = Lesson((place,), Teachers(student, detection=RedDetector()), BRIEF)
    return out, teach(lesson, out, report=lambda *entry: entries.append(entry)), entries


def test_both_stages_are_trained_and_the_model_is_ready_to_serve(taught, student):
    out, end, _ = taught
    assert {name: outcome.step for name, outcome in end.outcomes.items()} == {'pretrain': 4, 'vqa': 4}
    model_id = save_taught(out, end, '# card')
    served = open_checkpoint(str(out / 'checkpoint'))
    assert served.trained and served.model_id == model_id != student.model_id and set(served.heads) == {'mambavl'}
    assert served.labels.taught.frame['existence'].wordings and 'rgb+depth' in served.labels.calibration.domain
    table = json.loads((out / 'table.json').read_text())
    assert table['schema'] == 1 and table['before'] == end.before and table['after'] == end.after
    assert end.before['depth']['rmse_m']['navier_stokes'] == end.after['depth']['rmse_m']['navier_stokes']
    learnt = served.model.state_dict()
    assert not any(learnt[name].equal(value) for name, value in student.model.state_dict().items() if 'norm' in name)


def test_the_time_left_counts_every_stage_from_the_first_step(taught):
    _, _, entries = taught
    assert [(name, entry.step) for name, entry in entries] == [
        (name, step) for name in ('pretrain', 'vqa') for step in (1, 2, 3, 4)
    ]
    assert entries[0][1].seconds_left >= entries[-1][1].seconds_left > 0  # the measurement after is still to come


def test_a_lesson_that_was_stopped_continues(student, place, taught, tmp_path):
    steps = []
    lesson = Lesson((place,), Teachers(student, detection=RedDetector()), BRIEF)
    first = teach(lesson, tmp_path, report=lambda *entry: steps.append(entry), stop=lambda: len(steps) >= 6)
    assert first.checkpoint is None and first.after == {} and len(steps) == 7  # a step ends before it is reported
    with pytest.raises(ValueError, match='continue it'):
        save_taught(tmp_path, first, '')
    assert not (tmp_path / 'checkpoint').exists()
    second = teach(lesson, tmp_path, report=lambda *entry: steps.append(entry))
    assert [entry.step for name, entry in steps if name == 'vqa'] == [1, 2, 3, 4]
    whole = taught[1].checkpoint.model.state_dict()
    assert all(value.equal(whole[name]) for name, value in second.checkpoint.model.state_dict().items())


def test_without_a_teacher_depth_alone_is_learnt_and_the_user_is_told(student, place, tmp_path):
    said = []
    end = teach(Lesson((place,), Teachers(student), BRIEF), tmp_path, say=said.append)
    assert any('No teacher asks questions' in sentence for sentence in said)
    assert 'answers' not in end.before and 'depth' in end.after and end.new_answers == ()


def test_nothing_to_learn_is_refused(student, tmp_path):
    colour_alone = write_place(tmp_path / 'bag', depth=False)
    with pytest.raises(InputError, match='no depth, and no teacher labels it') as refused:
        teach(Lesson((colour_alone,), Teachers(student), BRIEF), tmp_path / 'out')
    assert refused.value.reason == 'nothing_to_learn'


def test_the_clock_counts_earlier_sessions(tmp_path):
    clock = Clock(tmp_path, 1.0)
    clock.plans['vqa'] = 64
    clock.save()
    stored = json.loads((tmp_path / 'teach.json').read_text())
    (tmp_path / 'teach.json').write_text(json.dumps(stored | {'seconds': 3600}))
    again = Clock(tmp_path, 1.0)
    assert again.plans == {'vqa': 64} and again.left == 0 and again.seconds >= 3600


def test_rehearsed_kitchens_are_trained_on_and_measured(student, place, tmp_path, monkeypatch):
    monkeypatch.setattr(run, 'KEPT_QUESTIONS', 40)
    pytest.importorskip('mujoco')
    from m3et_ros.data.kitchen.cache.generate import generate

    cache = generate(
        tmp_path / 'cache', seeds=range(4), size=32, stride=10, frames=6, backend='raycast', workers=0, progress=False
    )
    lesson = Lesson((place,), Teachers(student, detection=RedDetector()), BRIEF, keep=cache)
    end = teach(lesson, tmp_path / 'out')
    assert end.before['kitchen']['questions'] == end.after['kitchen']['questions'] == 40
    log = (tmp_path / 'out/vqa/log.jsonl').read_text().splitlines()
    assert len(log) == 4
