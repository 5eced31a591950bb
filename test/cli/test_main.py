import json
import os
import subprocess
import sys

import pytest

from m3et_ros import __version__
from m3et_ros.cli.main import app, main

HEAVY = {'torch', 'rclpy', 'cv2', 'numpy', 'matplotlib', 'mujoco', 'asyncio', 'ssl'}


def test_help_names_every_verb(capsys):
    assert main(['--help']) == 0
    shown = capsys.readouterr().out
    verbs = {verb.name for verb in (*app.registered_commands, *app.registered_groups)}
    assert verbs == {
        'ask',
        'bench',
        'build',
        'cameras',
        'chat',
        'convert',
        'demo',
        'doctor',
        'evaluate',
        'features',
        'generate',
        'label',
        'mcp',
        'models',
        'pull',
        'push',
        'questions',
        'record',
        'replay',
        'rerun',
        'robot',
        'teach',
        'train',
        'view',
        'write',
    }
    assert all(f' {verb} ' in shown for verb in verbs)


def test_the_options_of_a_topic_stand_in_its_panel(capsys):
    assert main(['ask', '--help']) == 0
    before, image = capsys.readouterr().out.split('An image instead of a robot')
    assert '--namespace' in before.split(' Robot ')[1] and '--depth' in image and '--depth ' not in before


@pytest.mark.parametrize(
    ('words', 'completed'), [('m3et tea', {'teach'}), ('m3et ask --answerer-c', {'--answerer-checkpoint'})]
)
def test_the_shell_completes_verbs_and_options(words, completed):
    asked = {'_M3ET_COMPLETE': 'complete_bash', 'COMP_WORDS': words, 'COMP_CWORD': str(len(words.split()) - 1)}
    result = subprocess.run(
        [sys.executable, '-m', 'm3et_ros.cli.main'], env=os.environ | asked, capture_output=True, text=True
    )
    assert set(result.stdout.split()) == completed


def test_no_arguments_show_the_help(capsys):
    assert main([]) == 0
    assert 'Usage' in capsys.readouterr().out


@pytest.mark.parametrize('flag', ['--version', '-V'])
def test_version(capsys, flag):
    assert main([flag]) == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize('verb', ['train', 'evaluate', 'build', 'convert'])
def test_a_group_of_verbs_alone_prints_its_help_and_no_empty_sentence(capsys, verb):
    assert main([verb]) == 2
    shown = capsys.readouterr()
    assert 'Usage' in shown.out + shown.err and 'm3et: ' not in shown.err


def test_ctrl_c_ends_with_the_exit_code_of_a_shell(capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr('m3et_ros.cli.models.print_table', interrupted)
    assert main(['models']) == 130
    assert capsys.readouterr() == ('', '')


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
        (['train', 'vqa'], ["'--out'", 'see m3et train vqa --help']),
        (['--json', 'models'], ['--json', 'see m3et --help']),
        (['ask', 'What', 'is', 'this'], ['(is this); put a text of several words in quotes', 'm3et ask --help']),
        (['ask', 'x', '--scope', 'bar'], ["'--scope': 'bar' is not one of 'frame', 'episode' (see"]),
        (['replay', 'x', '--rate', 'fast'], ["Invalid value for '--rate': give a number (see m3et replay --help)"]),
        (['record', 'x', '--frames', 'many'], ["'--frames': give a whole number (see m3et record --help)"]),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_two(capsys, arguments, words):
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert bool(shown.out) == ('--json' in arguments) and shown.err.count('\n') == 1
    assert all(word in shown.err for word in words), shown.err


@pytest.mark.parametrize('line', [['ask', 'caf\udce9'], ['models', '--json', '\udcff'], ['replay', 'bag\udcff', '-h']])
def test_an_argument_that_is_not_utf_8_is_wrong_usage_and_no_traceback(capsys, line):
    assert main(line) == 2
    shown = capsys.readouterr()
    word = next(ascii(os.fsencode(word)) for word in line if not word.isprintable())
    assert shown.err == f'm3et: The argument {word} is not UTF-8; type it in UTF-8, or rename the file.\n'
    assert ('"exit_code": 2' in shown.out) == ('--json' in line)


def test_wrong_usage_is_json_too_where_a_program_reads(capsys):
    assert main(['record', '--json']) == 2
    found = json.loads(capsys.readouterr().out)
    assert found['schema'] == 1 and found['error']['reason'] == 'usage' and "'out'" in found['error']['message']
