"""The released MaTVLM as an answerer: its parts beside those of transformers, and its answers end to end."""

import json

import cv2
import numpy as np
import pytest
import torch
from hub_server import hub_server
from released_folder import PHI, SCHEDULE, SIGLIP, released_folder, released_tensors
from transformers import PhiForCausalLM, SiglipImageProcessorPil, SiglipVisionModel
from transformers.models.codegen.tokenization_codegen import CodeGenTokenizer

from m3et_ros.cli.main import main
from m3et_ros.data.checkpoints.released import load_matvlm
from m3et_ros.data.frame import Frame
from m3et_ros.runtime.answerer import open_answerer
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import untrained
from m3et_ros.runtime.released import ReleasedAnswerer
from m3et_ros.runtime.session import Session
from m3et_ros.runtime.view import View

QUESTION = 'Is the cup red?'
PROMPT = (
    'A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, '
    "and polite answers to the user's questions. USER: <image>\nIs the cup red? ASSISTANT:"
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return released_folder(tmp_path_factory.mktemp('released') / 'MaTVLM_0_25_Mamba2')


@pytest.fixture(scope='module')
def picture():
    return np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)


def view_of(picture):
    return View(Frame(picture), {}, None)


def test_the_words_around_the_picture_are_those_of_the_authors(folder):
    answerer = ReleasedAnswerer(load_matvlm(folder))
    theirs = CodeGenTokenizer.from_pretrained(folder)
    parts = [theirs(part).input_ids for part in PROMPT.split('<image>')]
    ids, before = answerer.prompt(QUESTION)
    assert ids.tolist() == [parts[0] + parts[1]] and before == len(parts[0])
    # A mark of a second picture in a question would have no picture.
    assert torch.equal(answerer.prompt(f'<image> {QUESTION} ')[0], ids)


def test_visual_tokens_are_those_of_transformers(folder, picture):
    answerer = ReleasedAnswerer(load_matvlm(folder))
    size = {'height': 28, 'width': 28}
    pixels = SiglipImageProcessorPil(size=size)(picture, return_tensors='pt')['pixel_values']
    tensors = {
        name.removeprefix('vision_tower._vision_tower.vision_model.'): value
        for name, value in released_tensors().items()
        if name.startswith('vision_tower')
    }
    tower = SiglipVisionModel(SIGLIP).eval()
    tower.load_state_dict(tensors)
    with torch.inference_mode():
        wanted = tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        found = answerer.visual_tokens(view_of(picture))
    assert found.shape == (1, 15, 24) and (found - wanted).abs().max() < 1e-5


def reference_logits(released, ids, before, features):
    """Logits of the last word: Phi of transformers, whose layers of S are ours, on the sequence as released."""
    phi = PhiForCausalLM(PHI).eval()
    stored = {
        name.removeprefix('language_model.'): value
        for name, value in released_tensors().items()
        if name.startswith('language_model') and '.mamba.' not in name
    }
    phi.load_state_dict(stored, strict=False)
    language = released.model.language
    words, visual = phi.model.embed_tokens(ids), released.model.connector(features)
    x = torch.cat([words[:, :before], visual, words[:, before:]], 1)
    places = torch.arange(x.shape[1])[None]
    mask = torch.full((x.shape[1], x.shape[1]), float('-inf')).triu(1)[None, None]
    for index, letter in enumerate(SCHEDULE):
        if letter == 'S':
            x = language.layers[index](x)
        else:
            turns = phi.model.rotary_emb(x, places)
            out = phi.model.layers[index](
                x, attention_mask=mask, position_ids=places, position_embeddings=turns, use_cache=False
            )
            x = out[0] if isinstance(out, tuple) else out
    return phi.lm_head(phi.model.final_layernorm(x))[:, -1]


