"""The house rules: floors, circles, sizes, unique names, and what may never stand in the tree."""

import ast
import re
import statistics
from collections import defaultdict
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


def imports(path):
    """Yield every module that a file imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ''
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


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
FILE_GRAPH = {p: {q for name in imports(p) if (q := module_file(name)) and q != p} for p in SOURCES}


@pytest.mark.parametrize('path', SOURCES, ids=name_of)
def test_a_room_imports_only_from_floors_below(path):
    room = path.relative_to(PACKAGE).parts[0]
    if room not in FLOORS:
        return
    for name in imports(path):
        parts = name.split('.')
        if parts[0] == 'm3et_ros' and len(parts) > 1 and parts[1] in FLOORS and parts[1] != room:
            allowed = parts[1] in ROS_BELOW if room == 'ros' else FLOORS[parts[1]] < FLOORS[room]
            assert allowed, f'{room} imports {name}'
        if parts[0] in ROS or (parts[:1] == ['m3et_ros'] and len(parts) > 1 and parts[1] in GENERATED):
            assert room in ('ros', 'cli'), f'{room} imports {name}'
        assert parts[0] not in IO or FLOORS[room] > FLOORS['models'], f'{room} imports {name}'


def part_of(path):
    """Return the part of its room that a file belongs to: its folder, or the file itself directly in the room."""
    return path.parent if len(path.relative_to(PACKAGE).parts) > 2 else path


def test_no_circle_between_the_parts_of_rooms():
    """The folders of a room and the files beside them have an order, in every room, `cli` among them."""
    graph = defaultdict(set)
    for path, others in FILE_GRAPH.items():
        graph[part_of(path)] |= {part_of(other) for other in others if other.name != '__init__.py'} - {part_of(path)}
    assert any(part.parent == PACKAGE / 'cli' for part in graph)
    assert [[name_of(p) for p in circle] for circle in circles(graph)] == []


def test_no_circle_between_rooms():
    graph = defaultdict(set)
    for path, others in FILE_GRAPH.items():
        room = path.relative_to(PACKAGE).parts[0]
        graph[room] |= {other.relative_to(PACKAGE).parts[0] for other in others if other.name != '__init__.py'} - {room}
    assert circles(graph) == []


def test_no_circle_between_files():
    graph = {p: {q for q in others if q.name != '__init__.py'} for p, others in FILE_GRAPH.items()}
    assert [[name_of(p) for p in circle] for circle in circles(graph)] == []


def functions(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


@pytest.mark.parametrize('path', [*SOURCES, *SCRIPTS], ids=name_of)
def test_files_and_functions_stay_readable(path):
    assert path.read_text().count('\n') <= 500
    for node in functions(path):
        assert node.end_lineno - node.lineno < 60, node.name


def test_the_median_function_is_short():
    assert statistics.median(n.end_lineno - n.lineno + 1 for p in SOURCES for n in functions(p)) <= 12


def test_class_names_are_unique():
    places = defaultdict(list)
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(name_of(path))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


@pytest.mark.parametrize('path', SOURCES, ids=name_of)
def test_every_source_has_a_test_file(path):
    place = path.relative_to(PACKAGE)
    if path.name == '__init__.py':
        return
    folder = ROOT / 'test' / place.parent
    assert list(folder.glob(f'test_{path.stem}.py')) or list(folder.glob(f'test_{path.stem}_*.py'))


@pytest.mark.parametrize('path', [*SOURCES, *SCRIPTS, *TESTS], ids=name_of)
def test_docstrings_do_not_open_with_a_question_word(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = (ast.get_docstring(node) or '').split('\n')[0]
            assert not re.match(r'(What|Whether|Who|How|Where|Which)\b', first), first


@pytest.mark.parametrize('path', SOURCES, ids=name_of)
def test_no_pickle_no_eval_no_shell(path):
    text = path.read_text()
    if name_of(path) == UNPICKLER:
        text = text.replace("torch.load(path, map_location='cpu', weights_only=True)", 'None')
    assert not re.search(r'\bpickle\b|torch\.load\(|(?<![.\w])(?:eval|exec)\(|shell=True|os\.system', text)
    assert ast.get_docstring(ast.parse(text)), 'a file opens with what it is for'


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
