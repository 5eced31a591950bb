#!/usr/bin/env python3
"""Write NOTICE: what set-up pulls beside this package, and the licence that each distribution states.

.venv/bin/python scripts/notice.py
"""

import re
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAD = """m3et_ros
Copyright the m3et_ros maintainers

Licensed under the Apache License, Version 2.0 (LICENSE). The shipped weights were trained in kitchens that this package
itself simulates, and are under the same licence. No code of others is part of this package.

`make demo` and `pip install` pull the distributions below from the package index. Each is under its own licence, as
stated in its metadata; `not stated` means that the wheel says nothing, as most ROS wheels do: the packages of ROS 2 are
under Apache-2.0 or BSD licences in their repositories.
"""


def main() -> None:
    """Write the file from the distributions of the demo's lock that are installed here, and torch."""
    lock = (ROOT / 'requirements/lock/jazzy.txt').read_text(encoding='utf-8')
    names = sorted({'torch', *re.findall(r'^([a-z0-9][a-z0-9._-]*)==', lock, re.MULTILINE)})
    licences = {name: found for name in names if (found := licence(name))}
    width = max(map(len, licences))
    lines = [f'{name:{width}}  {text}' for name, text in licences.items()]
    (ROOT / 'NOTICE').write_text('\n'.join([HEAD, *lines]) + '\n', encoding='utf-8')


def licence(name: str) -> str:
    """Return the licence that a distribution states; '' for one that is not installed here."""
    try:
        found = metadata(name)
    except PackageNotFoundError:
        return ''
    classifiers = [
        line.rpartition(' :: ')[2] for line in found.get_all('Classifier', []) if line.startswith('License ::')
    ]
    stated = (
        found.get('License-Expression') or ', '.join(classifiers) or (found.get('License') or '').partition('\n')[0]
    )
    return stated[:80] or 'not stated'


if __name__ == '__main__':
    main()
