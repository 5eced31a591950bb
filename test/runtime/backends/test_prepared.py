"""Graphs in place of the model: the same results, torch for other inputs, and a check before they serve."""

import logging
from dataclasses import fields, replace

import pytest
import torch

from m3et_ros.models.m3et.sizes import build
from m3et_ros.ops import native
from m3et_ros.runtime import backends
from m3et_ros.runtime.backends import check, prepared
from m3et_ros.runtime.backends.graphs import graphs
from m3et_ros.runtime.backends.prepared import Prepared, prepare

MODALITY_SETS = (('rgb', 'depth'),)
GUIDES = 3, 2


class Plain:
    """A backend that runs each graph in torch as it is, off by a factor where asked for."""

    name, lowers, device = 'openvino', True, 'cpu'

    def __init__(self, setting=None, factor=1.0):
        self.built, self._factor = [], factor

    def build(self, name, module, inputs):
        self.built.append(name)
        return lambda *given: [t * self._factor for t in module(*given)]


def plain_of(model, modality_sets=MODALITY_SETS, guides=None, adaptive=False):
    backend = Plain()
    return Prepared(
        model,
        {
            graph.key: backend.build(graph.name, graph.module, graph.inputs)
            for graph in graphs(model, torch.float32, modality_sets, 'cpu', guides, adaptive)
        },
        'plain',
    )


@pytest.fixture
def plain(small):
    return plain_of(small)


def images(small, batch=1):
    rng, S = torch.Generator().manual_seed(0), small.config.image_size
    return {'rgb': torch.randn(batch, 3, S, S, generator=rng), 'depth': torch.randn(batch, 1, S, S, generator=rng)}


def test_the_cut_changes_nothing(small, plain):
    assert check.largest_difference(plain, small, MODALITY_SETS) < 1e-5


@pytest.mark.parametrize('changes', [{}, {'depth_validity': False}, {'context_positions': False}])
def test_the_cut_changes_nothing_of_a_stem_of_depth_with_validity_and_of_multimaes_decoder(small, changes):
    """With pads of text, and with depth patches of which none, some or every pixel was measured."""
    switches = {'depth_validity': True, 'decoder_queries': 'encoded', 'context_positions': True, 'cross_mlp': True}
    model = build(replace(small.config, stem='conv', adapter_width=4, **(switches | changes))).eval()
    found = plain_of(model)
    assert check.largest_difference(found, model, MODALITY_SETS) < 1e-5
    given = images(model)
    if model.config.depth_validity:
        given['depth'] = torch.cat([given['depth'], torch.zeros_like(given['depth'])], 1)
        given['depth'][:, 1, :16, :20] = 1
    ids = torch.arange(1, model.config.text_length + 1)[None]
    mask = ids < 3
    with torch.inference_mode():
        one, other = (which.add_text(which.encode_images(given), ids, mask) for which in (found, model))
        assert torch.equal(one.position_ids[:, -len(ids[0]) - 1 :], other.position_ids[:, -len(ids[0]) - 1 :])
        torch.testing.assert_close(found.decode(one, 'depth'), model.decode(other, 'depth'), atol=1e-5, rtol=1e-5)


def test_every_graph_is_used(small):
    called, plain = [], plain_of(small, guides=GUIDES)
    plain.runners = {
        key: (lambda *given, key=key, run=run: called.append(key) or run(*given)) for key, run in plain.runners.items()
    }
    assert check.largest_difference(plain, small, MODALITY_SETS, GUIDES) < 1e-5
    assert (
        set(called)
        == set(plain.runners)
        == {
            ('encode_images', MODALITY_SETS[0], False),
            ('encode_text_1x4', MODALITY_SETS[0], True),
            ('encode_text_3x2', MODALITY_SETS[0], True),
            ('depth', MODALITY_SETS[0], False),
            ('depth', MODALITY_SETS[0], True),
        }
    )


