"""Check and measure a GPU: agreement with the CPU, kernels, graphs, latency, throughput, decoding, training, memory.

    bash scripts/gpu_check.sh                     # sets up without a network, and writes benchmarks/results/gpu.json
    python benchmarks/gpu.py --device cpu --quick --results /tmp/gpu.json         # every check at its smallest, no GPU

A section that raises is reported with its reason and does not stop the others; one that has not begun when the minutes
are over is left out, and the result says so. Times are wall time between synchronised ends, medians over rounds. The
exit code is 1 if a section failed or missed its goal.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import decode
import torch
from models import Ours, images, twin
from runtimes import jobs
from timing import RESULTS, environment, error, options
from torch import nn

from m3et_ros.cli.output import print_status
from m3et_ros.data import preprocess
from m3et_ros.data.checkpoints.json_files import write_json
from m3et_ros.models.m3et.config import IMAGE_MODALITIES
from m3et_ros.models.m3et.sizes import SIZES, build
from m3et_ros.ops.dispatch import describe
from m3et_ros.runtime.backends.prepared import prepare
from m3et_ros.runtime.backends.probe import probe_frame
from m3et_ros.runtime.frame_tokens import encoded_guides
from m3et_ros.runtime.open_model import untrained
from m3et_ros.training.loop import Objective
from m3et_ros.training.m3et import Pretrain

PARITY = 1e-3
"""Largest accepted difference between the devices in float32, as a share of the largest value."""
LATENCY_MS, COMPACT_RATIO = 0.5, 2.2
"""Goals: base_ssd at batch 1, and compact against MultiMAE's sizes at batch 32."""


