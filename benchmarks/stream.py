"""Measure the cost of a frame in the action stream after 10 to 10,000 frames, against reading the whole clip again.

    python benchmarks/stream.py                      # writes benchmarks/results/stream.json

Both sides get the same random tokens and answer the same two questions, in turn within one process on one thread: the
stream continues from its state, the clip is scanned from its start. The weights are random, which does not affect the
cost. The result includes the largest difference of their answers.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from m3et_ros.data.action_questions import NEXT, NOW
from m3et_ros.models.actions.mambavl import MambaVL, VideoStream
from m3et_ros.runtime.open_model import untrained

RESULTS = Path(__file__).parent / 'results' / 'stream.json'
AT = (10, 100, 1_000, 10_000)


def bytes_of(state: VideoStream) -> int:
    """Return the bytes of the state."""
    return sum(part.untyped_storage().nbytes() for part in (*state.mixer, state.total, state.weight))


def timed(call: Callable, rounds: int) -> float:
    """Return the median CPU seconds of a call."""
    found = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return statistics.median(found)


def measure(head: MambaVL, questions: Sequence, before: VideoStream, clip: Tensor, rounds: int) -> dict[str, Any]:
    """Time the newest frame of a clip in the stream, and the whole clip.

    Args:
        head: the action head.
        questions: ids and mask of each pair of questions.
        before: state of the stream before the newest frame.
        clip: (1, n, d_in), all frames so far.
        rounds: measurements.
    """

    def answers(read: Callable) -> list[Tensor]:
        return [part for ids, mask in questions for part in read(ids[:1], ids[1:], mask[:1], mask[1:])]

    state = head.update(before, clip[:, -1:])
    streamed = answers(lambda *pair: head.read(state, *pair))
    whole = answers(lambda *pair: head(clip, *pair))
    return {
        # Each pair of questions updates and reads the stream, or reads the clip.
        'stream_s': timed(lambda: answers(lambda *pair: head.read(head.update(before, clip[:, -1:]), *pair)), rounds),
        'clip_s': timed(
            lambda: answers(lambda *pair: head.classify(head.features(clip)[:, -1], *pair)),
            max(1, min(rounds, 3000 // clip.shape[1])),
        ),
        'state_bytes': bytes_of(state),
        'largest_difference': max(float((a - b).abs().max()) for a, b in zip(streamed, whole, strict=True)),
    }


def main() -> None:
    """Run one long stream, measure at each mark, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--size', default='kitchen', help='size whose action head is measured')
    parser.add_argument('--rounds', type=int, default=30, help='measurements at each mark')
    parser.add_argument('--marks', type=int, nargs='+', default=AT, help='numbers of frames after which to measure')
    parser.add_argument('--results', type=Path, default=RESULTS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = untrained(asked.size, 0)
    head, length = checkpoint.heads['mambavl'].eval(), checkpoint.model.config.text_length
    questions = [checkpoint.tokenizer.encode(pair, length) for pair in (NOW, NEXT)]
    frames = torch.randn(1, max(asked.marks), head.config.d_in, generator=torch.Generator().manual_seed(0))

    state, rows = head.init_stream(1), {}
    with torch.inference_mode():
        for count in tqdm(range(1, max(asked.marks) + 1), desc='frames'):
            before, state = state, head.update(state, frames[:, count - 1 : count])
            if count in asked.marks:
                rows[str(count)] = measure(head, questions, before, frames[:, :count], asked.rounds)
    first, last = rows[str(min(asked.marks))], rows[str(max(asked.marks))]
    result = {
        'size': asked.size,
        'parameters': sum(p.numel() for p in head.parameters()),
        'frames': rows,
        'last_to_first': {name: last[name] / first[name] for name in ('stream_s', 'clip_s', 'state_bytes')},
    }
    asked.results.parent.mkdir(exist_ok=True)
    asked.results.write_text(json.dumps(result, indent=2) + '\n')
    print(json.dumps(result, indent=2))


if __name__ == '__main__':
    main()
