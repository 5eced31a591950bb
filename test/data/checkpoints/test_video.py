"""Checkpoints of heads for clips: what is stored comes back, and damage is refused."""

import json

import pytest
import torch

from m3et_ros.data.checkpoints.video import VideoCheckpoint, load_video, save_video
from m3et_ros.data.epic.class_lists import Classes
from m3et_ros.data.epic.frames import ObservedClip
from m3et_ros.data.errors import InputError
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.actions.mambavl import MambaVL, MambaVLConfig

CLASSES = Classes(('take', 'put'), ('cup', 'pan', 'tap'), ('a', 'a'), ('b', 'b', 'b'))


def make(**changes):
    torch.manual_seed(0)
    tokenizer = Tokenizer.train(['what is done'], vocabulary=40)
    sizes = {'d_in': 8, 'd': 8, 'd_word': 8, 'vocabulary': tokenizer.vocabulary, 'positions': 9, 'N': 4}
    values = {
        'head': MambaVL(MambaVLConfig(**sizes, verbs=2, nouns=3)).eval(),
        'tokenizer': tokenizer,
        'classes': CLASSES,
        'observation': ObservedClip('anticipation', 7, 3.0, 0.5),
        'features': {'backbone': 'videomae@12345678', 'rate_hz': 4.0},
        'questions': 'file',
        'participants': ('P01',),
        'learnt': ('P01_01',),
        'held_out': ('P01_02',),
    }
    return VideoCheckpoint(**(values | changes))


def test_everything_comes_back(tmp_path):
    made = make()
    model_id = save_video(tmp_path, made, card='# Mine')
    found = load_video(tmp_path)
    assert found.model_id == model_id and model_id.startswith('video@') and found.config == made.config
    for name in ('classes', 'observation', 'features', 'questions', 'participants', 'learnt', 'held_out'):
        assert getattr(found, name) == getattr(made, name), name
    video, words = torch.randn(1, 3, 8), found.tokenizer.encode(['what is'], 9)[0]
    with torch.no_grad():
        assert torch.equal(found.head(video, words, words)[0], made.head(video, words, words)[0])
    assert '# Mine' in (tmp_path / 'README.md').read_text()


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'kind': 'history'}, 'holds no model of clips'),
        ({'observation': {'task': 'guess'}}, "task is 'guess'"),
        ({'model': {'depth': 3}}, 'depth'),
        ({'questions': 3}, 'has no questions of type str'),
    ],
    ids=['kind', 'task', 'model', 'questions'],
)
def test_what_does_not_fit_is_refused(tmp_path, change, words):
    save_video(tmp_path, make(), card='')
    stored = json.loads((tmp_path / 'config.json').read_text())
    (tmp_path / 'config.json').write_text(json.dumps(stored | change))
    with pytest.raises(InputError, match=words) as error:
        load_video(tmp_path)
    assert error.value.reason == 'model_config'


def test_a_folder_without_a_checkpoint_and_other_lists_are_refused(tmp_path):
    with pytest.raises(InputError, match='There is no'):
        load_video(tmp_path)
    with pytest.raises(ValueError, match=r'the head has \(2, 3\) verbs and nouns and the lists \(2, 1\)'):
        make(classes=Classes(('take', 'put'), ('cup',), ('a', 'a'), ('b',)))
