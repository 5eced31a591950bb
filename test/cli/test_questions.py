import json
import re
import sys
from pathlib import Path

import pytest

from m3et_ros.cli.demo.camera_and_robot import QUESTIONS
from m3et_ros.cli.main import main
from m3et_ros.data.checkpoints import SHIPPED
from m3et_ros.data.kitchen.questions.taught import kitchen_taught
from m3et_ros.data.questions.reader import QuestionReader

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = re.compile(r"""["'`]((?:[A-Z][\w']* )(?:[^"`?{}\n']|'(?=s\b)){3,80}\?)\\?["'`]""")
PAGES = [
    ROOT / 'README.md',
    *(page for page in sorted((ROOT / 'docs').glob('*.md')) if page.stem != 'papers'),
    *sorted((ROOT / 'm3et_ros/cli').rglob('*.py')),
    ROOT / 'm3et_ros/runtime/session.py',
    ROOT / 'm3et_ros/runtime/selftest.py',
]
"""Pages and sources with example questions; docs/papers.md quotes those of the papers."""


def examples():
    found = {(page.name, text) for page in PAGES for text in EXAMPLE.findall(page.read_text(encoding='utf-8'))}
    return sorted(found)


def test_the_examples_are_found():
    assert {text for _, text in examples()} >= {'Is the tap on?', 'What is this?', 'Where is the sponge?'}


@pytest.mark.parametrize('version', (1, 2))
def test_every_example_is_a_question_that_the_model_was_taught(version):
    reader = QuestionReader(kitchen_taught(version=version))
    wrong = [
        (page, text)
        for page, text in examples()
        if reader.read(text).reason not in ('', 'needs_memory') and reader.read(text, 'episode').reason
    ]
    assert wrong == []


def test_the_questions_of_the_demo_have_answers():
    reader = QuestionReader(kitchen_taught(version=2))
    assert [text for text, scope in QUESTIONS if reader.read(text, scope).reason] == []


def test_the_list_for_programs_is_accepted_question_by_question(capsys):
    assert main(['questions', '--json']) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed['model_id'].startswith('kitchen2@')
    reader, refused = QuestionReader(kitchen_taught(version=2)), []
    for scope in ('frame', 'episode'):
        for kind in listed[scope]:
            for text in kind['examples']:
                reading = reader.read(text, scope)
                beyond = scope == 'frame' and not kind['answered_by_one_frame']
                # What lies somewhere is put together from simpler questions.
                asked = 'at_place' if kind['kind'] == 'what_at' else kind['kind']
                if (reading.kind, reading.reason) != (asked, 'needs_memory' if beyond else ''):
                    refused.append((text, reading))
    assert refused == []
    assert all(reader.read(text).kind == kind['kind'] for kind in listed['composed'] for text in kind['examples'])
    (colour,) = (kind for kind in listed['frame'] if kind['kind'] == 'is_colour')
    assert colour['fields']['colour'][:2] == ['red', 'orange'] and colour['wordings'][0] == 'Is the {a} {colour}?'


def test_the_list_for_people_names_kinds_and_words(capsys):
    assert main(['questions']) == 0
    shown = capsys.readouterr().out
    for part in (
        'Describe the scene.',
        'How many cups are in view?',
        'What was done first?',
        'chopping board',
        'is_open',
    ):
        assert part in shown
    assert 'One frame does not show the answers to: last' in shown
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize('model', ['kitchen', str(SHIPPED / 'm3et_kitchen')], ids=['name', 'folder'])
def test_the_questions_of_a_folder_are_listed_without_opening_the_model(capsys, monkeypatch, model):
    monkeypatch.setitem(sys.modules, 'm3et_ros.runtime.open_model', None)
    assert main(['questions', model]) == 0
    assert capsys.readouterr().out.startswith('Questions to kitchen@')


def test_a_model_that_does_not_say_is_refused(capsys):
    assert main(['questions', 'tiny']) == 1
    assert 'tiny-random-0 does not say what it was taught' in capsys.readouterr().err
