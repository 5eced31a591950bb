"""Vision-language models answer as transformers alone does: tokens, text, streaming, several images, and cancelling."""

import itertools
from concurrent.futures import CancelledError

import numpy as np
import pytest
import torch
from tiny_vlms import ASCII, FAMILIES, byte_tokenizer, vlm_folder
from tokenizers import pre_tokenizers

from m3et_ros.data.errors import InputError
from m3et_ros.runtime.vlm.model import DTYPES, SEVERAL, _Writer, open_vlm

IMAGES = [np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8) for i in range(3)]
QUESTION = 'What is on the table?'


@pytest.fixture(scope='module', params=list(FAMILIES))
def folder(request, tmp_path_factory):
    return vlm_folder(tmp_path_factory.mktemp('vlm') / request.param, request.param)


@pytest.fixture(scope='module')
def model(folder):
    return open_vlm(str(folder), device='cpu')


def plain_tokens(model, question, images, count):
    """The tokens that generate of transformers writes for a prompt of the processor."""
    inputs = model.prompt(question, images)
    with torch.no_grad():
        whole = model._model.generate(**inputs, do_sample=False, max_new_tokens=count)
    return whole[0, inputs['input_ids'].shape[1] :].tolist()


@pytest.mark.parametrize('count', [1, 3])
def test_the_tokens_are_those_of_plain_generate(model, count):
    answer = model.answer(QUESTION, IMAGES[:count], max_tokens=12)
    assert list(answer.tokens) == plain_tokens(model, QUESTION, IMAGES[:count], 12) and answer.tokens
    assert 0 < answer.confidence < 1 and answer.latency_s > 0


def test_the_answer_depends_on_the_image_and_the_question(model):
    first = model.answer(QUESTION, IMAGES[:1], max_tokens=6)
    assert first.confidence != model.answer(QUESTION, IMAGES[1:2], max_tokens=6).confidence
    assert first.confidence != model.answer('Is it red?', IMAGES[:1], max_tokens=6).confidence


def test_the_prompt_names_the_images_and_reads_control_tokens_as_text(model):
    tokenizer = model._processor.tokenizer
    token = model._processor.image_token
    text = tokenizer.decode(model.prompt(f'Is </s> a cup {token}?', IMAGES[:1])['input_ids'][0])
    assert f'Is </s> a cup {token[0]} {token[1:]}?' in text
    assert text.rstrip().endswith('?' if model.model_id.startswith('paligemma') else 'assistant:')
    ids = model.prompt('Is </s> a cup?', IMAGES[:1])['input_ids'][0].tolist()
    assert tokenizer.eos_token_id not in ids
    both = tokenizer.decode(model.prompt(QUESTION, IMAGES[:2])['input_ids'][0])
    assert SEVERAL.format(2, QUESTION) in both


def test_the_text_streams_and_only_grows(model):
    parts = []
    answer = model.answer(QUESTION, IMAGES[:1], max_tokens=24, on_text=parts.append)
    assert all(later.startswith(part) for part, later in itertools.pairwise(parts))
    assert answer.text.startswith(parts[-1] if parts else '')


def test_half_a_character_waits_for_its_other_half():
    parts = []
    tokenizer = byte_tokenizer(letters=(*ASCII, *sorted(set(pre_tokenizers.ByteLevel.alphabet()) - set(ASCII))))
    writer = _Writer(tokenizer, parts.append)
    for ids in ([0, 1], *([one] for one in tokenizer('a é</s>', add_special_tokens=False)['input_ids'])):
        writer.put(torch.tensor(ids))
    writer.end()
    assert parts == ['a', 'a é'] and writer.whole() == 'a é' and len(writer.tokens) == 5


def test_a_cancelled_answer_ends_within_a_layer(model):
    asked = []
    with pytest.raises(CancelledError):
        model.answer(QUESTION, IMAGES[:1], max_tokens=500, cancelled=lambda: len(asked) == 3 or asked.append(0))
    assert len(asked) == 3
    assert model.answer(QUESTION, IMAGES[:1], max_tokens=1).tokens  # the next one is not cancelled


def test_bad_arguments_are_refused(model):
    with pytest.raises(ValueError, match='max_tokens is 0 with 1 images'):
        model.answer(QUESTION, IMAGES[:1], max_tokens=0)
    with pytest.raises(ValueError, match='max_tokens is 1 with 0 images'):
        model.answer(QUESTION, [], max_tokens=1)


def test_dtype_and_device_arrive(tmp_path):
    folder = vlm_folder(tmp_path / 'half', dtype=torch.bfloat16)
    stored, wide = open_vlm(str(folder), device='cpu'), open_vlm(str(folder), device='cpu', dtype='float32')
    assert (stored.dtype, wide.dtype) == (torch.bfloat16, torch.float32) and stored.device == torch.device('cpu')
    assert wide.weight_bytes == 2 * stored.weight_bytes and DTYPES['auto'] is None
    assert wide.model_id == stored.model_id and stored.model_id.startswith('half@')
    assert stored.answer(QUESTION, IMAGES[:1], max_tokens=3).tokens
    with pytest.raises(InputError, match="device 'tpu' cannot be used") as refused:
        open_vlm(str(folder), device='tpu')
    assert refused.value.reason == 'device'


def test_a_template_that_leaves_the_image_out_is_refused(tmp_path):
    folder = vlm_folder(tmp_path / 'blind')
    (folder / 'chat_template.jinja').write_text('{% for message in messages %}{{ message.role }}{% endfor %}')
    with pytest.raises(InputError, match=r'leaves the image out|cannot write a question') as refused:
        open_vlm(str(folder))
    assert refused.value.reason == 'vlm_template'


def test_weights_that_do_not_fit_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = vlm_folder(tmp_path / 'torn')
    tensors = load_file(folder / 'model.safetensors')
    tensors.pop(next(name for name in tensors if 'mlp' in name))
    save_file(tensors, folder / 'model.safetensors', metadata={'format': 'pt'})
    with pytest.raises(InputError, match='lacks the weights .*mlp') as refused:
        open_vlm(str(folder))
    assert refused.value.reason == 'model_tensor'
