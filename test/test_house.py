"""The house rules: floors, circles, sizes, unique names, and what may never stand in the tree."""

import ast
import re
import statistics
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'm3et_ros'
ORDER = ('ops', 'layers', 'models', 'data', 'runtime', 'evaluation', 'training')
FLOORS = {name: floor for floor, name in enumerate(ORDER)} | {'ros': 7, 'cli': 8}
ROS_BELOW = ('ops', 'layers', 'models', 'data', 'runtime')
GENERATED = {'msg', 'srv', 'action'}
UNPICKLER = 'data/torch_files/worker.py'
"""The program of a child process of its own, which reads weights with torch's restricted reader and nothing else."""
ROS = {
    'rclpy',
    'geometry_msgs',
    'sensor_msgs',
    'std_msgs',
    'std_srvs',
    'diagnostic_msgs',
    'lifecycle_msgs',
    'rosgraph_msgs',
    'launch',
}
IO = {'pathlib', 'os', 'io', 'socket', 'urllib', 'requests', 'subprocess', 'time', 'cv2', 'json', 'safetensors'}
SCRIPTS = [p for folder in ('benchmarks', 'scripts') for p in sorted((ROOT / folder).glob('*.py'))]
TESTS = sorted((ROOT / 'test').rglob('*.py'))
SOURCES = [p for p in sorted(PACKAGE.rglob('*.py')) if p.relative_to(PACKAGE).parts[0] not in GENERATED]


def name_of(path):
    return str(path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else ROOT))


@cache
def nodes(path):
    """Return all nodes of the syntax tree of a file, its module first."""
    return list(ast.walk(ast.parse(path.read_text())))


@pytest.fixture(scope='module', autouse=True)
def trees():
    """Drop the trees at the end: the garbage collector would visit them in every later test."""
    yield
    nodes.cache_clear()


@cache
def imports(path):
    """Return every module that a file imports, at the top or inside a function."""
    found = []
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module or '', *(f'{node.module}.{alias.name}' for alias in node.names)]
    return found


def module_file(name):
    """Return the file of a module of this package; None for names that are not modules."""
    path = ROOT / Path(*name.split('.'))
    return next((p for p in (path.with_suffix('.py'), path / '__init__.py') if p in FILES), None)


