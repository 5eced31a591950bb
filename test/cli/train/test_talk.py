"""m3et train talk on real, small kitchens: the stages of each variant, and what is refused."""

import json

import cv2
import numpy as np
import pytest
from cobra_folder import encoder_folders
from safetensors import safe_open

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


def types(folder):
    """Types of the tensors of a checkpoint."""
    with safe_open(next(folder.glob('*.safetensors')), framework='pt') as file:
        names = file.keys()
        return {file.get_slice(name).get_dtype() for name in names}


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
            '--spread',
            'last',
            '--prob-kind',
            'js',
            '--reduction',
            'released',
            '--half',
            '--json',
        )
        == 0
    )
    assert [stage['stage'] for stage in json.loads(capsys.readouterr().out)['stages']] == ['3_distil']
    assert load_talk(tmp_path / 'checkpoint').config.model.language.schedule == 'TTTS'
    assert 'F16' in types(tmp_path / 'checkpoint') and 'F16' not in types(trained / 'checkpoint')


def test_emma_is_trained_in_its_stages(caches, trained, tmp_path, capsys):
    line = ('train', 'talk', '--variant', 'emma', '--data', caches[0], '--views', trained / 'views', *SMALL)
    released = ('--align-target', 'patch', '--align-order', 'released', '--align-loss', 'sum')
    assert command(*line, *released, '--align-warm-up', 0, '--out', tmp_path, '--json') == 0
    stages = json.loads(capsys.readouterr().out)['stages']
    assert not any('connect' in stage['stage'] for stage in stages) and len(stages) == 2
    assert stages[1]['losses']['patch'] > 0
    assert load_talk(tmp_path / 'checkpoint').config.variant == 'emma'


def test_dinov2_and_siglip_take_the_place_of_the_m3et(caches, tmp_path, capsys):
    """From the training to the answer; the target 'patch' is then the patch embedding of SigLIP."""
    both, out = encoder_folders(tmp_path), tmp_path / 'run'
    line = ('train', 'talk', '--variant', 'emma', '--data', caches[0], '--vision', both, *SMALL[2:])
    assert command(*line, '--align-target', 'patch', '--out', out, '--json') == 0
    assert json.loads(capsys.readouterr().out)['stages'][1]['losses']['patch'] > 0
    made = load_talk(out / 'checkpoint')
    assert made.vision == made.encoders.model_id and made.config.model.connector.d_vision == 28
    asked = ('evaluate', 'talk', '--model', out / 'checkpoint', '--data', caches[1], '--samples', 5, '--views', 2)
    assert command(*asked, '--out', tmp_path / 'measured', '--json') == 0
    assert json.loads(capsys.readouterr().out)['made_by']['settings']['sight'] == made.vision
    cv2.imwrite(str(tmp_path / 'p.png'), np.full((48, 64, 3), 90, np.uint8))
    words = ('--image', tmp_path / 'p.png', '--model', 'tiny', '--answerer', 'emma')
    assert command('ask', 'Is there a cup?', *words, '--answerer-checkpoint', out / 'checkpoint', '--json') == 0
    assert json.loads(capsys.readouterr().out)['model_id'] == made.model_id
    assert command(*line, '--side', 28, '--views', tmp_path / 'fine', '--out', tmp_path / 'fine') == 1
    assert 'the image encoders have 27 x 27 patches' in capsys.readouterr().err
    assert command(*line, '--from', 'tiny', '--out', tmp_path / 'two') == 1
    assert 'leave --from or --vision out' in capsys.readouterr().err


def test_a_run_that_was_stopped_is_continued(caches, trained, tmp_path, capsys):
    line = ('train', 'talk', '--variant', 'ml_mamba', '--data', caches[0], '--views', trained / 'views', *SMALL)
    assert command(*line, '--out', tmp_path, '--minutes', 0) == 0
    assert 'with --resume continues it' in capsys.readouterr().out and not (tmp_path / 'checkpoint').exists()
    assert command(*line, '--out', tmp_path, '--resume') == 0
    assert 'steps in 3 stages' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (('--data', 1, *SMALL), 'no training kitchens'),
        (('--data', 0, '--variant', 'emma', *SMALL, '--side', 4), 'multiples of 3'),
    ],
)
def test_a_training_that_cannot_be_done_is_one_sentence(caches, tmp_path, capsys, words, sentence):
    data, *options = words[1:]
    assert command('train', 'talk', '--data', caches[data], *options, '--out', tmp_path / 'out') != 0
    printed = capsys.readouterr().err
    assert sentence in printed and 'Traceback' not in printed


def test_a_student_has_the_sizes_of_its_teacher(trained, caches, tmp_path, capsys):
    line = ('train', 'talk', '--data', caches[0], '--teacher', trained / 'teacher', *SMALL, '--out', tmp_path)
    for other in (('--layers', 2), ('--system', 'where is it')):
        assert command(*line, *other) == 1
        assert 'leave --width, --system and the like out' in capsys.readouterr().err


def test_a_hybrid_is_no_teacher(trained, caches, tmp_path, capsys):
    line = ('train', 'talk', '--data', caches[0], '--teacher', trained / 'checkpoint', *SMALL)
    assert command(*line, '--out', tmp_path) == 1
    assert 'is not a Transformer; train a teacher with --variant matvlm --share 0' in capsys.readouterr().err
