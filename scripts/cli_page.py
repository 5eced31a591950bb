#!/usr/bin/env python3
"""Write docs/cli.md from the m3et command: every verb with its arguments, options and examples.

.venv/bin/python scripts/cli_page.py
"""

import re
from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from m3et_ros.cli.main import app

PAGE = Path(__file__).resolve().parents[1] / 'docs/cli.md'


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding='utf-8')


def page() -> str:
    """Return the page as Markdown, in the form of typer's own generator."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name='m3et', title='Command line')
    text = re.sub(r'^Examples:((?:\n\nm3et .*)+)$', _code, text, flags=re.MULTILINE)
    first_lines = dict(re.findall(r'^#+ `(.+)`\n\n(.+)', text, flags=re.MULTILINE))
    group, lines = 'm3et', []
    for line in text.splitlines():
        if heading := re.match(r'#+ `(.+)`', line):
            group = heading[1]
        # typer cuts the texts of a list of commands off.
        if (verb := re.match(r'\* `(\w[\w-]*)`: ', line)) and f'{group} {verb[1]}' in first_lines:
            name = f'{group} {verb[1]}'
            line = f'* [`{verb[1]}`](#{name.replace(" ", "-")}): {first_lines[name]}'
        lines.append(line)
    return '<!-- Written by scripts/cli_page.py. -->\n' + '\n'.join(lines).strip() + '\n'


def _code(found: re.Match) -> str:
    """Return the examples of a verb as a block of code."""
    lines = '\n'.join(found[1].split('\n\n')[1:])
    return f'**Examples**:\n\n```console\n{lines}\n```'


if __name__ == '__main__':
    main()
