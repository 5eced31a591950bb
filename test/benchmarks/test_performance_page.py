"""docs/performance.md equals the output of its script from benchmarks/results/."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location('performance_tables', ROOT / 'scripts' / 'performance_tables.py')
tables = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tables)


def test_the_page_is_up_to_date():
    assert tables.PAGE.read_text(encoding='utf-8') == tables.page(), 'run python scripts/performance_tables.py'


def test_a_goal_is_reached_missed_or_not_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, 'RESULTS', tmp_path)
    monkeypatch.setattr(
        tables,
        'GOALS',
        (
            tables.Goal('scan', 5, 6, 'ssd', tables.times('case', 'native')),
            tables.Goal('growth', 4.5, None, 'ssd', tables.over('case', 'slow', 'native'), False),
            tables.Goal('node', 0.1, 0.05, 'node', lambda result: result['share_not_model'], False),
        ),
    )
    rows = {'cpu_ms': {'slow': 9.0, 'native': 1.5}, 'times_as_fast': {'native': 6.0}}
    (tmp_path / 'ssd.json').write_text(json.dumps({'cases': {'case': rows}}))
    found = tables.goals().splitlines()[2:]
    assert found[0].endswith('| 5 | 6 | 6.00 | aim reached |')
    assert found[1].endswith('| at most 4.5 | - | 6.00 | **missed** |')
    assert found[2].endswith('| not measured | - |')
    (tmp_path / 'node.json').write_text(json.dumps({'share_not_model': 0.07}))
    assert tables.goals().splitlines()[-1].endswith('| 0.07 | reached |')


def test_a_missing_block_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, 'PAGE', tmp_path / 'page.md')
    tables.PAGE.write_text('nothing')
    with pytest.raises(ValueError, match='0 blocks called goals'):
        tables.page()