@dataclass(frozen=True)
class Check:
    """The device that is checked, and the sizes that fit it."""

    device: torch.device
    quick: bool
    rounds: int

    @property
    def sizes(self) -> tuple[str, ...]:
        """Named sizes to compare."""
        return ('tiny',) if self.quick else tuple(SIZES)

    def synchronise(self) -> None:
        """Wait until the device has done its work."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)

    def ms(self, work: Callable[[], Any]) -> float:
        """Return the median wall milliseconds of a call, after a quarter of the rounds to warm up."""
        found = []
        for number in range(-max(1, self.rounds // 4), self.rounds):
            self.synchronise()
            start = time.perf_counter()
            work()
            self.synchronise()
            if number >= 0:
                found.append(1e3 * (time.perf_counter() - start))
        return round(statistics.median(found), 4)

    def image_model(self, size: str) -> nn.Module:
        """Build a size with the three image modalities only, as benchmarks/models.py compares them."""
        torch.manual_seed(0)
        config = replace(SIZES[size], modalities=IMAGE_MODALITIES, tasks=IMAGE_MODALITIES, answers=0)
        return Ours(build(config)).eval().to(self.device)


def parity(check: Check) -> dict[str, Any]:
    """Compare every named size with itself on the CPU, in float32."""
    found = {}
    for size in check.sizes:
        checkpoint = untrained(size, 0)
        model = checkpoint.model.eval()
        inputs, _ = preprocess.image_inputs(probe_frame(), model.config)
        ids, mask = checkpoint.tokenizer.encode(['where is the cup?'], model.config.text_length)

        def outputs(model=model, inputs=inputs, ids=ids, mask=mask) -> list[torch.Tensor]:
            device = next(model.parameters()).device
            given = {name: value.to(device) for name, value in inputs.items()}
            encoded = model.add_text(model.encode_images(given), ids.to(device), mask.to(device))
            return [*(model.decode(encoded, task) for task in ('depth', 'semseg')), model.answer_logits(encoded)]

        wanted = outputs()
        model.to(check.device)
        found[size] = max(error(f.cpu(), w) for f, w in zip(outputs(), wanted, strict=True))
    return {'error': found, 'reached': all(value < PARITY for value in found.values())}


def kernels(check: Check) -> dict[str, Any]:
    """Compare the scans that serve on the device with their references, values and gradients."""
    rows = {k.op: {'kernel': k.name, 'error': k.max_error, 'reason': k.reason} for k in describe(check.device)}
    return {'scans': rows, 'reached': all(row['kernel'] != 'reference' for row in rows.values())}


def graphs(check: Check) -> dict[str, Any]:
    """Measure a frame and a question of the shipped size through CUDA graphs and in eager torch."""
    runtime = 'cuda' if check.device.type == 'cuda' else 'torch'
    checkpoint = untrained('tiny' if check.quick else 'kitchen', 0)
    model = checkpoint.model.eval().to(check.device)
    inputs, _ = preprocess.image_inputs(probe_frame(), model.config)
    inputs = {name: value.to(check.device) for name, value in inputs.items()}
    tokenizer, length = checkpoint.tokenizer, model.config.text_length
    words = tuple(t.to(check.device) for t in tokenizer.encode(['is the tap on?'], length))
    guides = tuple(t.to(check.device) for t in encoded_guides(checkpoint))
    rows: dict[str, Any] = {
        'eager': {name: check.ms(job) for name, job in jobs(model, model, inputs, words, guides).items()}
    }
    served = {}
    for precision in ('float32', 'bfloat16'):
        ready, serving = prepare(model, runtime, precision=precision, device=check.device.type, store=False)
        served[precision] = f'{serving.name}: {serving.reason}'
        if ready is not None:
            timed = jobs(ready, model, inputs, words, guides)
            rows[f'graphs, {precision}'] = {name: check.ms(job) for name, job in timed.items()}
    return {'ms': rows, 'served': served, 'reached': runtime == 'torch' or len(rows) == 3}


def latency(check: Check) -> dict[str, Any]:
    """Measure base_ssd at batch 1 from images to three dense outputs, eager and captured, in bfloat16."""
    size = 'tiny' if check.quick else 'base_ssd'
    model = check.image_model(size).bfloat16()
    given = _images(check, size, 1)
    rows = {'eager': check.ms(partial(model, *given))}
    if check.device.type == 'cuda':
        rows['captured'] = check.ms(_captured(model, given))
    return {'size': size, 'ms': rows, 'goal_ms': LATENCY_MS, 'reached': check.quick or min(rows.values()) < LATENCY_MS}


def throughput(check: Check) -> dict[str, Any]:
    """Measure compact and base_ssd against MultiMAE's sizes at batch 32, captured, in bfloat16."""
    batch = 2 if check.quick else 32
    names = ('tiny',) if check.quick else ('compact', 'base_ssd')
    given = _images(check, 'tiny' if check.quick else 'base', batch)
    torch.manual_seed(0)
    other = check.image_model('tiny') if check.quick else Ours(twin()).eval().to(check.device)
    ms = {}
    for name, model in {'other': other, **{name: check.image_model(name) for name in names}}.items():
        run = partial(model.bfloat16(), *given)
        ms[name] = check.ms(_captured(model, given) if check.device.type == 'cuda' else run)
    times = {name: round(ms['other'] / ms[name], 3) for name in names}
    goal = check.quick or times['compact'] >= COMPACT_RATIO
    return {
        'other': "our twin in MultiMAE's sizes, scaled_dot_product_attention",
        'batch': batch,
        'ms': ms,
        'times_as_fast': times,
        'goal': COMPACT_RATIO,
        'reached': goal,
    }


def decoding(check: Check) -> dict[str, Any]:
    """Measure a token behind a context of 16,384: Mamba-2 and MaTVLM's hybrids against a Transformer."""
    width, layers, context = (64, 4, 64) if check.quick else (1024, 24, 16_384)
    rows = {}
    for name, model in decode.models(width, layers, 528).items():
        model.eval().bfloat16().to(check.device)
        with torch.device(check.device):
            states = decode.filled(model, context)
        x = torch.zeros(1, 1, width, dtype=torch.bfloat16, device=check.device)
        rows[name] = {
            'ms_per_token': check.ms(partial(model, x, states=states, return_states=True, last=1)),
            'state_mib': round(decode.state_bytes(states) / 2**20, 2),
        }
    base = rows['transformer']['ms_per_token']
    times = {name: round(base / row['ms_per_token'], 3) for name, row in rows.items()}
    return {'context': context, 'models': rows, 'times_as_fast': times, 'reached': True}


