"""m3et build: kernels and graphs are compiled, used, and reported."""

import json
from pathlib import Path

import pytest
import torch

from m3et_ros.cli.main import main
from m3et_ros.ops.dispatch import describe
from m3et_ros.runtime.backends.prepared import Prepared, Serving


def test_the_library_and_the_chosen_kernels_are_reported(border, capsys):
    built = border('m3et_ros.runtime.kernels.build', Path('/cache/scans.so'))
    used = border('m3et_ros.runtime.kernels.use_built')
    assert main(['build', 'kernels', '--json']) == 0
    document = json.loads(capsys.readouterr().out)
    assert document['library'] == '/cache/scans.so'
    assert [(one['op'], one['name']) for one in document['kernels']] == [(c.op, c.name) for c in describe('cpu')]
    assert main(['build', 'kernels']) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith('Built /cache/scans.so\n') and 'ssd: ' in printed.out
    assert 'compiling the scans' in printed.err and len(built) == len(used) == 2


def test_without_a_verb_the_help_is_shown(capsys):
    main(['build'])
    assert 'kernels' in capsys.readouterr().out


@pytest.fixture
def threads_of_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_graphs_of_a_model_are_built_for_the_robot(border, capsys, every_option, threads_of_before):
    found = Prepared(None, {}, 'openvino')
    built = border('m3et_ros.runtime.backends.prepared.prepare', (found, Serving('openvino', 'agrees')))
    folder = border('m3et_ros.runtime.backends.prepared.artefact_folder', Path('/cache/tiny'))
    used = border('m3et_ros.runtime.kernels.use_built')
    line = ['build', 'openvino', '--model', 'tiny', '--precision', 'bfloat16', '--tokens', 'adaptive']
    line += ['--threads', '3', '--json']
    every_option([*line, '--calibrate', 'cache'])
    assert main(line) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {'schema': 1, 'folder': '/cache/tiny', 'precision': 'bfloat16', 'checked': 'agrees'}
    assert torch.get_num_threads() == 3 and len(used) == 1
    assert (built[0]['model'].config.name, built[0]['runtime'], built[0]['precision']) == (
        'tiny',
        'openvino',
        'bfloat16',
    )
    assert built[0]['adaptive'] is True
    assert folder[0]['model'] is built[0]['model'] and folder[0]['precision'] == 'bfloat16'
    assert main(['build', 'openvino', '--model', 'tiny']) == 0
    assert capsys.readouterr().out == 'Built /cache/tiny (agrees)\n' and built[1]['precision'] == 'float32'
    assert built[1]['adaptive'] is False


def test_graphs_that_cannot_be_built_are_refused(border, capsys):
    border('m3et_ros.runtime.backends.prepared.prepare', (None, Serving('torch', 'openvino cannot serve', True)))
    assert main(['build', 'openvino', '--model', 'tiny']) == 1
    assert 'were not built: openvino cannot serve' in capsys.readouterr().err
    assert main(['build', 'openvino', '--precision', 'float16']) == 1
    assert "--precision is 'float16'; give float32, bfloat16, int8" in capsys.readouterr().err
    assert main(['build', 'openvino', '--tokens', 'some']) == 1
    assert "--tokens is 'some'; give full or adaptive" in capsys.readouterr().err


def test_int8_is_built_on_the_cache(border, capsys, monkeypatch):
    calibration = object()
    opened = border('m3et_ros.runtime.backends.int8.open_calibration', calibration)
    built = border(
        'm3et_ros.runtime.backends.prepared.prepare', (Prepared(None, {}, 'o'), Serving('openvino', 'agrees'))
    )
    border('m3et_ros.runtime.backends.prepared.artefact_folder', Path('/cache/tiny'))
    line = ['build', 'openvino', '--model', 'tiny', '--precision', 'int8', '--calibrate', 'kitchens']
    monkeypatch.setattr('platform.machine', lambda: 'x86_64')
    monkeypatch.setattr('m3et_ros.runtime.machine.cpu_facts', lambda: 'flags : avx2')
    assert main(line) == 1 and not opened
    assert 'this CPU has no VNNI' in capsys.readouterr().err
    monkeypatch.setattr('m3et_ros.runtime.machine.cpu_facts', lambda: 'flags : avx2 avx512_vnni')
    assert main(line) == 0
    assert opened[0]['cache'] == Path('kitchens') and opened[0]['tokenizer'].cls >= 0
    assert built[0]['calibration'] is calibration and built[0]['precision'] == 'int8'


@pytest.mark.parametrize('line', [['--precision', 'int8'], ['--calibrate', 'kitchens']], ids=' '.join)
def test_int8_and_its_cache_are_given_together(capsys, line):
    assert main(['build', 'openvino', *line]) == 1
    assert 'give both or neither' in capsys.readouterr().err


def test_int8_graphs_encode_whole_frames(capsys, monkeypatch):
    monkeypatch.setattr('m3et_ros.runtime.backends.int8.lacks_vnni', lambda: False)
    line = ['build', 'openvino', '--precision', 'int8', '--calibrate', 'kitchens', '--tokens', 'adaptive']
    assert main(line) == 1
    assert 'set tokens to full, or precision to float32' in capsys.readouterr().err
