"""Measure adaptive tokens against encoding every token, on the same frames: share encoded, time, and accuracy.

    python benchmarks/adaptive.py --bag BAG         # writes benchmarks/results/adaptive.json, adaptive_runtimes.json

Both sides receive the same frames of rendered test kitchens, from a camera that stands still and from one that a person
wears, in turn within one process on one thread. A side answers questions from its current tokens, including older
patches; the side "asked whole" encodes the frame whole first, as the robot does. The accuracy of depth and segmentation
is measured, too. Then the encoder of each size is timed for shares of its tokens, with random weights, and torch and
OpenVINO serve the same frames of a camera that stands still. BAG may be any recording with a colour camera; only share
and time are measured on it. --only measures some of these parts and keeps the other results.
"""

import json
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scenes import CAMERAS, SceneFrame, stream
from timing import RESULTS, denormals_allowed, error, finish, interleaved, one_thread, options, ratios

from m3et_ros.cli.output import print_status
from m3et_ros.cli.progress import track
from m3et_ros.data.bags.frames import frames
from m3et_ros.data.bags.reader import BagReader
from m3et_ros.data.bags.topics import find_camera
from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.frame import Frame
from m3et_ros.evaluation.metrics.depth import depth_rates, depth_sums
from m3et_ros.evaluation.metrics.segmentation import confusion, segmentation_scores
from m3et_ros.models.m3et.sizes import build
from m3et_ros.runtime.adaptive import Adaptive
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.kernels import use_built
from m3et_ros.runtime.limits import TOKENS
from m3et_ros.runtime.open_model import open_checkpoint
from m3et_ros.runtime.view import View

THRESHOLDS = (0.1, 0.25)
SIZES = ('kitchen', 'base_ssd', 'base')
SHARES = (1 / 4, 1 / 2, 3 / 4)
ASKED = 'asked whole'
PARTS = (*CAMERAS, 'recording', 'sizes', 'runtimes')
DENSE_EVERY = 5
"""Every so many frames one is decoded and scored."""


@dataclass
class Side:
    """An engine and its results."""

    engine: Engine
    # Encode the frame whole before answering, as the robot does.
    whole: bool = False
    # Milliseconds of CPU time and share of encoded tokens, by frame.
    ms: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    # Rows of depth_sums over all pixels and over the holes of the camera's depth, and confusion matrices.
    depth: list[np.ndarray] = field(default_factory=list)
    holes: list[np.ndarray] = field(default_factory=list)
    classes: list[np.ndarray] = field(default_factory=list)

    def observe(self, frame: Frame) -> View:
        """Encode the next frame and record the time."""
        start = time.process_time_ns()
        view = self.engine.encode(frame, stream=True)
        self.ms.append((time.process_time_ns() - start) / 1e6)
        self.shares.append(view.share)
        return view

    @torch.inference_mode()
    def answer(self, view: View, questions: Sequence[str]) -> None:
        """Answer questions from the current tokens, or as the robot does."""
        if self.whole:
            self.answers += [self.engine.classify(one, [view], top_k=1)[0].label for one in questions]
        elif questions:
            model, tokenizer = self.engine.checkpoint.model, self.engine.checkpoint.tokenizer
            text = model.encode_text(view.image_encoding, *tokenizer.encode(questions, model.config.text_length))
            self.answers += [self.engine.labels.answers[i] for i in model.answer_logits(text).argmax(-1).tolist()]

    @torch.inference_mode()
    def decode(self, view: View, scene: SceneFrame) -> None:
        """Score depth and segmentation."""
        model, scale = self.engine.checkpoint.model, view.scale
        metres = model.decode(view.encoded, 'depth')[0].numpy() * scale.std + scale.mean
        self.depth.append(depth_sums(metres, scene.depth[None])[0])
        self.holes.append(depth_sums(metres, scene.depth[None], np.isnan(scene.frame.depth)[None])[0])
        classes = model.decode(view.encoded, 'semseg').argmax(1).numpy()
        self.classes.append(confusion(classes, scene.labels[None], model.config.classes)[0])


def sides_of(checkpoint: Checkpoint, thresholds: Sequence[float]) -> dict[str, Side]:
    """Build the sides on the same weights: full, adaptive for each threshold, and the default as the robot asks it."""

    def adaptive(threshold: float) -> Engine:
        return Engine(checkpoint, tokens='adaptive', adaptive=Adaptive(threshold))

    return {
        'full': Side(Engine(checkpoint)),
        **{f'{t:g}': Side(adaptive(t)) for t in thresholds},
        ASKED: Side(adaptive(Adaptive.threshold), whole=True),
    }


