"""`m3et pull` on the command line."""

import json

from hub_server import hub_server

from m3et_ros.cli.main import main


def test_a_model_is_fetched_to_a_folder_or_the_cache(monkeypatch, tmp_path, capfd):
    with hub_server(monkeypatch, tmp_path / 'cache') as server:
        server.models['a/b'] = {'config.json': b'{}'}
        assert main(['pull', 'hf:a/b', '-o', str(tmp_path / 'out')]) == 0
        shown = capfd.readouterr()
        assert f'hf:a/b is in {tmp_path}/out' in shown.out and 'fetching 1 files of hf:a/b, 0.0 MB' in shown.err
        assert (tmp_path / 'out' / 'config.json').read_bytes() == b'{}'
        assert main(['pull', 'hf:a/b@main', '--json']) == 0
        folder = json.loads(capfd.readouterr().out)['folder']
        assert folder.startswith(str(tmp_path / 'cache'))
        assert main(['pull', 'hf:a/b@v2', '--timeout', '60']) == 1
        assert 'it has no such revision' in capfd.readouterr().err
