"""Segmentation networks give the classes that the processors of transformers give, with a confidence."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tiny_networks import NAMES, dpt, mask2former, maskformer, oneformer, segformer

from m3et_ros.data.errors import InputError
from m3et_ros.runtime.networks.segmentation import BY_PIXEL, BY_QUERY, open_segmentation

RGB = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
RGB[10:30, 20:50] = 200


def dpt_segmentation(folder):
    return dpt(folder, 'DPTForSemanticSegmentation')


@pytest.mark.parametrize('build', [segformer, dpt_segmentation], ids=['segformer', 'dpt'])
def test_classes_and_confidence_are_those_of_transformers(build, tmp_path):
    name = build(tmp_path)
    network = open_segmentation(name)
    found = network.predict(RGB)
    processor = transformers.AutoImageProcessor.from_pretrained(name, backend='pil')
    model = transformers.AutoModelForSemanticSegmentation.from_pretrained(name).eval()
    with torch.inference_mode():
        outputs = model(**processor(images=RGB, return_tensors='pt'))
    (labels,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[(64, 64)])
    logits = torch.nn.functional.interpolate(outputs.logits, (64, 64), mode='bilinear', align_corners=False)
    assert network.names == NAMES
    assert (found.labels.dtype, found.confidence.dtype) == (np.uint16, np.float32)
    np.testing.assert_array_equal(found.labels, labels.numpy())
    np.testing.assert_allclose(found.confidence, logits.softmax(1).max(1).values[0].numpy(), rtol=1e-5)


@pytest.mark.parametrize('build', [mask2former, maskformer, oneformer], ids=['mask2former', 'maskformer', 'oneformer'])
def test_queries_become_classes_as_in_transformers(build, tmp_path):
    name = build(tmp_path)
    network = open_segmentation(name)
    found = network.predict(RGB)
    with torch.inference_mode():
        inputs = network._processor(images=RGB, return_tensors='pt') | network._task
        outputs = network._model(**inputs)
    (labels,) = network._processor.post_process_semantic_segmentation(outputs, target_sizes=[(64, 64)])
    np.testing.assert_array_equal(found.labels, labels.numpy())
    assert 0 <= found.confidence.min() < found.confidence.max() <= 1


def test_a_oneformer_is_asked_for_classes_of_pixels_by_the_words_of_its_processor(tmp_path):
    network = open_segmentation(oneformer(tmp_path))
    # 'the task is semantic' in the words of the tokenizer, padded with 0 to 77.
    assert network._task['task_inputs'].tolist() == [[2, 3, 4, 5] + 73 * [0]]


@pytest.mark.parametrize(
    ('id2label', 'why'),
    [
        ({}, 'names no classes'),
        ({'0': 'a', '2': 'b'}, 'does not name each of its classes once'),
        ({'0': 'LABEL_0', '1': 'LABEL_1'}, 'calls its classes LABEL_0, LABEL_1 and so on'),
    ],
    ids=['empty', 'with_a_gap', 'placeholders'],
)
def test_a_network_without_class_names_is_refused(id2label, why, tmp_path):
    folder = Path(segformer(tmp_path))
    config = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps(config | {'id2label': id2label}))
    with pytest.raises(InputError) as caught:
        open_segmentation(str(folder))
    assert (caught.value.reason, why in str(caught.value)) == ('model_config', True)


def test_a_network_of_another_kind_is_refused(tmp_path):
    with pytest.raises(InputError, match='is a DPTForDepthEstimation, which is no segmentation network'):
        open_segmentation(dpt(tmp_path))
    assert all(hasattr(transformers, name) for name in BY_PIXEL + BY_QUERY)
