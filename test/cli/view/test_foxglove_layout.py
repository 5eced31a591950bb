"""The layout that is shipped for Foxglove."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from m3et_ros.cli.view.foxglove import SOURCES
from m3et_ros.cli.view.foxglove_layout import layout

pytest.importorskip('foxglove', reason="foxglove-sdk is not installed: pip install 'm3et_ros[foxglove]'")
SHIPPED = Path(__file__).parents[3] / 'config/m3et.foxglove.json'


def texts(value):
    """Yield every text of a JSON document, keys too."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, str):
        yield value


def test_the_shipped_layout_is_that_of_the_code():
    assert json.loads(SHIPPED.read_text()) == layout()


def test_every_topic_of_the_layout_is_a_channel():
    channels = {f'/m3et/{name}' for name in (*SOURCES, 'model/health')}
    named = {text.partition('.')[0] for text in texts(layout()) if text.startswith('/m3et/')}
    assert named <= channels and len(named) == 10


def test_a_layout_is_for_one_robot():
    topics = {text for text in texts(layout('/left/arm')) if text.startswith('/')}
    assert topics and all(topic.startswith('/left/arm/') for topic in topics)
    assert 'left_arm_view' in set(texts(layout('/left/arm')))


def test_the_program_prints_the_layout_of_a_robot():
    command = [sys.executable, '-m', 'm3et_ros.cli.view.foxglove_layout', '/left']
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(result.stdout) == layout('/left')
