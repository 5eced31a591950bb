"""The check of a GPU at its smallest size, on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(script, tmp_path, monkeypatch):
    """Run the check on the CPU with options; its exit code, and the sections of its result."""

    def start(*options):
        out = tmp_path / 'gpu.json'
        given = ['gpu.py', '--device', 'cpu', '--quick', '--rounds', '1', '--results', str(out), *options]
        monkeypatch.setattr(sys, 'argv', given)
        return script('gpu').main(), json.loads(out.read_text())['sections']

    return start


def test_every_section_runs_without_a_gpu(run):
    code, sections = run()
    assert {name: s.get('problem', '') for name, s in sections.items() if not s['reached']} == {}
    assert code == 0 and list(sections) == [
        'parity',
        'kernels',
        'graphs',
        'latency',
        'throughput',
        'decoding',
        'training',
        'memory',
    ]
    assert sections['parity']['error'] == {'tiny': 0.0}, 'the CPU agrees with itself'
    assert sections['training']['images_per_second'] > 0
    assert set(sections['decoding']['models']) == {'mamba', 'transformer', 'hybrid_1/4', 'hybrid_1/2'}


def test_a_section_that_fails_is_named_and_the_others_go_on(run, script, monkeypatch):
    check = script('gpu')
    monkeypatch.setattr(check, 'SECTIONS', {'parity': lambda check: 1 / 0, 'kernels': check.kernels})
    code, sections = run()
    assert code == 1 and sections['parity']['problem'] == 'ZeroDivisionError: division by zero'
    assert sections['kernels']['reached']


def test_the_shell_script_ends_in_time_with_a_result(tmp_path):
    out = tmp_path / 'gpu.json'
    ended = subprocess.run(
        ['bash', str(ROOT / 'scripts/gpu_check.sh'), '--device', 'cpu', '--quick', '--minutes', '0', '--results', out],
        env=os.environ | {'PYTHON': sys.executable},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1, ended.stderr
    problems = {one['problem'] for one in json.loads(out.read_text())['sections'].values()}
    assert problems == {'not begun: 0.0 minutes were over'}
