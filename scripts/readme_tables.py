#!/usr/bin/env python3
"""Write the tables of README.md from the node's own tables and from benchmarks/results/.

    .venv/bin/python scripts/readme_tables.py

The node's tables hold its topics, services and parameters; the results hold the figures of the shipped weights.
"""

import json
import re
from pathlib import Path

from m3et_ros.evaluation.report.markdown import actions_table, reconstruction_table, vqa_table
from m3et_ros.ros import interfaces, parameters

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / 'README.md'


def main() -> None:
    """Replace the text between each pair of markers."""
    text = README.read_text()
    for name, table in (
        ('interfaces', interfaces.as_markdown()),
        ('parameters', parameters.as_markdown()),
        ('vqa', vqa_table(measured('kitchen_vqa'))),
        ('reconstruction', reconstruction_table(measured('kitchen_reconstruction'))),
        ('actions', actions_table(measured('kitchen_actions'))),
    ):
        block = f'<!-- {name}: scripts/readme_tables.py -->\n{table.strip()}\n<!-- end -->'
        parts = re.split(rf'<!-- {name}: .*?<!-- end -->', text, flags=re.DOTALL)
        if len(parts) != 2:
            raise SystemExit(f'README.md has {len(parts) - 1} blocks called {name}; it needs one')
        text = block.join(parts)
    README.write_text(text)


def measured(name: str) -> dict:
    """Read the metrics of an evaluation in benchmarks/results/."""
    return json.loads((ROOT / f'benchmarks/results/{name}.json').read_text())['metrics']


if __name__ == '__main__':
    main()