def test_the_first_token_is_that_of_transformers_blocks(folder, picture):
    released = load_matvlm(folder)
    answerer = ReleasedAnswerer(released)
    ids, before = answerer.prompt(QUESTION)
    with torch.inference_mode():
        features = answerer.visual_tokens(view_of(picture))
        wanted = reference_logits(released, ids, before, features)
        found = released.model(features, ids, before=before).logits[:, -1]
    assert (found - wanted).abs().max() < 1e-4
    text, probability = next(answerer.write(QUESTION, view_of(picture), max_tokens=1))
    assert probability == pytest.approx(float(wanted.softmax(-1).max()), abs=1e-5)
    assert text == released.tokenizer.decode([int(wanted.argmax())]).strip()


def test_an_answer_ends_at_the_stop_token_and_half_precision_stays(folder, picture, tmp_path):
    half = load_matvlm(released_folder(tmp_path / 'half', dtype=torch.bfloat16))
    assert {p.dtype for p in (*half.model.parameters(), *half.tower.parameters())} == {torch.bfloat16}
    answerer = ReleasedAnswerer(half)
    assert len(list(answerer.write(QUESTION, view_of(picture), max_tokens=5))) == 5
    with torch.no_grad():
        half.model.language.head_bias[half.sampling.stop[0]] = 1e4
    assert list(answerer.write(QUESTION, view_of(picture), max_tokens=5)) == []


def test_a_model_samples_where_its_files_say_so_and_repeats_itself(folder, picture, tmp_path):
    drawn = released_folder(tmp_path / 'drawn')
    (drawn / 'generation_config.json').write_text(json.dumps({'do_sample': True, 'temperature': 50.0, 'top_p': 0.9}))
    released = load_matvlm(drawn)
    assert (released.sampling.temperature, released.sampling.top_p) == (50.0, 0.9)
    answers = [
        [text for text, _ in answerer.write(QUESTION, view_of(picture), max_tokens=8)]
        for answerer in (ReleasedAnswerer(released), ReleasedAnswerer(released), ReleasedAnswerer(load_matvlm(folder)))
    ]
    assert answers[0] == answers[1] != answers[2]


def test_a_session_asks_it_any_question_and_m3et_about_the_episode(folder, picture):
    engine = Engine(untrained('tiny', 0))
    session = Session(engine)
    session.answerer = open_answerer('matvlm', str(folder), engine)
    session.observe(Frame(picture))
    *_, reply = session.write('Why do cats purr?', session.views('frame'), scope='frame', max_tokens=3)
    assert reply.answerable and reply.question == 'Why do cats purr?' and reply.read_as == ''
    assert session.answered_by('frame') == 'matvlm@MaTVLM_0_25_Mamba2'
    assert session.answered_by('episode') == engine.model_id
    expected = list(session.answerer.write('Why do cats purr?', session.views('frame')[-1], max_tokens=3))
    assert reply.text == expected[-1][0]


def test_ask_answers_about_a_picture_from_a_folder_as_released(folder, picture, tmp_path, capfd):
    cv2.imwrite(str(tmp_path / 'p.png'), picture[..., ::-1])
    options = ['--image', str(tmp_path / 'p.png'), '--model', 'tiny', '--answerer', 'matvlm', '--json']
    assert main(['ask', QUESTION, *options, '--answerer-checkpoint', str(folder)]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert answer['model_id'] == 'matvlm@MaTVLM_0_25_Mamba2' and answer['answerable']
    wanted = list(ReleasedAnswerer(load_matvlm(folder)).write(QUESTION, view_of(picture), max_tokens=64))
    assert answer['text'] == wanted[-1][0]


def test_a_model_of_the_hub_is_fetched_and_its_size_is_said(folder, tmp_path, monkeypatch, caplog):
    with hub_server(monkeypatch, tmp_path / 'cache') as server:
        server.models['a/MaTVLM'] = {path.name: path.read_bytes() for path in folder.iterdir()}
        answerer = open_answerer('matvlm', 'hf:a/MaTVLM', Engine(untrained('tiny', 0)))
    assert answerer.prompt(QUESTION)[1] == ReleasedAnswerer(load_matvlm(folder)).prompt(QUESTION)[1]
    assert 'Fetching hf:a/MaTVLM: ' in caplog.text