def circles(graph):
    """Return the strongly connected components with more than one member."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
            low[node] = min(low[node], low[other]) if other in stack else low[node]
        if low[node] == index[node]:
            members = []
            while not members or members[-1] != node:
                members.append(stack.pop())
            if len(members) > 1:
                found.append(sorted(members))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


FILES = set(SOURCES)


@cache
def file_graph():
    """Return the files that each file imports."""
    return {p: {q for name in imports(p) if (q := module_file(name)) and q != p} for p in SOURCES}


def allowed(room, name):
    """Tell if a file of a room may import a module."""
    parts = name.split('.')
    of_ours = parts[1] if parts[0] == 'm3et_ros' and len(parts) > 1 else ''
    if of_ours in FLOORS and of_ours != room:
        return of_ours in ROS_BELOW if room == 'ros' else FLOORS[of_ours] < FLOORS[room]
    if parts[0] in ROS or of_ours in GENERATED:
        return room in ('ros', 'cli')
    return parts[0] not in IO or FLOORS[room] > FLOORS['models']


def test_a_room_imports_only_from_floors_below():
    rooms = {path: path.relative_to(PACKAGE).parts[0] for path in SOURCES}
    assert [
        f'{name_of(path)} imports {name}'
        for path, room in rooms.items()
        if room in FLOORS
        for name in imports(path)
        if not allowed(room, name)
    ] == []


def part_of(path):
    """Return the part of its room that a file belongs to: its folder, or the file itself directly in the room."""
    return path.parent if len(path.relative_to(PACKAGE).parts) > 2 else path


def test_no_circle_between_the_parts_of_rooms():
    """The folders of a room and the files beside them have an order, in every room, `cli` among them."""
    graph = defaultdict(set)
    for path, others in file_graph().items():
        graph[part_of(path)] |= {part_of(other) for other in others if other.name != '__init__.py'} - {part_of(path)}
    assert any(part.parent == PACKAGE / 'cli' for part in graph)
    assert [[name_of(p) for p in circle] for circle in circles(graph)] == []


def test_no_circle_between_rooms():
    graph = defaultdict(set)
    for path, others in file_graph().items():
        room = path.relative_to(PACKAGE).parts[0]
        graph[room] |= {other.relative_to(PACKAGE).parts[0] for other in others if other.name != '__init__.py'} - {room}
    assert circles(graph) == []


def test_no_circle_between_files():
    graph = {p: {q for q in others if q.name != '__init__.py'} for p, others in file_graph().items()}
    assert [[name_of(p) for p in circle] for circle in circles(graph)] == []


def functions(path):
    return [node for node in nodes(path) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def test_files_and_functions_stay_readable():
    assert [name_of(path) for path in [*SOURCES, *SCRIPTS] if path.read_text().count('\n') > 500] == []
    assert [
        f'{name_of(path)}: {node.name}'
        for path in [*SOURCES, *SCRIPTS]
        for node in functions(path)
        if node.end_lineno - node.lineno >= 60
    ] == []


def test_the_median_function_is_short():
    assert statistics.median(n.end_lineno - n.lineno + 1 for p in SOURCES for n in functions(p)) <= 12


def test_class_names_are_unique():
    places = defaultdict(list)
    for path in SOURCES:
        for node in nodes(path)[0].body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(name_of(path))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_every_source_has_a_test_file():
    tests = {path: ROOT / 'test' / path.relative_to(PACKAGE).parent for path in SOURCES if path.name != '__init__.py'}
    assert [
        name_of(path)
        for path, folder in tests.items()
        if not (list(folder.glob(f'test_{path.stem}.py')) or list(folder.glob(f'test_{path.stem}_*.py')))
    ] == []


def test_docstrings_do_not_open_with_a_question_word():
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    assert [
        f'{name_of(path)}: {first}'
        for path in [*SOURCES, *SCRIPTS, *TESTS]
        for node in nodes(path)
        if isinstance(node, documented)
        for first in (ast.get_docstring(node) or '').split('\n')[:1]
        if re.match(r'(What|Whether|Who|How|Where|Which)\b', first)
    ] == []


def test_no_pickle_no_eval_no_shell():
    found = []
    for path in SOURCES:
        text = path.read_text()
        if name_of(path) == UNPICKLER:
            text = text.replace("torch.load(path, map_location='cpu', weights_only=True)", 'None')
        for word in re.findall(r'\bpickle\b|torch\.load\(|(?<![.\w])(?:eval|exec)\(|shell=True|os\.system', text):
            found.append(f'{name_of(path)}: {word}')
    assert found == []


def test_a_file_opens_with_its_purpose():
    assert [name_of(path) for path in SOURCES if not ast.get_docstring(nodes(path)[0])] == []


CITING = [
    *SOURCES,
    *(
        p
        for folder in ('test', 'benchmarks', 'scripts')
        for p in sorted((ROOT / folder).rglob('*.py'))
        if p.name != 'test_house.py'
    ),
    *sorted((ROOT / 'docs').glob('*.md')),
    ROOT / 'README.md',
    ROOT / 'CONTRIBUTING.md',
]
CITATION = re.compile(r'docs/papers\.md,?(?: sections?)? ((?:\d+(?:\.\d+)?(?:, | and | to |-)?)+)')


def test_cited_sections_of_the_papers_exist():
    headings = re.findall(r'^(?:#+ |\*\*)(\d+(?:\.\d+)?)[. ]', (ROOT / 'docs/papers.md').read_text(), re.M)
    cited = {
        (str(path.relative_to(ROOT)), number)
        for path in CITING
        for found in CITATION.findall(re.sub(r'\s*\n\s*', ' ', path.read_text()))
        for number in re.findall(r'\d+(?:\.\d+)?', found)
    }
    assert len(cited) > 50
    assert {where for where in cited if where[1] not in headings} == set()


def test_cited_pages_exist():
    pages = {
        (path.relative_to(ROOT), page)
        for path in CITING
        for page in re.findall(r'(?:docs/)?[\w-]+\.md\b', path.read_text())
        if page.startswith('docs/') or page in ('papers.md', 'perf.md', 'sim-data.md', 'architecture.md')
    }
    # A page of docs/ links the others by their names.
    assert {
        (path, page) for path, page in pages if not any((ROOT / f / page).exists() for f in ('', path.parent))
    } == set()
