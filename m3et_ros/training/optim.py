"""AdamW as the papers use it: what decays, and which layers learn more slowly (docs/papers.md, sections 1 and 2.5).

Beside it Muon for the matrices between hidden layers (Jordan et al. 2024; torch.optim has it), which needs fewer steps.
"""

import math
import re
from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

BETAS = (0.9, 0.95)
LAYER = re.compile(r'encoder\.layers\.(\d+)\.')
STEM = re.compile(r'adapters\.(rgb|depth|semseg)\.|types$|global_embedding$')
"""What stands below the first layer: image adapters, type embeddings, global token. The word table does not belong
to it, as stage 2 is the first to see words."""


HIDDEN = re.compile(
    r'encoder\.layers\.|decoders\.\w+\.(attention|blocks)\.|gate\.|answer_head\.layers\.0\.|'
    r'adapters\.(rgb|depth)\.project\.|'
    r'(student\.)?(language\.layers|connector\.(input|layers|projector)|alignment\.(blocks|fusion))\.'
)
"""Where matrices map hidden values to hidden values; tables and outputs stay with AdamW, as Muon's authors advise."""

OPTIMISERS = ('adamw', 'muon')


class Together:
    """Several optimisers over different parameters, used as one."""

    def __init__(self, *parts: Optimizer):
        self.parts = parts

    @property
    def param_groups(self) -> list[dict]:
        """Those of all parts."""
        return [group for part in self.parts for group in part.param_groups]

    def step(self) -> None:
        """Step all parts."""
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self.parts:
            part.zero_grad()


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Say whether weight decay applies: not to biases, norms, tokens, positions, beta, A_log, D, dt bias.

    The layers mark what is more than a vector and must not decay with `_no_weight_decay`.
    """
    return parameter.dim() > 1 and not name.endswith('bias') and not getattr(parameter, '_no_weight_decay', False)


def layer_scale(name: str, *, layers: int, decay: float) -> float:
    """Return the share of the learning rate for a parameter: decay ** (layers above its own within the encoder)."""
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
) -> Together:
    """Build an optimiser over the parameters that require gradients; learning rates come from set_rate.

    Args:
        model: an M3ET, or a head, all of which learns alike.
        kind: 'adamw' for all, or 'muon' for hidden matrices and AdamW for the rest; Muon's updates are scaled to the
            size of AdamW's, so that rate and decay mean the same.
        weight_decay: of what decays.
        layer_decay: factor in (0, 1] from each encoder layer to the one below; 1 treats all alike.
        encoder_scale: factor in (0, 1] for encoder and image adapters together.
        betas: of AdamW's moments.

    Raises:
        ValueError: a factor or the kind is out of range, or this torch has no Muon.
    """
    for name, value in (('layer_decay', layer_decay), ('encoder_scale', encoder_scale)):
        if not 0 < value <= 1:
            raise ValueError(f'{name} is {value}; give a number above 0 and at most 1')
    if kind not in OPTIMISERS or (kind == 'muon' and not hasattr(torch.optim, 'Muon')):
        raise ValueError(f'the optimiser is {kind!r}; give adamw, or muon with torch 2.9 or newer')
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

    def chosen(wanted: bool) -> list[dict]:
        return [
            {'params': members, 'weight_decay': decay, 'scale': scale}
            for (hidden, decay, scale), members in groups.items()
            if hidden == wanted
        ]

    # The fused form does one pass over memory instead of ten.
    parts = [AdamW(chosen(False), lr=0.0, betas=betas, fused=True)]
    if chosen(True):
        parts.append(torch.optim.Muon(chosen(True), lr=0.0, adjust_lr_fn='match_rms_adamw'))
    return Together(*parts)


def set_rate(groups: Iterable[dict], rate: float) -> None:
    """Set the learning rate of every group of an optimiser from build_optimiser."""
    for group in groups:
        group['lr'] = rate * group['scale']


# MERGED m3et_ros/training/schedules: Learning rates as pure functions of the step, so that a resumed run needs nothing but its step.
def warm_up_cosine(step: int, *, total: int, warm_up: int, peak: float, start: float = 1e-6, end: float = 0.0) -> float:
    """Rise linearly from `start` to `peak`, then fall as half a cosine to `end` (MultiMAE; docs/papers.md, section 1).

    Args:
        step: 0 for the first step; beyond total - 1 the rate stays at `end`.
        total: steps of the whole run.
        warm_up: steps of the rise, less than total; the rate at step `warm_up` is the peak.
        peak: highest rate.
        start: rate of step 0 where there is a rise.
        end: rate that the last step would be followed by.

    Raises:
        ValueError: warm_up is not in 0..total - 1.
    """
    if not 0 <= warm_up < total:
        raise ValueError(f'warm_up is {warm_up} of {total} steps; give 0 to {total - 1}')
    if step < warm_up:
        return start + (peak - start) * step / warm_up
    passed = min(1.0, (step - warm_up) / (total - warm_up))
    return end + (peak - end) * (1 + math.cos(math.pi * passed)) / 2
