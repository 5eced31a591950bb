"""Optimisers and learning rates: AdamW as in the papers (docs/papers.md 1, 2.5), Muon, and warm-up with a cosine.

Muon serves the matrices between hidden layers (Jordan et al. 2024) and needs fewer steps. Learning
rates are pure functions of the step, so a resumed run needs only its step.
"""

import math
import re
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

BETAS = (0.9, 0.95)
LAYER = re.compile(r'encoder\.layers\.(\d+)\.')
STEM = re.compile(r'adapters\.(rgb|depth|semseg)\.|types$|global_embedding$|unmeasured$')
"""Parameters below the first layer: image adapters, type embeddings, global and unmeasured token. The word table is not
among them, because stage 2 is the first to train with words."""

HIDDEN = re.compile(
    r'encoder\.layers\.|decoders\.\w+\.(attention|cross_mlp|blocks)\.|gate\.|answer_head\.(layers\.0|look\.bare\.1)\.|'
    r'adapters\.(rgb|depth)\.project\.|'
    r'(student\.)?(language\.layers|connector\.(input|layers|projector)|alignment\.(blocks|fusion))\.'
)
"""Parameters that map hidden values to hidden values. Tables and outputs stay with AdamW, as Muon's authors advise."""

OPTIMISERS = ('adamw', 'muon')
# torch's coefficients and steps of the iteration (Jordan et al. 2024).
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


def orthogonalised(update: Tensor) -> Tensor:
    """Bring the singular values of a matrix near 1, by Newton-Schulz steps, in the precision of the matrix.

    Args:
        update: (rows, columns).

    Returns:
        (rows, columns); singular values are between about 0.7 and 1.2, those of a zero matrix 0.
    """
    a, b, c = NEWTON_SCHULZ
    x = update.mT if len(update) > update.shape[1] else update
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if len(update) > update.shape[1] else x


class Muon(Optimizer):
    """Muon with Nesterov momentum (Jordan et al. 2024), its updates scaled to the size of AdamW's.

    As torch.optim.Muon, but a CPU orthogonalises in float32: without units for bfloat16 it takes ten times as long for
    that, half of a training step.

    Args:
        groups: parameter groups of matrices, with `weight_decay`.
    """

    def __init__(self, groups: list[dict]):
        super().__init__(groups, {'lr': 0.0, 'momentum': 0.95})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Do one step."""
        for group in self.param_groups:
            for parameter in group['params']:
                if parameter.grad is None:
                    continue
                gradient, state = parameter.grad, self.state[parameter]
                if 'momentum_buffer' not in state:
                    state['momentum_buffer'] = torch.zeros_like(gradient)
                momentum = state['momentum_buffer'].lerp_(gradient, 1 - group['momentum'])
                update = gradient.lerp(momentum, group['momentum'])
                size = 0.2 * math.sqrt(max(update.shape))
                update = orthogonalised(update if update.device.type == 'cpu' else update.bfloat16())
                parameter.mul_(1 - group['lr'] * group['weight_decay'])
                parameter.add_(update, alpha=-group['lr'] * size)


class CombinedOptimizer:
    """Several optimisers over different parameters, used as one."""

    def __init__(self, *parts: Optimizer):
        self.parts = parts

    @property
    def param_groups(self) -> list[dict]:
        """Parameter groups of all parts."""
        return [group for part in self.parts for group in part.param_groups]

    def step(self) -> None:
        """Do one step of all parts."""
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        """Clear the gradients of all parameters."""
        for part in self.parts:
            part.zero_grad()


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Return whether weight decay applies: not to biases, norms, tokens, positions, beta, A_log, D or the dt bias.

    Layers mark parameters of two or more dimensions that must not decay with `_no_weight_decay`.
    """
    return parameter.dim() > 1 and not name.endswith('bias') and not getattr(parameter, '_no_weight_decay', False)


