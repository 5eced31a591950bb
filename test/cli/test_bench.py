"""`m3et bench`: which scripts run, with what, and what is said when one is missing or fails."""

import json

import pytest

from m3et_ros.cli.bench import SPEED
from m3et_ros.cli.main import main

SCRIPT = """
import json, os, sys
from pathlib import Path
out = Path(__file__).parent / 'results'
out.mkdir(exist_ok=True)
(out / f'{Path(__file__).stem}.json').write_text(json.dumps(
    {'words': sys.argv[1:], 'threads': os.environ['OMP_NUM_THREADS'], 'waits': os.environ['OMP_WAIT_POLICY']}))
sys.exit('--break' in sys.argv)
"""


@pytest.fixture
def folder(tmp_path):
    for name in ('ssd', 'codec'):
        (tmp_path / f'{name}.py').write_text(SCRIPT)
    return tmp_path


def test_one_benchmark_gets_its_options_and_one_thread(folder, capfd):
    assert main(['bench', 'ssd', '--benchmarks', str(folder), '--json', '--rounds', '3']) == 0
    found = json.loads(capfd.readouterr().out)
    assert found == {
        'schema': 1,
        'failed': [],
        'results': {'ssd': {'words': ['--rounds', '3'], 'threads': '1', 'waits': 'PASSIVE'}},
    }


def test_all_runs_what_is_there_and_prints_the_table(folder, capfd):
    assert main(['bench', 'all', '--benchmarks', str(folder)]) == 0
    out = capfd.readouterr().out
    assert 'benchmarks/results/ssd.json' in out and SPEED['codec'] in out and 'models' not in out


def test_a_benchmark_that_fails_is_an_exit_code(folder, capfd):
    assert main(['bench', 'ssd', '--benchmarks', str(folder), '--json', '--break']) == 1
    captured = capfd.readouterr()
    assert (
        json.loads(captured.out) == {'schema': 1, 'failed': ['ssd'], 'results': {}}
        and 'ended with code 1' in captured.err
    )


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['sdd'], 'no benchmark'),
        (['all', '--rounds', '3'], 'is an option of one benchmark'),
        (['node'], 'benchmarks come with the source'),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_sentence(folder, capfd, words, said):
    assert main(['bench', *words[:1], '--benchmarks', str(folder), *words[1:]]) == 1
    assert said in capfd.readouterr().err


def test_every_name_is_a_script_of_the_source():
    from pathlib import Path

    there = {path.stem for path in (Path(__file__).resolve().parents[2] / 'benchmarks').glob('*.py')}
    assert set(SPEED) <= there
