"""docs/diagnostics.md explains every reason that a node can give, and no other."""

import ast
import re
from pathlib import Path

from m3et_ros.data.questions.reader import REASONS
from m3et_ros.ros.camera.stream_watch import CAUSES

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / 'm3et_ros'
PLACES = (
    'ros',
    'runtime',
    'data/images',
    'data/checkpoints',
    'data/depth_checks.py',
    'data/hub.py',
    'data/frame.py',
    'data/files.py',
    'data/bags/cdr.py',
    'data/tokenizer.py',
)
"""Code that runs in the model node; of the nodes for recordings, `m3et replay` prints the sentence itself."""
ELSEWHERE = {'replay_node.py', 'camera_sim.py'}
# Parts of names that the code puts in when it runs.
FILLED = {'odd_{}': ['odd_width', 'odd_height'], '{}_duplicate': ['rgb_duplicate', 'depth_duplicate']}
CALLS = {'InputError', 'set_cause', 'count', '_report_silence'}


def is_word(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value != ''


def names(argument):
    """Return the reasons in the first argument of a call; parts in braces are filled."""
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return [argument.value]
    if isinstance(argument, ast.JoinedStr):
        form = ''.join(part.value if isinstance(part, ast.Constant) else '{}' for part in argument.values)
        if form == 'instruction_{}':
            return [f'instruction_{reason}' for reason in REASONS]
        return FILLED.get(form, [form])
    return []


def reasons_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and node.args:
            function = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, 'attr', '')
            if function in CALLS:
                yield from names(node.args[0])
        if isinstance(node, ast.FunctionDef) and node.name == 'stream_break':
            yield from (
                c.value for n in ast.walk(node) if isinstance(n, ast.Return) for c in ast.walk(n.value) if is_word(c)
            )
        if isinstance(node, ast.Subscript) and getattr(node.value, 'attr', '') == '_counts':
            yield from names(node.slice)


def test_every_reason_is_explained_with_its_fix_and_no_other():
    places = [PACKAGE / place for place in PLACES]
    assert all(place.exists() for place in places)
    files = [file for place in places for file in ([place] if place.is_file() else place.rglob('*.py'))]
    given = {reason for file in files if file.name not in ELSEWHERE for reason in reasons_of(file)} | set(CAUSES)
    text = (ROOT / 'docs/diagnostics.md').read_text()
    rows = re.findall(r'^\| `([a-z_0-9]+)` \| (.+?) \| (.+?) \|$', text, re.M)
    explained = [name for name, _, _ in rows]
    assert len(explained) == len(set(explained))
    assert set(explained) == given, (sorted(given - set(explained)), sorted(set(explained) - given))
    assert all(len(meaning) > 10 and len(fix) > 3 for _, meaning, fix in rows)


def test_the_names_are_those_of_the_code(tmp_path):
    code = "raise InputError('a', 'x')\nhealth.set_cause('b', '')\nself._counts['c'] += 1\nInputError(f'odd_{x}', '')\n"
    (tmp_path / 'code.py').write_text(code)
    assert set(reasons_of(tmp_path / 'code.py')) == {'a', 'b', 'c', 'odd_width', 'odd_height'}
