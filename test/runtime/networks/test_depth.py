"""Depth networks give what the pipeline of transformers gives, in their own unit."""

import json
from pathlib import Path

import numpy as np
import pytest
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_networks import depth_anything, dpt, glpn, zoedepth

from m3et_ros.data.errors import InputError
from m3et_ros.runtime.networks.depth import KINDS, open_depth

RGB = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
RGB[10:30, 20:50] = 200


@pytest.mark.parametrize('build', [depth_anything, dpt, glpn], ids=['depth_anything', 'dpt', 'glpn'])
def test_depth_is_that_of_the_pipeline_of_transformers(build, tmp_path):
    name = build(tmp_path)
    depth = open_depth(name).predict(RGB)
    expected = transformers.pipeline('depth-estimation', model=name)(Image.fromarray(RGB))['predicted_depth']
    assert (depth.shape, depth.dtype) == ((48, 64), np.float32)
    assert depth.std() > 1e-3
    np.testing.assert_allclose(depth, expected.numpy(), rtol=1e-5)


def test_the_padding_of_a_zoedepth_is_taken_away(tmp_path):
    network = open_depth(zoedepth(tmp_path))
    depth = network.predict(RGB)
    # As in the original: int(sqrt(size / 2) * 3) pixels at each side, 14 and 16 here, before the network resizes.
    padded = np.pad(RGB, ((14, 14), (16, 16), (0, 0)), mode='reflect')
    network._processor.do_pad = False
    whole = network.predict(padded)
    assert depth.std() > 1e-5
    np.testing.assert_allclose(depth, whole[14:-14, 16:-16], rtol=1e-5)


def test_the_unit_follows_the_kind_and_the_config(tmp_path):
    assert open_depth(depth_anything(tmp_path / 'a')).metric is False
    assert open_depth(depth_anything(tmp_path / 'b', metric=True)).metric is True
    assert open_depth(dpt(tmp_path / 'c')).metric is False
    assert open_depth(glpn(tmp_path / 'd')).metric is True
    assert open_depth(zoedepth(tmp_path / 'e')).metric is True
    assert all(hasattr(transformers, name) for name in KINDS)


def test_an_image_of_another_type_is_refused(tmp_path):
    network = open_depth(dpt(tmp_path))
    with pytest.raises(ValueError, match='give uint8'):
        network.predict(RGB.astype(np.float32))


def test_depth_that_is_not_finite_is_refused(tmp_path):
    name = Path(glpn(tmp_path))
    tensors = load_file(name / 'model.safetensors')
    tensors['head.convolution.2.bias' if 'head.convolution.2.bias' in tensors else sorted(tensors)[-1]][:] = np.nan
    save_file(tensors, name / 'model.safetensors', metadata={'format': 'pt'})
    with pytest.raises(InputError) as caught:
        open_depth(str(name)).predict(RGB)
    assert caught.value.reason == 'model_not_finite'


def test_the_config_of_a_metric_network_is_read_from_the_folder(tmp_path):
    name = Path(depth_anything(tmp_path))
    config = json.loads((name / 'config.json').read_text())
    (name / 'config.json').write_text(json.dumps(config | {'depth_estimation_type': 'metric', 'max_depth': 10}))
    assert open_depth(str(name)).metric is True