def run_stream(sides: dict[str, Side], scenes: Iterable[SceneFrame]) -> list[str]:
    """Feed a stream to all sides, starting each frame with another side; return the true answers to the questions."""
    truth, names = [], list(sides)
    for number, scene in enumerate(scenes):
        turn = number % len(names)
        views = {name: sides[name].observe(scene.frame) for name in names[turn:] + names[:turn]}
        truth += [question.answer for question in scene.questions]
        for name, view in views.items():
            sides[name].answer(view, [question.text for question in scene.questions])
            if number % DENSE_EVERY == 0 and not sides[name].whole:
                sides[name].decode(view, scene)
    return truth


def summarise(sides: dict[str, Side], truth: Sequence[str]) -> dict[str, Any]:
    """Return the results of a camera's streams."""
    rows, full = {}, np.array(sides['full'].answers)
    for name, side in sides.items():
        answers = np.array(side.answers)
        rows[name] = {
            'share': round(float(np.mean(side.shares)), 4),
            'cpu_ms': round(float(np.mean(side.ms)), 3),
            'accuracy': round(float(np.mean(answers == np.array(truth))), 4),
            'answers_as_full': round(float(np.mean(answers == full)), 4),
        }
        if side.depth:
            depth, holes = (depth_rates(np.sum(rows, 0))[..., 0] for rows in (side.depth, side.holes))
            rows[name] |= {
                'depth_rmse_m': round(float(depth), 4),
                'holes_rmse_m': round(float(holes), 4),
                'miou': round(segmentation_scores(np.sum(side.classes, 0)).miou, 4),
            }
    return {'frames': len(sides['full'].ms), 'questions': len(truth), 'sides': rows}


def kitchens(checkpoint: Checkpoint, camera: str, asked: Any) -> dict[str, Any]:
    """Run the streams of one camera through all sides."""
    sides, truth = sides_of(checkpoint, asked.thresholds), []
    seeds = range(asked.first, asked.first + asked.kitchens)
    for seed in track(seeds, len(seeds), f'camera {camera}', 'kitchen'):
        for side in sides.values():
            side.engine.reset_stream()
        truth += run_stream(
            sides,
            stream(
                seed,
                camera,
                seconds=asked.seconds,
                hz=asked.hz,
                size=checkpoint.model.config.image_size,
                backend=asked.backend,
            ),
        )
    return summarise(sides, truth) | {'hz': asked.hz}


def recording(checkpoint: Checkpoint, path: Path, thresholds: Sequence[float], most: int) -> dict[str, Any]:
    """Measure share and time on a recording, which has no ground truth."""
    sides = sides_of(checkpoint, thresholds)
    del sides[ASKED]
    with BagReader(path) as bag:
        camera = find_camera(bag)
        seen = frames(bag, rgb_topic=camera.rgb, depth_topic=camera.depth)
        rows, stamps = timed(sides, islice(seen, most))
    return {
        'name': path.name,
        'frames': len(stamps),
        'sides': rows,
        'hz': round(1e9 / statistics.median(np.diff(stamps)), 1) if len(stamps) > 1 else None,
    }


def timed(sides: dict[str, Side], seen: Iterable[Frame]) -> tuple[dict[str, Any], list[int]]:
    """Feed frames to all sides, starting each with another one; return share and time of each, and the stamps."""
    names, stamps = list(sides), []
    for number, frame in enumerate(seen):
        turn = number % len(names)
        stamps.append(frame.stamp_ns)
        for name in names[turn:] + names[:turn]:
            sides[name].observe(frame)
    rows = {
        name: {'share': round(float(np.mean(side.shares)), 4), 'cpu_ms': round(float(np.mean(side.ms)), 3)}
        for name, side in sides.items()
    }
    return rows, stamps


