"""Answerers beside M3ET: the text of the model itself, and refusals that name the fix."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from cobra_folder import encoder_folders
from talkers import talker, talker_folder

from m3et_ros.data.checkpoints.image_encoders import read_encoders
from m3et_ros.data.checkpoints.talk import load_talk, save_talk
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.models.vlm.generation import Sampling, collect_answers, generate
from m3et_ros.models.vlm.variants import VARIANTS
from m3et_ros.ros.parameters import PARAMETERS
from m3et_ros.runtime.answerer import ANSWERERS, Answerer, capitalised, open_answerer, open_talk
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import untrained
from m3et_ros.runtime.session import Session
from m3et_ros.runtime.view import View


@pytest.fixture(scope='module')
def engine():
    return Engine(untrained('tiny', 0))


@pytest.fixture(scope='module')
def view(engine):
    rng = np.random.default_rng(0)
    return engine.encode(
        Frame(rng.integers(0, 255, (48, 64, 3), np.uint8), rng.uniform(1, 3, (48, 64)).astype(np.float32))
    )


def test_an_answer_ends_before_the_stop_token_and_at_max_tokens(engine, view):
    checkpoint = talker()
    sep = checkpoint.tokenizer.sep
    answerer = Answerer(checkpoint, engine)
    assert len(list(answerer.write('Is the cup red?', view, max_tokens=1))) <= 1
    with pytest.raises(ValueError, match='max_tokens is 0'):
        list(answerer.write('Is the cup red?', view, max_tokens=0))
    with torch.no_grad():  # the head is tied: the stop token outweighs all others in its own direction
        model = checkpoint.model
        features, ids = engine.visual_tokens(view, 3, 3), torch.ones(1, 1, dtype=torch.int64)
        hidden = model.language.norm(model.language.layers(model.prompt(features, ids).x)[0])[0, -1]
        model.language.embedding.weight[sep] = 1e3 * hidden
    assert list(answerer.write('Is the cup red?', view, max_tokens=7)) == []


@pytest.mark.parametrize('variant', VARIANTS)
def test_an_answerer_writes_what_its_model_generates(engine, view, variant):
    checkpoint = talker(variant)
    answerer = Answerer(checkpoint, engine)
    pieces = list(answerer.write('Is the cup red?', view, max_tokens=7))
    tokenizer, model = checkpoint.tokenizer, checkpoint.model
    ids, mask = tokenizer.encode(['Is the cup red?'], 12)
    features = engine.visual_tokens(view, 3, 3)
    with torch.inference_mode():
        prompt = model.prompt(features, ids[:, mask[0]]).x
        steps = generate(model.language, prompt, sampling=Sampling(7, (tokenizer.sep,)))
        wanted = collect_answers(steps, 1, (tokenizer.sep,))[0]
    assert len(pieces) == len(wanted) and pieces and pieces[-1][0] == capitalised(tokenizer.decode(wanted))
    assert all(0 < probability <= 1 for _, probability in pieces)


def test_visual_tokens_depend_on_the_picture_and_missing_depth_is_zeros(engine, view):
    seen = engine.visual_tokens(view, 3, 3)
    blind = engine.encode(Frame(view.frame.rgb))
    half = engine.visual_tokens(blind, 3, 3)
    width = engine.config.d
    assert seen.shape == half.shape == (1, 9, 2 * width) and not half[..., width:].any() and half[..., :width].any()
    assert torch.equal(engine.visual_tokens(view.without_encodings(), 3, 3), seen)


def test_a_session_uses_the_answerer_for_frames_alone(engine, view):
    session = Session(engine)
    session.answerer = Answerer(talker(), engine)
    session.observe(view.frame)
    *_, reply = session.write('where is the cup?', session.views('frame'), scope='frame', max_tokens=5)
    assert session.answered_by('frame') == 'ml_mamba-random-0' and session.answered_by('episode') == engine.model_id
    assert session.answered_by('frame', written=False) == engine.model_id
    assert reply.frames_used == 1 and 0 < reply.confidence <= 1
    assert session.ask('where?', session.views('frame'), scope='frame', top_k=1).text in engine.labels.answers


def test_sentences_begin_with_capitals_and_only_grow():
    assert capitalised('yes. i can see it. the cup is red.') == 'Yes. I can see it. The cup is red.'
    whole = 'i can see a tin. it is in the sink.'
    pieces = [capitalised(whole[:end]) for end in range(2, len(whole) + 1) if whole[end - 1] != ' ']
    assert all(later.startswith(piece) for piece, later in itertools.pairwise(pieces))


def test_the_node_knows_the_same_names():
    choices = next(spec.choices for spec in PARAMETERS if spec.name == 'answerer')
    assert choices == ANSWERERS


def test_refusals(engine, tmp_path):
    assert open_answerer('m3et', '', engine) is None
    assert open_answerer('emma', str(talker_folder(tmp_path / 'e', 'emma')), engine).model_id == 'emma-random-0'
    for name, where, sentence in (
        ('gpt', '', 'There is no answerer'),
        ('m3et', 'x', 'no checkpoint of its own'),
        ('emma', str(talker_folder(tmp_path / 'm')), 'holds a ml_mamba and emma was asked for'),
        ('emma', str(tmp_path / 'nowhere'), 'There is no'),
        (
            'ml_mamba',
            str(talker_folder(tmp_path / 'o', vision='other@12345678')),
            'was trained on the visual tokens of other@',
        ),
    ):
        with pytest.raises(InputError, match=sentence):
            open_answerer(name, where, engine)


def test_the_shipped_talker_opens_by_each_of_its_names():
    found = {open_talk(name).model_id for name in ('', 'm3et_talk', 'matvlm')}
    assert len(found) == 1 and found.pop().startswith('matvlm@')


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('ml_mamba', 'No ml_mamba is shipped with this version, which has a matvlm; train one'),
        ('kitchen', 'kitchen is an M3ET, which does not talk; give a checkpoint folder of m3et train talk, or one of'),
        ('nowhere', 'There is no nowhere; give a checkpoint folder of m3et train talk, or one of ml_mamba, emma'),
        ('../m3et_talk', 'There is no ../m3et_talk'),
        ('m3et_' + 'x' * 1001, 'There is no m3et_x'),
    ],
)
def test_other_names_of_talkers_are_refused_with_the_names_that_work(name, words):
    with pytest.raises(InputError, match=words) as refused:
        open_talk(name)
    assert refused.value.reason == 'model_missing'


def test_without_a_shipped_talker_one_has_to_be_trained(monkeypatch, tmp_path):
    monkeypatch.setattr('m3et_ros.runtime.answerer.SHIPPED_TALK', tmp_path / 'none')
    for name, words in (('', 'No talking model is shipped'), ('emma', 'No emma is shipped with this version; train')):
        with pytest.raises(InputError, match=words):
            open_talk(name)


def test_a_talker_in_a_folder_opens_by_its_path(tmp_path):
    folder = talker_folder(tmp_path / 'own', 'emma')
    assert open_talk(str(folder)).config.variant == 'emma'


def test_a_model_with_image_encoders_of_its_own_reads_the_image_itself(tmp_path):
    encoder_folders(tmp_path)
    encoders = read_encoders(tmp_path / 'dinov2', tmp_path / 'siglip')
    save_talk(tmp_path / 'made', replace(talker(d_vision=28), vision=encoders.model_id, encoders=encoders), card='')
    answerer = open_answerer('ml_mamba', str(tmp_path / 'made'), Engine(untrained('tiny', 5)))
    made, rgb = load_talk(tmp_path / 'made'), np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    ids, mask = made.tokenizer.encode(['is the cup red?'], 24)
    steps = made.model.generate(
        encoders.encode([rgb], rows=3, cols=3), ids[mask][None], sampling=Sampling(4, (made.tokenizer.sep,))
    )
    wanted = made.tokenizer.decode(collect_answers(steps, 1, (made.tokenizer.sep,))[0])
    *_, (text, _) = answerer.write('is the cup red?', View(Frame(rgb), {}, None), max_tokens=4)
    assert text == capitalised(wanted) and text
