"""Opening a model by name: the shipped weights, random ones, folders."""

import logging

import numpy as np
import pytest
from cobra_folder import encoder_folders
from huggingface_hub import HfApi

from m3et_ros.data.checkpoints import DEFAULT_MODEL, SHIPPED
from m3et_ros.data.checkpoints.image_encoders import read_encoders
from m3et_ros.data.checkpoints.m3et import save_checkpoint
from m3et_ros.data.checkpoints.talk import load_talk
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.kitchen.cache.generate import generate
from m3et_ros.evaluation.tasks.reconstruction import measure_frames
from m3et_ros.evaluation.tasks.reconstruction_scores import reconstruction_scores
from m3et_ros.evaluation.tasks.vqa import NOISE, ask, scores_of
from m3et_ros.models.actions.frame_token import frame_width
from m3et_ros.models.m3et.sizes import SIZES
from m3et_ros.runtime import open_model
from m3et_ros.runtime.answerer import open_answerer
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import action_config, open_checkpoint, open_encoders, shipped, untrained
from m3et_ros.runtime.session import Session


def test_the_shipped_weights_are_small_and_come_with_a_model_card(caplog):
    folder = SHIPPED / 'm3et_kitchen'
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 25e6
    with caplog.at_level(logging.WARNING):
        checkpoint = open_checkpoint('kitchen')
    assert checkpoint.trained and checkpoint.model_id.startswith('kitchen@') and not caplog.text
    assert checkpoint.model.config == SIZES['kitchen']
    card = (folder / 'README.md').read_text()
    assert checkpoint.model_id in card and 'Best blind guess' in card and 'depth RMSE inside holes' in card


def test_the_shipped_answerer_is_small_and_was_trained_on_the_shipped_m3et():
    folder = SHIPPED / 'm3et_talk'
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 15e6
    engine = Engine(open_checkpoint(DEFAULT_MODEL))
    talk = open_answerer('matvlm', '', engine)
    view = engine.encode(Frame(np.full((120, 160, 3), 90, np.uint8), np.full((120, 160), 1.5, np.float32), 0))
    *_, (text, _) = talk.write('Is the tap on?', view, max_tokens=24)
    assert text.lower().startswith(('yes', 'no')) and len(text.split()) > 2
    assert load_talk(folder).model_id in (folder / 'README.md').read_text()


def test_shipped_weights_open_by_the_name_of_their_folder():
    assert open_checkpoint('m3et_kitchen').model_id == open_checkpoint('kitchen').model_id
    assert shipped('m3et_talk') == SHIPPED / 'm3et_talk'
    for name in ('m3et_nowhere', 'kitchen', 'm3et_talk/..', '../weights', ''):
        assert shipped(name) is None


@pytest.mark.parametrize('name', SIZES)
def test_every_named_size_opens_answers_and_anticipates(name):
    engine = Engine(open_checkpoint(name))
    session = Session(engine)
    view = session.observe(Frame(np.full((24, 32, 3), 90, np.uint8), np.full((24, 32), 1.5, np.float32), 1))
    reply = session.ask('Is there a cup?', session.views('frame'), scope='frame', top_k=2)
    # A picture of one colour is unlike training: the shipped weights cannot tell, but they guess.
    assert reply.alternatives[0].label in engine.labels.answers and len(reply.alternatives) == 2
    assert engine.reconstruct(view).depth.shape == (24, 32)
    assert engine.anticipate(view, horizon_s=1, top_k=3) is not None


@pytest.fixture(scope='module')
def kitchens(tmp_path_factory):
    """Three kitchens that training has not seen."""
    pytest.importorskip('mujoco')
    return generate(
        tmp_path_factory.mktemp('kitchens'), seeds=range(20_000, 20_003), frames=8, stride=35, workers=0, progress=False
    )


def test_the_shipped_weights_generalise_to_new_kitchens(kitchens):
    """Far below what they reach on 200 kitchens (README), far above what random weights or a blind guess do."""
    checkpoint = open_checkpoint(DEFAULT_MODEL)
    dense = reconstruction_scores(measure_frames(checkpoint.model, KitchenSamples(kitchens, questions=False)))
    assert dense['full']['segmentation']['pixel_accuracy']['value'] > 0.6
    holes = dense['full']['depth_in_holes']
    assert holes['model']['rmse_m']['value'] < holes['telea']['rmse_m']['value']
    asked = KitchenSamples(kitchens, families=['location', 'state', 'hand', 'region'], noise=NOISE, length=200)
    replies = ask(checkpoint.model, checkpoint.tokenizer, asked, answers=checkpoint.labels.answers)
    scores = scores_of(replies, asked.balance)
    assert scores['accuracy']['value'] > scores['majority'] + 0.1


