import pytest

from m3et_ros.cli.output import Refused
from m3et_ros.cli.ros_names import assignments, camera_remaps, full_namespace, ros_arguments


@pytest.mark.parametrize(('name', 'full'), [('m3et', '/m3et'), ('/m3et/', '/m3et'), ('a/b_2', '/a/b_2')])
def test_a_namespace_gets_its_slash(name, full):
    assert full_namespace(name) == full


@pytest.mark.parametrize('name', ['', '/', 'a b', '2a', 'a//b', 'a-b'])
def test_what_is_no_ros_name_is_refused(name):
    with pytest.raises(Refused, match='--namespace is'):
        full_namespace(name)


def test_every_input_of_the_node_is_remapped():
    remaps = dict(rule.split(':=') for rule in camera_remaps('left/cam'))
    assert remaps['rgb/image_raw'] == '/left/cam/color/image_raw'
    assert remaps['depth/image_raw/compressedDepth'] == '/left/cam/aligned_depth_to_color/image_raw/compressedDepth'
    assert len(remaps) == 5


def test_arguments_stand_in_the_order_in_which_ros_weighs_them():
    assert ros_arguments(parameters=['a:=1'], remaps=['b:=c'], files=['f.yaml'], namespace='/n') == [
        '--ros-args',
        '-r',
        '__ns:=/n',
        '--params-file',
        'f.yaml',
        '-p',
        'a:=1',
        '-r',
        'b:=c',
    ]


@pytest.mark.parametrize('options', [{'parameters': ['a']}, {'parameters': ['a:=']}, {'remaps': [':=b']}])
def test_a_rule_without_two_sides_is_refused(options):
    with pytest.raises(Refused, match='has no value; write it as (NAME:=VALUE|FROM:=TO)'):
        ros_arguments(**options)


def test_texts_are_quoted_so_that_yaml_keeps_them():
    assert assignments(model='2024', loop=True, rate=0.5, topics=['/a', '/b']) == [
        'model:="2024"',
        'loop:=true',
        'rate:=0.5',
        'topics:=["/a", "/b"]',
    ]
