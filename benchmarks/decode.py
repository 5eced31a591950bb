"""Measure the cost of a token behind a long context: Mamba and MaTVLM's hybrids against a Transformer of equal size.

    python benchmarks/decode.py                        # writes benchmarks/results/decode.json
    python benchmarks/decode.py --width 768 --precision bfloat16 --results decode_bfloat16.json

Time is CPU time of this process on one thread, so other work on the machine hardly counts; the models take turns, and
the figure is the median over tokens. States are filled with random numbers of the size that such a context leaves,
because the cost of a step does not depend on their values. Memory is that of the weights and of the states of one
sequence; states of Mamba-2 stay in float32.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from runs import RESULTS, run_script, write
from torch import Tensor

from m3et_ros.cli.output import print_line
from m3et_ros.evaluation.files import environment
from m3et_ros.layers.causal import CausalAttention
from m3et_ros.layers.kv_cache import AttentionState
from m3et_ros.models.vlm.language_model import LanguageConfig, LanguageModel
from m3et_ros.models.vlm.matvlm import replaced, spread

PUBLISHED = 'up to 3.6 x, -27.5 %; 3 B parameters on a GPU, context not said'
SHARES = {'hybrid_1/4': 0.25, 'hybrid_1/2': 0.5}


def models(width: int, layers: int, vocabulary: int) -> dict[str, LanguageModel]:
    """Build the models by name; the all-Mamba model has about as many parameters as the Transformer."""
    teacher = LanguageConfig(
        name='transformer',
        vocabulary=vocabulary,
        d=width,
        schedule='T' * layers,
        heads=width // 64,
        channels=32,
        hidden=4 * width,
        norm='layer',
    )
    configs = {'transformer': teacher} | {
        name: replaced(teacher, spread(layers, share)) for name, share in SHARES.items()
    }
    built = {name: LanguageModel(config) for name, config in configs.items()}
    # Take the number of Mamba-2 layers whose parameter count is nearest to the Transformer's.
    sizes = {
        n: LanguageConfig(name='mamba', vocabulary=vocabulary, d=width, schedule='M' * n, N=64, P=64)
        for n in range(layers, 3 * layers + 1)
    }
    with torch.device('meta'):
        counts = {n: parameters(LanguageModel(config)) for n, config in sizes.items()}
    nearest = min(counts, key=lambda n: abs(counts[n] - parameters(built['transformer'])))
    return {'mamba': LanguageModel(sizes[nearest]), **built}


def parameters(model: LanguageModel) -> int:
    """Return the number of parameters."""
    return sum(p.numel() for p in model.parameters())


def filled(model: LanguageModel, context: int) -> tuple:
    """Return random states of the size that a context of this many tokens leaves."""
    states, dtype = [], next(model.parameters()).dtype
    for layer in model.layers:
        mixer = layer.mixer
        if isinstance(mixer, CausalAttention):
            shape = (1, mixer.kv_heads, context, model.config.d // mixer.heads)
            keys, values = (torch.randn(shape, dtype=dtype) for _ in range(2))
            states.append(AttentionState(keys, values, None))
        else:
            empty = mixer.init_state(1)
            states.append(empty._replace(ssm=torch.randn_like(empty.ssm)))
    return tuple(states)


def state_bytes(states: tuple) -> int:
    """Return the bytes of the states of a sequence."""
    return sum(part.numel() * part.element_size() for state in states for part in state if isinstance(part, Tensor))


@torch.inference_mode()
def seconds(model: LanguageModel, states: tuple, tokens: int) -> list[float]:
    """Return the CPU seconds of each of this many steps."""
    found, x = [], torch.zeros(1, 1, model.config.d, dtype=next(model.parameters()).dtype)
    for _ in range(tokens):
        start = time.process_time()
        states = model(x, states=states, return_states=True, last=1).states
        found.append(time.process_time() - start)
    return found


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure every model at every context."""
    torch.manual_seed(0)
    built = {
        name: model.eval().to(getattr(torch, asked.precision))
        for name, model in models(asked.width, asked.layers, asked.vocabulary).items()
    }
    rows: dict[str, Any] = {
        name: {'schedule': model.config.schedule, 'parameters': parameters(model), 'contexts': {}}
        for name, model in built.items()
    }
    times: dict[tuple[str, int], list[float]] = {(name, context): [] for name in built for context in asked.contexts}
    for _ in range(asked.rounds):
        for name, context in times:  # in turns, so that a busy spell affects all of them
            times[name, context] += seconds(built[name], filled(built[name], context), asked.tokens + 2)[2:]
    for (name, context), spent in times.items():
        states = state_bytes(filled(built[name], context))
        rows[name]['contexts'][str(context)] = {
            'ms_per_token': round(1e3 * statistics.median(spent), 4),
            'state_bytes': states,
            'bytes': states + sum(p.nbytes for p in built[name].parameters()),
        }
    return rows


