#!/usr/bin/env python3
"""Train the shipped weights from scratch: render kitchens, train both stages and heads, measure, write the checkpoint.

    make train                                                # kitchen2: about 12 h on two cores with AVX-512 BF16
    .venv/bin/python scripts/train_kitchen.py --size kitchen  # the first weights: about 4 h
    .venv/bin/python scripts/train_kitchen.py --render        # only render, before it or beside it
    .venv/bin/python scripts/train_kitchen.py --milestone --to build/now  # finish and measure what is there now

The same command continues after a kill at any moment: completed steps are not repeated, and trainings resume where they
stopped. It uses a GPU if there is one, for rendering, too (EGL); otherwise each core trains in its own process.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from m3et_ros.cli.train.milestones import milestones
from m3et_ros.data.calibration import Calibration
from m3et_ros.data.checkpoints import DEFAULT_MODEL
from m3et_ros.data.checkpoints.cards import HEAD, with_head
from m3et_ros.data.errors import InputError
from m3et_ros.data.files import write_atomically
from m3et_ros.data.kitchen.cache.generate import generate
from m3et_ros.runtime.machine import compiler

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / 'm3et_ros/weights'
EPISODES = (range(640), range(640, 1280))
UNSEEN = range(20_000, 20_096)
VALIDATION = range(10_000, 10_100)
STEADY = {'frames': 100, 'stride': 4}
HEADS = {'memory': (), 'actions': ('--samples', '20000', '--length', '60')}
PRETRAIN = ('--samples', '26000', '--batch', '64', '--lr', '1e-3')
VQA = ('--batch', '32', '--lr', '1e-3', '--optimiser', 'muon')
ASKED, SHOWN = 4000, 600
"""Questions and frames of validation kitchens on which the weights are calibrated."""
BUSY_S = 60
"""Seconds between two looks at a cache that another process renders."""


@dataclass(frozen=True)
class Plan:
    """A size of the model and everything that its weights are made with."""

    # Named size.
    size: str
    # Folder of caches, runs and measurements, and of the checkpoint, by default.
    out: Path
    to: Path
    # Fields of the caches' recipe that all kitchens have, and those of the kitchens of the stages and the calibration.
    kitchens: dict[str, Any]
    views: dict[str, Any]
    # Kitchens of each cache of views, and the number of caches that are enough for stage 1.
    seeds: tuple[range, ...]
    first_caches: int
    # Options of each stage.
    stages: dict[str, tuple[str, ...]]
    # Measurement -> verb of m3et evaluate with its options.
    measures: dict[str, tuple[str, ...]]
    # Hours of each step in order, on two cores with AVX-512 BF16.
    hours: dict[str, float]


ASK, FILL = ('--samples', '1500'), ('--frames', '400')
KITCHEN = Plan(
    size='kitchen',
    out=ROOT / 'build/train',
    to=WEIGHTS / 'm3et_kitchen',
    kitchens={'version': 1},
    views={'frames': 22, 'stride': 14},
    seeds=(range(4000), range(4000, 8000), range(8000, 10_000)),
    first_caches=2,
    stages={'pretrain': PRETRAIN, 'vqa': ('--samples', '96000', *VQA, '--questions', '16')},
    measures={'vqa': ('vqa', '--data', 'test', *ASK), 'reconstruction': ('reconstruction', '--data', 'test', *FILL)},
    hours={'caches': 0.7, 'pretrain': 0.5, 'vqa': 1.6, 'calibration': 0.1, 'measures': 0.2, 'heads': 1.0},
)
KITCHEN2 = Plan(
    size='kitchen2',
    out=ROOT / 'runs',
    to=WEIGHTS / 'm3et_kitchen2',
    kitchens={'version': 2, 'size': 224},
    views={'frames': 12, 'stride': 25},
    seeds=(range(4000),),
    first_caches=1,
    stages={
        'pretrain': (*PRETRAIN, '--noise', 'wide'),
        'vqa': (
            *('--samples', '120000', *VQA, '--questions', '32', '--noise', 'wide', '--tempered'),
            *('--average', '0.999', '--milestone-minutes', '30'),
        ),
    },
    measures={
        'vqa_own': ('vqa', '--data', 'test-own', *ASK),
        'vqa_other': ('vqa', '--data', 'test-other', *ASK),
        'reconstruction_own': ('reconstruction', '--data', 'test-own', *FILL),
        'reconstruction_other': ('reconstruction', '--data', 'test-other', *FILL),
    },
    hours={'caches': 2.0, 'pretrain': 0.6, 'vqa': 7.0, 'calibration': 0.1, 'measures': 0.5, 'heads': 1.5},
)
PLANS = {plan.size: plan for plan in (KITCHEN, KITCHEN2)}


def main() -> None:
    """Do all steps that are not done yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--size', choices=PLANS, default=DEFAULT_MODEL, help='named size of the model')
    parser.add_argument(
        '--out', type=Path, help='caches, runs and measurements; default runs, or build/train of kitchen'
    )
    parser.add_argument('--to', type=Path, help='folder of the checkpoint')
    parser.add_argument('--seed', default='0', help='of weights, order, noise and masks')
    parser.add_argument('--render', action='store_true', help='only render the caches')
    parser.add_argument(
        '--milestone', action='store_true', help='calibrate, measure and finish the newest milestone of stage 2'
    )
    given = parser.parse_args()
    plan = PLANS[given.size]
    given.out, given.to = given.out or plan.out, given.to or plan.to
    if given.render:
        render(plan, given)
        return
    if given.milestone:
        found = milestones(given.out / 'vqa')
        if not found:
            raise SystemExit(f'There is no milestone in {given.out / "vqa"} yet; stage 2 writes one every 30 minutes.')
        finish(plan, given, found[-1], given.out / f'milestone-{found[-1].name}')
        return
    if compiler():
        m3et('build', 'kernels')
    finish(plan, given, train(plan, given), given.out)


