#!/usr/bin/env python3
"""Ship a generative model: store it in half precision, measure it on test kitchens, and write its card.

.venv/bin/python scripts/ship_talk.py RUN                # a folder of m3et train talk
.venv/bin/python scripts/ship_talk.py RUN --to build/m3et_talk --samples 200
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import torch

from m3et_ros.data.checkpoints.cards import HEAD, with_head
from m3et_ros.data.checkpoints.talk import load_talk, save_talk
from m3et_ros.evaluation.report.markdown import share, table

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / 'm3et_ros/weights/m3et_talk'
MOST_BYTES = 15_000_000
HEADS = {
    'chair_things': 'named objects that are not in view',
    'chair_descriptions': 'descriptions with such an object',
    'precision': 'named objects that are in view',
    'recall': 'objects in view that are named',
}


def main() -> None:
    """Store and measure the model and write its card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('run', type=Path, help='folder of m3et train talk')
    parser.add_argument('--to', type=Path, default=SHIPPED, help='folder of the checkpoint')
    parser.add_argument('--samples', default='1500', help='number of questions')
    given = parser.parse_args()
    checkpoint = load_talk(given.run / 'checkpoint')
    card = HEAD.sub('', portable((given.run / 'checkpoint/README.md').read_text(), given)).strip()
    model_id = save_talk(given.to, checkpoint, card=card, dtype=torch.float16)
    size = sum(path.stat().st_size for path in given.to.iterdir())
    if size > MOST_BYTES:
        raise SystemExit(
            f'{given.to} has {size:,} bytes, more than the {MOST_BYTES:,} that may be shipped; train a smaller one.'
        )
    document = measured(given, model_id)
    text = [f'# {model_id}', '', 'Stored in half precision. Apache-2.0.', '', card.replace('# ', '## ', 1), '']
    (given.to / 'README.md').write_text(with_head('\n'.join([*text, results(document)]), 'talk'), encoding='utf-8')
    if given.to.resolve() == SHIPPED:
        (ROOT / 'benchmarks/results/kitchen2_talk.json').write_text(json.dumps(document, indent=2) + '\n')
    print(f'{model_id} is in {given.to}, {size:,} bytes.')


def measured(given: argparse.Namespace, model_id: str) -> dict:
    """Evaluate the stored model, or read its earlier figures."""
    out = given.run / f'{model_id}-{given.samples}'
    if not (out / 'metrics.json').exists():
        words = ('evaluate', 'talk', '--model', str(given.to), '--out', str(out), '--samples', given.samples)
        subprocess.run(
            [sys.executable, '-m', 'm3et_ros.cli.main', *words], check=True, env={**os.environ, 'OMP_NUM_THREADS': '1'}
        )
    return json.loads(portable((out / 'metrics.json').read_text(), given))


def portable(text: str, given: argparse.Namespace) -> str:
    """Return the text without this machine's paths."""
    for path, name in ((given.to, 'm3et_talk'), (given.run, 'build/talk'), (ROOT, '.')):
        text = text.replace(str(path), name)
    return re.sub(r'(?<= )/\S*/(?=[^/\s]+(?:\s|$))', 'build/', text)


def results(document: dict) -> str:
    """Return the results as a section of the model card."""
    answers, descriptions = document['metrics']['answers'], document['metrics']['descriptions']
    made = document['made_by']
    parts = {
        'all families': answers['all'],
        'answerable from one frame': answers['answerable_from_one_frame'],
        'fine spatial': answers['fine_spatial'],
        **{name.replace('_', ' '): part for name, part in answers['families'].items()},
    }
    pope = answers['pope']
    rows = [
        (
            name,
            share(part['accuracy']),
            f'{part["best_blind"]:.1%}' if 'best_blind' in part else '',
            str(part['samples']),
        )
        for name, part in parts.items()
    ]
    return '\n'.join(
        [
            '## talk on test kitchens',
            '',
            f'`{made["command"]}`, cache `{made["cache"]["name"]}`. 95 % intervals in brackets, over kitchens.',
            '',
            table(('Questions', 'Accuracy', 'Best blind guess', 'Asked'), rows),
            '',
            f'POPE-style, {pope["samples"]} questions: accuracy {pope["harness_A"]["accuracy"]:.1%} by the likelier '
            f'word, F1 {pope["harness_B"]["f1"]:.1%} by the written answer; {pope["hallucinated"]:.1%} of absent '
            f'objects are reported as present. {answers["unread"]:.1%} of the replies could not be parsed.',
            '',
            table(
                (f'{descriptions["descriptions"]} descriptions', 'Share'),
                [(text, share(descriptions[name])) for name, text in HEADS.items()],
            ),
            '',
        ]
    )


if __name__ == '__main__':
    main()
