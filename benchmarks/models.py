"""Measure named sizes against MultiMAE at equal visible tokens: encoder and decoders of colour, depth and segmentation.

    python benchmarks/models.py --multimae PATH     # writes benchmarks/results/models.json

PATH is a check-out of MultiMAE's code (https://github.com/EPFL-VILAB/MultiMAE, CC BY-NC 4.0, never part of this
project; it needs einops). Without it the other side is our own model with MultiMAE's 12 Transformer blocks, width 768
and decoders of two blocks, and the result says so. Both sides use torch's scaled_dot_product_attention, the same image
tokens and random weights, which do not affect the time. The figures are for float32 in eager torch. --fast adds those
through OpenVINO, if installed, in bfloat16 where the CPU has AVX-512 and else in float32; its graphs are first compared
with eager float32. The cases may be measured one after another: the file keeps those that are not asked for.
"""

import json
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timing import RESULTS, denormals_allowed, environment, error, finish, interleaved, one_thread, options, ratios
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.cli.output import print_status
from m3et_ros.models.m3et.config import IMAGE_MODALITIES, M3ETConfig
from m3et_ros.models.m3et.sizes import BASE, MULTIMAE_DECODERS, SIZES, build
from m3et_ros.runtime.backends import Setting, make, missing
from m3et_ros.runtime.backends.check import TOLERANCES
from m3et_ros.runtime.kernels import use_built

SMALL = ('base', 'base_ssd', 'compact')


