#!/usr/bin/env python3
"""Write the tables of topics, services and parameters into README.md from the tables that the node itself uses.

    .venv/bin/python scripts/readme_tables.py
"""

import re
from pathlib import Path

from m3et_ros.ros import interfaces, parameters

README = Path(__file__).resolve().parents[1] / 'README.md'


def main() -> None:
    """Replace what stands between each pair of markers."""
    text = README.read_text()
    for name, table in (('interfaces', interfaces.as_markdown()), ('parameters', parameters.as_markdown())):
        block = f'<!-- {name}: scripts/readme_tables.py -->\n{table.strip()}\n<!-- end -->'
        text, count = re.subn(rf'<!-- {name}: .*?<!-- end -->', lambda _: block, text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f'README.md has {count} blocks called {name}; it needs one')
    README.write_text(text)


if __name__ == '__main__':
    main()
