"""Checkpoints of the generative family: what is stored comes back, what is wrong is named."""

import json
from dataclasses import replace

import pytest
import torch
from cobra_folder import encoder_folders
from safetensors.torch import load_file, save_file
from talkers import talker, talker_folder

from m3et_ros.data.checkpoints.image_encoders import read_encoders
from m3et_ros.data.checkpoints.talk import TalkCheckpoint, load_talk, save_talk
from m3et_ros.data.errors import InputError
from m3et_ros.models.vlm.emma import EMMA
from m3et_ros.models.vlm.matvlm import MaTVLM
from m3et_ros.models.vlm.variants import VARIANTS, emma_config


@pytest.mark.parametrize('variant', VARIANTS)
def test_a_checkpoint_is_read_as_it_was_written(tmp_path, variant):
    made = replace(talker(variant), trained=True)
    model_id = save_talk(tmp_path, made, card='# x\n')
    found = load_talk(tmp_path)
    assert found.model_id == model_id and model_id.startswith(f'{variant}@') and found.config == made.config
    features, ids = torch.randn(1, 9, made.config.model.connector.d_vision), torch.tensor([[2, 9, 3]])
    assert torch.equal(found.model(features, ids).logits, made.model(features, ids).logits)


def test_image_encoders_are_stored_beside_the_model_and_must_be_those_of_its_training(tmp_path):
    encoder_folders(tmp_path)
    encoders = read_encoders(tmp_path / 'dinov2', tmp_path / 'siglip')
    made = replace(talker(d_vision=28), vision=encoders.model_id, encoders=encoders)
    save_talk(tmp_path / 'made', made, card='')
    assert load_talk(tmp_path / 'made').encoders.model_id == encoders.model_id
    config = tmp_path / 'made/config.json'
    config.write_text(config.read_text().replace(encoders.model_id, 'dinov2+siglip@00000000'))
    with pytest.raises(InputError, match='was trained on dinov2.siglip@00000000 and holds') as refused:
        load_talk(tmp_path / 'made')
    assert refused.value.reason == 'model_checksum'


def test_neither_head_nor_teacher_is_stored(tmp_path):
    made = talker('emma', side=9)
    whole = EMMA(emma_config(made.config.model))
    save_talk(tmp_path / 'e', replace(made, model=whole), card='')
    assert not [name for name in load_file(tmp_path / 'e/model.safetensors') if 'alignment' in name]
    assert load_talk(tmp_path / 'e').model.alignment is None
    teacher = talker('matvlm')
    student = MaTVLM.from_teacher(teacher.model, (0,))
    config = replace(teacher.config, model=student.config)
    save_talk(tmp_path / 's', replace(teacher, model=student, config=config), card='')
    assert load_talk(tmp_path / 's').model.config.language.schedule == 'STTT'


def test_damage_is_named(tmp_path):
    folder = talker_folder(tmp_path)
    tensors, text = load_file(folder / 'model.safetensors'), (folder / 'config.json').read_text()

    def refused(reason, sentence):
        with pytest.raises(InputError, match=sentence) as found:
            load_talk(folder)
        assert found.value.reason == reason

    save_file({name: t for name, t in tensors.items() if name != 'language.norm.weight'}, folder / 'model.safetensors')
    refused('model_tensor', 'no tensor language.norm.weight')
    save_file(tensors | {'more': torch.zeros(1)}, folder / 'model.safetensors')
    refused('model_tensor', 'the tensor more')
    save_file(tensors | {'language.norm.weight': torch.ones(64)}, folder / 'model.safetensors')
    changed = dict(json.loads(text))
    (folder / 'config.json').write_text(json.dumps(changed | {'sha256': {'model.safetensors': '0' * 64}}))
    refused('model_checksum', 'SHA-256')
    for change, sentence in (
        ({'kind': 'history'}, 'no talking model'),
        ({'format': 9}, 'format 9'),
        ({'vision': 3}, 'no vision of type str'),
        ({'model': {}}, "'connector' is missing or unknown"),
        ({'model': changed['model'] | {'variant': 'gpt'}}, 'variant'),
    ):
        (folder / 'config.json').write_text(json.dumps(changed | change))
        refused('model_config', sentence)
    (folder / 'config.json').write_text(text)
    (folder / 'tokenizer.json').write_text('{')
    refused('model_config', '^tokenizer.json is not a tokenizer')
    (folder / 'tokenizer.json').unlink()
    refused('model_missing', 'tokenizer.json')


def test_a_tokenizer_too_large_is_refused():
    made = talker()
    small = replace(
        made.config, model=replace(made.config.model, language=replace(made.config.model.language, vocabulary=16))
    )
    with pytest.raises(InputError, match='room for 16'):
        TalkCheckpoint(made.model, small, made.tokenizer, made.vision, 'x')


def test_a_tokenizer_as_large_as_the_model_fits():
    made = talker()
    exact = replace(made.config.model.language, vocabulary=made.tokenizer.vocabulary)
    config = replace(made.config, model=replace(made.config.model, language=exact))
    assert TalkCheckpoint(made.model, config, made.tokenizer, made.vision, 'x').config is config


def test_only_the_encoder_of_training_is_accepted():
    made = talker()
    width = made.config.model.connector.d_vision
    made.check_encoder(made.vision, width)
    for model_id, other in (('other@1', width), (made.vision, width + 1)):
        with pytest.raises(InputError, match='was trained on the visual tokens of tiny') as refused:
            made.check_encoder(model_id, other)
        assert refused.value.reason == 'answerer_sight'


def test_matrices_are_stored_in_the_asked_precision(tmp_path):
    save_talk(tmp_path, talker(), card='', dtype=torch.float16)
    stored = load_file(tmp_path / 'model.safetensors')
    assert {tensor.dtype for tensor in stored.values() if tensor.dim() > 1} == {torch.float16}
    assert {tensor.dtype for tensor in stored.values() if tensor.dim() < 2} == {torch.float32}
