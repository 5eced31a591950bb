"""ML-Mamba and EMMA by their released names: every tensor finds its place, and sizes come from shapes."""

from dataclasses import replace

import pytest
import torch
from cobra_folder import emma_tensors, ml_mamba_tensors

from m3et_ros.models.vlm.connectors import ConnectorConfig
from m3et_ros.models.vlm.import_cobra import cobra_tensors, is_ml_mamba
from m3et_ros.models.vlm.import_weights import fill
from m3et_ros.models.vlm.ml_mamba import PUBLISHED, MLMamba
from m3et_ros.models.vlm.model import VisualLanguageModel


def test_every_part_of_ml_mamba_finds_its_place():
    tensors = ml_mamba_tensors()
    renamed, config = cobra_tensors(tensors)
    assert config.connector == ConnectorConfig(
        kind='advanced', d_vision=28, d=32, rows=27, cols=27, layers=2, N=8, P=8, chunk=256, drop_path=0.0
    )
    assert config.language.schedule == 'MM' and config.language.tied and config.language.vocabulary == 336
    model = fill(MLMamba(config), renamed)
    layer = model.connector.layers[1]
    scan = 'bidirectional_mamba.layers.1.'
    for ours, theirs in (
        (model.connector.input.bias, 'mlp.0.bias'),
        (layer.mixer.conv1d.weight, f'{scan}mixer.conv1d.weight'),
        (layer.mixer.others[0].conv1d.weight, f'{scan}mixer.conv1d_b.weight'),
        (layer.mixer.others[0].conv1d.bias, f'{scan}mixer.conv1d_b.bias'),
        (layer.mixer.A_log, f'{scan}mixer.A_log'),
        (layer.mixer.others[0].A_log, f'{scan}mixer.A_log_b'),
        (layer.mixer.others[0].dt_bias, f'{scan}mixer.dt_bias_b'),
        (layer.mixer.others[0].D, f'{scan}mixer.D_b'),
        (layer.norm.bias, f'{scan}norm.bias'),
        (layer.mlp.w3.weight, f'{scan}mlp.w3.weight'),
        (model.connector.norm.weight, 'bidirectional_mamba.norm_f.weight'),
        (model.connector.projector[4].bias, 'projector.projector.4.bias'),
        (model.language.layers[1].mixer.D, 'llm_backbone.backbone.layers.1.mixer.D'),
    ):
        assert torch.equal(ours, tensors[theirs]), theirs
    assert is_ml_mamba(list(tensors)) and not is_ml_mamba(list(emma_tensors()))


def test_every_part_of_emma_finds_its_place_and_its_training_head_is_left_out():
    tensors = emma_tensors()
    head = {'dec_pred.weight': torch.ones(3), 'base_dec': torch.ones(1), 'norm_4.bias': torch.ones(1)}
    renamed, config = cobra_tensors({f'model.{name}': value for name, value in (tensors | head).items()})
    assert (config.connector.kind, config.connector.d_vision, config.language.schedule) == ('mlp', 28, 'OO')
    assert (config.language.N, config.language.expand, config.language.tied) == (16, 2, True)
    model = fill(VisualLanguageModel(config), renamed)
    assert torch.equal(model.connector.projector[2].weight, tensors['projector.projector.2.weight'])
    name = 'llm_backbone.llm.backbone.layers.1.mixer.x_proj.weight'
    assert torch.equal(model.language.layers[1].mixer.x_proj.weight, tensors[name])


def test_the_published_connector_has_the_shapes_of_its_release():
    tensors = ml_mamba_tensors()
    small = cobra_tensors(tensors)[1].connector
    assert replace(PUBLISHED.connector, drop_path=0.0, d_vision=28, d=32, N=8, P=8) == small


def test_incomplete_and_foreign_checkpoints_are_refused():
    for change, words in (
        ({'mlp.1.weight': torch.ones(1)}, r'a tensor mlp\.1\.weight, which ML-Mamba and EMMA have no place for'),
        ({'llm_backbone.backbone.embedding.weight': None}, r'no tensor for backbone\.embedding\.weight'),
        ({'projector.projector.4.weight': None, 'mlp.0.weight': None}, r'connector\.projector\.4\.weight'),
    ):
        tensors = {name: value for name, value in (ml_mamba_tensors() | change).items() if value is not None}
        with pytest.raises(ValueError, match=words):
            cobra_tensors(tensors)
