"""AdamW as the papers use it: what decays, and which layers learn more slowly (papers.md, sections 1 and 2.5)."""

import re
from collections.abc import Iterable

from torch import nn
from torch.optim import AdamW

BETAS = (0.9, 0.95)
LAYER = re.compile(r'encoder\.layers\.(\d+)\.')
STEM = re.compile(r'adapters\.(rgb|depth|semseg)\.|types$|global_embedding$')
"""What stands below the first layer: image adapters, type embeddings, global token. The word table does not belong
to it, as stage 2 is the first to see words."""


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Say whether weight decay applies: not to biases, norms, tokens, positions, beta, A_log, D, dt bias.

    The layers mark what is more than a vector and must not decay with `_no_weight_decay`.
    """
    return parameter.dim() > 1 and not name.endswith('bias') and not getattr(parameter, '_no_weight_decay', False)


def layer_scale(name: str, *, layers: int, decay: float) -> float:
    """Return the share of the learning rate for a parameter: decay ** (layers above its own within the encoder)."""
    if STEM.match(name):
        return decay ** layers
    found = LAYER.match(name)
    return decay ** (layers - 1 - int(found[1])) if found else 1.0


def adamw(model: nn.Module, *, weight_decay: float, layer_decay: float = 1.0, encoder_scale: float = 1.0,
          betas: tuple[float, float] = BETAS) -> AdamW:
    """Build AdamW over the parameters that require gradients; learning rates come from set_rate.

    Args:
        model: an M3ET.
        weight_decay: of what decays.
        layer_decay: factor in (0, 1] from each encoder layer to the one below; 1 treats all alike.
        encoder_scale: factor in (0, 1] for encoder and image adapters together.
        betas: of the moments.

    Raises:
        ValueError: a factor is out of range.
    """
    for name, value in (('layer_decay', layer_decay), ('encoder_scale', encoder_scale)):
        if not 0 < value <= 1:
            raise ValueError(f'{name} is {value}; give a number above 0 and at most 1')
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    layers = len(model.encoder.layers)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            scale = layer_scale(name, layers=layers, decay=layer_decay)
            if STEM.match(name) or name.startswith('encoder.'):
                scale *= encoder_scale
            groups.setdefault((weight_decay if decays(name, parameter) else 0.0, scale), []).append(parameter)
    # The fused form does one pass over memory instead of ten.
    return AdamW([{'params': members, 'weight_decay': decay, 'scale': scale}
                  for (decay, scale), members in groups.items()], lr=0.0, betas=betas, fused=True)


def set_rate(groups: Iterable[dict], rate: float) -> None:
    """Set the learning rate of every group of an optimiser from adamw."""
    for group in groups:
        group['lr'] = rate * group['scale']
