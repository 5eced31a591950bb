"""`m3et push` on the command line."""

import json

from hub_server import hub_server

from m3et_ros.cli.main import main
from m3et_ros.data.checkpoints.m3et import save_checkpoint
from m3et_ros.runtime.open_model import untrained


def test_a_checkpoint_is_sent_with_its_message_and_visibility(monkeypatch, tmp_path, capfd):
    save_checkpoint(tmp_path / 'tiny', untrained('tiny', 0), card='# A card\n')
    with hub_server(monkeypatch, tmp_path / 'cache') as server:
        command = ['push', str(tmp_path / 'tiny'), 'hf:a/b', '--private', '--message', 'first words', '--json']
        assert main(command) == 0
        sent = json.loads(capfd.readouterr().out)
        assert sent['commit'] == f'{server.address}/a/b/commit/1' and 'model.safetensors' in sent['files']
        assert server.created['a/b']['visibility'] == 'private' and server.messages == ['first words']
        assert main(['push', str(tmp_path / 'tiny'), 'hf:a/c']) == 0
        assert f'{len(sent["files"])} files are at {server.address}/a/c/commit/1' in capfd.readouterr().out
        assert server.created['a/c'].get('visibility') != 'private' and server.messages[1] == 'm3et push: tiny-random-0'
        assert main(['push', str(tmp_path / 'tiny'), 'a/b']) == 1
        assert 'is no model of the Hub' in capfd.readouterr().err
