"""Checkpoint folders of others: files that are no files, ids and labels that would harm what shows them."""

import json
import os

import pytest

from m3et_ros.data.checkpoints.m3et import load_checkpoint, random_checkpoint, save_checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Labels
from m3et_ros.data.tokenizer import Tokenizer

LABELS = Labels(
    classes=('wall', 'cup'), colors=((0, 0, 0), (255, 0, 0)), answers=('yes', 'no'), verbs=('take',), nouns=('cup',)
)


@pytest.fixture
def folder(tmp_path):
    tokenizer = Tokenizer.train(['is there a cup'], vocabulary=40)
    save_checkpoint(tmp_path / 'tiny', random_checkpoint('tiny', tokenizer, LABELS), card='')
    return tmp_path / 'tiny'


def refused(folder, words):
    with pytest.raises(InputError, match=words) as error:
        load_checkpoint(folder)
    assert error.value.reason in ('model_config', 'model_missing') and '\n' not in str(error.value)


@pytest.mark.parametrize('name', ['config.json', 'labels.json', 'tokenizer.json', 'model.safetensors'])
@pytest.mark.parametrize('kind', ['fifo', 'folder', 'device'])
def test_what_is_no_regular_file_is_refused_at_once(folder, name, kind):
    (folder / name).unlink()
    if kind == 'fifo':
        os.mkfifo(folder / name)
    elif kind == 'folder':
        (folder / name).mkdir()
    else:
        (folder / name).symlink_to('/dev/zero')
    refused(folder, 'no regular file|There is no')


@pytest.mark.parametrize('model_id', ['<script>', 'a\n[FATAL] x', '=1+1', '', 'x' * 201, '\x1b[2J', 'a/b', '../up'])
def test_a_model_id_that_could_be_interpreted_is_refused(folder, model_id):
    path = folder / 'config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'model_id': model_id}))
    refused(folder, 'has model_id')


@pytest.mark.parametrize(
    ('field', 'value', 'words'),
    [
        ('colors', [[0, 0, 0], [999, 0, 0]], 'colors'),
        ('colors', [[0, 0], [255, 0]], 'colors'),
        ('colors', [[0, 0, 0], [1.5, 0, 0]], 'colors'),
        ('colors', [[0, 0, 0], [True, 0, 0]], 'colors'),
        ('colors', [[0, 0, 0]] * 3, 'colors'),
        ('colors', ['red', 'blue'], 'colors'),
        ('answers', ['yes', 'yes'], 'same word twice'),
        ('classes', ['wall', 'wall'], 'same word twice'),
    ],
)
def test_labels_out_of_range_are_refused(folder, field, value, words):
    path = folder / 'labels.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    refused(folder, words)
