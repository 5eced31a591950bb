"""The pages of the five papers name code, commands, options and results that exist."""

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
NAMES = ('m3et', 'mambavl', 'ml-mamba', 'emma', 'matvlm')
HEADINGS = [
    'In short',
    'What it says',
    'Where each equation lives',
    "What deviates, and the switch for the paper's form",
    'Run it',
    'What was measured',
    'Public checkpoints',
]
CODE = re.compile(r'`([\w/]+\.py):([\w., ]+)`')
SCRIPT = re.compile(r'benchmarks/\w+\.py')
OPTION = re.compile(r'(?<![\w-])--[a-z][\w-]*')


def read(name):
    return (ROOT / f'docs/papers/{name}.md').read_text(encoding='utf-8')


def source(place):
    """Return a file as the pages name it: below the package, or below the repository."""
    return ROOT / place if place.startswith('benchmarks/') else ROOT / 'm3et_ros' / place


@cache
def defined(path):
    """Return the names that a file defines at its top, and those of its classes behind a full stop."""

    def names(body):
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                yield node.name
            elif isinstance(node, ast.Assign):
                yield from (target.id for target in node.targets if isinstance(target, ast.Name))
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                yield node.target.id

    body = ast.parse(path.read_text(encoding='utf-8')).body
    inner = {f'{node.name}.{name}' for node in body if isinstance(node, ast.ClassDef) for name in names(node.body)}
    return {*names(body), *inner}


def missing_names(text):
    """Return the references of a page, `file.py:name, name`, that lead nowhere."""
    return [
        f'{place}:{name}'
        for place, found in CODE.findall(text)
        for name in found.split(', ')
        if not source(place).is_file() or name not in defined(source(place))
    ]


@cache
def options():
    """Return the options of each verb, from the page of the command line."""
    parts = re.split(r'^#{2,3} `m3et ([^`]+)`$', (ROOT / 'docs/cli.md').read_text(encoding='utf-8'), flags=re.M)
    return {
        verb: {name for line in re.findall(r'^\* `(-[^`]+)`:', text, re.M) for name in re.findall(r'-[\w-]+', line)}
        for verb, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def offered(script):
    """Return the text in which a benchmark declares its options; those that train share a parser."""
    return script.read_text(encoding='utf-8') + (ROOT / 'benchmarks/runs.py').read_text(encoding='utf-8')


def wrong_words(command):
    """Return the words of a command that its verb or script does not take."""
    program, *words = shlex.split(command, comments=True)
    asked = [word.split('=')[0] for word in words if re.match(r'--?[a-z]', word)]
    if program == 'python':
        text = offered(ROOT / words[0])
        return [word for word in asked if f"'{word}'" not in text and f"'{word[2:]}'" not in text]
    verb = ' '.join(words[:2]) if ' '.join(words[:2]) in options() else words[0]
    return [word for word in asked if word not in options()[verb]] if verb in options() else [verb]


def commands(text):
    return [line for block in re.findall(r'^```\n(.*?)^```$', text, re.M | re.S) for line in block.splitlines()]


@pytest.mark.parametrize('name', NAMES)
def test_a_page_has_its_parts_in_order(name):
    assert re.findall(r'^## (.+)$', read(name), re.M) == HEADINGS


@pytest.mark.parametrize('name', NAMES)
def test_every_name_of_code_is_defined(name):
    assert len(CODE.findall(read(name))) >= 15
    assert missing_names(read(name)) == []


@pytest.mark.parametrize('name', NAMES)
def test_every_command_takes_its_options(name):
    lines = commands(read(name))
    assert len(lines) >= 10
    assert {line: wrong for line in lines if (wrong := wrong_words(line))} == {}


def mechanisms(name):
    """Return the rows of the table of mechanisms: name, command, state."""
    part = read(name).split('## Run it')[1].split('\n```')[0]
    return re.findall(r'^\| (.+?) \| `(.+)` \| (\w+) \|$', part, re.M), part.count('\n| ')


@pytest.mark.parametrize('name', NAMES)
def test_every_mechanism_has_a_command_and_a_state(name):
    rows, lines = mechanisms(name)
    assert len(rows) == lines - 1 >= 8  # every row but the head
    assert {command: wrong for _, command, _ in rows if (wrong := wrong_words(command))} == {}
    assert {state for *_, state in rows} <= {'works', 'measured'}


@pytest.mark.parametrize('name', NAMES)
def test_every_option_script_and_result_exists(name):
    text = read(name)
    known = {word for words in options().values() for word in words}
    scripts = ''.join(offered(ROOT / place) for place in set(SCRIPT.findall(text)))
    strange = {word for word in OPTION.findall(text) if word not in known and f"'{word}'" not in scripts}
    assert {word for word in strange if f"'{word[2:]}'" not in scripts} == set()
    assert [p for p in re.findall(r'benchmarks/results/\w+\.json', text) if not (ROOT / p).is_file()] == []


@pytest.mark.parametrize('name', NAMES)
def test_every_section_stands_in_our_reading(name):
    headings = re.findall(
        r'^(?:#+ |\*\*)(\d+(?:\.\d+)?)[. ]', (ROOT / 'docs/papers.md').read_text(encoding='utf-8'), re.M
    )
    table = read(name).split('## Where each equation lives')[1].split('\n## ')[0]
    cited = re.findall(r'\| (\d+(?:\.\d+)?) \|$', table, re.M)
    assert len(cited) == table.count('\n| ') - 1  # every row but the head
    assert set(cited) <= set(headings)


def test_our_reading_links_every_page():
    text = (ROOT / 'docs/papers.md').read_text(encoding='utf-8')
    assert [name for name in NAMES if f'](papers/{name}.md)' not in text] == []
    nav = yaml.safe_load((ROOT / 'mkdocs.yml').read_text())['nav']
    part = next(entry['Explanation'] for entry in nav if 'Explanation' in entry)
    found = next(entry['The five papers'] for entry in part if 'The five papers' in entry)
    # Our reading comes first.
    assert [page for entry in found[1:] for page in entry.values()] == [f'papers/{name}.md' for name in NAMES]


def test_the_checks_find_what_is_wrong():
    assert missing_names('`layers/mamba.py:Mamba1, Mamba9` `layers/lost.py:one`') == [
        'layers/mamba.py:Mamba9',
        'layers/lost.py:one',
    ]
    assert wrong_words('m3et train vqa --data x --align 1 -o y') == ['--align', '-o']
    assert wrong_words('m3et convert weights x.pt -o y') == []
    assert wrong_words('m3et sing x') == ['sing']
    assert wrong_words('python benchmarks/decode.py --width 768 --depth 3') == ['--depth']
