"""One table of parameters: declared, checked, snapshotted, written as YAML and as documentation."""

import subprocess
import sys

import pytest
import yaml
from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter

from m3et_ros.data.errors import InputError
from m3et_ros.ros import process
from m3et_ros.ros.parameters import (
    PARAMETERS,
    ParameterSpec,
    Settings,
    as_markdown,
    as_yaml,
    declare,
    settings_type,
    snapshot,
    unknown_overrides,
    unmatched_files,
)

FILE = process.share('config', 'robot.yaml')


@pytest.mark.parametrize('spec', PARAMETERS, ids=lambda s: s.name)
def test_every_parameter_has_a_description_and_a_descriptor(spec):
    assert spec.description.endswith('.') and '|' not in spec.description
    descriptor = spec.descriptor()
    assert descriptor.description == spec.description and descriptor.read_only != spec.live
    assert len(descriptor.integer_range) == (spec.kind is int)
    assert len(descriptor.floating_point_range) == (spec.kind is float)


@pytest.mark.parametrize('spec', [spec for spec in PARAMETERS if spec.low is not None], ids=lambda s: s.name)
def test_numbers_are_allowed_up_to_both_ends_and_not_beyond(spec):
    step = 1 if spec.kind is int else 1e-6
    for end, beyond in ((spec.low, spec.low - step), (spec.high, spec.high + step)):
        assert spec.why_not(spec.kind(end)) == ''
        assert spec.why_not(spec.kind(beyond)) == f'{spec.name} is {spec.kind(beyond)}; give {spec.allowed}'


def test_descriptors_carry_the_range_and_the_choices():
    specs = {spec.name: spec.descriptor() for spec in PARAMETERS}
    (whole,), (real,) = specs['threads'].integer_range, specs['sync_slop_s'].floating_point_range
    assert (whole.from_value, whole.to_value, whole.step) == (0, 64, 0)
    assert (real.from_value, real.to_value, real.step) == (0.0, 1.0, 0.0)
    assert specs['precision'].additional_constraints == 'One of float32, bfloat16 or int8.'


def test_names_are_unique():
    assert len({spec.name for spec in PARAMETERS}) == len(PARAMETERS)


@pytest.mark.parametrize(
    'options',
    [
        {'default': 1},
        {'default': 1.0, 'low': 0},
        {'default': 9, 'low': 0, 'high': 5},
        {'default': 'c', 'choices': ('a', 'b')},
        {'default': [1]},
        {'default': 'x', 'description': ''},
    ],
)
def test_a_wrong_line_in_the_table_is_refused(options):
    with pytest.raises(ValueError, match='give|needs'):
        ParameterSpec(**{'name': 'p', 'description': 'What it is.', **options})


def test_the_parameter_file_is_what_the_table_writes():
    assert FILE.read_text() == as_yaml(), 'run: python -m m3et_ros.ros.parameters > config/robot.yaml'
    content = yaml.safe_load(FILE.read_text())
    assert content == {'/**': {'ros__parameters': {spec.name: spec.default for spec in PARAMETERS}}}
    assert FILE.read_text().startswith('# ros2 launch ')


def test_other_tokens_than_full_and_adaptive_are_refused():
    specs = {spec.name: spec for spec in PARAMETERS}
    assert specs['tokens'].why_not('some') == "tokens is 'some'; give full or adaptive"
    assert specs['tokens_threshold'].why_not(11.0) == 'tokens_threshold is 11.0; give 0..10'
    assert not specs['tokens'].why_not('adaptive')


def test_the_documentation_lists_every_parameter():
    rows = as_markdown().splitlines()[2:]
    assert [row.split('`')[1] for row in rows] == [spec.name for spec in PARAMETERS]


def test_defaults_reach_the_snapshot(ros):
    assert declare(ros.node('n')) == Settings()
    assert declare(ros.node('m'), table=PARAMETERS[:2]) == settings_type(PARAMETERS[:2])()


def test_the_parameter_file_reaches_a_node_in_any_namespace(ros, tmp_path):
    file = tmp_path / 'robot.yaml'
    file.write_text(as_yaml().replace('top_k: 5', 'top_k: 7').replace("device: 'auto'", "device: 'cpu'"))
    for namespace in ('/', '/robot_1/arm'):
        node = ros.node('n', namespace=namespace, cli_args=['--ros-args', '--params-file', str(file)])
        settings = declare(node)
        assert (settings.top_k, settings.device, settings.horizon_s) == (7, 'cpu', 1.0)
        assert unknown_overrides(node) == []


