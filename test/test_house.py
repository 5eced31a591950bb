"""The rules of dependence between the rooms, and what may never stand in the tree."""

import ast
import pathlib
import re

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / 'm3et_ros'
FLOORS = {'ops': 0, 'layers': 1, 'models': 2, 'data': 3, 'training': 3, 'evaluation': 3, 'runtime': 3, 'ros': 4,
          'cli': 5}
GENERATED = {'msg', 'srv', 'action'}
ROS = {'rclpy', 'sensor_msgs', 'std_msgs', 'std_srvs', 'diagnostic_msgs', 'lifecycle_msgs', 'rosgraph_msgs', 'launch'}
SOURCES = [p for p in sorted(PACKAGE.rglob('*.py')) if p.relative_to(PACKAGE).parts[0] not in GENERATED]
IO = {'pathlib', 'os', 'io', 'socket', 'urllib', 'requests', 'subprocess', 'time', 'cv2', 'json', 'safetensors'}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ''


@pytest.mark.parametrize('path', SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_from_its_floor_and_below(path):
    room = path.relative_to(PACKAGE).parts[0]
    if room not in FLOORS:
        return
    for name in imports(path):
        parts = name.split('.')
        if parts[0] == 'm3et_ros' and len(parts) > 1:
            allowed = parts[1] in GENERATED if parts[1] not in FLOORS else FLOORS[parts[1]] <= FLOORS[room]
            assert allowed, f'{room} imports {name}'
            assert parts[1] not in GENERATED or FLOORS[room] >= FLOORS['ros'], f'{room} imports {name}'
        assert parts[0] not in ROS or FLOORS[room] >= FLOORS['ros'], f'{room} imports {name}'
        assert parts[0] not in IO or FLOORS[room] > FLOORS['models'], f'{room} imports {name}'


@pytest.mark.parametrize('path', SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_readable(path):
    text = path.read_text()
    assert text.count('\n') <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < 60, node.name


@pytest.mark.parametrize('path', SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_pickle_no_eval_no_shell(path):
    text = path.read_text()
    assert not re.search(r'\bpickle\b|torch\.load\(|(?<![.\w])(?:eval|exec)\(|shell=True|os\.system', text)
    assert ast.get_docstring(ast.parse(text)), 'a file opens with what it is for'