def train(plan: Plan, given: argparse.Namespace) -> Path:
    """Render what the stages read, train both and return the folder of the checkpoint."""
    root, first = given.out / 'cache', plan.first_caches
    announce('caches', plan)
    caches = [cache(root, seeds, plan.kitchens | plan.views) for seeds in plan.seeds[:first]]
    announce('pretrain', plan)
    start = stage('pretrain', plan, given, caches, ('--model', plan.size))
    caches += [cache(root, seeds, plan.kitchens | plan.views) for seeds in plan.seeds[first:]]
    announce('vqa', plan)
    return stage('vqa', plan, given, caches, ('--from', str(start)))


def render(plan: Plan, given: argparse.Namespace) -> None:
    """Render all caches in the order in which they are read."""
    for seeds in plan.seeds:
        cache(given.out / 'cache', seeds, plan.kitchens | plan.views)
    for seeds in (*EPISODES, UNSEEN):
        cache(given.out / 'cache', seeds, plan.kitchens | STEADY)


def finish(plan: Plan, given: argparse.Namespace, base: Path, out: Path) -> None:
    """Calibrate and measure the checkpoint of stage 2, train its heads, and write everything to --to.

    Args:
        plan: the plan.
        given: options of the script.
        base: folder of the checkpoint.
        out: folder of the heads and measurements.
    """
    announce('calibration', plan)
    model_id = halve(base, given.to, calibration(plan, given, base, out))
    announce('measures', plan)
    found = {name: measure(name, given, out, model_id, words) for name, words in plan.measures.items()}
    write_card(plan, given, model_id, [base], found)
    announce('heads', plan)
    *episodes, unseen = (cache(given.out / 'cache', seeds, plan.kitchens | STEADY) for seeds in (*EPISODES, UNSEEN))
    heads = [head(name, given, out, episodes) for name in HEADS]
    words = ('actions', '--data', str(unseen), *repeated('--train', episodes))
    found['actions'] = measure('actions', given, out, model_id, words)
    write_card(plan, given, model_id, [base, *heads], found)
    print(f'{model_id} is in {given.to}.')