def test_a_graph_of_guides_that_is_off_is_found(small):
    plain = plain_of(small, guides=GUIDES)
    run = plain.runners['encode_text_3x2', MODALITY_SETS[0], True]
    plain.runners['encode_text_3x2', MODALITY_SETS[0], True] = lambda *given: [1.01 * t for t in run(*given)]
    assert check.largest_difference(plain, small, MODALITY_SETS) < 1e-5
    assert check.largest_difference(plain, small, MODALITY_SETS, GUIDES) > 1e-3


def test_a_graph_of_a_part_that_is_off_is_found(small):
    plain = plain_of(small, adaptive=True)
    assert prepared.checked(plain, small, MODALITY_SETS, 'float32').name == 'plain'
    run = plain.runners['encode_part_2', MODALITY_SETS[0], False]
    for number in range(len(run(*part_inputs(plain, small)))):

        def off(*given, number=number):
            outputs = run(*given)
            outputs[number] = 1.01 * outputs[number] + 0.01
            return outputs

        plain.runners['encode_part_2', MODALITY_SETS[0], False] = off
        with pytest.raises(RuntimeError, match='it is off by'):
            prepared.checked(plain, small, MODALITY_SETS, 'float32')


def part_inputs(plain, small):
    found = {graph.key: graph.inputs for graph in graphs(small, torch.float32, MODALITY_SETS, 'cpu', None, True)}
    return found['encode_part_2', MODALITY_SETS[0], False]


def test_parts_without_a_graph_and_of_several_frames_are_encoded_in_torch(small):
    plain, given, ids = plain_of(small, adaptive=True), images(small, 2), torch.tensor([0, 5])
    assert plain.part_counts(MODALITY_SETS[0]) == [1, 2, 4] and plain.part_counts(('rgb',)) == []
    with torch.inference_mode():
        for one in (given, {'rgb': given['rgb'][:1]}):
            places = ids if len(one) == 2 else ids[:1]
            found, wanted = (
                which.encode_changed({m: 2 * t for m, t in one.items()}, places, which.encode_changed(one))
                for which in (plain, small)
            )
            torch.testing.assert_close(found.encoder_pass.outputs[-1], wanted.encoder_pass.outputs[-1])


def test_guides_about_several_frames_run_in_torch(small):
    plain, ids = plain_of(small, guides=GUIDES), torch.tensor([[1, 2], [3, 4], [5, 6]])
    given = images(small, 3)
    with torch.inference_mode():
        found = plain.encode_text(plain.encode_images(given), ids, ids > 0)
        torch.testing.assert_close(found.context, small.encode_text(small.encode_images(given), ids).context)


def test_what_no_graph_covers_runs_in_torch(small, plain):
    ids = torch.tensor([[1, 2, 3]])
    with torch.inference_mode():
        for given in ({'rgb': images(small)['rgb']}, images(small, 2)):
            encoding, wanted = plain.encode_images(given), small.encode_images(given)
            assert all(torch.equal(a, b) for a, b in zip(encoding.stages, wanted.stages))
            encoded = plain.add_text(encoding, ids.expand(len(encoding.source), -1))
            torch.testing.assert_close(
                plain.decode(encoded, 'depth'),
                small.decode(small.add_text(wanted, ids.expand(len(wanted.source), -1)), 'depth'),
            )


def test_torch_encodes_questions_about_images_encoded_by_a_graph(small, plain):
    ids = torch.tensor([[1, 2], [3, 4]])
    with torch.inference_mode():
        found, wanted = (small.encode_text(which.encode_images(images(small)), ids) for which in (plain, small))
    torch.testing.assert_close(found.context, wanted.context)


def test_a_runtime_that_disagrees_does_not_serve(small, monkeypatch, caplog):
    monkeypatch.setattr(backends, 'missing', lambda name: '')
    monkeypatch.setattr(backends, 'make', lambda name, setting: Plain(setting, 1.01))
    with caplog.at_level(logging.WARNING):
        found, serving = prepare(small, 'openvino', modality_sets=MODALITY_SETS, store=False)
    assert found is None and serving.name == 'torch' and 'off by 1.' in serving.reason
    assert 'openvino cannot serve' in caplog.text


