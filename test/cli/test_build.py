"""m3et build kernels: the kernels are compiled, used, and reported."""

import json
from pathlib import Path

from m3et_ros.cli.main import main
from m3et_ros.ops.dispatch import describe


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