def write_card(plan: Plan, given: argparse.Namespace, model_id: str, runs: list[Path], found: dict[str, dict]) -> None:
    """Write the card of the checkpoint: those of its runs, and what was measured so far."""
    made = f'Made by `scripts/train_kitchen.py --size {plan.size}`, stored in half precision. Apache-2.0.'
    card = [
        f'# {model_id}\n\n{made}\n',
        *(HEAD.sub('', (folder / 'README.md').read_text()).strip().replace('# ', '## ', 1) + '\n' for folder in runs),
        *(results(name, values) for name, values in found.items()),
    ]
    text = with_head(portable('\n'.join(card), given), 'm3et')
    (given.to / 'README.md').write_text(text, encoding='utf-8')


def announce(name: str, plan: Plan) -> None:
    """Print the hours of a step, and of all steps from it to the end."""
    names = list(plan.hours)
    left = sum(plan.hours[later] for later in names[names.index(name) :])
    print(
        time.strftime('%H:%M:%S'), f'{name}: {plan.hours[name]:.1f} h of {left:.1f} h to the end on 2 cores', flush=True
    )


def m3et(*words: str, processes: int = 1) -> str:
    """Run a verb of the command in `processes` processes and return its output."""
    launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), '-m', 'm3et_ros.cli.main', *words]
    alone = {} if torch.cuda.is_available() else {'OMP_NUM_THREADS': '1'}
    print(time.strftime('%H:%M:%S'), 'm3et', *words, flush=True)
    return subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **alone, 'OMP_WAIT_POLICY': 'PASSIVE'},
    ).stdout


def cache(root: Path, seeds: range, fields: dict[str, Any]) -> Path:
    """Render the kitchens of some seeds, or the missing ones of them; wait for a process that renders the same ones."""
    while True:
        try:
            return generate(root, seeds=seeds, workers=os.cpu_count() or 1, **fields)
        except InputError as refused:
            if refused.reason != 'cache_busy':
                raise
            print(time.strftime('%H:%M:%S'), refused, flush=True)
            time.sleep(BUSY_S)


def stage(name: str, plan: Plan, given: argparse.Namespace, caches: list[Path], start: tuple[str, ...]) -> Path:
    """Train one stage and return the folder of its checkpoint."""
    run = given.out / name
    if not (run / 'checkpoint/config.json').exists():
        resume = ('--resume',) if (run / 'state.safetensors').exists() else ()
        m3et(
            'train',
            name,
            *repeated('--data', caches),
            *start,
            '--out',
            str(run),
            '--seed',
            given.seed,
            *plan.stages[name],
            *machine_options(),
            *resume,
            processes=torch.cuda.device_count() or os.cpu_count() or 1,
        )
    return run / 'checkpoint'


def repeated(option: str, folders: list[Path]) -> list[str]:
    """Return an option once for each folder."""
    return [word for folder in folders for word in (option, str(folder))]


def head(name: str, given: argparse.Namespace, out: Path, episodes: list[Path]) -> Path:
    """Train a head, store it with the model and return the folder of its checkpoint."""
    run = out / name
    if not (run / 'checkpoint/config.json').exists():
        encoded = ('--tokens', str(out / 'memory/frames')) if name == 'actions' else ()
        m3et(
            'train',
            name,
            *repeated('--data', episodes),
            '--from',
            str(given.to),
            '--out',
            str(run),
            '--seed',
            given.seed,
            *encoded,
            *HEADS[name],
            *machine_options()[2:],
        )
    halve(run / 'checkpoint', given.to)
    return run / 'checkpoint'


