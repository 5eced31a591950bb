"""The cut into graphs: keys and names, fixed shapes, and encodings that survive being flat."""

from dataclasses import replace

import pytest
import torch
from m3et_switches import SWITCHES

from m3et_ros.models.m3et.encoding import GLOBAL, TEXT
from m3et_ros.models.m3et.sizes import TINY, build
from m3et_ros.runtime.backends.graphs import flat_encoding, flat_states, graphs, image_sources, restored_encoding

SETS = (('rgb', 'depth'), ('rgb',))


@pytest.fixture(scope='module')
def model():
    return build(replace(TINY, name='both', schedule='MT', stages=1, text_length=4)).eval()


def test_there_is_a_graph_for_each_step_modality_set_and_text(model):
    found = list(graphs(model, torch.float32, SETS, 'cpu', (3, 2)))
    assert [graph.name for graph in found] == [
        f'{kind}-{"-".join(modalities)}{"-text" if text else ""}'
        for modalities in SETS
        for kind, text in (
            ('encode_images', False),
            ('encode_text_1x4', True),
            ('encode_text_3x2', True),
            ('depth', False),
            ('depth', True),
            ('semseg', False),
            ('semseg', True),
        )
    ]
    assert len({graph.key for graph in found}) == len(found)
    # 8 tokens, or 4 of colour alone, whose quarter and eighth are one.
    parts = {graph.name for graph in graphs(model, torch.float32, SETS, 'cpu', (3, 2), True)}
    assert parts - {graph.name for graph in found} == {
        *(f'encode_part_{count}-rgb-depth' for count in (1, 2, 4)),
        *(f'encode_part_{count}-rgb' for count in (1, 2)),
    }


def test_graphs_run_on_their_examples_and_return_float32_in_any_precision(model):
    for dtype in (torch.float32, torch.bfloat16):
        lowered = build(model.config).to(dtype).eval()
        for graph in graphs(lowered, dtype, SETS[:1], 'cpu', (3, 2), True):
            with torch.inference_mode():
                outputs = graph.module(*graph.inputs)
            assert {output.dtype for output in outputs} == {torch.float32}
            assert all(t.dtype in (torch.float32, torch.int64, torch.bool) for t in graph.inputs)


def test_the_inputs_of_a_decoder_are_context_own_tokens_and_validity(model):
    count = {graph.key: len(graph.inputs) for graph in graphs(model, torch.float32, SETS, 'cpu')}
    assert count['depth', SETS[0], False] == 2 and count['depth', SETS[0], True] == 3
    assert count['depth', SETS[1], False] == 1 and count['depth', SETS[1], True] == 2
    lengths = {graph.key: graph.inputs[0].shape[1] for graph in graphs(model, torch.float32, SETS, 'cpu')}
    n = model.config.image_tokens
    assert lengths['depth', SETS[0], False] == 2 * n + 1 and lengths['depth', SETS[1], True] == n + 4 + 1


@pytest.mark.parametrize('modalities', SETS)
def test_an_encoding_survives_being_flat(model, modalities):
    size = model.config.image_size
    images = {m: torch.randn(1, 3 if m == 'rgb' else 1, size, size) for m in modalities}
    with torch.inference_mode():
        encoding, silent = model.encode_images(images), model.encode_text(model.encode_images(images))
    again = restored_encoding([*flat_encoding(encoding, model.config), *silent.stages], model.config, modalities)
    assert again.places is again.colours is again.global_places is again.global_look is None
    assert torch.equal(again.source, encoding.source) and again.valid is None
    assert list(again.tokens) == list(encoding.tokens) == list(again.visible)
    for found, wanted in zip(*(flat_encoding(one, model.config) for one in (again, encoding)), strict=True):
        assert torch.equal(found, wanted)
    assert all(torch.equal(a, b) for a, b in zip(again.global_stages, silent.stages, strict=True))
    assert all(bool(mask.all()) for mask in again.visible.values())
    assert len(flat_states(again.states)) == 3


@pytest.fixture(scope='module')
def switched(model):
    return build(replace(model.config, name='switched', **SWITCHES)).eval()


def test_which_depth_was_measured_and_where_tokens_stand_are_inputs_where_the_config_needs_them(switched):
    found = {graph.key: graph.inputs for graph in graphs(switched, torch.float32, SETS, 'cpu')}
    n, d = switched.config.image_tokens, switched.config.d
    assert [tuple(image.shape) for image in found['encode_images', SETS[0], False]] == [(1, 3, 32, 32), (1, 2, 32, 32)]
    length = 2 * n + 4 + 1
    shapes = {key: [tuple(given.shape) for given in found[key]] for key in found}
    assert shapes['depth', SETS[0], True] == [(1, length, d), (1, n, d), (1, n), (1, length), (1, length)]
    assert shapes['depth', SETS[0], False] == [(1, 2 * n + 1, d), (1, n, d), (1, n)]
    assert shapes['semseg', SETS[1], True] == [(1, n + 5, d), (1, n + 5), (1, n + 5)]
    assert found['semseg', SETS[1], True][-1].dtype == torch.int64


def test_patches_without_measured_depth_survive_being_flat(switched):
    images = {'rgb': torch.randn(1, 3, 32, 32), 'depth': torch.ones(1, 2, 32, 32)}
    images['depth'][..., 16:, :16] = 0
    with torch.inference_mode():
        encoding, silent = switched.encode_images(images), switched.encode_text(switched.encode_images(images))
    again = restored_encoding([*flat_encoding(encoding, switched.config), *silent.stages], switched.config, SETS[0])
    assert again.visible['depth'].tolist() == [[True, True, False, True]] and again.visible['rgb'].all()
    assert torch.equal(again.tokens['depth'], encoding.stages[-1][:, 4:])
    assert torch.equal(again.position_ids, encoding.position_ids)
    assert torch.equal(again.global_stages[-1], silent.stages[-1])


def test_sources_name_the_modality_of_each_image_token(model):
    found, position_ids = image_sources(model.config, ('rgb', 'depth'), torch.device('cpu'))
    n = model.config.image_tokens
    assert found.tolist() == [[0] * n + [1] * n] and {0, 1}.isdisjoint({TEXT, GLOBAL})
    assert position_ids.tolist() == [[*range(n), *range(n)]]
