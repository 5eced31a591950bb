"""Questions about an image on disk to a vision-language model, alone and behind M3ET."""

import json

import cv2
import numpy as np
import pytest
from tiny_vlms import vlm_folder

from m3et_ros.cli.ask import picture
from m3et_ros.cli.ask.picture import ask_picture, read_frame
from m3et_ros.cli.main import main
from m3et_ros.data.errors import InputError
from m3et_ros.runtime.vlm.model import open_vlm

QUESTION = 'what is on the table?'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return vlm_folder(tmp_path_factory.mktemp('vlm') / 'tiny')


@pytest.fixture(scope='module')
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp('image') / 'photo.png'
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    return path


def test_the_model_answers_and_streams_what_it_answers(folder, image):
    parts, frame = [], read_frame(image)
    given = {'model': 'none at all', 'device': 'cpu', 'top_k': 3, 'answerer': 'vlm', 'checkpoint': folder}
    answer = ask_picture(QUESTION, frame, **given, write=parts.append)
    vlm = open_vlm(str(folder), device='cpu')
    wanted = vlm.answer(QUESTION, [frame.rgb], max_tokens=picture.MAX_TOKENS)
    assert (answer['text'], answer['model_id'], answer['frames_used']) == (wanted.text, vlm.model_id, 1)
    assert ''.join(parts) == wanted.text and answer['confidence'] == wanted.confidence and answer['answerable']
    assert answer['text'] == ask_picture(QUESTION, frame, **given)['text']


@pytest.mark.parametrize(('least', 'who'), [(0.0, 'tiny-random-0'), (1.1, 'tiny@')])
def test_the_router_asks_m3et_first(folder, image, monkeypatch, least, who):
    monkeypatch.setattr(picture, 'ROUTER_CONFIDENCE', least)
    parts = []
    given = {'model': 'tiny', 'device': 'cpu', 'top_k': 3, 'answerer': 'router', 'checkpoint': folder}
    answer = ask_picture(QUESTION, read_frame(image), **given, write=parts.append)
    assert answer['model_id'].startswith(who) and ''.join(parts) == answer['text']


def test_the_command_prints_the_answer_of_the_model(folder, image, capsys):
    line = ['ask', QUESTION, '--image', image, '--answerer', 'vlm', '--answerer-checkpoint', folder, '--device', 'cpu']
    assert main([*map(str, line), '--json']) == 0
    document = json.loads(capsys.readouterr().out)
    assert document['schema'] == 1 and document['model_id'] == open_vlm(str(folder)).model_id
    assert main([*map(str, line), '--stream']) == 0
    assert document['text'] in capsys.readouterr().out


def test_without_a_checkpoint_the_command_says_what_to_give(image):
    with pytest.raises(InputError, match='give a folder or hf:owner/name'):
        ask_picture(QUESTION, read_frame(image), model='tiny', device='cpu', top_k=1, answerer='vlm')