def machine_options() -> tuple[str, ...]:
    """Return options for this machine: bfloat16 if it is faster than float32."""
    cpu = torch.cpu.get_capabilities() if hasattr(torch.cpu, 'get_capabilities') else {}
    faster = torch.cuda.is_available() or cpu.get('avx512_bf16') or cpu.get('amx_bf16')
    return ('--workers', '1', *(('--bf16',) if faster else ()))


def calibration(plan: Plan, given: argparse.Namespace, base: Path, out: Path) -> Calibration:
    """Fit the odds of the answers and the quantiles of the domain score, or read them where that was done."""
    from torch.utils.data import Subset

    from m3et_ros.data.checkpoints.m3et import load_checkpoint
    from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
    from m3et_ros.data.kitchen.questions.splits import ANSWERS_OF
    from m3et_ros.data.noise import Noise
    from m3et_ros.evaluation.tasks.calibrate import calibrate

    checkpoint = load_checkpoint(base)
    path = out / f'{checkpoint.model_id}-calibration.json'
    if not path.exists():
        folder = cache(given.out / 'cache', VALIDATION, plan.kitchens | plan.views)
        asked = KitchenSamples(folder, noise=Noise(), length=ASKED)
        shown = KitchenSamples(folder, questions=False, noise=Noise())
        every = max(1, len(shown) // SHOWN)
        found = calibrate(checkpoint, asked, Subset(shown, range(0, len(shown), every)), untaught=ANSWERS_OF)
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as part:
            part.write_text(json.dumps(asdict(found)), encoding='utf-8')
    values = json.loads(path.read_text(encoding='utf-8'))
    return Calibration(**values | {'domain': {name: tuple(steps) for name, steps in values['domain'].items()}})


def halve(source: Path, to: Path, calibration: Calibration | None = None) -> str:
    """Store a checkpoint in half precision, with its own calibration or another one, and return its model id."""
    from m3et_ros.data.checkpoints.m3et import load_checkpoint, save_checkpoint

    checkpoint = replace(load_checkpoint(source), trained=True)
    if calibration is not None:
        checkpoint = replace(checkpoint, labels=replace(checkpoint.labels, calibration=calibration))
    return save_checkpoint(to, checkpoint, card=(source / 'README.md').read_text(), dtype=torch.float16)


def measure(name: str, given: argparse.Namespace, out: Path, model_id: str, words: tuple[str, ...]) -> dict:
    """Evaluate the stored checkpoint by a verb of m3et evaluate, `words` with its options; return the document."""
    folder = out / f'{model_id}-{name}'
    if not (folder / 'metrics.json').exists():
        m3et('evaluate', words[0], '--model', str(given.to), '--out', str(folder), *words[1:])
    document = portable((folder / 'metrics.json').read_text(), given)
    if given.to.resolve().parent == WEIGHTS:  # the tables of the documentation are those of the shipped weights
        shipped = given.to.name.removeprefix('m3et_')
        (ROOT / f'benchmarks/results/{shipped}_{name}.json').write_text(document)
    return json.loads(document)


def portable(text: str, given: argparse.Namespace) -> str:
    """Return the text without this machine's paths."""
    for path, name in ((given.to, given.size), (given.out, 'build/train'), (ROOT, '.')):
        text = text.replace(str(path), name)
    return text


def results(name: str, document: dict) -> str:
    """Return the results as a section of the model card."""
    from m3et_ros.evaluation.report.markdown import actions_table, reconstruction_table, vqa_table

    made = document['made_by']
    table = {'vqa': vqa_table, 'reconstruction': reconstruction_table, 'actions': actions_table}[name.split('_')[0]]
    return '\n'.join(
        [
            f'## {name.replace("_", " ")} on test kitchens',
            '',
            f'`{made["command"]}`, cache `{made["cache"]["name"]}`. 95 % intervals in brackets, over kitchens.',
            '',
            table(document['metrics']),
            '',
        ]
    )


if __name__ == '__main__':
    main()
