"""Measure the scans of Mamba-2 and Mamba-1, forward and backward, against the published listing and plain loops.

    m3et build kernels; python benchmarks/ssd.py            # writes benchmarks/results/ssd.json

Mamba-2: `listing` is the minimal SSD of the paper (Dao and Gu 2024, section 6, listing 1), written here from its
formulas with B and C repeated for every head, chunks of 64, and einsum; `chunked` is ours in torch, `native` ours in
C++, and with --compile `compiled` is the chunked form through torch.compile. Mamba-1: `loop` takes one step after the
other; `exp_first` is the form of `transformers`; `cumsum` is the closed form over chunks of 16, which set the goals;
`blocked` is ours in torch, `native` ours in C++. Values and gradients of every variant are first compared with float64.
"""

from collections.abc import Callable

import torch
from timing import error, finish, interleaved, one_thread, options, ratios
from torch import Tensor
from torch.nn import functional as F

from m3et_ros.ops import native
from m3et_ros.ops.selective_scan import selective_scan_blocked, selective_scan_native, selective_scan_reference
from m3et_ros.ops.ssd import ssd_chunked, ssd_native, ssd_reference
from m3et_ros.runtime.kernels import use_built

TOLERANCE = 5e-4
"""Largest error against float64 as a share of the largest value; the gradient of A is a small sum of large parts."""


