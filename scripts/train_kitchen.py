#!/usr/bin/env python3
"""Train the shipped weights from scratch: render kitchens, train both stages and heads, measure, write the checkpoint.

    make train                                                  # about 4 h on two cores with AVX-512 BF16
    .venv/bin/python scripts/train_kitchen.py --out build/train --to build/m3et_kitchen

The same command continues after a kill at any moment: completed steps are not repeated, and trainings resume where they
stopped. It uses a GPU if there is one, for rendering, too (EGL); otherwise each core trains in its own process.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / 'm3et_ros/weights/m3et_kitchen'
SEEDS = ('0:4000', '4000:8000', '8000:10000')
FRAMES = ('--frames', '22', '--stride', '14')
STAGES = {
    'pretrain': ('--samples', '26000', '--batch', '64', '--lr', '1e-3'),
    'vqa': ('--samples', '96000', '--batch', '32', '--lr', '1e-3', '--optimiser', 'muon', '--questions', '16'),
}
EPISODES = ('0:640', '640:1280')
UNSEEN = '20000:20096'
STEADY = ('--frames', '100', '--stride', '4')
HEADS = {'memory': (), 'actions': ('--samples', '20000', '--length', '60')}
MEASURES = {'vqa': ('--samples', '1500'), 'reconstruction': ('--frames', '400')}


def main() -> None:
    """Do all steps that are not done yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=ROOT / 'build/train', help='caches, runs and measurements')
    parser.add_argument('--to', type=Path, default=SHIPPED, help='folder of the checkpoint')
    parser.add_argument('--seed', default='0', help='of weights, order, noise and masks')
    given = parser.parse_args()
    caches = [cache(given.out / 'cache', seeds) for seeds in SEEDS]
    first = stage('pretrain', given, caches[:2], ('--model', 'kitchen'))  # enough for its 26,000 views
    second = stage('vqa', given, caches, ('--from', str(first)))
    model_id = halve(second, given.to)
    found = {name: measure(name, given, model_id, '--data', 'test', *MEASURES[name]) for name in MEASURES}
    *episodes, unseen = (cache(given.out / 'cache', seeds, STEADY) for seeds in (*EPISODES, UNSEEN))
    heads = [head(name, given, episodes) for name in HEADS]
    found['actions'] = measure('actions', given, model_id, '--data', str(unseen), *repeated('--train', episodes))
    card = [
        f'# {model_id}\n\nMade by `make train`, stored in half precision. Apache-2.0.\n',
        *((folder / 'README.md').read_text().replace('# ', '## ', 1) for folder in (second, *heads)),
        *(results(name, values) for name, values in found.items()),
    ]
    (given.to / 'README.md').write_text(portable('\n'.join(card), given), encoding='utf-8')
    print(f'{model_id} is in {given.to}.')


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


def cache(root: Path, seeds: str, frames: tuple[str, ...] = FRAMES) -> Path:
    """Render the kitchens of some seeds, or the missing ones of them."""
    return Path(json.loads(m3et('generate', str(root), '--seeds', seeds, *frames, '--json'))['path'])


def stage(name: str, given: argparse.Namespace, caches: list[Path], start: tuple[str, ...]) -> Path:
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
            *STAGES[name],
            *machine_options(),
            *resume,
            processes=torch.cuda.device_count() or os.cpu_count() or 1,
        )
    return run / 'checkpoint'


def repeated(option: str, folders: list[Path]) -> list[str]:
    """Return an option once for each folder."""
    return [word for folder in folders for word in (option, str(folder))]


def head(name: str, given: argparse.Namespace, episodes: list[Path]) -> Path:
    """Train a head, store it with the model and return the folder of its checkpoint."""
    run = given.out / name
    if not (run / 'checkpoint/config.json').exists():
        encoded = ('--tokens', str(given.out / 'memory/frames')) if name == 'actions' else ()
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


def halve(source: Path, to: Path) -> str:
    """Store a checkpoint in half precision and return its model id."""
    from m3et_ros.data.checkpoints.m3et import load_checkpoint, save_checkpoint

    checkpoint = replace(load_checkpoint(source), trained=True)
    return save_checkpoint(to, checkpoint, card=(source / 'README.md').read_text(), dtype=torch.float16)


def measure(name: str, given: argparse.Namespace, model_id: str, *words: str) -> dict:
    """Evaluate the stored checkpoint on test kitchens."""
    out = given.out / f'{model_id}-{name}'
    if not (out / 'metrics.json').exists():
        m3et('evaluate', name, '--model', str(given.to), '--out', str(out), *words)
    document = portable((out / 'metrics.json').read_text(), given)
    if given.to.resolve() == SHIPPED:  # the tables of the README are those of the shipped weights
        (ROOT / f'benchmarks/results/kitchen_{name}.json').write_text(document)
    return json.loads(document)


def portable(text: str, given: argparse.Namespace) -> str:
    """Return the text without this machine's paths."""
    for path, name in ((given.to, 'kitchen'), (given.out, 'build/train'), (ROOT, '.')):
        text = text.replace(str(path), name)
    return text


def results(name: str, document: dict) -> str:
    """Return the results as a section of the model card."""
    from m3et_ros.evaluation.report.markdown import actions_table, reconstruction_table, vqa_table

    made = document['made_by']
    table = {'vqa': vqa_table, 'reconstruction': reconstruction_table, 'actions': actions_table}[name]
    return '\n'.join(
        [
            f'## {name} on test kitchens',
            '',
            f'`{made["command"]}`, cache `{made["cache"]["name"]}`. 95 % intervals in brackets, over kitchens.',
            '',
            table(document['metrics']),
            '',
        ]
    )


if __name__ == '__main__':
    main()
