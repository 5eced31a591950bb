"""Checkpoints with the methods of the Hugging Face Hub: from folders, from its cache, never unasked from its net."""

from dataclasses import replace

import pytest
import torch

from m3et_ros.data.checkpoints import on_hub as module
from m3et_ros.data.checkpoints.cards import with_head
from m3et_ros.data.checkpoints.m3et import random_checkpoint, save_checkpoint
from m3et_ros.data.checkpoints.on_hub import M3ETCheckpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Labels
from m3et_ros.data.tokenizer import Tokenizer


@pytest.fixture
def made():
    labels = Labels(('wall',), ((0, 0, 0),), ('yes', 'no'), ('take',), ('cup',))
    return random_checkpoint('tiny', Tokenizer.train(['is the cup red?', 'yes', 'no'], vocabulary=64), labels)


@pytest.fixture
def folder(made, tmp_path):
    save_checkpoint(tmp_path / 'tiny', replace(made, trained=True), card='# A card')
    return tmp_path / 'tiny'


def same_weights(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_the_hub_class_loads_and_saves_folders(folder, made, tmp_path):
    loaded = M3ETCheckpoint.from_pretrained(folder)
    assert same_weights(loaded.checkpoint.model, made.model) and loaded.card == with_head('# A card', 'm3et')
    loaded.save_pretrained(tmp_path / 'copy')
    assert {p.name: p.read_bytes() for p in (tmp_path / 'copy').iterdir()} == {
        p.name: p.read_bytes() for p in folder.iterdir()
    }


def test_the_hub_is_asked_only_when_allowed(monkeypatch):
    monkeypatch.setattr(module, 'snapshot_download', lambda *_, **__: pytest.fail('the network was asked'))
    with pytest.raises(InputError, match='download=True') as error:
        M3ETCheckpoint.from_pretrained('someone/m3et_tiny')
    assert error.value.reason == 'model_missing'


def test_a_hub_id_that_cannot_be_fetched_is_refused(tmp_path):
    for source in ('someone/m3et_tiny', 'not an id'):
        with pytest.raises(InputError, match='could not be fetched') as error:
            M3ETCheckpoint.from_pretrained(source, download=True, cache_dir=tmp_path, local_files_only=True)
        assert error.value.reason == 'model_missing'


def test_a_hub_download_is_read_from_its_cache(folder, made, tmp_path):
    """The layout in which huggingface_hub keeps a repository, filled by hand; no network."""
    commit = 'a' * 40
    repository = tmp_path / 'cache' / 'models--someone--m3et_tiny'
    (repository / 'snapshots').mkdir(parents=True)
    (repository / 'refs').mkdir()
    (repository / 'refs' / 'main').write_text(commit)
    folder.rename(repository / 'snapshots' / commit)
    loaded = M3ETCheckpoint.from_pretrained(
        'someone/m3et_tiny', download=True, cache_dir=tmp_path / 'cache', local_files_only=True
    )
    assert same_weights(loaded.checkpoint.model, made.model)
