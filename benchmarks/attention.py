#!/usr/bin/env python3
"""Measure attention in bfloat16 on the CPU: torch's fused kernel against the written-out products.

    python benchmarks/attention.py            # 20 s; writes benchmarks/results/attention.json

Both run in turn on the shapes of the shipped model in training, forward and backward, and for one token behind a long
context, forward alone.
"""

import json
import platform
import time
from pathlib import Path
from statistics import median

import torch
from torch.nn import functional as F

from m3et_ros.layers.attention import scaled_attention

SHAPES = {'images': (16, 3, 392, 392, 64), 'words': (128, 3, 19, 411, 64), 'decoder': (16, 4, 196, 411, 20)}
"""(B, H, queries, keys, d/H) of the shipped model in training, forward and backward."""
STEPS = {'token_4096': (1, 12, 1, 4096, 64), 'token_16384': (1, 12, 1, 16384, 64)}
"""The same for one token behind a long context, forward alone."""
ROUNDS = 7


def seconds(attend, q, k, v) -> float:
    """Return the CPU time of one forward pass, with the backward pass if gradients are required."""
    start = time.process_time()
    y = attend(q, k, v)
    if y.requires_grad:
        y.sum().backward()
    return time.process_time() - start


def main() -> None:
    """Time both ways in turn and write the medians."""
    torch.set_num_threads(1)
    found = {}
    for name, (B, H, queries, keys, d) in (SHAPES | STEPS).items():
        trained = name in SHAPES
        torch.set_grad_enabled(trained)
        q, k, v = (torch.randn(B, H, n, d, dtype=torch.bfloat16, requires_grad=trained) for n in (queries, keys, keys))
        ways = {'kernel': F.scaled_dot_product_attention, 'written_out': scaled_attention}
        times = {way: [] for way in ways}
        for _ in range(ROUNDS + 1):
            for way, attend in ways.items():
                times[way].append(seconds(attend, q, k, v))
        ms = {way: round(1e3 * median(values[1:]), 2) for way, values in times.items()}
        found[name] = ms | {'ratio': round(ms['kernel'] / ms['written_out'], 2)}
        print(name, found[name])
    out = Path(__file__).parent / 'results/attention.json'
    capable = torch.cpu.get_capabilities() if hasattr(torch.cpu, 'get_capabilities') else {}
    out.write_text(
        json.dumps(
            {
                'torch': torch.__version__,
                'machine': platform.machine(),
                'threads': 1,
                'avx512_bf16': bool(capable.get('avx512_bf16')),
                'amx_bf16': bool(capable.get('amx_bf16')),
                'milliseconds': found,
            },
            indent=2,
        )
        + '\n'
    )


if __name__ == '__main__':
    main()
