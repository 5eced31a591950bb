"""Draw of the tokens that stay visible in masked pre-training (MultiMAE; docs/papers.md 2.4).

Symbols: B batch, M modalities, n_m tokens of modality m, T = sum of n_m, K visible tokens of a sample.
Token ids run over the modalities in the order given: rgb raster, depth raster, semseg raster, text.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

SHARE = 0.30
"""Share of all tokens that stays visible by default; the paper masks 70 %."""


@dataclass(frozen=True)
class Masking:
    """One draw of visible tokens, as ids and as masks."""

    # Visible token ids of each sample, (B, K) int64, ascending.
    visible: Tensor
    # Modality to (B, n_m) bool, True where the token is visible.
    masks: dict[str, Tensor]


def visible_total(counts: Mapping[str, int], *, share: float = SHARE) -> int:
    """Return K = round(share * T), at least 1; 176 of 588, 118 of 392 and 186 of 620 with the default share."""
    return max(1, round(share * sum(counts.values())))


def draw(
    counts: Mapping[str, int],
    *,
    batch: int,
    total: int | None = None,
    alpha: float = 1.0,
    subsets: bool = False,
    valid: Mapping[str, Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Masking:
    """Draw visible tokens: shares per sample from a Dirichlet, then tokens at random within each modality.

    Args:
        counts: modality to its number of tokens n_m, in token order.
        batch: number of samples B.
        total: visible tokens K of every sample; None = visible_total(counts). MultiMAE takes 98 of 588.
        alpha: concentration of the symmetric Dirichlet; above 0.
        subsets: first choose a non-empty subset of modalities uniformly, and give the others almost no share.
        valid: modality to (B, n_m) bool; tokens that are False (pads of text) are never visible.
        generator: source of randomness on the CPU; None = the global one.

    Returns:
        A Masking with exactly K visible tokens in every sample; a modality that is offered more tokens than it has
        passes the excess on to the others.

    Raises:
        ValueError: alpha is not above 0, or K is not in 1..the tokens that every sample has.
    """
    if not alpha > 0:
        raise ValueError(f'alpha is {alpha}; give a number above 0')
    total = visible_total(counts) if total is None else total
    usable = [_usable(name, n, batch, valid) for name, n in counts.items()]
    capacity = torch.stack([mask.sum(1) for mask in usable], 1)
    fewest = int(capacity.sum(1).min())
    if not 1 <= total <= fewest:
        raise ValueError(f'total is {total}; give 1 to {fewest}, the tokens that every sample has')
    shares = _shares(batch, len(counts), alpha, subsets, generator)
    quota = allocate(shares, capacity, total)
    masks = []
    for m, mask in enumerate(usable):
        noise = torch.rand(mask.shape, generator=generator).masked_fill(~mask, 2.0)
        masks.append(noise.argsort(1).argsort(1) < quota[:, m, None])
    ids = torch.cat(masks, 1).nonzero()[:, 1].view(batch, total)
    return Masking(visible=ids, masks=dict(zip(counts, masks, strict=True)))


def allocate(shares: Tensor, capacity: Tensor, total: int) -> Tensor:
    """Split `total` tokens among the modalities by shares, within capacity.

    Args:
        shares: (B, M) float64, non-negative, some positive in every row.
        capacity: (B, M) int64; every row sums to at least total.
        total: tokens of every row.

    Returns:
        (B, M) int64, rows that sum to total exactly; the largest remainders receive what rounding leaves over.
    """
    room = capacity.double()
    shares = shares.clamp(min=1e-12)
    quota = torch.zeros_like(room)
    for _ in range(capacity.shape[1]):
        open_shares = shares * (quota < room)
        left = total - quota.sum(1, keepdim=True)
        offer = quota + left * open_shares / open_shares.sum(1, keepdim=True).clamp(min=1e-300)
        quota = torch.minimum(offer, room)
    whole = quota.floor().long()
    while (missing := total - whole.sum(1)).any():
        fraction = torch.where(whole < capacity, quota - whole, -torch.inf)
        whole[missing > 0, fraction.argmax(1)[missing > 0]] += 1
    return whole


def _usable(name: str, n: int, batch: int, valid: Mapping[str, Tensor] | None) -> Tensor:
    """Return which tokens of a modality may be visible, (B, n) bool."""
    if not valid or name not in valid:
        return torch.ones(batch, n, dtype=torch.bool)
    if valid[name].shape != (batch, n):
        raise ValueError(f'valid[{name!r}] is {tuple(valid[name].shape)}; give ({batch}, {n})')
    return valid[name].cpu()


def _shares(batch: int, modalities: int, alpha: float, subsets: bool, generator: torch.Generator | None) -> Tensor:
    """Draw the shares of the modalities, (B, M) float64."""
    concentration = torch.full((batch, modalities), alpha, dtype=torch.float64)
    if subsets:
        chosen = torch.randint(1, 2**modalities, (batch, 1), generator=generator)
        member = (chosen >> torch.arange(modalities)) & 1
        concentration = torch.where(member.bool(), concentration, 1e-5)
    # torch.distributions knows only the global generator, so that one is seeded from ours and then restored.
    seed = int(torch.randint(2**62, (1,), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.distributions.Dirichlet(concentration).sample()


def visible_mask(visible: Tensor, batch: int, total: int) -> Tensor:
    """Return visible ids as a mask, (B, tokens) bool.

    Args:
        visible: ids (B, K) int64, distinct per sample.
        batch: number of samples B.
        total: number of tokens.

    Raises:
        ValueError: `visible` has another shape.
    """
    if visible.dim() != 2 or len(visible) != batch or not 1 <= visible.shape[1] <= total:
        raise ValueError(f'visible is {tuple(visible.shape)}; give ({batch}, 1 to {total}) token ids')
    return torch.zeros(batch, total, dtype=torch.bool, device=visible.device).scatter_(1, visible, True)
