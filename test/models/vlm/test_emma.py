"""EMMA: the head costs nothing at inference, gradients reach the language layers, totals of the paper."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from m3et_ros.models.vlm.connectors import ConnectorConfig
from m3et_ros.models.vlm.emma import EMMA, PUBLISHED, TINY, EMMAConfig
from m3et_ros.models.vlm.generation import Sampling
from m3et_ros.models.vlm.model import VisualLanguageModel
from m3et_ros.training.talk import alignment_loss


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Operations(TorchDispatchMode):
    """Records every operation with the shapes of its arguments."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        shapes = [tuple(value.shape) for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        self.found.append((str(func), shapes))
        return func(*args, **(kwargs or {}))


def graph(model: torch.nn.Module, features: torch.Tensor, ids: torch.Tensor) -> list:
    """Every operation of a forward pass, in their order."""
    with torch.no_grad(), Operations() as operations:
        model(features, ids)
    return operations.found


def test_inference_is_the_same_graph_with_and_without_the_head():
    features, ids = torch.randn(1, 81, 48), torch.randint(0, 512, (1, 4))
    full, bare = EMMA(TINY).eval(), EMMA(TINY, training_head=False).eval()
    weights = {name: value for name, value in full.state_dict().items() if not name.startswith('alignment.')}
    bare.load_state_dict(weights)
    plain = VisualLanguageModel(TINY.model).eval()
    plain.load_state_dict(weights)
    graph(plain, features, ids)  # the first run of all compares kernels
    operations = graph(full, features, ids)
    assert len(operations) > 100
    assert operations == graph(bare, features, ids) == graph(plain, features, ids)
    sampling = Sampling(max_tokens=4)
    answers = [
        [ids.tolist() for ids, _ in model.generate(features, ids, sampling=sampling)] for model in (full, bare, plain)
    ]
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize('target', ['pixels', 'patch', 'deep'])
@pytest.mark.parametrize('released', [False, True])
def test_the_loss_reaches_layers_and_connector(target, released):
    model = EMMA(replace(TINY, alignment=replace(TINY.alignment, target=target, released_order=released)))
    if target == 'patch':
        model.alignment.set_patch_embedding(torch.randn(48, 3, 4, 4), torch.randn(48))
    features, ids = torch.randn(2, 81, 48), torch.randint(0, 512, (2, 4))
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    output, predicted = model.aligned(features, ids, mask=mask)
    assert (output.logits - model(features, ids, mask=mask).logits).abs().max() < 1e-6
    wanted = model.alignment.targets(images=torch.randn(2, 3, 36, 36), features=features)
    alignment_loss(predicted, wanted).backward()
    for part in (model.connector, model.language.layers):
        assert all(values.grad is not None and values.grad.any() for values in part.parameters())


def test_words_cannot_change_the_prediction():
    """Visual tokens come first and the layers are causal, so that the prediction depends on the image alone."""
    model, features = EMMA(TINY).eval(), torch.randn(1, 81, 48)
    one, two = (model.aligned(features, torch.randint(0, 512, (1, 5)))[1] for _ in range(2))
    assert torch.allclose(one, two, atol=1e-6)


def test_totals_of_the_published_size():
    with torch.device('meta'):
        model = EMMA(PUBLISHED)
        total = sum(p.numel() for p in model.parameters())
        connector = 18_948_608 + 22_284_800 + 6_556_160
        assert total == 2_702_599_680 + connector + 373_672_512
        assert sum(p.numel() for p in EMMA(PUBLISHED, training_head=False).parameters()) == total - 373_672_512


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match='built without its training head'):
        EMMA(TINY, training_head=False).aligned(torch.zeros(1, 81, 48), torch.ones(1, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r'taps is \(0, 4\); give indices below 4'):
        EMMAConfig(TINY.model, replace(TINY.alignment, taps=(0, 4)))
    with pytest.raises(ValueError, match='alignment.rows is 6; give 9, as in the model'):
        EMMAConfig(TINY.model, replace(TINY.alignment, rows=6))
    with pytest.raises(ValueError, match='the grid is 10 x 9'):
        EMMAConfig(replace(TINY.model, connector=ConnectorConfig(rows=10)), replace(TINY.alignment, rows=10))


@pytest.mark.parametrize('name', ['d', 'rows', 'cols'])
def test_head_and_model_have_the_same_sizes(name):
    value = {'d': 32, 'rows': 18, 'cols': 18}[name]
    wanted = {'d': 64, 'rows': 9, 'cols': 9}[name]
    with pytest.raises(ValueError, match=f'alignment.{name} is {value}; give {wanted}, as in the model'):
        EMMAConfig(TINY.model, replace(TINY.alignment, **{name: value}))
    assert EMMAConfig(TINY.model, replace(TINY.alignment, taps=(3,))).alignment.taps == (3,)
