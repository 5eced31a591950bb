"""m3et view --rerun and --foxglove on the command line."""

import sys

import pytest

from m3et_ros.cli.main import main


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (['--rerun', '--foxglove'], 'give one of them'),
        (['--save', 'a.rrd'], 'give --rerun too'),
        (['--rerun', '--port', '9000'], '--port is for the page; leave it out with --rerun'),
        (['--foxglove', '--open'], '--open is for the page; leave it out with --foxglove'),
        (['--foxglove', '--width', '320'], '--width is for the page'),
    ],
    ids=['both', 'save', 'port', 'open', 'width'],
)
def test_options_that_do_not_go_together_are_refused(words, sentence, capsys):
    assert main(['view', *words]) == 1
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize('name', ['rerun', 'foxglove'])
def test_an_absent_viewer_is_one_sentence_with_the_command_that_installs_it(name, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, name, None)
    assert main(['view', f'--{name}']) == 1
    printed = capsys.readouterr().err
    assert printed.count('\n') == 1 and f"pip install 'm3et_ros[{name}]'" in printed


def test_the_robot_and_the_port_of_foxglove_arrive(border, reach):
    pytest.importorskip('foxglove', reason="foxglove-sdk is not installed: pip install 'm3et_ros[foxglove]'")
    served = border('m3et_ros.cli.view.foxglove.run_foxglove', last=True)
    reach('view', '--foxglove')
    reach('view', '--foxglove', '--port', '9001', '--namespace', 'left')
    assert [(one['namespaces'], one['port']) for one in served] == [([], 8765), (['/left'], 9001)]


def test_the_file_of_rerun_arrives(border, reach, tmp_path):
    pytest.importorskip('rerun', reason='rerun-sdk is not installed (170 MB): pip install m3et_ros[rerun]')
    shown = border('m3et_ros.cli.view.rerun.run_rerun', last=True)
    reach('view', '--rerun', '--save', tmp_path / 'a.rrd', '--namespace', 'left')
    reach('view', '--rerun')
    assert [(one['namespaces'], one['save']) for one in shown] == [(['/left'], tmp_path / 'a.rrd'), ([], None)]
