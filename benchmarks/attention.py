#!/usr/bin/env python3
"""Forward and backward of attention in bfloat16 on the CPU: torch's kernel against products written out.

    python benchmarks/attention.py            # 20 s; writes benchmarks/results/attention.json
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
"""B, H, queries, keys, d/H of the shipped model in training."""
ROUNDS = 7


def seconds(attend, q, k, v) -> float:
    """CPU time of one forward and backward."""
    start = time.process_time()
    attend(q, k, v).sum().backward()
    return time.process_time() - start


def main() -> None:
    """Interleave both ways and write the medians."""
    torch.set_num_threads(1)
    found = {}
    for name, (B, H, queries, keys, d) in SHAPES.items():
        q, k, v = (torch.randn(B, H, n, d, dtype=torch.bfloat16, requires_grad=True) for n in (queries, keys, keys))
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
    out.write_text(json.dumps({'torch': torch.__version__, 'machine': platform.machine(), 'threads': 1,
                               'avx512_bf16': bool(capable.get('avx512_bf16')),
                               'amx_bf16': bool(capable.get('amx_bf16')), 'milliseconds': found}, indent=2) + '\n')


if __name__ == '__main__':
    main()
