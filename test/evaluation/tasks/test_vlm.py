"""Vision-language models under the questions of M3ET: what counts as right, and the frames that are asked about."""

import numpy as np
import pytest
from tiny_vlms import vlm_folder

from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.datasets.openeqa import EqaQuestion
from m3et_ros.data.frame import Frame
from m3et_ros.data.sample import Sample
from m3et_ros.evaluation.jobs import Job
from m3et_ros.evaluation.tasks.eqa import EqaTask
from m3et_ros.evaluation.tasks.vlm import (
    PROMPT,
    TOKENS,
    VlmEqaTask,
    VlmRunner,
    VlmVqaTask,
    ask_vlm,
    for_vlm,
    score_text,
)
from m3et_ros.evaluation.tasks.vqa_in_bags import VqaTask
from m3et_ros.runtime.vlm.model import open_vlm

START, MS = 1_700_000_000_000_000_000, 1_000_000
WORLDS = [np.random.default_rng(i).integers(0, 255, (24, 32, 3), np.uint8) for i in range(5)]
TEXT = 'Is the tap on?'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return vlm_folder(tmp_path_factory.mktemp('vlm') / 'tiny')


@pytest.fixture(scope='module')
def model(folder):
    return open_vlm(str(folder), device='cpu')


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp('bags') / 'bag'
    with BagWriter(path) as writer:
        for number, rgb in enumerate(WORLDS):
            writer.write_frame(Frame(rgb, None, START + 100 * number * MS))
    return path


def test_a_text_is_right_when_it_is_an_answer_after_normalising():
    answers = {'red bowl': 1.0, '2': 0.6, 'two': 0.3}
    assert score_text('A red bowl.', answers) == ('red bowl', 1.0)
    assert score_text('Two', answers) == ('2', 0.6)
    assert score_text('It is a red bowl.', answers) == ('It is a red bowl.', 0.0)
    assert score_text('', {}) == ('', 0.0)


def test_every_question_is_asked_about_its_picture_in_the_prompt(model):
    samples = [
        Sample(rgb, question=TEXT, answers={'yes': 1.0}, family='state', key=f'k{i}') for i, rgb in enumerate(WORLDS)
    ]
    found = ask_vlm(model, samples)
    texts = [model.answer(f'{TEXT} {PROMPT.removeprefix("{} ")}', [rgb], max_tokens=TOKENS).text for rgb in WORLDS]
    assert [one.predicted for one in found] == texts and [one.score for one in found] == [0.0] * 5
    assert [(one.index, one.key, one.family, one.question, one.answer) for one in found[:1]] == [
        (0, 'k0', 'state', TEXT, 'yes')
    ]
    right = ask_vlm(model, [Sample(WORLDS[0], question=TEXT, answers={texts[0]: 0.7})])
    assert [one.score for one in right] == [0.7]


def questions(*times):
    return [EqaQuestion(TEXT, 'yes', 'state', f'q{i}', 'bag', time=time) for i, time in enumerate(times)]


def test_a_bag_is_asked_about_by_the_frames_of_its_scope(model, bag):
    def said(task, *times):
        part, took, files = task.examine(model, bag, questions(*times))
        assert files['jpg'] and len(took['answer_ms']) == len(times)
        return [(one['answer'], one['confidence'], one['frames_used']) for one in part['answers']]

    def wanted(*worlds):
        answer = model.answer(PROMPT.format(TEXT), worlds, max_tokens=TOKENS)
        return answer.text or None, round(answer.confidence, 6), len(worlds)

    assert said(VlmEqaTask('frame'), None) == [wanted(WORLDS[-1])]
    assert said(VlmEqaTask('episode', memory_frames=8), None) == [wanted(*WORLDS)]
    assert said(VlmVqaTask(), 0.1, 0.3) == [wanted(WORLDS[1]), wanted(WORLDS[3])]
    part, *_ = VlmVqaTask().examine(model, bag, [EqaQuestion('', 'yes', 'state', 'q', 'bag', time=0.0)])
    assert 'The question is empty' in part['answers'][0]['trouble'] and part['asked_frames'] == 1


def test_a_runner_names_model_and_prompt_and_reuses_its_parts(folder, model, bag, tmp_path):
    runner = VlmRunner(str(folder), 'cpu', for_vlm(EqaTask('frame', threads=2)), tmp_path)
    assert runner.model == {'id': model.model_id, 'trained': True, 'weights_sha256': model.weights_sha256}
    assert model.weights_sha256.startswith(model.model_id.partition('@')[2]) and len(model.weights_sha256) == 64
    assert runner.environment['threads'] == 2 and runner.environment['dtype'] == 'torch.float32'
    assert runner.task.settings()['prompt'] == PROMPT and runner.task.settings()['scope'] == 'frame'
    job = Job(bag, tuple(questions(None)))
    first, second = runner.run(job), runner.run(job)
    assert (first.cached, second.cached) == (False, True) and first.part == second.part and 'failed' not in first.part


def test_settings_for_m3et_alone_are_refused():
    assert for_vlm(VqaTask(threads=3)) == VlmVqaTask(threads=3)
    for task in (EqaTask('blind'), EqaTask(write=True), EqaTask(comb=True), VqaTask('blind')):
        with pytest.raises(ValueError, match='leave out --scope blind, --generate and --memory'):
            for_vlm(task)
