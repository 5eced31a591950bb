#!/usr/bin/env python3
"""Write the tables of README.md: topics, services and parameters from the tables that the node itself uses, figures of
the trained weights from benchmarks/results/.

    .venv/bin/python scripts/readme_tables.py
"""

import json
import re
from pathlib import Path

from m3et_ros.evaluation.report.markdown import actions_table, reconstruction_table, vqa_table
from m3et_ros.ros import interfaces, parameters

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / 'README.md'


def main() -> None:
    """Replace what stands between each pair of markers."""
    text = README.read_text()
    for name, table in (
        ('interfaces', interfaces.as_markdown()),
        ('parameters', parameters.as_markdown()),
        ('vqa', vqa_table(measured('kitchen_vqa'))),
        ('reconstruction', reconstruction_table(measured('kitchen_reconstruction'))),
        ('actions', actions_table(measured('kitchen_actions'))),
    ):
        block = f'<!-- {name}: scripts/readme_tables.py -->\n{table.strip()}\n<!-- end -->'
        text, count = re.subn(rf'<!-- {name}: .*?<!-- end -->', lambda _: block, text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f'README.md has {count} blocks called {name}; it needs one')
    README.write_text(text)


def measured(name: str) -> dict:
    """Metrics that an evaluation left in benchmarks/results/."""
    return json.loads((ROOT / f'benchmarks/results/{name}.json').read_text())['metrics']


if __name__ == '__main__':
    main()