def training(check: Check) -> dict[str, Any]:
    """Measure images a second of a step of masked pre-training in bfloat16."""
    size, batch = ('tiny', 2) if check.quick else ('base_ssd', 64)
    model = untrained(size, 0).model.train().to(check.device)
    objective = Objective(model, Pretrain(), bf16=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    given = dict(zip(IMAGE_MODALITIES, _images(check, size, batch, torch.float32), strict=True))

    def step() -> None:
        loss, _ = objective(given, 0)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    with torch.enable_grad():
        ms = check.ms(step)
    return {'size': size, 'batch': batch, 'images_per_second': round(1e3 * batch / ms, 1), 'reached': True}


def memory(check: Check) -> dict[str, Any]:
    """Load `base`, let it go, and look at what stays on the device."""
    if check.device.type != 'cuda':
        return {'left_out': 'needs a GPU', 'reached': True}
    before = torch.cuda.memory_allocated(check.device)
    model = untrained('base', 0).model.eval().to(check.device)
    peak = torch.cuda.memory_allocated(check.device)
    del model
    torch.cuda.empty_cache()
    after = torch.cuda.memory_allocated(check.device)
    return {
        'mib': {
            name: round(value / 2**20, 1) for name, value in (('before', before), ('loaded', peak), ('after', after))
        },
        'reached': after <= before + 2**20,
    }


def _images(check: Check, size: str, batch: int, dtype: torch.dtype = torch.bfloat16) -> tuple[torch.Tensor, ...]:
    """Return random colour, depth and classes of a size on the device."""
    return tuple(t.to(check.device, dtype if t.is_floating_point() else t.dtype) for t in images(batch, SIZES[size]))


def _captured(model: nn.Module, given: tuple[torch.Tensor, ...]) -> Callable[[], None]:
    """Capture a model with fixed inputs as a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            model(*given)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(*given)
    return graph.replay


SECTIONS = {
    section.__name__: section for section in (parity, kernels, graphs, latency, throughput, decoding, training, memory)
}


def main() -> int:
    """Run the sections and write the result; return 1 if one failed or missed its goal."""
    parser = options(__doc__, rounds=30)
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--quick', action='store_true', help='the smallest sizes, to try the script itself')
    parser.add_argument('--minutes', type=float, default=7.0, help='no section begins later')
    asked = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    check, start, found = Check(torch.device(asked.device), asked.quick, asked.rounds), time.monotonic(), {}
    for name, section in SECTIONS.items():
        if time.monotonic() - start > 60 * asked.minutes:
            found[name] = {'problem': f'not begun: {asked.minutes} minutes were over', 'reached': False}
            continue
        print_status(f'gpu: {name} ({len(found) + 1} of {len(SECTIONS)})')
        begun = time.monotonic()
        try:
            with torch.no_grad():
                result = section(check)
        except Exception as problem:
            result = {'problem': f'{type(problem).__name__}: {" ".join(str(problem).split())[:300]}', 'reached': False}
        found[name] = result | {'seconds': round(time.monotonic() - begun, 1)}
        if check.device.type == 'cuda':
            torch.cuda.empty_cache()
    document = {
        'benchmark': 'gpu',
        'quick': check.quick,
        'sections': found,
        'environment': environment() | _device(check),
    }
    write_json(asked.results or RESULTS / 'gpu.json', document)
    for name, result in found.items():
        print(f'{name}: {"reached" if result["reached"] else result.get("problem", "missed its goal")}')
    return int(not all(result['reached'] for result in found.values()))


def _device(check: Check) -> dict[str, Any]:
    if check.device.type != 'cuda':
        return {'device': str(check.device)}
    properties = torch.cuda.get_device_properties(check.device)
    capability = '.'.join(map(str, torch.cuda.get_device_capability(check.device)))
    return {'device': properties.name, 'capability': capability, 'cuda': torch.version.cuda}


if __name__ == '__main__':
    sys.exit(main())
