"""m3et evaluate vqa: every option where it arrives, with a cache and with recordings."""

from pathlib import Path

import pytest

from m3et_ros.cli.evaluate.common import CPUS, ScoreOptions
from m3et_ros.cli.evaluate.vqa import KitchenQuestions, Modality, VqaRun
from m3et_ros.cli.main import main
from m3et_ros.evaluation.tasks.vqa import NOISE
from m3et_ros.evaluation.tasks.vqa_in_bags import VqaTask

RUN = ('--model', 'tiny', '--out', 'results', '--device', 'cuda:1', '--workers', '5')
KITCHENS = (
    *('--data', 'cache'),
    *('--samples', '17'),
    '--clean',
    *('--without', 'depth'),
    *('--blind', 'guesser'),
    *('--seed', '9'),
    *('--batch', '6'),
)
BAGS = (
    *('--questions', 'a.json', '--questions', 'b.json'),
    *('--scope', 'blind'),
    *('--camera', '/head'),
    *('--remap', '/x:=/y'),
    *('--train', 't.json'),
    *('--judge-url', 'http://j/v1', '--judge-model', 'marker', '--judge-prompt', 'p.txt'),
    *('--ray', 'local'),
    *('--threads', '2'),
)
VLM = ('--answerer', 'vlm', '--answerer-checkpoint', 'hf:owner/name')
BOTH = ('--generate', '--at-least', '0.25', '--json')


def test_every_option_about_kitchens_arrives(border, every_option):
    called = border('m3et_ros.cli.evaluate.vqa.evaluate_kitchens')
    line = ['evaluate', 'vqa', *RUN, *KITCHENS, *BOTH]
    assert main(line) == 0
    assert called == [
        {
            'run': VqaRun(model='tiny', out=Path('results'), device='cuda:1', workers=5),
            'kitchens': KitchenQuestions(
                data='cache', samples=17, noise=False, without=[Modality.depth], blind='guesser', seed=9, batch=6
            ),
            'write': True,
            'at_least': 0.25,
            'as_json': True,
        }
    ]
    every_option(line, BAGS, VLM)


def test_every_option_about_recordings_arrives(border):
    called = border('m3et_ros.cli.evaluate.vqa.evaluate_recordings')
    assert main(['evaluate', 'vqa', 'one', 'two', *RUN, *BAGS, *BOTH]) == 0
    assert called == [
        {
            'bags': [Path('one'), Path('two')],
            'questions': [Path('a.json'), Path('b.json')],
            'task': VqaTask('blind', True, camera='/head', remaps={'/x': '/y'}, threads=2),
            'run': VqaRun(model='tiny', out=Path('results'), device='cuda:1', workers=5, ray='local', threads=2),
            'scoring': ScoreOptions(
                train=[Path('t.json')],
                at_least=0.25,
                judge_url='http://j/v1',
                judge_model='marker',
                judge_prompt=Path('p.txt'),
            ),
            'as_json': True,
        }
    ]


def test_the_vision_language_model_arrives(border):
    called = border('m3et_ros.cli.evaluate.vqa.evaluate_kitchens')
    assert main(['evaluate', 'vqa', *VLM, '--out', 'results']) == 0
    assert called[0]['run'] == VqaRun(out=Path('results'), answerer='vlm', answerer_checkpoint='hf:owner/name')


def test_a_question_about_a_recording_is_about_its_moment(border):
    called = border('m3et_ros.cli.evaluate.vqa.evaluate_recordings')
    assert main(['evaluate', 'vqa', 'one', *RUN, '--questions', 'a.json']) == 0
    assert called[0]['task'].scope == 'moment'


@pytest.mark.parametrize(('workers', 'used'), [((), CPUS), (('--workers', '0'), 0), (('--workers', '5'), 5)])
def test_model_cache_device_and_workers_arrive(border, reach, tmp_path, workers, used):
    prepared = border('m3et_ros.cli.evaluate.vqa.prepare', last=True)
    reach('evaluate', 'vqa', '--model', 'tiny', '--out', tmp_path, *KITCHENS, '--device', 'cuda:1', *workers)
    assert prepared == [{'model': 'tiny', 'data': 'cache', 'device': 'cuda:1', 'workers': used}]


@pytest.mark.parametrize(('noise', 'expected'), [((), NOISE), (('--noise',), NOISE), (('--clean',), None)])
def test_questions_seed_and_noise_arrive(border, reach, tmp_path, noise, expected):
    border('m3et_ros.cli.evaluate.vqa.prepare', ('checkpoint', Path('folder'), 'recipe'))
    blind = border('m3et_ros.cli.evaluate.vqa.open_fitting_model', 'blind')
    drawn = border('m3et_ros.evaluation.tasks.vqa.subset_samples', last=True)
    line = ['evaluate', 'vqa', '--model', 'tiny', '--out', tmp_path, '--samples', '17', '--seed', '9', *noise]
    reach(*line)
    assert list(drawn[0].values()) == [Path('folder'), 17, expected, 9]
    assert list(drawn[0])[1:] == ['length', 'noise', 'seed'] and blind == []
    reach(*line, '--blind', 'guesser', '--device', 'cuda')
    assert blind == [{'name': 'guesser', 'recipe': 'recipe', 'device': 'cuda'}]


@pytest.mark.parametrize(
    ('options', 'shown'),
    [
        ((), ('rgb', 'depth')),
        (('--without', 'rgb'), ('depth',)),
        (('--without', 'depth'), ('rgb',)),
        (('--without', 'rgb', '--without', 'depth'), ()),
    ],
)
def test_modalities_batch_and_the_decoder_arrive_at_the_model(border, reach, tmp_path, options, shown):
    border('m3et_ros.cli.evaluate.vqa.prepare', ('checkpoint', Path('folder'), 'recipe'))
    border('m3et_ros.evaluation.tasks.vqa.subset_samples', ({'all': 'samples'}, {}))
    asked = border('m3et_ros.cli.evaluate.vqa._answer', last=True)
    reach('evaluate', 'vqa', '--model', 'tiny', '--out', tmp_path, '--batch', '6', '--generate', *options)
    assert asked == [
        {
            'checkpoint': 'checkpoint',
            'samples': 'samples',
            'what': 'questions, all',
            'shown': shown,
            'write': True,
            'batch': 6,
        }
    ]