def runtimes(checkpoint: Checkpoint, asked: Any) -> dict[str, Any]:
    """Measure full and adaptive tokens by torch and by OpenVINO on one kitchen before a camera that stands still."""
    sides = {}
    for runtime in ('torch', 'openvino'):
        for tokens in TOKENS:
            engine = Engine(checkpoint, tokens=tokens)
            with denormals_allowed():
                serving = engine.prepare(runtime, modality_sets=(('rgb', 'depth'),), report=print_status)
            if serving.fallback:
                raise RuntimeError(serving.reason)
            sides[f'{runtime}, {tokens}'] = Side(engine)
    size = checkpoint.model.config.image_size
    options = {'seconds': asked.seconds, 'hz': asked.hz, 'size': size, 'backend': asked.backend}
    timed(sides, (scene.frame for scene in stream(asked.first, 'still', **options)))
    ms = {name: round(statistics.median(side.ms), 3) for name, side in sides.items()}
    notes = {
        f'Frames of {name} by share of encoded tokens': ', '.join(
            f'{count} of {share:.0%}' for share, count in sorted(Counter(side.shares).items())
        )
        for name, side in sides.items()
        if name.endswith('adaptive')
    }
    case = {'cpu_ms': ms, 'times_as_fast': ratios(ms, 'torch, full')}
    return {
        'model': checkpoint.model_id,
        'rounds': len(sides['torch, full'].ms),
        'hz': asked.hz,
        'notes': notes,
        'cases': {f'a frame of a still camera, {asked.hz:g} Hz': case},
    }


@torch.inference_mode()
def speed(name: str, rounds: int) -> dict[str, Any]:
    """Time the encoder of a size for shares of its tokens."""
    model, random = build(name).eval(), torch.Generator().manual_seed(0)
    S = model.config.image_size
    channels = model.config.image_channels
    images = {m: torch.randn(1, channels[m], S, S, generator=random) for m in channels}
    if name != 'kitchen':  # 588 tokens need three modalities
        s = model.config.semseg_size
        images['semseg'] = torch.randint(model.config.classes, (1, s, s), generator=random)
    held = model.encode_changed(images)
    N = held.image_encoding.source.shape[1]
    work = {'see': lambda: model.encode_images(images), 'all': lambda: model.encode_changed(images)}
    for share in reversed(SHARES):
        places = torch.randperm(N, generator=random)[: round(share * N)].sort().values
        work[f'{share:g}'] = lambda places=places: model.encode_changed(images, places, held)
    off = error(held.image_encoding.stages[-1], model.encode_images(images).stages[-1])
    ms = interleaved(work, rounds, name)
    return {'tokens': N, 'cpu_ms': ms, 'times_as_fast': ratios(ms, 'see'), 'error': {'all': f'{off:.1e}'}}


def main() -> None:
    """Measure the chosen parts and write the figures."""
    parser = options(__doc__, rounds=3)
    parser.add_argument('--model', default='kitchen', help='checkpoint')
    parser.add_argument('--only', nargs='+', choices=PARTS, default=PARTS, help='parts to measure')
    parser.add_argument('--bag', type=Path, help='recording of a camera')
    parser.add_argument('--first', type=int, default=23_000, help='first seed, 20000 and up')
    parser.add_argument('--kitchens', type=int, default=12, help='number of kitchens')
    parser.add_argument('--seconds', type=float, default=10.0, help='of each kitchen')
    parser.add_argument('--hz', type=float, default=10.0, help='frames a second')
    parser.add_argument('--backend', default='auto', help='renderer: auto, egl, osmesa or raycast')
    parser.add_argument('--most', type=int, default=300, help='most frames of the recording')
    parser.add_argument('--thresholds', type=float, nargs='+', default=THRESHOLDS)
    asked = parser.parse_args()
    one_thread()
    use_built()
    path = asked.results or RESULTS / 'adaptive.json'
    document = json.loads(path.read_text()) if path.is_file() else {}
    checkpoint = replace(open_checkpoint(asked.model), heads={})
    document |= {'model': checkpoint.model_id, 'rounds': asked.rounds, 'defaults': asdict(Adaptive())}
    for part in asked.only:
        print_status(f'{part} ...')
        if part == 'runtimes':  # a file of its own, because each file describes one machine
            finish('adaptive_runtimes', runtimes(checkpoint, asked), path.with_name('adaptive_runtimes.json'))
            continue
        if part in CAMERAS:
            document[part] = kitchens(checkpoint, part, asked)
        elif part == 'sizes':
            document['sizes'] = {name: speed(name, asked.rounds) for name in SIZES}
        elif asked.bag:
            document[part] = recording(checkpoint, asked.bag, asked.thresholds, asked.most)
        finish('adaptive', document, path)


if __name__ == '__main__':
    main()
