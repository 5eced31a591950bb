"""The figures of the idle node, and their page."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_has_the_stored_figures_and_an_idle_node_encoded_nothing(script):
    cases = json.loads((ROOT / 'benchmarks/results/idle.json').read_text())['cases_of_the_node']
    assert list(cases) == list(script('idle').CASES)
    remembering, idle, serving = cases.values()
    assert idle['frames_encoded'] == 0 < min(remembering['frames_encoded'], serving['frames_encoded'])
    assert idle['frames_in'] > 0 and idle['message'].startswith('Idle: nobody subscribes')
    page = (ROOT / 'docs/performance.md').read_text()
    for name, case in cases.items():
        row = f'| {name} | {case["core_share"]:.1%} | {case["frames_encoded"]} of {case["frames_in"]} |'
        assert row in page