@pytest.mark.parametrize(
    'name,given,words',
    [
        ('top_k', 51, 'top_k is 51; give 1..50'),
        ('horizon_s', 1, 'horizon_s is 1 but must be a float; write 1.0'),
        ('horizon_s', float('nan'), 'give 0.1..10'),
        ('precision', 'float16', "precision is 'float16'; give float32, bfloat16 or int8"),
        ('autostart', 'yes', 'must be a bool'),
        ('seed', True, 'must be a int'),
    ],
)
def test_a_bad_start_value_is_one_sentence(ros, name, given, words):
    node = ros.node('n', parameter_overrides=[Parameter(name, value=given)])
    with pytest.raises(InputError, match=words.replace('(', r'\(')) as caught:
        declare(node)
    assert caught.value.reason == 'parameter'


def test_live_parameters_change_and_others_do_not(ros):
    node = ros.node('n')
    before = declare(node)

    def put(name, value) -> SetParametersResult:
        return node.set_parameters([Parameter(name, value=value)])[0]

    assert put('top_k', 9).successful and put('answer_mode', 'generate').successful
    assert (snapshot(node).top_k, snapshot(node).answer_mode, before.top_k) == (9, 'generate', 5)
    for name, value, words in (
        ('top_k', 0, '1'),
        ('answer_mode', 'sing', 'give classify or generate'),
        ('device', 'cpu', 'read-only'),
        ('horizon_s', 1, 'type'),
        ('instruction', 'x' * 100_001, 'at most 100000'),
    ):
        result = put(name, value)
        assert not result.successful and words in result.reason, name
    assert snapshot(node).top_k == 9


def test_a_misspelt_parameter_is_reported_with_the_nearest_name(ros):
    given = {'horizons': 2.0, 'xyz': 1, 'qos_overrides./rgb/image_raw.subscription.depth': 5, 'top_k': 3}
    node = ros.node(
        'n',
        namespace='robot',
        parameter_overrides=[Parameter(k, value=v) for k, v in given.items()]
        + [Parameter('use_sim_time', value=False)],
    )
    declare(node)
    first, second = unknown_overrides(node)
    assert 'horizons' in first and '/robot/n' in first and 'did you mean horizon_s?' in first
    assert 'xyz' in second and 'remove it' in second


@pytest.mark.parametrize(
    'text,matches',
    [
        ('/**: {ros__parameters: {top_k: 3}}', True),
        ('/robot/n: {ros__parameters: {top_k: 3}}', True),
        ('robot/n: {ros__parameters: {top_k: 3}}', True),
        ('robot: {n: {ros__parameters: {top_k: 3}}}', True),
        ('/**/n: {ros__parameters: {top_k: 3}}', True),
        ('/*/n: {ros__parameters: {top_k: 3}}', True),
        ('{other: {ros__parameters: {top_k: 9}}, /**: {ros__parameters: {top_k: 3}}}', True),
        ('n: {ros__parameters: {top_k: 3}}', False),
        ('/*: {ros__parameters: {top_k: 3}}', False),
        ('model_node: {ros__parameters: {top_k: 3}}', False),
        ('/robot/nn: {ros__parameters: {top_k: 3}}', False),
        ('/other/n: {ros__parameters: {top_k: 3}}', False),
    ],
)
def test_a_parameter_file_for_other_nodes_is_named_exactly_when_rcl_ignores_it(ros, tmp_path, text, matches):
    file = tmp_path / 'file.yaml'
    file.write_text(text)
    node = ros.node('n', namespace='robot', cli_args=['--ros-args', '--params-file', str(file)])
    assert (declare(node).top_k == 3) is matches, 'rcl agrees'
    sentences = unmatched_files(node, ['x', '--ros-args', '--params-file', str(file)])
    assert (sentences == []) is matches
    assert matches or all(word in sentences[0] for word in (str(file), "'/robot/n:'", "'/**:'"))


def test_each_file_is_named_once_and_those_that_cannot_be_read_are_left_to_rcl(ros, tmp_path):
    (tmp_path / 'one.yaml').write_text('a: {ros__parameters: {}}')
    (tmp_path / 'empty.yaml').write_text('')
    (tmp_path / 'bad.yaml').write_text('{')
    files = [str(tmp_path / f'{name}.yaml') for name in ('one', 'empty', 'one', 'bad', 'none')]
    sentences = unmatched_files(ros.node('n'), [word for file in files for word in ('--params-file', file)])
    assert len(sentences) == 2 and '(/a)' in sentences[0] and 'it has none' in sentences[1]


def test_the_module_prints_the_file():
    done = subprocess.run(
        [sys.executable, '-m', 'm3et_ros.ros.parameters'], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == as_yaml()