class Ours(nn.Module):
    """A named size with the modalities and tasks of MultiMAE."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, rgb: Tensor, depth: Tensor, semseg: Tensor, visible: Tensor | None = None) -> tuple[Tensor, ...]:
        """Predict colour, depth and segmentation from images and the ids of visible tokens (None = all)."""
        inputs = dict(zip(IMAGE_MODALITIES, (rgb, depth, semseg), strict=True))
        predictions = self.model(inputs, visible=visible, tasks=IMAGE_MODALITIES)
        return tuple(predictions[task] for task in IMAGE_MODALITIES)


class Theirs(nn.Module):
    """MultiMAE with the given visible tokens."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, rgb: Tensor, depth: Tensor, semseg: Tensor, visible: Tensor | None = None) -> tuple[Tensor, ...]:
        """Predict colour, depth and segmentation as Ours does."""
        inputs = dict(zip(IMAGE_MODALITIES, (rgb, depth, semseg), strict=True))
        if visible is None:
            n = (rgb.shape[-1] // 16) ** 2
            none_hidden = torch.zeros(len(rgb), n, dtype=torch.long)
            predictions, _ = self.model(inputs, task_masks=dict.fromkeys(IMAGE_MODALITIES, none_hidden))
        else:
            # MultiMAE counts the tokens of given masks over the whole batch, which shows too much of each sample.
            # Masks that replace its random ones are counted per sample.
            self.model.generate_random_masks = lambda *_, **__: self._masks(visible, rgb.shape[-1])
            predictions, _ = self.model(inputs, mask_inputs=True, num_encoded_tokens=visible.shape[1])
        return tuple(predictions[task] for task in IMAGE_MODALITIES)

    @staticmethod
    def _masks(visible: Tensor, side: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Return masks, ids to keep and ids to restore, as MultiMAE draws them, from ids of visible tokens."""
        n = (side // 16) ** 2
        hidden = torch.ones(len(visible), 3 * n, dtype=torch.long).scatter_(1, visible, 0)
        shuffled = hidden.argsort(dim=1, stable=True)
        masks = dict(zip(IMAGE_MODALITIES, hidden.split(n, 1), strict=True))
        return masks, shuffled[:, : visible.shape[1]], shuffled.argsort(1)


def multimae(path: Path) -> nn.Module:
    """Build the published model with three decoders from its own code, with torch's attention kernel.

    Raises:
        SystemExit: the code is missing or cannot be imported.
    """
    if not (path / 'multimae' / 'multimae.py').is_file():
        raise SystemExit(f'{path} is not a check-out of MultiMAE: multimae/multimae.py is missing')
    # Its package `utils` imports training libraries; the models need only one of its decorators.
    registry = types.ModuleType('utils.registry')
    registry.register_model = lambda function: function
    sys.modules |= {'utils': types.ModuleType('utils'), 'utils.registry': registry}
    sys.path.insert(0, str(path))
    try:
        from multimae import multimae_utils
        from multimae.input_adapters import PatchedInputAdapter, SemSegInputAdapter
        from multimae.multimae import MultiMAE
        from multimae.output_adapters import SpatialOutputAdapter
    except ImportError as problem:
        raise SystemExit(f'the code in {path} cannot be imported ({problem}): pip install einops') from problem

    def attention(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    multimae_utils.Attention.forward = attention
    channels = {'rgb': (3, 1), 'depth': (1, 1), 'semseg': (BASE.classes, 4)}
    inputs = {
        name: PatchedInputAdapter(num_channels=c, stride_level=stride, patch_size_full=16)
        for name, (c, stride) in channels.items()
        if name != 'semseg'
    }
    inputs['semseg'] = SemSegInputAdapter(
        num_classes=BASE.classes, dim_class_emb=64, interpolate_class_emb=False, stride_level=4, patch_size_full=16
    )
    outputs = {
        name: SpatialOutputAdapter(
            num_channels=c,
            stride_level=stride,
            patch_size_full=16,
            dim_tokens=256,
            depth=2,
            num_heads=8,
            task=name,
            context_tasks=list(channels),
            use_task_queries=True,
            use_xattn=True,
        )
        for name, (c, stride) in channels.items()
    }
    return MultiMAE(inputs, outputs, num_global_tokens=1, dim_tokens=768, depth=12, num_heads=12)


def twin() -> nn.Module:
    """Build our own model in MultiMAE's sizes."""
    return build(
        replace(
            BASE,
            name='twin',
            schedule='T' * 12,
            modalities=IMAGE_MODALITIES,
            tasks=IMAGE_MODALITIES,
            **MULTIMAE_DECODERS,
        )
    )


def sides(path: Path | None, sizes: Sequence[str]) -> tuple[dict[str, nn.Module], str]:
    """Return all models by name, the other side first, and a description of the other side."""
    torch.manual_seed(0)
    other = Theirs(multimae(path)) if path else Ours(twin())
    found = {'multimae' if path else 'twin': other}
    for name in sizes:
        found[name] = Ours(build(replace(SIZES[name], modalities=IMAGE_MODALITIES, tasks=IMAGE_MODALITIES, answers=0)))
    what = "MultiMAE's own code, with torch's attention kernel" if path else "our twin in MultiMAE's sizes"
    return {name: model.eval() for name, model in found.items()}, what


def images(batch: int, config: M3ETConfig = BASE) -> tuple[Tensor, Tensor, Tensor]:
    """Return random colour, depth and classes."""
    rng = torch.Generator().manual_seed(0)
    S, s = config.image_size, config.semseg_size
    return (
        torch.randn(batch, 3, S, S, generator=rng),
        torch.randn(batch, 1, S, S, generator=rng),
        torch.randint(config.classes, (batch, s, s), generator=rng),
    )


def visible_ids(tokens: int, batch: int) -> Tensor | None:
    """Return the ids of the visible tokens (B, tokens), the same for both sides; None = all."""
    total = 3 * BASE.image_tokens
    if tokens >= total:
        return None
    ids = torch.randperm(total, generator=torch.Generator().manual_seed(tokens))[:tokens].sort().values
    return ids.expand(batch, -1)


def agreement(models: dict[str, nn.Module]) -> dict[str, float]:
    """Return the largest difference of each of our models from its own float64, with 98 visible tokens."""
    given, visible, found = images(1), visible_ids(98, 1), {}
    # Not in inference mode: weights converted there could not be exported later.
    with torch.no_grad():
        for name, model in models.items():
            if isinstance(model, Ours):
                wanted = model.double()(*(t.double() if t.is_floating_point() else t for t in given), visible)
                found[name] = max(error(f, w) for f, w in zip(model.float()(*given, visible), wanted, strict=True))
                if not found[name] < 1e-3:
                    raise SystemExit(f'{name} is off by {found[name]:.1e} from float64; nothing is timed')
    return {name: float(f'{value:.1e}') for name, value in found.items()}


class Shown(nn.Module):
    """A model with fixed visible tokens, which are a part of its graph."""

    def __init__(self, model: nn.Module, visible: Tensor | None):
        super().__init__()
        self.model, self.visible = model, visible

    def forward(self, rgb: Tensor, depth: Tensor, semseg: Tensor) -> tuple[Tensor, ...]:
        """Predict as Ours and Theirs do."""
        return self.model(rgb, depth, semseg, self.visible)


def fast(
    models: dict[str, nn.Module], precision: str, given: tuple[Tensor, ...], visible: Tensor | None
) -> tuple[dict[str, Callable], dict[str, float]]:
    """Build OpenVINO graphs for one batch; also return their difference from eager float32."""
    backend = make('openvino', Setting(precision, 1, None))
    work, errors = {}, {}
    for name, model in models.items():
        print_status(f'{name} is being built for OpenVINO')
        with denormals_allowed():
            run = backend.build(name, Shown(model, visible), given)
        with torch.inference_mode():
            errors[name] = max(error(f, w) for f, w in zip(run(*given), model(*given, visible), strict=True))
        if not errors[name] < TOLERANCES[precision]:
            raise SystemExit(f'{name} through OpenVINO is off by {errors[name]:.1e}; nothing is timed')
        work[name] = lambda run=run: run(*given)
    return work, {name: float(f'{value:.1e}') for name, value in errors.items()}


def main() -> None:
    """Measure and write the figures."""
    parser = options(__doc__, rounds=7)
    parser.add_argument('--multimae', type=Path, help="check-out of MultiMAE's code")
    parser.add_argument('--sizes', nargs='+', choices=SMALL, default=SMALL, help='sizes to measure')
    parser.add_argument('--tokens', type=int, nargs='+', default=(98, 176, 588))
    parser.add_argument('--batch', type=int, nargs='+', default=(1, 8))
    parser.add_argument('--fast', action='store_true', help='through OpenVINO, too')
    asked = parser.parse_args()
    if asked.fast and (reason := missing('openvino')):
        raise SystemExit(reason)
    one_thread()
    use_built()
    models, what = sides(asked.multimae, asked.sizes)
    base = next(iter(models))
    precision = 'bfloat16' if environment()['avx512_f'] else 'float32'
    path = asked.results or RESULTS / 'models.json'
    earlier = json.loads(path.read_text()) if path.is_file() else {}
    found: dict[str, Any] = {
        'rounds': asked.rounds,
        'other_side': what,
        'cases': earlier.get('cases', {}),
        'parameters': earlier.get('parameters', {})
        | {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()},
        'error_to_float64': earlier.get('error_to_float64', {}) | agreement(models),
    }
    for batch in asked.batch:
        for tokens in asked.tokens:
            given, visible = images(batch), visible_ids(tokens, batch)
            case = f'{tokens} tokens, batch {batch}, float32 eager'
            with torch.inference_mode():
                ms = interleaved(
                    {name: partial(model, *given, visible) for name, model in models.items()}, asked.rounds, case
                )
            found['cases'][case] = {'cpu_ms': ms, 'times_as_fast': ratios(ms, base)}
            if asked.fast:
                work, errors = fast(models, precision, given, visible)
                case = case.replace('float32 eager', f'{precision} OpenVINO')
                ms = interleaved(work, asked.rounds, case)
                found['cases'][case] = {'cpu_ms': ms, 'times_as_fast': ratios(ms, base), 'error': errors}
    finish('models', found, path)


if __name__ == '__main__':
    main()
