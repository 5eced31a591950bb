"""Checkpoints to and from a Hub over real HTTP: the same files, offline reading, and a sentence for every failure."""

import re
import shutil

import pytest
from hub_server import hub_server, sha
from huggingface_hub import ModelCard, constants

from m3et_ros.data import hub
from m3et_ros.data.checkpoints.m3et import load_checkpoint, save_checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.runtime.open_model import open_checkpoint, untrained

NAME = 'hf:someone/kitchen'


@pytest.fixture
def server(monkeypatch, tmp_path):
    with hub_server(monkeypatch, tmp_path / 'cache') as found:
        yield found


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('hub') / 'tiny'
    save_checkpoint(path, untrained('tiny', 3), card='# A card\n\nStarted from `kitchen@b7af2be1`.\n')
    (path / 'optimiser.pt').write_bytes(b'not for others')
    return path


def refused(reason, words, call, *arguments, **options):
    with pytest.raises(InputError, match=words) as found:
        call(*arguments, **options)
    assert found.value.reason == reason


def test_a_checkpoint_comes_back_as_it_was_sent_and_is_read_offline_afterwards(server, folder, tmp_path, monkeypatch):
    address, files = hub.push(folder, NAME, private=True)
    assert address == f'{server.address}/someone/kitchen/commit/1' and files[-1] == 'README.md'
    stored = server.models['someone/kitchen']
    assert set(stored) == {path.name for path in folder.iterdir()} - {'optimiser.pt'}
    assert server.created['someone/kitchen']['visibility'] == 'private'
    card = ModelCard(stored['README.md'].decode())
    assert card.data.library_name == 'm3et_ros' and card.text.strip().startswith('# A card')
    sizes, bytes_seen = [], []
    out = hub.pull(NAME, tmp_path / 'out', begin=lambda *size: sizes.append(size), progress=bytes_seen.append)
    assert out == tmp_path / 'out' and sizes == [(len(stored), sum(map(len, stored.values())))]
    assert sum(bytes_seen) == sizes[0][1]
    for name, data in stored.items():
        assert (out / name).read_bytes() == data
    assert load_checkpoint(out).model_id == 'tiny-random-3'
    cached = hub.pull(NAME)
    assert tmp_path / 'cache' in cached.parents and (cached / 'config.json').is_file()
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    assert hub.pull(NAME) == cached
    assert open_checkpoint(NAME).model_id == 'tiny-random-3'
    refused('hub_offline', 'HF_HUB_OFFLINE is set, and the files are not in the cache', hub.pull, 'hf:a/b')
    refused('hub_offline', 'HF_HUB_OFFLINE is set; unset it', hub.push, folder, NAME)


def test_image_encoders_beside_a_model_are_sent_with_it_and_no_other_folder_is(server, folder, tmp_path):
    whole = shutil.copytree(folder, tmp_path / 'whole')
    for name in ('siglip', 'more'):
        (whole / name).mkdir()
        (whole / name / 'config.json').write_text('{}')
    assert 'siglip/config.json' in hub.push(whole, NAME)[1]
    assert not [name for name in server.models['someone/kitchen'] if name.startswith('more')]


def test_only_files_that_nothing_executes_are_fetched(server, tmp_path):
    read = {'config.json': b'{}', 'model.safetensors': b'x' * 9, 'sub/a.json': b'1'}
    server.models['a/b'] = read | {'a.bin': b'x', 'modeling.py': b'x'}
    out = hub.pull('hf:a/b', tmp_path / 'out')
    found = {str(path.relative_to(out)) for path in out.rglob('*') if path.is_file() and '.cache' not in path.parts}
    assert found == set(read)
    assert hub.pull('hf:a/b') in (tmp_path / 'cache').rglob('*')
    server.models['a/b'] = {'a.bin': b'x'}
    refused(
        'hub',
        r'has none of the files \*\.safetensors, \*\.json, .*; give a model with safetensors',
        hub.pull,
        'hf:a/b',
        tmp_path / 'none',
    )
    server.models['a/b'] = {'../a.json': b'x'}
    refused('hub', 'which leads out of its folder; use another', hub.pull, 'hf:a/b', tmp_path / 'none')


def test_a_revision_and_patterns_choose_the_files_and_the_folder_is_named_by_the_commit(server, tmp_path):
    server.models['a/b'] = {'config.json': b'{}', 'chat_template.jinja': b'x', 'model.safetensors': b'y' * 9}
    commit = sha(server.models['a/b'])
    sizes = []
    small = hub.pull('hf:a/b@main', files=hub.DESCRIBING, begin=lambda *size: sizes.append(size))
    assert small.name == commit and sizes == [(2, 3)]
    assert {path.name for path in small.iterdir()} == {'config.json', 'chat_template.jinja'}
    assert hub.pull(f'hf:a/b@{commit}', files=['model.safetensors']) == small
    assert (small / 'model.safetensors').read_bytes() == b'y' * 9
    refused('hub', r'has none of the files \*\.bin', hub.pull, 'hf:a/b', files=['*.bin'])


