"""m3et train on real, small caches: both stages, going on, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from m3et_ros.cli.main import main
from m3et_ros.cli.train.app import taught_by
from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.checkpoints.m3et import load_checkpoint
from m3et_ros.data.frame import Frame
from m3et_ros.data.kitchen.cache.generate import generate
from m3et_ros.data.kitchen.questions.taught import kitchen_taught
from m3et_ros.data.lerobot.schema import EpisodeFrame
from m3et_ros.data.lerobot.writer import LeRobotWriter
from m3et_ros.data.questions.taught import Taught

SMALL = ('--model', 'tiny', '--batch', 8)


@pytest.fixture(scope='module')
def caches(tmp_path_factory):
    """Ray-cast caches of few training and test kitchens."""
    pytest.importorskip('mujoco')
    root = tmp_path_factory.mktemp('caches')
    return {
        name: generate(root, seeds=seeds, size=32, stride=10, frames=6, backend='raycast', workers=0, progress=False)
        for name, seeds in (('train', range(4)), ('test', range(20_003, 20_004)))
    }


@pytest.fixture(scope='module')
def pretrained(caches, tmp_path_factory):
    """A finished stage 1 and the exit code."""
    out = tmp_path_factory.mktemp('runs') / 'one'
    return out, command('pretrain', '--data', caches['train'], '--out', out, *SMALL, '--samples', 40, '--seed', 3)


def command(*arguments):
    return main(['train', *map(str, arguments)])


def test_stage_one_writes_a_checkpoint_with_its_card(pretrained, caches):
    out, code = pretrained
    assert code == 0
    made = load_checkpoint(out / 'checkpoint')
    assert made.trained and made.model_id.startswith('tiny@') and not made.heads
    card = (out / 'checkpoint' / 'README.md').read_text()
    told = [json.loads(line) for line in (out / 'log.jsonl').read_text().splitlines()]
    assert told[-1]['step'] == told[-1]['steps'] == 5
    said = f'm3et train pretrain --data {caches["train"]} --out {out} --model tiny --samples 40 --batch 8 --seed 3'
    for words in (
        said,
        'tiny-random-3',
        'steps: 5 of 5',
        'samples seen: 40',
        'seed: 3',
        'version 2',
        'first 0, last 4',
        f'rgb: {told[-1]["losses"]["rgb"]:.4f}',
    ):
        assert words in card, words


def test_stage_two_in_two_sessions(pretrained, caches, tmp_path, capsys):
    options = (
        'vqa',
        '--data',
        caches['train'],
        '--from',
        pretrained[0] / 'checkpoint',
        '--out',
        tmp_path / 'two',
        '--batch',
        8,
        '--samples',
        24,
    )
    assert command(*options, '--minutes', 0, '--json') == 0
    assert json.loads(capsys.readouterr().out)['step'] == 1
    assert command(*options) == 1
    assert 'continue it with --resume' in capsys.readouterr().err
    assert command(*options, '--resume', '--json') == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown['step'] == shown['steps'] == 3 and {'answer', 'words', 'depth', 'semseg'} <= shown['losses'].keys()
    made = load_checkpoint(tmp_path / 'two' / 'checkpoint')
    assert made.model_id == shown['model_id'] and made.labels.taught == kitchen_taught(version=2)


def test_nobody_knows_what_other_questions_teach():
    def sources(caches, names):
        return SimpleNamespace(caches=caches, names=names)

    assert taught_by(sources([], ['vqav2:a,b,c'])) == Taught({})
    assert taught_by(sources(['cache'], ['cache', 'vqav2:a,b,c'])) == Taught({})


def test_a_bert_vocabulary_from_disk(pretrained, caches, tmp_path, capsys):
    words = tmp_path / 'vocab.txt'
    pieces = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *'abcdefghijklmnopqrstuvwxyz', '##s', 'cup']
    words.write_text('\n'.join(pieces))
    options = ('--data', caches['train'], '--batch', 8, '--samples', 8, '--tokenizer', words)
    assert command('vqa', *options, '--model', 'tiny', '--questions', 2, '--out', tmp_path / 'run') == 0
    made = load_checkpoint(tmp_path / 'run' / 'checkpoint')
    assert made.tokenizer.vocabulary == made.model.config.vocabulary == 33
    assert f'--tokenizer {words}' in (tmp_path / 'run' / 'checkpoint' / 'README.md').read_text()
    capsys.readouterr()
    assert command('vqa', *options, '--from', pretrained[0] / 'checkpoint', '--out', tmp_path / 'other') == 1
    assert 'leave --tokenizer out' in capsys.readouterr().err


def test_ctrl_c_ends_the_run_with_its_state_saved(caches, tmp_path):
    process = subprocess.Popen(
        [
            sys.executable,
            '-m',
            'm3et_ros.cli.main',
            'train',
            'pretrain',
            '--data',
            str(caches['train']),
            '--out',
            str(tmp_path / 'run'),
            *map(str, SMALL),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    try:
        end = time.monotonic() + 60
        while not (tmp_path / 'run' / 'log.jsonl').exists() and time.monotonic() < end:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        printed, noted = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130 and 'stopping after this step' in noted
    assert 'with --resume continues it' in printed
    assert load_checkpoint(tmp_path / 'run' / 'checkpoint').trained


def record(path, depth):
    """A recording of 16 frames, with or without depth."""
    rng = np.random.default_rng(0)
    with BagWriter(path) as bag:
        for i in range(16):
            bag.write_frame(
                Frame(
                    rng.integers(0, 256, (24, 32, 3), np.uint8),
                    np.full((24, 32), 1.5, np.float32) if depth else None,
                    10**9 + i * 10**8,
                )
            )
    return path


def test_recordings_join_the_kitchen(caches, tmp_path, capsys, caplog):
    options = (
        'pretrain',
        '--data',
        caches['train'],
        '--bag',
        record(tmp_path / 'seen', depth=True),
        '--data',
        f'bag:{record(tmp_path / "blind", depth=False)}',
        '--out',
        tmp_path / 'run',
        *SMALL,
    )
    assert command(*options, '--samples', 48, '--minutes', 0) == 0
    assert command(*options, '--samples', 48, '--resume', '--json') == 0
    shown = json.loads('{' + capsys.readouterr().out.partition('{')[2])
    assert shown['step'] == shown['steps'] == 6 and {'rgb', 'depth', 'semseg'} == shown['losses'].keys()
    assert 'depth is absent' in caplog.text and len(list((tmp_path / 'run/bags').iterdir())) == 2
    card = (tmp_path / 'run/checkpoint/README.md').read_text()
    for words in (
        'trained in the simulated kitchen and on other data',
        f'bag:{tmp_path / "seen"}: 16 samples',
        'kitchen: first 0, last 4',
        f'--bag {tmp_path / "seen"}',
    ):
        assert words in card, words


def test_a_recording_alone_is_enough(tmp_path, capsys, caplog):
    bag = record(tmp_path / 'bag', depth=False)
    assert (
        command('pretrain', '--bag', bag, '--every', 2, '--out', tmp_path / 'run', *SMALL, '--samples', 16, '--json')
        == 0
    )
    assert json.loads(capsys.readouterr().out)['losses'].keys() == {'rgb'} and 'depth is absent' in caplog.text


def test_a_lerobot_data_set_serves_both_stages(caches, tmp_path, capsys):
    with LeRobotWriter(tmp_path / 'set', 10, images='png', depth=True) as data:
        for i in range(16):
            frame = Frame(np.full((24, 32, 3), 10 * i, np.uint8), np.full((24, 32), 1 + i / 8, np.float32), i)
            data.write(EpisodeFrame(frame))
    word, run = f'lerobot:{tmp_path / "set"}', tmp_path / 'run'
    assert command('pretrain', '--data', word, '--out', run, *SMALL, '--samples', 16, '--json') == 0
    assert json.loads(capsys.readouterr().out)['losses'].keys() == {'rgb', 'depth'}
    line = ('vqa', '--data', caches['train'], '--data', word, '--from', run / 'checkpoint', '--out', tmp_path / 'two')
    assert command(*line, '--batch', 8, '--samples', 48, '--json') == 0
    losses = json.loads(capsys.readouterr().out)['losses']
    assert {'answer', 'depth'} <= losses.keys() and np.isfinite(list(losses.values())).all()
    assert f'{word}: 16 samples' in (tmp_path / 'two/checkpoint/README.md').read_text()


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (('pretrain',), 'give --data or --bag'),
        (('pretrain', '--bag', 'nowhere'), 'no bag at nowhere'),
        (('vqa', '--bag', 'nowhere'), 'asks no questions'),
        (('pretrain', '--data', 'vqav2:one'), 'vqav2:QUESTIONS'),
        (('pretrain', '--data', 'nyu:nowhere'), 'nowhere'),
    ],
)
def test_sources_that_do_not_serve_are_one_sentence(tmp_path, capsys, options, words):
    assert command(*options, '--out', tmp_path / 'run', *SMALL) == 1
    shown = capsys.readouterr()
    assert not shown.out and shown.err.count('\n') == 1 and words in shown.err
    assert 'M3ET_TRACEBACK' not in shown.err and not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('cache', 'options', 'words'),
    [
        ('test', SMALL, ['no training kitchens', 'train split']),
        ('train', ('--model', 'huge'), ["'huge'", 'kitchen']),
        ('train', ('--batch', 4, '--samples', 2), ['samples is 2', '4']),
        ('train', ('--model', 'tiny', '--batch', 5000), ['5000', 'smaller batch']),
        ('train', (*SMALL, '--lr', 7), ['lr is 7.0']),
        ('train', (*SMALL, '--resume'), ['state.safetensors', '--resume']),
        ('train', (*SMALL, '--from', 'nowhere'), ['nowhere']),
        ('none', SMALL, ['none', 'cache']),
    ],
)
def test_a_training_that_cannot_be_done_is_one_sentence(caches, tmp_path, capsys, cache, options, words):
    folder = caches.get(cache, tmp_path / 'none')
    assert command('pretrain', '--data', folder, '--out', tmp_path / 'run', *options) == 1
    shown = capsys.readouterr()
    assert not shown.out and shown.err.count('\n') == 1
    assert all(word in shown.err for word in words), shown.err
    assert 'M3ET_TRACEBACK' not in shown.err
