"""Released ML-Mamba and EMMA as answerers: their prompts, image tokens and answers."""

import json

import cv2
import numpy as np
import pytest
import torch
from cobra_folder import SIGLIP, cobra_folder, emma_tensors, ml_mamba_tensors
from transformers import SiglipImageProcessorPil
from transformers.models.codegen.tokenization_codegen import CodeGenTokenizer

from m3et_ros.cli.main import main
from m3et_ros.data.checkpoints.cobra import load_cobra
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.models.vlm.generation import Sampling, collect_answers
from m3et_ros.runtime.answerer import open_answerer
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import untrained
from m3et_ros.runtime.released import ReleasedAnswerer
from m3et_ros.runtime.view import View

PICTURE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
VIEW = View(Frame(PICTURE), {}, None)
CHAT = '<|user|>\nIs the cup red?<|endoftext|>\n<|assistant|>\n'


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    path = tmp_path_factory.mktemp('cobra')
    return {
        'ml_mamba': cobra_folder(path / 'ML-Mamba', ml_mamba_tensors(), 'mamba2-2.7b'),
        'emma': cobra_folder(path / 'EMMA', emma_tensors(), 'mamba-2.7b-v2'),
    }


@pytest.mark.parametrize(('name', 'text'), [('ml_mamba', CHAT), ('emma', 'In: Is the cup red?\nOut: ')])
def test_answers_follow_the_authors_prompt_behind_the_picture(folders, name, text):
    released = load_cobra(folders[name])
    answerer = ReleasedAnswerer(released)
    ids, before = answerer.prompt('Is the cup red?')
    assert ids[0].tolist() == CodeGenTokenizer.from_pretrained(folders[name])(text).input_ids and before == 0
    pixels = SiglipImageProcessorPil(size={'height': 384, 'width': 384})(PICTURE, return_tensors='pt')['pixel_values']
    colours = (pixels * 0.5 + 0.5).clamp(0, 1)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        wanted = released.tower((colours - mean[:, None, None]) / std[:, None, None], pixels)
        found = answerer.visual_tokens(VIEW)
        assert found.shape == (1, 729, 12 + SIGLIP.hidden_size) and (found - wanted).abs().max() < 1e-4
        steps = released.model.generate(found, ids, sampling=Sampling(5, released.sampling.stop))
        tokens = collect_answers(steps, 1, released.sampling.stop)[0]
    pieces = list(answerer.write('Is the cup red?', VIEW, max_tokens=5))
    assert len(pieces) == len(tokens) and pieces[-1][0] == released.tokenizer.decode(tokens).strip()


def test_ask_answers_from_a_folder_as_released_under_its_own_name_alone(folders, tmp_path, capfd):
    cv2.imwrite(str(tmp_path / 'p.png'), PICTURE[..., ::-1])
    options = ['--image', str(tmp_path / 'p.png'), '--model', 'tiny', '--json', '--answerer', 'ml_mamba']
    assert main(['ask', 'Is the cup red?', *options, '--answerer-checkpoint', str(folders['ml_mamba'])]) == 0
    assert json.loads(capfd.readouterr().out)['model_id'] == 'ml_mamba@ML-Mamba'
    with pytest.raises(InputError, match='holds a ml_mamba and emma was asked for'):
        open_answerer('emma', str(folders['ml_mamba']), Engine(untrained('tiny', 0)))
