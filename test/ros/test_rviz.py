"""config/m3et.rviz: its displays show topics of the model node, with their types."""

from pathlib import Path

import pytest
import yaml

from m3et_ros.ros import interfaces

DISPLAYS = {
    'rviz_default_plugins/Image': 'sensor_msgs/msg/Image',
    'rviz_default_plugins/PointCloud2': 'sensor_msgs/msg/PointCloud2',
    'rviz_default_plugins/MarkerArray': 'visualization_msgs/msg/MarkerArray',
}


@pytest.fixture(scope='module')
def displays():
    config = yaml.safe_load((Path(__file__).parents[2] / 'config/m3et.rviz').read_text())
    return config['Visualization Manager']['Displays']


def test_every_display_shows_a_topic_of_its_type(displays):
    topics = {row.name: row.type_name for row in interfaces.INPUTS}
    topics |= {row.name.replace('~/', 'model/'): row.type_name for row in interfaces.OUTPUTS}
    shown = {display['Topic']['Value']: DISPLAYS[display['Class']] for display in displays}
    assert shown == {name: topics[name] for name in shown}
    assert set(shown) == {
        'rgb/image_raw',
        'model/segmentation/overlay',
        'model/depth/image',
        'model/points',
        'model/markers',
    }


def test_results_are_received_reliably_and_the_camera_however_it_sends(displays):
    offered = {display['Topic']['Value']: display['Topic']['Reliability Policy'] for display in displays}
    assert offered.pop('rgb/image_raw') == 'Best Effort' and set(offered.values()) == {'Reliable'}
