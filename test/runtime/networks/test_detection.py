"""Detectors: boxes in pixels of the image, by transformers as its processor gives them, by YOLOX as its grid says."""

import hashlib

import cv2
import numpy as np
import pytest
import torch
import transformers
from shared_data import SHARED
from tiny_networks import NAMES, glpn, yolos

from m3et_ros.data.errors import InputError
from m3et_ros.runtime.networks.detection import ARCHITECTURES, COCO, open_detection

YOLOX = SHARED / 'teachers/yolox_nano.onnx'
PICTURE = SHARED / 'coco256/images/train2017/000000000025.jpg'
needs_yolox = pytest.mark.skipif(not YOLOX.is_file(), reason=f'{YOLOX} is not there')


def test_boxes_are_those_of_transformers_within_the_image(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    name = yolos(tmp_path)
    assert open_detection(name).predict(rgb) == []  # the random network is sure of nothing
    network = open_detection(name, least=0.0)
    found = network.predict(rgb)
    processor = transformers.AutoImageProcessor.from_pretrained(name, backend='pil')
    model = transformers.AutoModelForObjectDetection.from_pretrained(name).eval()
    with torch.inference_mode():
        outputs = model(pixel_values=processor(images=rgb, return_tensors='pt')['pixel_values'])
    (expected,) = processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=[(48, 64)])
    order = expected['scores'].argsort(descending=True)
    assert network.names == NAMES
    assert [one.name for one in found] == [NAMES[i] for i in expected['labels'][order]]
    assert [one.score for one in found] == sorted(expected['scores'].tolist(), reverse=True)
    limits = torch.tensor([64.0, 48.0, 64.0, 48.0])
    np.testing.assert_allclose(
        [one.box for one in found], expected['boxes'][order].clamp(torch.zeros(4), limits).numpy(), rtol=1e-6
    )


def test_other_networks_and_files_are_refused(tmp_path):
    with pytest.raises(InputError, match='which is no detection network'):
        open_detection(glpn(tmp_path))
    assert all(hasattr(transformers, name) for name in ARCHITECTURES)
    with pytest.raises(InputError) as caught:
        open_detection(str(tmp_path / 'x.onnx'))
    assert caught.value.reason == 'model_missing'
    (tmp_path / 'x.onnx').write_bytes(b'no ONNX')
    with pytest.raises(InputError) as caught:
        open_detection(str(tmp_path / 'x.onnx'))
    assert caught.value.reason == 'model_config'


@needs_yolox
def test_yolox_finds_the_giraffe_wherever_the_picture_is_larger():
    network = open_detection(str(YOLOX))
    assert network.model_id == f'yolox_nano@{hashlib.sha256(YOLOX.read_bytes()).hexdigest()[:8]}'
    assert network.names == COCO
    assert len(COCO) == 80
    rgb = np.ascontiguousarray(cv2.imread(str(PICTURE))[..., ::-1])
    (giraffe,) = network.predict(rgb)
    assert giraffe.name == 'giraffe'
    assert giraffe.score > 0.8
    # The box of COCO's annotation.
    np.testing.assert_allclose(giraffe.box, (290, 45, 451, 268), atol=10)
    (doubled,) = network.predict(cv2.resize(rgb, None, fx=2, fy=2))
    np.testing.assert_allclose(doubled.box, 2 * np.array(giraffe.box), atol=8)


@needs_yolox
def test_yolox_finds_nothing_in_grey_and_the_surest_first():
    network = open_detection(str(YOLOX))
    assert network.predict(np.full((48, 64, 3), 114, np.uint8)) == []
    kitchen = cv2.imread(str(PICTURE.with_name('000000000009.jpg')))[..., ::-1]
    found = network.predict(np.ascontiguousarray(kitchen))
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)
    assert [one.name for one in found[:2]] == ['bowl', 'bowl']
    assert all(0 <= x0 < x1 <= 427 and 0 <= y0 < y1 <= 320 for x0, y0, x1, y1 in (one.box for one in found))
