"""Measure the whole Mamba-2 mixer (projections, convolution, scan, gate, norm) against the CPU path of `transformers`.

    python benchmarks/mixer.py                   # writes benchmarks/results/mixer.json

Both sides have width 768, expand 2, N 128, heads of 64, 588 tokens, batch 1, float32 and the same weights, and their
outputs are compared first. `transformers` runs with its default chunk of 256 and with 64. Ours runs in torch, with the
native scan if it was built, and with --compile through torch.compile with frozen weights.
"""

import logging
from functools import partial

import torch
from timing import error, finish, interleaved, one_thread, options, ratios
from torch import nn

from m3et_ros.layers import mamba
from m3et_ros.layers.mamba import Mamba2
from m3et_ros.ops import dispatch
from m3et_ros.runtime.kernels import use_built

TOLERANCE = 1e-4


def theirs(ours: Mamba2, d: int, chunk: int) -> nn.Module:
    """Build the mixer of `transformers` with our weights."""
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    logging.getLogger('transformers').setLevel(logging.ERROR)  # it reports every missing kernel
    config = Mamba2Config(
        hidden_size=d,
        num_heads=ours.H,
        head_dim=ours.P,
        state_size=ours.N,
        n_groups=ours.G,
        chunk_size=chunk,
        expand=2,
        conv_kernel=4,
        num_hidden_layers=1,
        use_bias=False,
    )
    mixer = Mamba2Mixer(config, layer_idx=0).eval()
    missing, unexpected = mixer.load_state_dict(ours.state_dict(), strict=False)
    if missing or unexpected:
        raise SystemExit(f'the mixer of transformers has other weights: {missing or unexpected}')
    return mixer


def run_with(mixer: Mamba2, u: torch.Tensor, kernel: str) -> torch.Tensor:
    """Run our mixer with the given kernel of the scan."""
    scan = mamba.ssd
    mamba.ssd = partial(scan, kernel=kernel)
    try:
        return mixer(u)
    finally:
        mamba.ssd = scan


def main() -> None:
    """Measure and write the figures."""
    parser = options(__doc__, rounds=9)
    parser.add_argument('--width', type=int, default=768)
    parser.add_argument('--tokens', type=int, default=588)
    parser.add_argument('--compile', action='store_true', help='also through torch.compile, which takes minutes')
    asked = parser.parse_args()
    one_thread()
    torch.manual_seed(0)
    ours = Mamba2(d=asked.width).eval()
    u = torch.randn(1, asked.tokens, asked.width)
    sides = {f'transformers, chunk {chunk}': theirs(ours, asked.width, chunk) for chunk in (256, 64)}
    built = use_built()

    work = {name: (lambda mixer=mixer: mixer(u)) for name, mixer in sides.items()}
    work['ours, torch'] = lambda: run_with(ours, u, 'tensor')
    if built:
        work['ours, native scan'] = lambda: run_with(ours, u, 'auto')
    if asked.compile:
        from torch._inductor import config as inductor

        inductor.freezing = True
        compiled = torch.compile(ours, dynamic=False)
        work['ours, compiled'] = lambda: compiled(u)

    with torch.inference_mode():
        wanted = ours.double()(u.double())
        ours.float()
        errors = {name: error(run(), wanted) for name, run in work.items()}
        worst = max(errors, key=errors.get)
        if not errors[worst] < TOLERANCE:
            raise SystemExit(f'{worst} is off by {errors[worst]:.1e} from float64; nothing is timed')
        ms = interleaved(work, asked.rounds)
    case = f'Mamba-2 mixer, d {asked.width}, {asked.tokens} tokens, float32'
    finish(
        'mixer',
        {
            'rounds': asked.rounds,
            'kernel': dispatch.choose('ssd', 'cpu').name,
            'cases': {
                case: {
                    'cpu_ms': ms,
                    'times_as_fast': ratios(ms, 'transformers, chunk 256'),
                    'times_as_fast_as_chunk_64': ratios(ms, 'transformers, chunk 64'),
                    'error': {name: float(f'{value:.1e}') for name, value in errors.items()},
                }
            },
        },
        asked.results,
    )


if __name__ == '__main__':
    main()