def test_a_runtime_that_fails_does_not_serve(small, monkeypatch):
    monkeypatch.setattr(backends, 'missing', lambda name: '')
    monkeypatch.setattr(backends, 'make', lambda name, setting: 1 / 0)
    found, serving = prepare(small, 'openvino', modality_sets=MODALITY_SETS, store=False)
    assert found is None and serving.reason == 'openvino cannot serve (division by zero)'


@pytest.mark.skipif(torch.cuda.is_available(), reason='speaks of machines without CUDA')
def test_cuda_without_a_device_falls_back(small):
    assert prepare(small, 'cuda', modality_sets=MODALITY_SETS)[1].reason.startswith(
        'cuda cannot serve (there is no CUDA device'
    )


def test_progress_is_reported_and_auto_follows_the_installed_runtimes(small, monkeypatch):
    monkeypatch.setattr(backends, 'missing', lambda name: '')
    monkeypatch.setattr(backends, 'make', lambda name, setting: Plain(setting))
    lines = []
    found, serving = prepare(small, 'auto', modality_sets=MODALITY_SETS, store=False, report=lines.append)
    assert found.name == serving.name == 'openvino' and 'agrees with eager float32' in serving.reason
    assert len(lines) == 5 and 'graph 1 of 4' in lines[0] and '4 graphs are ready' in lines[-1]
    monkeypatch.setattr(backends, 'missing', lambda name: f'{name} is not here')
    assert (
        prepare(small, 'auto', modality_sets=MODALITY_SETS)[1].name == 'torch' and backends.automatic('cuda') == 'cuda'
    )


def test_artefacts_of_other_weights_settings_or_sources_have_another_folder(small, monkeypatch, tmp_path):
    first = prepared.artefact_folder(small, 'openvino', 'float32')
    assert prepared.artefact_folder(small, 'openvino', 'float32') == first
    assert prepared.artefact_folder(small, 'openvino', 'bfloat16') != first
    with torch.no_grad():
        small.global_embedding.add_(1)
        changed = prepared.artefact_folder(small, 'openvino', 'float32')
        small.global_embedding.sub_(1)
    assert changed != first
    monkeypatch.setattr(prepared, 'SOURCE_FOLDERS', ('ops',))
    assert prepared.artefact_folder(small, 'openvino', 'float32') != first


@pytest.mark.parametrize('runtime, fallback', [('auto', False), ('openvino', True)])
def test_mamba_1_is_not_given_to_openvino_without_the_native_scans(small, monkeypatch, runtime, fallback):
    monkeypatch.setattr(backends, 'missing', lambda name: '')
    monkeypatch.setattr(native, '_library', None)
    monkeypatch.delenv('M3ET_RUNTIME', raising=False)
    monkeypatch.setattr(backends, 'make', None)  # nothing may be built
    older = build(replace(small.config, mixer='mamba1', mixer_options={'N': 4})).eval()
    found, serving = prepare(older, runtime, modality_sets=MODALITY_SETS)
    assert found is None and (serving.name, serving.fallback) == ('torch', fallback)
    assert 'Mamba-1' in serving.reason and 'm3et build kernels' in serving.reason


@pytest.mark.parametrize('runtime', ['openvino', 'compile', 'torch'])
def test_images_that_hear_are_encoded_by_torch(small, monkeypatch, runtime):
    monkeypatch.setattr(backends, 'missing', lambda name: '')
    monkeypatch.setattr(backends, 'make', None)  # nothing may be built
    found, serving = prepare(build(small.config, images_hear=True).eval(), runtime, modality_sets=MODALITY_SETS)
    assert found is None and (serving.name, serving.fallback) == ('torch', runtime != 'torch')
    assert ('images_hear' in serving.reason) == (runtime != 'torch')


