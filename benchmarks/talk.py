"""Measure the generative family at equal data and steps: connectors, EMMA's alignment, and MaTVLM's students.

    python benchmarks/talk.py --data CACHE ... --out runs/bench_talk   # writes benchmarks/results/talk.json

Each group of rows is compared within itself; all rows have the same views, questions, steps and language width:
    connectors   mlp, basic, advanced, cross: ML-Mamba with each connector (docs/papers.md 4)
    alignment    emma_plain, emma_pal, emma_pal_mff: EMMA without its head, on the last layer, on several (5)
    students     teacher, seeded, random: MaTVLM's teacher, and its hybrid started from attention's weights or from
                 random ones (6), with the steps until the seeded one has the final loss of the random one
    ablations    EMMA's targets and released form; MaTVLM's shares, spreads, losses and kinds; only with --rows
With several --seeds a row's accuracy is their mean. Completed rows are not trained again, interrupted ones resume, and
the table is written after each row. --rows takes only some rows.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from runs import RESULTS, run_script, write

from m3et_ros.cli.output import print_status
from m3et_ros.cli.training_session import progress_reporter
from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.checkpoints.talk import TalkCheckpoint, load_talk, save_talk
from m3et_ros.data.errors import InputError
from m3et_ros.data.features.visual_tokens import encode_views
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.kitchen.cache.dialogues import DialogueViews
from m3et_ros.data.kitchen.cache.recipe import read_recipe
from m3et_ros.evaluation.files import environment
from m3et_ros.evaluation.standard_caches import find_cache
from m3et_ros.evaluation.tasks.talk import ask_talker, describe_views, description_scores, talk_scores
from m3et_ros.evaluation.tasks.vqa import NOISE
from m3et_ros.models.vlm.variants import kitchen_config, vision_width
from m3et_ros.runtime.open_model import open_checkpoint
from m3et_ros.training.loop import LOG
from m3et_ros.training.optim import OPTIMISERS
from m3et_ros.training.run_state import TrainingSession
from m3et_ros.training.talk import Chat, Connect, Distil, TalkRecipe, TalkRun, Words, talk_tokenizer

ROWS: dict[str, dict[str, Any]] = {
    'mlp': {'variant': 'ml_mamba', 'connector': 'mlp'},
    'basic': {'variant': 'ml_mamba', 'connector': 'basic'},
    'advanced': {'variant': 'ml_mamba', 'connector': 'advanced'},
    'cross': {'variant': 'ml_mamba', 'connector': 'advanced', 'scan': 'cross'},
    'emma_plain': {'variant': 'emma', 'aligned': False},
    'emma_pal': {'variant': 'emma', 'fusion': False},
    'emma_pal_mff': {'variant': 'emma'},
    'teacher': {'variant': 'matvlm'},
    'seeded': {'variant': 'matvlm', 'student': True},
    'random': {'variant': 'matvlm', 'student': True, 'seeded': False},
}
STUDENT = {'variant': 'matvlm', 'student': True}
ABLATIONS: dict[str, dict[str, Any]] = {
    'emma_patch': {'variant': 'emma', 'target': 'patch'},
    'emma_deep': {'variant': 'emma', 'target': 'deep'},
    'emma_released': {
        'variant': 'emma',
        'target': 'patch',
        'released_order': True,
        'chat': {'align': 1.0, 'align_loss': 'sum_1e-5', 'align_warm_up': 0.0},
    },
    'share_half': {**STUDENT, 'share': 0.5},
    'share_all': {**STUDENT, 'share': 1.0},
    'first': {**STUDENT, 'spread': 'first'},
    'middle': {**STUDENT, 'spread': 'middle'},
    'last': {**STUDENT, 'spread': 'last'},
    'layer_alone': {**STUDENT, 'distil': {'prob': 0.0, 'ce': 0.0}},
    'prob_alone': {**STUDENT, 'distil': {'layer': 0.0, 'ce': 0.0}},
    'ce_alone': {**STUDENT, 'distil': {'layer': 0.0, 'prob': 0.0}},
    'layer_prob': {**STUDENT, 'distil': {'ce': 0.0}},
    'released': {**STUDENT, 'distil': {'ce': 0.0, 'reduction': 'released'}},
    'layer_kl': {**STUDENT, 'distil': {'layer_kind': 'kl'}},
    **{kind: {**STUDENT, 'distil': {'prob_kind': kind}} for kind in ('reverse', 'js', 'l2', 'hard')},
}
"""Rows that --rows names; compare those of EMMA with emma_pal_mff and the others with seeded."""
ALL_ROWS = ROWS | ABLATIONS
RECIPE_FIELDS = ('aligned', 'fusion', 'seeded', 'target', 'released_order', 'spread', 'share')
STAGE_FIELDS = ('chat', 'distil')
"""Keys of a row that are fields of TalkRecipe or of its stages; the others except student go to kitchen_config."""


class TalkBench:
    """Views, questions and budget that all rows share."""

    def __init__(self, asked: argparse.Namespace):
        self.asked = asked
        self.encoder: Checkpoint = open_checkpoint(asked.sight)
        if any(read_recipe(folder).split != 'train' for folder in asked.data):
            raise InputError(
                'split', f'{asked.data[0]} holds no training kitchens, and no model may learn from others.'
            )
        grid = (asked.side, asked.side)
        self.views = encode_views(
            self.encoder, asked.data, asked.views or asked.out / 'views', every=asked.every, grid=grid, bf16=asked.bf16
        )
        self.data = DialogueViews(asked.data, self.views.frames, each=asked.each)
        self.tokenizer = talk_tokenizer()
        cache, missing = find_cache(asked.test)
        if missing:
            raise InputError('cache', f'The cache {cache} does not exist; render it with m3et evaluate vqa first.')
        self.test, self.recipe = KitchenSamples(cache, noise=NOISE, length=asked.questions), read_recipe(cache)

    def recipe_of(self, row: dict[str, Any], seed: int) -> TalkRecipe:
        """Return the recipe of a row."""
        asked = self.asked
        sizes = {name: value for name, value in row.items() if name not in (*RECIPE_FIELDS, *STAGE_FIELDS, 'student')}
        config = kitchen_config(
            d_vision=vision_width(self.encoder.model.config),
            vocabulary=self.tokenizer.vocabulary,
            d=asked.width,
            layers=asked.layers,
            side=asked.side,
            **sizes,
        )
        budget = {'batch': asked.batch, 'lr': asked.lr, 'optimiser': asked.optimiser}
        return TalkRecipe(
            config,
            Words(samples=asked.words, **budget) if asked.words else None,
            Connect(samples=asked.connect, **budget) if asked.connect and row['variant'] != 'emma' else None,
            Chat(samples=asked.samples, **budget, **row.get('chat', {})),
            Distil(samples=asked.distil, **budget, **row.get('distil', {})) if row.get('student') else None,
            seed=seed,
            **{'share': asked.share} | {name: row[name] for name in RECIPE_FIELDS if name in row},
        )

    def train(self, name: str, seed: int) -> tuple[TalkCheckpoint, float]:
        """Train the model of a row; return it with the seconds of its training, for a student of its distillation."""
        row, folder = ALL_ROWS[name], self.asked.out / f'{name}-{seed}'
        if (folder / 'done.json').exists():
            return load_talk(folder / 'checkpoint'), json.loads((folder / 'done.json').read_text())['seconds']
        teacher = self.train('teacher', seed)[0].model if row.get('student') else None
        self.data.pixels = row['variant'] == 'emma' and row.get('aligned', True) and row.get('target') != 'deep'
        print_status(f'{name}, seed {seed}')
        run = TalkRun(
            self.recipe_of(row, seed),
            self.data,
            self.views,
            self.tokenizer,
            folder,
            encoder=(self.encoder.model.adapters['rgb'], self.encoder.model.config.patch),
            session=TrainingSession(bf16=self.asked.bf16, resume=True, report=progress_reporter(stages=True)),
        )
        config, model = run.train(teacher)
        seconds = sum(outcome.seconds for outcome in run.outcomes.values())
        save_talk(
            folder / 'checkpoint',
            TalkCheckpoint(model, config, self.tokenizer, self.encoder.model_id, name),
            card='# A run of a benchmark\n',
        )
        write(folder / 'done.json', {'seconds': round(seconds, 3)})
        return load_talk(folder / 'checkpoint'), seconds

    def figures_path(self, name: str, seed: int) -> Path:
        """Return the path of the figures of a row and a seed."""
        return self.asked.out / f'{name}-{seed}' / f'measured-{self.asked.questions}-{self.asked.told}.json'

    def measure(self, name: str, seed: int) -> dict[str, Any]:
        """Train and test a row with one seed, or load its earlier figures."""
        path = self.figures_path(name, seed)
        if not path.exists():
            write(path, self._measured(name, seed))
        return json.loads(path.read_text())

    def _measured(self, name: str, seed: int) -> dict[str, Any]:
        checkpoint, seconds = self.train(name, seed)
        scores = talk_scores(ask_talker(checkpoint, self.encoder, self.test))
        descriptions = description_scores(describe_views(checkpoint, self.encoder, self.test, views=self.asked.told))
        size = sum(p.numel() for p in checkpoint.model.parameters())
        return {
            'seed': seed,
            'parameters': size,
            'seconds': round(seconds, 3),
            'accuracy': scores['all']['accuracy'],
            'one_frame': scores['answerable_from_one_frame']['accuracy'],
            'fine_spatial': scores['fine_spatial']['accuracy'],
            'pope': scores.get('pope'),
            'descriptions': descriptions,
        }


def steps_to_same_loss(out: Path, seed: int) -> dict[str, Any]:
    """Return the steps of distillation after which the seeded student has the final loss of the random one."""
    logs = {
        name: [json.loads(line) for line in (out / f'{name}-{seed}/3_distil' / LOG).read_text().splitlines()]
        for name in ('seeded', 'random')
    }
    totals = {name: [(entry['step'], sum(entry['losses'].values())) for entry in log] for name, log in logs.items()}
    goal = totals['random'][-1][1]
    reached = next((step for step, loss in totals['seeded'] if loss <= goal), None)
    return {'seed': seed, 'loss': round(goal, 6), 'random_steps': totals['random'][-1][0], 'seeded_steps': reached}


def table(found: dict[str, list[dict[str, Any]]], out: Path) -> dict[str, Any]:
    """Return the rows with means over seeds, and the comparison of the students."""
    rows = {
        name: {
            'runs': runs,
            'accuracy_mean': round(statistics.mean(r['accuracy']['value'] for r in runs), 6),
            'fine_spatial_mean': round(statistics.mean(r['fine_spatial']['value'] for r in runs), 6),
        }
        for name, runs in found.items()
    }
    result: dict[str, Any] = {'rows': rows}
    if {'teacher', 'seeded'} <= rows.keys():
        share = rows['seeded']['accuracy_mean'] / max(1e-9, rows['teacher']['accuracy_mean'])
        result['accuracy_kept'] = round(share, 6)
    if {'seeded', 'random'} <= rows.keys():
        result['steps_to_same_loss'] = [steps_to_same_loss(out, run['seed']) for run in found['random']]
    return result


def options() -> argparse.Namespace:
    """Parse the command line."""
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    found.add_argument('--data', type=Path, nargs='+', required=True, help='caches of training kitchens')
    found.add_argument('--test', default='test', help='cache to measure on; test and validation are standard ones')
    found.add_argument('--out', type=Path, required=True, help='folder of the runs')
    found.add_argument('--views', type=Path, help='folder of encoded views; default in --out')
    found.add_argument('--results', type=Path, help='JSON file to write; default in benchmarks/results')
    found.add_argument('--rows', nargs='+', choices=list(ALL_ROWS), default=list(ROWS))
    found.add_argument('--seeds', type=lambda text: [int(word) for word in text.split(',')], default='0')
    found.add_argument('--sight', default='kitchen', help='M3ET that encodes the views')
    for name, value in (
        ('every', 4),
        ('side', 9),
        ('width', 192),
        ('layers', 4),
        ('samples', 16_000),
        ('words', 800),
        ('connect', 800),
        ('distil', 4_800),
        ('batch', 16),
        ('each', 8),
        ('questions', 2000),
        ('told', 200),
    ):
        found.add_argument(f'--{name}', type=int, default=value)
    found.add_argument('--lr', type=float, default=1.5e-3)
    found.add_argument('--optimiser', choices=OPTIMISERS, default='muon')
    found.add_argument('--share', type=float, default=0.25)
    found.add_argument(
        '--so-far', action='store_true', help='train nothing and write the table of the existing figures'
    )
    found.add_argument('--bf16', action='store_true', help='matrix products in bfloat16')
    return found.parse_args()


def main() -> None:
    """Train and test row by row, and write the table after each."""
    asked = options()
    torch.set_flush_denormal(True)
    bench = TalkBench(asked)
    settings = {
        name: value
        for name, value in vars(asked).items()
        if name not in ('data', 'out', 'views', 'results', 'test', 'so_far')
    }
    found: dict[str, list[dict[str, Any]]] = {}
    for name in asked.rows:
        seeds = [seed for seed in asked.seeds if not asked.so_far or bench.figures_path(name, seed).exists()]
        if not seeds:
            continue
        found[name] = [bench.measure(name, seed) for seed in seeds]
        write(
            asked.results or RESULTS / 'talk.json',
            {
                'made_by': {
                    'command': 'python benchmarks/talk.py',
                    'settings': settings,
                    'sight': bench.encoder.model_id,
                    'data': [read_recipe(folder).name for folder in asked.data],
                    'test': bench.recipe.name,
                    'environment': environment(torch.device('cpu')),
                },
                **table(found, asked.out),
            },
        )


if __name__ == '__main__':
    run_script(main)
