import pytest

from m3et_ros.cli.output import Refused
from m3et_ros.cli.ros_names import assignments, camera_remaps, full_namespace, parse_remaps, ros_arguments


@pytest.mark.parametrize(('name', 'full'), [('m3et', '/m3et'), ('/m3et/', '/m3et'), ('a/b_2', '/a/b_2')])
def test_a_namespace_gets_its_slash(name, full):
    assert full_namespace(name) == full


@pytest.mark.parametrize('name', ['', '/', 'a b', '2a', 'a//b', 'a-b'])
def test_a_name_that_ros_does_not_know_is_refused(name):
    with pytest.raises(Refused, match='--namespace is'):
        full_namespace(name)


def test_every_input_of_the_node_is_remapped_to_the_topic_of_a_realsense():
    # Depth must be the aligned one: unaligned depth does not lie on the colour image.
    assert camera_remaps('left/cam') == [
        'rgb/image_raw:=/left/cam/color/image_raw',
        'rgb/image_raw/compressed:=/left/cam/color/image_raw/compressed',
        'rgb/camera_info:=/left/cam/color/camera_info',
        'depth/image_raw:=/left/cam/aligned_depth_to_color/image_raw',
        'depth/image_raw/compressedDepth:=/left/cam/aligned_depth_to_color/image_raw/compressedDepth',
        'depth/image_raw/compressed:=/left/cam/aligned_depth_to_color/image_raw/compressed',
    ]


def test_the_first_of_two_rules_for_a_topic_counts():
    assert parse_remaps(['/a:=/b', '/a:=/c', '/d:=/e:=/f']) == {'/a': '/b', '/d': '/e:=/f'}


@pytest.mark.parametrize('rule', ['/a', '/a:=', ':=/b', ''])
def test_a_remapping_without_two_sides_is_refused(rule):
    with pytest.raises(Refused, match='has no value; write it as FROM:=TO'):
        parse_remaps(['/x:=/y', rule])


def test_arguments_are_in_the_order_of_their_strength_in_ros():
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


def test_text_is_quoted_for_yaml():
    assert assignments(model='2024', loop=True, rate=0.5, topics=['/a', '/b']) == [
        'model:="2024"',
        'loop:=true',
        'rate:=0.5',
        'topics:=["/a", "/b"]',
    ]