def summary(rows: dict[str, Any], contexts: list[int]) -> dict[str, Any]:
    """Return speed and memory against the Transformer, and the time at the last context over that at the first."""
    found: dict[str, Any] = {}
    for name, row in rows.items():
        at = {context: row['contexts'][str(context)] for context in contexts}
        base = {context: rows['transformer']['contexts'][str(context)] for context in contexts}
        found[name] = {
            'times_as_fast': {str(c): round(base[c]['ms_per_token'] / at[c]['ms_per_token'], 3) for c in contexts},
            'memory_less': {str(c): round(1 - at[c]['bytes'] / base[c]['bytes'], 4) for c in contexts},
            'state_less': {str(c): round(1 - at[c]['state_bytes'] / base[c]['state_bytes'], 4) for c in contexts},
            'last_over_first_ms': round(at[contexts[-1]]['ms_per_token'] / at[contexts[0]]['ms_per_token'], 4),
        }
    return found


def table(rows: dict[str, Any], told: dict[str, Any], contexts: list[int]) -> str:
    """Return speed and memory of every model against its teacher, the Transformer, beside the figures of MaTVLM."""
    lines = [
        f'| Against the Transformer at a context of | {" | ".join(f"{c:,}" for c in contexts)} |',
        f'|---|{"---|" * len(contexts)}',
    ]
    for name in rows:
        figures = (
            f'{told[name]["times_as_fast"][str(c)]:.1f} x, {0 - told[name]["memory_less"][str(c)]:+.1%}'
            for c in contexts
        )
        lines.append(f'| {name} (`{rows[name]["schedule"]}`) | {" | ".join(figures)} |')
    return '\n'.join([*lines, f'| MaTVLM as published | {PUBLISHED} |{" |" * (len(contexts) - 1)}'])


def options() -> argparse.Namespace:
    """Parse the command line."""
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    found.add_argument('--width', type=int, default=256, help='a multiple of 64')
    found.add_argument('--layers', type=int, default=4, help='of the Transformer')
    found.add_argument('--vocabulary', type=int, default=528)
    found.add_argument('--precision', default='float32', choices=['float32', 'bfloat16'])
    found.add_argument('--contexts', type=int, nargs='+', default=[1024, 4096, 16384])
    found.add_argument('--tokens', type=int, default=12, help='timed at each context in each round')
    found.add_argument('--rounds', type=int, default=8)
    found.add_argument('--results', type=Path, help='JSON file to write; default in benchmarks/results')
    return found.parse_args()


def main() -> None:
    """Measure and write the table."""
    asked = options()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    rows = measure(asked)
    told = summary(rows, asked.contexts)
    print_line(table(rows, told, asked.contexts))
    settings = {name: value for name, value in vars(asked).items() if name != 'results'}
    write(
        asked.results or RESULTS / 'decode.json',
        {
            'made_by': {
                'command': 'python benchmarks/decode.py',
                'settings': settings,
                'environment': environment(torch.device('cpu')),
            },
            'rows': rows,
            'against_the_transformer': told,
        },
    )


if __name__ == '__main__':
    run_script(main)
