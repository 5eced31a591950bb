"""Processors open with and without torchvision, and a folder without one is refused in a sentence."""

import json

import pytest
from tiny_vlms import FAMILIES, TEMPLATE, vlm_folder

from m3et_ros.data.errors import InputError
from m3et_ros.runtime.vlm.folder import find_vlm
from m3et_ros.runtime.vlm.processor import load_processor


def refused(path):
    with pytest.raises(InputError) as error:
        load_processor(find_vlm(str(path)))
    return error.value.reason, str(error.value)


@pytest.mark.parametrize('family', list(FAMILIES))
def test_a_processor_has_its_parts_settings_and_template(tmp_path, family):
    path = vlm_folder(tmp_path / family, family)
    processor = load_processor(find_vlm(str(path)))
    assert processor.chat_template == (path / 'chat_template.jinja').read_text()
    assert (
        type(processor).__mro__[1 if type(processor).__name__ == 'ImagesOnly' else 0].__name__
        == json.loads((path / 'processor_config.json').read_text())['processor_class']
    )
    assert processor.tokenizer.decode(processor.tokenizer('a cup')['input_ids']) == 'a cup'
    if family == 'smolvlm':
        assert processor.image_seq_len == 4


def test_the_model_type_names_the_processor_where_no_file_does(tmp_path):
    path = vlm_folder(tmp_path / 'qwen', 'qwen2_vl')
    (path / 'processor_config.json').unlink()
    assert 'Qwen2VLProcessor' in [one.__name__ for one in type(load_processor(find_vlm(str(path)))).__mro__]


def test_missing_parts_are_refused(tmp_path):
    path = vlm_folder(tmp_path / 'whole')
    template = path / 'chat_template.jinja'
    template.unlink()
    assert refused(path)[0] == 'vlm_template' and 'has no chat template; add a chat_template.jinja' in refused(path)[1]
    template.write_text(TEMPLATE)
    load_processor(find_vlm(str(path)))
    (path / 'tokenizer.json').unlink()
    (path / 'tokenizer_config.json').unlink()
    assert refused(path)[0] == 'vlm_processor' and 'tokenizer' in refused(path)[1]


@pytest.mark.parametrize('family', list(FAMILIES))
def test_a_missing_image_processor_is_refused(tmp_path, family):
    path = vlm_folder(tmp_path / 'whole', family)
    (path / 'preprocessor_config.json').unlink()
    assert refused(path)[0] == 'vlm_processor'