def test_what_begin_raises_ends_the_download(server, tmp_path):
    server.models['a/b'] = {'config.json': b'{}'}

    def refuse(files, size):
        raise InputError('model_memory', f'{files} {size}')

    refused('model_memory', '1 2', hub.pull, 'hf:a/b', begin=refuse)
    assert not list((tmp_path / 'cache').rglob('config.json'))


def test_a_download_is_reported_in_the_log_and_what_is_there_is_not(server, caplog):
    server.models['a/b'] = {'config.json': b'{}', 'model.safetensors': b'y' * 999_998}
    hub.pull('hf:a/b')
    assert re.search(r'Fetching hf:a/b: 0\.0 of 1\.0 MB\.', caplog.text)
    caplog.clear()
    hub.pull('hf:a/b')
    assert 'Fetching' not in caplog.text


def test_the_cache_serves_where_the_hub_cannot_be_reached_and_the_log_names_the_commit(server, caplog, monkeypatch):
    server.models['a/b'] = {'config.json': b'{}'}
    folder = hub.pull('hf:a/b')
    server.broken = {'a/b'}
    assert hub.pull('hf:a/b') == folder
    server.broken = set()
    monkeypatch.setattr(hub.shutil, 'disk_usage', lambda _: type('Usage', (), {'free': 0})())
    assert hub.pull('hf:a/b') == folder  # what is there needs no room
    assert caplog.text.count('taken from the cache') == 1
    monkeypatch.setattr(constants, 'ENDPOINT', 'http://127.0.0.1:1')
    assert hub.pull('hf:a/b') == folder
    assert f'The Hub cannot be reached; hf:a/b is taken from the cache, commit {folder.name}.' in caplog.text
    refused('hub_offline', 'the files are not in the cache', hub.pull, 'hf:a/b@v2')


def test_every_failure_of_the_hub_is_a_sentence(server, folder, tmp_path, monkeypatch):
    out = tmp_path / 'out'
    server.models['a/b'] = {'config.json': b'{}'}
    server.gated, server.broken = {'a/gated'}, {'a/broken'}
    refused('hub_name', 'a/b is no model of the Hub; give hf:owner/name', hub.pull, 'a/b', out)
    for name in ('hf:../b', 'hf:a/b@', 'hf:a/b@x y', 'hf:a/b@../../c', 'hf:a/b@v1@v2'):
        refused('hub_name', 'is no model of the Hub', hub.pull, name, out)
    refused('hub', 'there is no such model, or it is private', hub.pull, 'hf:a/none', out)
    refused('hub', 'it has no such revision', hub.pull, 'hf:a/b@v9', out)
    refused('hub', 'its owner grants access on request', hub.pull, 'hf:a/gated', out)
    refused('hub', 'the Hub answers with code 500; try again later', hub.pull, 'hf:a/broken', out)
    refused('hub', 'took longer than 0 s', hub.pull, 'hf:a/b', out, timeout_s=0)
    (tmp_path / 'file').write_text('')
    refused('out_unwritable', 'cannot be written', hub.pull, 'hf:a/b', tmp_path / 'file' / 'out')
    monkeypatch.setattr(hub.shutil, 'disk_usage', lambda _: type('Usage', (), {'free': 1})())
    refused('out_unwritable', 'has 0.0 GB free', hub.pull, 'hf:a/b', out)
    monkeypatch.setenv('HF_TOKEN', 'hf_wrong')
    refused('hub', 'code 401; run hf auth login, or set HF_TOKEN', hub.push, folder, NAME)
    monkeypatch.setattr(constants, 'ENDPOINT', 'http://127.0.0.1:1')
    refused('hub_offline', 'the Hub cannot be reached', hub.pull, 'hf:a/b', out)


def test_what_is_no_checkpoint_is_not_sent(server, folder, tmp_path):
    refused('model_missing', 'There is no .*config.json', hub.push, tmp_path, NAME)
    (tmp_path / 'config.json').write_text('{"model_type": "bert"}')
    refused('model_config', 'holds no checkpoint of m3et', hub.push, tmp_path, NAME)
    (tmp_path / 'config.json').write_text((folder / 'config.json').read_text())
    (tmp_path / 'README.md').write_text('---\n- a list\n---\n')
    refused(
        'model_config', 'README.md is refused: the head of the model card is no YAML mapping', hub.push, tmp_path, NAME
    )
    refused('hub_name', 'names a revision', hub.push, folder, f'{NAME}@v1')
    assert server.created == {}