@pytest.mark.parametrize('seed', [0, 3])
def test_a_size_without_shipped_weights_is_random_and_logged(caplog, seed):
    with caplog.at_level(logging.WARNING):
        checkpoint = open_checkpoint('tiny', seed=seed)
    assert not checkpoint.trained and checkpoint.model_id == f'tiny-random-{seed}'
    assert f'tiny-random-{seed}' in caplog.text and 'mean nothing' in caplog.text


def test_the_action_head_follows_the_model_and_its_labels():
    checkpoint = untrained('tiny', 0)
    config = action_config(checkpoint.model.config, checkpoint.labels, rate_hz=5.0)
    assert (config.verbs, config.nouns) == (len(checkpoint.labels.verbs), len(checkpoint.labels.nouns))
    assert (config.d_in, config.vocabulary) == (
        frame_width(checkpoint.model.config),
        checkpoint.model.config.vocabulary,
    )
    assert config.rate_hz == 5.0 and config.follow
    paper = action_config(checkpoint.model.config, checkpoint.labels, paper=True, rate_hz=5.0)
    assert (paper.d_in, paper.patches) == (checkpoint.model.config.d, checkpoint.model.config.image_tokens)
    assert (paper.fade, paper.hidden, paper.busy, paper.follow, paper.rate_hz) == (0, 0, 0, False, 5.0)
    assert paper.positions == checkpoint.model.config.text_length


def test_a_folder_is_opened_and_a_missing_one_refused(tmp_path):
    save_checkpoint(tmp_path / 'mine', untrained('tiny', 0), card='# mine')
    assert open_checkpoint(str(tmp_path / 'mine')).model_id == 'tiny-random-0'
    with pytest.raises(InputError, match='nowhere'):
        open_checkpoint(str(tmp_path / 'nowhere'))


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('runs/one', 'There is no model runs/one; .*, or hf:runs/one for the Hugging Face Hub'),
        ('kitchn', 'did you mean kitchen'),
        ('/no/such', 'or a checkpoint folder'),
        ('hf:one', 'give hf:owner/name'),
        ('hf:../up', 'give hf:owner/name'),
        ('hf:a/b/c', 'give hf:owner/name'),
        ('x\n[FATAL] y', r'There is no model x\\n\[FATAL\] y;'),
        ('x' * 1001, f'There is no model {"x" * 200};'),  # longer than a file name may be
        ('m3et_' + 'x' * 1001, 'There is no model m3et_x'),
        ('/'.join(['x'] * 3000), 'There is no model x/x'),
        ('x\0', r'There is no model x\\x00'),
    ],
)
def test_a_name_that_is_no_model_is_refused_without_the_network(monkeypatch, name, words):
    monkeypatch.setattr(HfApi, 'model_info', lambda *_, **__: pytest.fail('the Hub was asked'))
    with pytest.raises(InputError, match=words) as refused:
        open_checkpoint(name)
    assert refused.value.reason == ('hub_name' if name.startswith('hf:') else 'model_missing')


def test_only_the_prefix_of_the_hub_asks_the_hub(monkeypatch):
    asked = []

    def pull(name):
        asked.append(name)
        raise InputError('hub_offline', 'no network')

    monkeypatch.setattr(open_model, 'pull', pull)
    with pytest.raises(InputError, match='no network'):
        open_checkpoint('hf:owner/the-model_1.0')
    assert asked == ['hf:owner/the-model_1.0']


def test_image_encoders_open_by_two_names_and_others_are_refused(tmp_path):
    both = encoder_folders(tmp_path)
    assert open_encoders(both).model_id == read_encoders(tmp_path / 'dinov2', tmp_path / 'siglip').model_id
    for names, reason, sentence in (
        (both.partition(',')[0], 'model_config', 'is no pair of image encoders; give DINOV2,SIGLIP'),
        (f'{tmp_path}/siglip,{tmp_path}/dinov2', 'model_config', 'is of another model; give a dinov2_with_registers'),
        (f'{both}x', 'model_missing', 'There is no folder .*siglipx'),
    ):
        with pytest.raises(InputError, match=sentence) as refused:
            open_encoders(names)
        assert refused.value.reason == reason