@pytest.mark.parametrize('parts', [{}, {'places': True}, {'places': True, 'answer_parts': 5, 'look_parts': 2}], ids=str)
def test_encodings_by_graphs_have_every_field_of_the_models(small, parts):
    model = build(replace(small.config, **parts), seed=1).eval()
    for layer in model.readout.maps.values() if model.readout else ():
        torch.nn.init.normal_(layer.weight)
    plain = plain_of(model, (('rgb', 'depth'), ('rgb',)))
    text = torch.tensor([[1, 2, 3, 0]]), torch.tensor([[True, True, True, False]])
    pairs = []
    for modalities in (('rgb', 'depth'), ('rgb',)):
        given = {m: image for m, image in images(model).items() if m in modalities}
        with torch.inference_mode():
            encodings = plain.encode_images(given), model.encode_images(given)
            asked = [[which.add_text(e, *words) for which, e in zip((plain, model), encodings)] for words in ((), text)]
            for found, wanted in asked:
                torch.testing.assert_close(
                    model.answer_logits(found), model.answer_logits(wanted), atol=1e-4, rtol=1e-4
                )
        pairs += [encodings, *asked]
    assert check.largest_difference(plain, model, MODALITY_SETS) < 1e-5
    assert (pairs[1][1].look is not None) == ('look_parts' in parts)
    for found, wanted in pairs:
        for field in fields(wanted):
            one, other = getattr(found, field.name), getattr(wanted, field.name)
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4, msg=field.name)


def test_image_encodings_with_fillers_run_in_torch(small, plain):
    text = torch.tensor([[1, 2, 3, 0]]), torch.tensor([[True, True, True, False]])
    with torch.inference_mode():
        encoding = plain.encode_images(images(small))
        valid = torch.ones_like(encoding.source, dtype=torch.bool)
        valid[:, 0] = False
        plain.runners = {key: run for key, run in plain.runners.items() if key[0] == 'encode_images'}
        wanted = plain.add_text(replace(encoding, valid=valid), *text).context
        graph = 'encode_text_1x4', MODALITY_SETS[0], True
        plain.runners[graph] = lambda *given: pytest.fail('the graph has no fillers')
        torch.testing.assert_close(plain.add_text(replace(encoding, valid=valid), *text).context, wanted)


@pytest.mark.parametrize(('lowers', 'dtype'), [(True, torch.float32), (False, torch.bfloat16)])
def test_a_backend_that_does_not_lower_gets_lowered_weights(small, monkeypatch, lowers, dtype):
    found = set()

    class Looking(Plain):
        def build(self, name, module, inputs):
            found.update(values.dtype for values in module.parameters())
            return super().build(name, module, inputs)

    backend = Looking()
    backend.lowers = lowers
    monkeypatch.setattr(backends, 'missing', lambda name: '')
    monkeypatch.setattr(backends, 'make', lambda name, setting: backend)
    prepare(small, 'openvino', precision='bfloat16', modality_sets=MODALITY_SETS, store=False)
    assert found == {dtype} and next(small.parameters()).dtype == torch.float32


def test_a_backend_of_another_device_does_not_serve(small, monkeypatch):
    backend = Plain()
    backend.device = 'cuda'
    monkeypatch.setattr(backends, 'missing', lambda name: '')
    monkeypatch.setattr(backends, 'make', lambda name, setting: backend)
    found, serving = prepare(small, 'openvino', modality_sets=MODALITY_SETS, store=False)
    assert found is None and 'it runs on cuda and the model is on cpu' in serving.reason and not backend.built


@pytest.mark.parametrize('store', [False, True])
def test_artefacts_are_stored_only_if_asked_for(small, monkeypatch, store):
    settings = []
    monkeypatch.setattr(backends, 'missing', lambda name: '')
    monkeypatch.setattr(backends, 'make', lambda name, setting: settings.append(setting) or Plain())
    prepare(small, 'openvino', modality_sets=MODALITY_SETS, store=store)
    folder = prepared.artefact_folder(small, 'openvino', 'float32') if store else None
    assert [(s.precision, s.threads, s.folder) for s in settings] == [('float32', 1, folder)]
