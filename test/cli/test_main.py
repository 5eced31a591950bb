import subprocess
import sys

import pytest

from m3et_ros import __version__
from m3et_ros.cli.main import app, main

HEAVY = {'torch', 'rclpy', 'cv2', 'numpy', 'matplotlib', 'mujoco'}


def test_help_names_every_verb(capsys):
    assert main(['--help']) == 0
    shown = capsys.readouterr().out
    verbs = {verb.name for verb in (*app.registered_commands, *app.registered_groups)}
    assert verbs == {
        'ask',
        'bench',
        'build',
        'demo',
        'doctor',
        'evaluate',
        'generate',
        'models',
        'record',
        'replay',
        'robot',
        'train',
    }
    assert all(f' {verb} ' in shown for verb in verbs)


def test_no_arguments_show_the_help(capsys):
    assert main([]) == 0
    assert 'Usage' in capsys.readouterr().out


def test_version(capsys):
    assert main(['--version']) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_the_verbs_are_imported_without_what_they_need_later():
    code = f'import sys, m3et_ros.cli.main; sys.exit(", ".join({HEAVY!r} & set(sys.modules)) or None)'
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['frobnicate'], ['frobnicate', 'm3et --help']),
        (['models', '--colour'], ['--colour', 'm3et models --help']),
        (['record'], ["'out'", 'm3et record --help']),
        (['demo', '--rate', '1000'], ['--rate', '60', 'm3et demo --help']),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_one(capsys, arguments, words):
    assert main(arguments) == 1
    shown = capsys.readouterr()
    assert not shown.out and shown.err.count('\n') == 1
    assert all(word in shown.err for word in words), shown.err