def listing(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *, chunk: int = 64) -> tuple[Tensor, Tensor]:
    """Compute the published minimal listing: segment sums, four einsums, B and C repeated for each head."""
    B, C = (t.repeat_interleave(x.shape[2] // B.shape[2], 2) for t in (B, C))
    missing = -x.shape[1] % chunk
    length = x.shape[1]
    X, dA, B, C = (
        F.pad(t, (0, 0) * (t.dim() - 2) + (0, missing)).unflatten(1, (-1, chunk))
        for t in (x * dt[..., None], dt * A, B, C)
    )
    dA = dA.permute(0, 3, 1, 2)  # (Bt, H, c, Q)
    total = dA.cumsum(-1)
    diagonal = torch.einsum('bclhn,bcshn,bhcls,bcshp->bclhp', C, B, segments(dA).exp(), X)
    states = torch.einsum('bclhn,bhcl,bclhp->bchpn', B, (total[..., -1:] - total).exp(), X)
    states = torch.cat([torch.zeros_like(states[:, :1]), states], 1)
    between = segments(F.pad(total[..., -1], (1, 0))).exp()
    states = torch.einsum('bhzc,bchpn->bzhpn', between, states)
    states, last = states[:, :-1], states[:, -1]
    earlier = torch.einsum('bclhn,bchpn,bhcl->bclhp', C, states, total.exp())
    return (diagonal + earlier).flatten(1, 2)[:, :length], last


def segments(x: Tensor) -> Tensor:
    """Return the sums of x between each two positions, -inf above the diagonal: (..., T) -> (..., T, T)."""
    T = x.shape[-1]
    x = x[..., None].expand(*x.shape, T)
    x = x.masked_fill(~torch.ones(T, T, dtype=torch.bool).tril(-1), 0).cumsum(-2)
    return x.masked_fill(~torch.ones(T, T, dtype=torch.bool).tril(), -torch.inf)


def exp_first(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """Compute Mamba-1 with all decays at once and then a loop, as `transformers` does without CUDA."""
    decay = torch.exp(dt[..., None] * A)
    write = (dt * x)[..., None] * B[:, :, None]
    h, outputs = torch.zeros_like(write[:, 0]), []
    for a, w, c in zip(decay.unbind(1), write.unbind(1), C.unbind(1), strict=True):
        h = a * h + w
        outputs.append(torch.matmul(h, c[..., None])[..., 0])
    return torch.stack(outputs, 1), h


def cumsum(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *, chunk: int = 16) -> tuple[Tensor, Tensor]:
    """Compute Mamba-1 in closed form within short chunks.

    h(t) = exp(s) (h + sum of exp(-s) dt x B up to t), with s the sum of dt A up to t.
    """
    h, outputs = x.new_zeros(x.shape[0], x.shape[2], A.shape[1]), []
    for part in range(0, x.shape[1], chunk):
        xs, dts, Bs, Cs = (t[:, part : part + chunk] for t in (x, dt, B, C))
        s = (dts[..., None] * A).cumsum(1)
        states = s.exp() * (h[:, None] + ((-s).exp() * (dts * xs)[..., None] * Bs[:, :, None]).cumsum(1))
        outputs.append(torch.einsum('bldn,bln->bld', states, Cs))
        h = states[:, -1]
    return torch.cat(outputs, 1), h


def ssd_inputs(L: int, d_inner: int, N: int, batch: int) -> dict[str, Tensor]:
    """Return ordinary values: steps as initialised, decays to -16."""
    rng, H = torch.Generator().manual_seed(0), d_inner // 64
    x, B, C = (torch.randn(batch, L, *size, generator=rng) for size in ((H, 64), (1, N), (1, N)))
    return {
        'x': x,
        'dt': 0.03 * torch.rand(batch, L, H, generator=rng) + 1e-3,
        'A': -torch.linspace(1, 16, H),
        'B': B,
        'C': C,
    }


def scan_inputs(L: int, D: int, N: int) -> dict[str, Tensor]:
    """Return ordinary values of Mamba-1."""
    rng = torch.Generator().manual_seed(0)
    x, B, C = (torch.randn(1, L, width, generator=rng) for width in (D, N, N))
    return {
        'x': x,
        'dt': 0.03 * torch.rand(1, L, D, generator=rng) + 1e-3,
        'A': -torch.arange(1, N + 1, dtype=torch.float32).repeat(D, 1),
        'B': B,
        'C': C,
    }


def trained(form: Callable, inputs: dict[str, Tensor], weights: Tensor) -> Callable[[], list[Tensor]]:
    """Return a call of forward and backward, which returns y and the gradients of all inputs."""

    def run() -> list[Tensor]:
        leaves = {name: value.detach().requires_grad_() for name, value in inputs.items()}
        y, _ = form(**leaves)
        return [y, *torch.autograd.grad(y, list(leaves.values()), weights.to(y.dtype))]

    return run


def case(
    forms: dict[str, Callable],
    reference: Callable,
    inputs: dict[str, Tensor],
    base: str,
    rounds: int,
    what: str,
    backward: bool,
) -> dict:
    """Check the agreement of all forms on one input, then time them.

    Raises:
        SystemExit: a form disagrees with float64.
    """
    weights = torch.randn(inputs['x'].shape, generator=torch.Generator().manual_seed(1))
    exact = {name: value.double() for name, value in inputs.items()}
    if backward:
        wanted = trained(reference, exact, weights.double())()
        work = {name: trained(form, inputs, weights) for name, form in forms.items()}
    else:
        with torch.inference_mode():
            wanted = [reference(**exact)[0]]
        work = {name: (lambda form=form: [form(**inputs)[0]]) for name, form in forms.items()}
    with torch.inference_mode(not backward):
        errors = {name: max(error(f, w) for f, w in zip(run(), wanted, strict=True)) for name, run in work.items()}
        for name, off in errors.items():
            if not off < TOLERANCE:
                raise SystemExit(f'{what}: {name} is off by {off:.1e} from float64; nothing is timed')
        ms = interleaved(work, rounds, what)
    return {'cpu_ms': ms, 'times_as_fast': ratios(ms, base), 'error': {n: float(f'{e:.1e}') for n, e in errors.items()}}


def main() -> None:
    """Measure all cases and write the figures."""
    parser = options(__doc__)
    parser.add_argument('--tokens', type=int, nargs='+', default=(98, 196, 588))
    parser.add_argument('--inner', type=int, default=1536, help='inner width of the mixer')
    parser.add_argument('--states', type=int, default=128, help='states N of Mamba-2')
    parser.add_argument('--compile', action='store_true', help='also through torch.compile, which takes minutes')
    asked = parser.parse_args()
    one_thread()
    ours = {'chunked': ssd_chunked} | ({'native': ssd_native} if use_built() else {})
    scans = {
        'loop': selective_scan_reference,
        'exp_first': exp_first,
        'cumsum': cumsum,
        'blocked': selective_scan_blocked,
    }
    scans |= {'native': selective_scan_native} if native.loaded() else {}
    if asked.compile:
        ours['compiled'] = torch.compile(ssd_chunked, dynamic=False)
    cases = {}
    for L in asked.tokens:
        for backward in (False, True):
            way = 'forward + backward' if backward else 'forward'
            name = f'SSD {way}, L={L}, d_inner {asked.inner}, N {asked.states}'
            cases[name] = case(
                {'listing': listing, **ours},
                ssd_reference,
                ssd_inputs(L, asked.inner, asked.states, 1),
                'listing',
                asked.rounds,
                name,
                backward,
            )
            name = f'Mamba-1 {way}, L={L}, D {asked.inner}, N 16'
            # Its backward pass is quadratic in L: half a minute of CPU at 588 tokens, without new information.
            chosen = {n: f for n, f in scans.items() if not (backward and n == 'exp_first')}
            cases[name] = case(
                chosen,
                selective_scan_reference,
                scan_inputs(L, asked.inner, 16),
                'blocked' if backward else 'loop',
                asked.rounds,
                name,
                backward,
            )
    finish(
        'ssd',
        {
            'rounds': asked.rounds,
            'instruction_set': native.instruction_set() if native.loaded() else None,
            'cases': cases,
        },
        asked.results,
    )


if __name__ == '__main__':
    main()