def layer_scale(name: str, *, layers: int, decay: float) -> float:
    """Return the learning-rate factor of a parameter: decay ** (number of encoder layers above its own)."""
    if STEM.match(name):
        return decay**layers
    found = LAYER.match(name)
    return decay ** (layers - 1 - int(found[1])) if found else 1.0


def build_optimiser(
    model: nn.Module,
    *,
    kind: str = 'adamw',
    weight_decay: float,
    layer_decay: float = 1.0,
    encoder_scale: float = 1.0,
    betas: tuple[float, float] = BETAS,
) -> CombinedOptimizer:
    """Build an optimiser over the parameters that require gradients; set_rate sets its learning rates.

    Args:
        model: an M3ET, or a head without an encoder, all of which learns at one rate.
        kind: 'adamw' for all parameters, or 'muon' for hidden matrices and AdamW for the rest. Muon's updates are
            scaled to the size of AdamW's, so that rate and decay mean the same.
        weight_decay: weight decay of the parameters that decay.
        layer_decay: factor in (0, 1] from each encoder layer to the one below; 1 gives all the same rate.
        encoder_scale: factor in (0, 1] for encoder and image adapters together.
        betas: decay rates of AdamW's moments.

    Raises:
        ValueError: a factor or the kind is out of range.
    """
    for name, value in (('layer_decay', layer_decay), ('encoder_scale', encoder_scale)):
        if not 0 < value <= 1:
            raise ValueError(f'{name} is {value}; give a number above 0 and at most 1')
    if kind not in OPTIMISERS:
        raise ValueError(f'the optimiser is {kind!r}; give one of {", ".join(OPTIMISERS)}')
    groups: dict[tuple[bool, float, float], list[nn.Parameter]] = {}
    layers = len(model.encoder.layers) if hasattr(model, 'encoder') else 0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            scale = layer_scale(name, layers=layers, decay=layer_decay)
            if STEM.match(name) or name.startswith('encoder.'):
                scale *= encoder_scale
            hidden = kind == 'muon' and bool(HIDDEN.match(name)) and parameter.dim() == 2 and decays(name, parameter)
            decay = weight_decay if decays(name, parameter) else 0.0
            groups.setdefault((hidden, decay, scale), []).append(parameter)

    def groups_of(hidden_matrices: bool) -> list[dict]:
        return [
            {'params': members, 'weight_decay': decay, 'scale': scale}
            for (hidden, decay, scale), members in groups.items()
            if hidden == hidden_matrices
        ]

    # The fused form does one pass over memory instead of ten.
    parts = [AdamW(groups_of(False), lr=0.0, betas=betas, fused=True)]
    if groups_of(True):
        parts.append(Muon(groups_of(True)))
    return CombinedOptimizer(*parts)


def set_rate(groups: Iterable[dict], rate: float) -> None:
    """Set the learning rate of every group of an optimiser from build_optimiser."""
    for group in groups:
        group['lr'] = rate * group['scale']


def warm_up_cosine(step: int, *, total: int, warm_up: int, peak: float, start: float = 1e-6, end: float = 0.0) -> float:
    """Rise linearly from `start` to `peak`, then fall as half a cosine to `end` (MultiMAE; docs/papers.md 1).

    Args:
        step: 0 for the first step; from step `total` on the rate stays at `end`.
        total: steps of the whole run.
        warm_up: steps of the rise, fewer than total; the rate at step `warm_up` is the peak.
        peak: highest rate.
        start: rate of step 0 if there is a rise.
        end: rate after the last step.

    Raises:
        ValueError: warm_up is not in 0..total - 1.
    """
    if not 0 <= warm_up < total:
        raise ValueError(f'warm_up is {warm_up} of {total} steps; give 0 to {total - 1}')
    if step < warm_up:
        return start + (peak - start) * step / warm_up
    passed = min(1.0, (step - warm_up) / (total - warm_up))
    return end + (peak - end) * (1 + math.cos(math.pi * passed)) / 2
