"""The benchmark of the action stream at a few frames."""

import json
import sys

import pytest


def test_the_stream_keeps_its_size_and_agrees_with_the_clip(script, tmp_path, capsys):
    words = ['--size', 'tiny', '--marks', 3, 40, '--rounds', 2, '--results', tmp_path / 'stream.json']
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', ['stream.py', *map(str, words)])
        script('stream').main()
    found = json.loads((tmp_path / 'stream.json').read_text())
    assert json.loads(capsys.readouterr().out) == found
    assert found['last_to_first']['state_bytes'] == 1 and set(found['frames']) == {'3', '40'}
    assert all(row['largest_difference'] < 1e-4 and row['stream_s'] > 0 for row in found['frames'].values())
