"""The generative family at equal data and steps: connectors, EMMA's alignment, MaTVLM's students and their teacher.

    python benchmarks/talk.py --data CACHE ... --out runs/bench_talk   # writes benchmarks/results/talk.json

Rows, all with the same views, questions, steps and language width:
    connectors   mlp, basic, advanced, cross: ML-Mamba behind each connector (docs/papers.md, section 4)
    alignment    emma_plain, emma_pal, emma_pal_mff: EMMA without its head, on the last layer, on several (section 5)
    students     teacher, seeded, random: MaTVLM's teacher, and its hybrid from attention's weights or from random ones
                 (section 6), with the steps after which the seeded one has the loss that the random one ends with
--seeds takes several seeds; a row's accuracy is then their mean. What was trained is not trained again, what was broken
off goes on, and the table is written after each row. --rows takes some of the rows.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from runs import RESULTS, told_to_end, write

from m3et_ros.cli.output import note
from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.checkpoints.talk import TalkCheckpoint, load_talk, save_talk
from m3et_ros.data.errors import InputError
from m3et_ros.data.features import see_views
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.kitchen.cache.dialogues import TalkViews
from m3et_ros.data.kitchen.cache.recipe import read_recipe
from m3et_ros.evaluation.report.files import environment
from m3et_ros.evaluation.standard_caches import find_cache
from m3et_ros.evaluation.tasks.talk import ask_talker, description_scores, talk_scores, tell_talker
from m3et_ros.evaluation.tasks.vqa import NOISE
from m3et_ros.models.vlm.variants import kitchen_config, vision_width
from m3et_ros.runtime.open_model import open_checkpoint
from m3et_ros.training.loop import LOG, TrainingSession
from m3et_ros.training.optim import OPTIMISERS
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
COURSE = ('aligned', 'fusion', 'seeded')
"""Keys of a row that are fields of the course; the others but student are arguments of kitchen_config."""


class Bench:
    """Views, questions and budget that all rows share."""

    def __init__(self, asked: argparse.Namespace):
        self.asked = asked
        self.sight: Checkpoint = open_checkpoint(asked.sight)
        if any(read_recipe(folder).split != 'train' for folder in asked.data):
            raise InputError('split', f'{asked.data[0]} holds no training kitchens; no model may learn from others.')
        grid = (asked.side, asked.side)
        self.views = see_views(
            self.sight, asked.data, asked.views or asked.out / 'views', every=asked.every, grid=grid, bf16=asked.bf16
        )
        self.data = TalkViews(asked.data, self.views.frames, each=asked.each)
        self.tokenizer = talk_tokenizer()
        cache, missing = find_cache(asked.test)
        if missing:
            raise InputError('cache', f'The cache {cache} is not there; render it with m3et evaluate vqa first.')
        self.test, self.recipe = KitchenSamples(cache, noise=NOISE, length=asked.questions), read_recipe(cache)

    def course(self, row: dict[str, Any], seed: int) -> TalkRecipe:
        """What a row is and how it is trained."""
        asked = self.asked
        sizes = {name: value for name, value in row.items() if name not in (*COURSE, 'student')}
        config = kitchen_config(
            d_vision=vision_width(self.sight.model.config),
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
            Chat(samples=asked.samples, **budget),
            Distil(samples=asked.distil, **budget) if row.get('student') else None,
            share=asked.share,
            seed=seed,
            **{name: row[name] for name in COURSE if name in row},
        )

    def train(self, name: str, seed: int) -> tuple[TalkCheckpoint, float]:
        """The model of a row, and the seconds that its training took; a student's are those of its distillation."""
        row, folder = ROWS[name], self.asked.out / f'{name}-{seed}'
        if (folder / 'done.json').exists():
            return load_talk(folder / 'checkpoint'), json.loads((folder / 'done.json').read_text())['seconds']
        teacher = self.train('teacher', seed)[0].model if row.get('student') else None
        self.data.pixels = row['variant'] == 'emma' and row.get('aligned', True)
        run = TalkRun(
            self.course(row, seed),
            self.data,
            self.views,
            self.tokenizer,
            folder,
            tell=_teller(name),
            sitting=TrainingSession(bf16=self.asked.bf16, resume=folder.exists()),
        )
        config, model = run.train(teacher)
        seconds = sum(outcome.seconds for outcome in run.outcomes.values())
        save_talk(
            folder / 'checkpoint',
            TalkCheckpoint(model, config, self.tokenizer, self.sight.model_id, name),
            card='# A run of a benchmark\n',
        )
        write(folder / 'done.json', {'seconds': round(seconds, 3)})
        return load_talk(folder / 'checkpoint'), seconds

    def kept(self, name: str, seed: int) -> Path:
        """Where the figures of a row and a seed are kept."""
        return self.asked.out / f'{name}-{seed}' / f'measured-{self.asked.questions}-{self.asked.told}.json'

    def measure(self, name: str, seed: int) -> dict[str, Any]:
        """Train a row with one seed and test it; what was tested is not tested again."""
        kept = self.kept(name, seed)
        if not kept.exists():
            write(kept, self._measured(name, seed))
        return json.loads(kept.read_text())

    def _measured(self, name: str, seed: int) -> dict[str, Any]:
        checkpoint, seconds = self.train(name, seed)
        scores = talk_scores(ask_talker(checkpoint, self.sight, self.test))
        told = description_scores(tell_talker(checkpoint, self.sight, self.test, views=self.asked.told))
        size = sum(p.numel() for p in checkpoint.model.parameters())
        return {
            'seed': seed,
            'parameters': size,
            'seconds': round(seconds, 3),
            'accuracy': scores['all']['accuracy'],
            'one_frame': scores['answerable_from_one_frame']['accuracy'],
            'fine_spatial': scores['fine_spatial']['accuracy'],
            'pope': scores.get('pope'),
            'descriptions': told,
        }


def _teller(name: str) -> Callable[[str, dict], None]:
    return lambda stage, entry: note(
        f'{name}, {stage}: step {entry["step"]:,} of {entry["steps"]:,}, {entry["samples_per_second"]:.0f} views/s'
    )


def steps_to_same_loss(out: Path, seed: int) -> dict[str, Any]:
    """Steps of the distillation after which the seeded student has the last loss of the random one."""
    logs = {
        name: [json.loads(line) for line in (out / f'{name}-{seed}/3_distil' / LOG).read_text().splitlines()]
        for name in ('seeded', 'random')
    }
    totals = {name: [(entry['step'], sum(entry['losses'].values())) for entry in log] for name, log in logs.items()}
    goal = totals['random'][-1][1]
    reached = next((step for step, loss in totals['seeded'] if loss <= goal), None)
    return {'seed': seed, 'loss': round(goal, 6), 'random_steps': totals['random'][-1][0], 'seeded_steps': reached}


def table(found: dict[str, list[dict[str, Any]]], out: Path) -> dict[str, Any]:
    """Rows with means over seeds, and what the students come to."""
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
        kept = rows['seeded']['accuracy_mean'] / max(1e-9, rows['teacher']['accuracy_mean'])
        result['accuracy_kept'] = round(kept, 6)
    if {'seeded', 'random'} <= rows.keys():
        result['steps_to_same_loss'] = [steps_to_same_loss(out, run['seed']) for run in found['random']]
    return result


def options() -> argparse.Namespace:
    """What was asked for."""
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    found.add_argument('--data', type=Path, nargs='+', required=True, help='caches of training kitchens')
    found.add_argument('--test', default='test', help='cache to measure on; test and validation are standard ones')
    found.add_argument('--out', type=Path, required=True, help='folder of the runs')
    found.add_argument('--views', type=Path, help='folder of encoded views; default in --out')
    found.add_argument('--results', type=Path, help='JSON file to write; default in benchmarks/results')
    found.add_argument('--rows', nargs='+', choices=list(ROWS), default=list(ROWS))
    found.add_argument('--seeds', type=lambda text: [int(word) for word in text.split(',')], default='0')
    found.add_argument('--sight', default='kitchen', help='M3ET whose sight is read')
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
    found.add_argument('--so-far', action='store_true', help='train nothing: the table of what has been measured')
    found.add_argument('--bf16', action='store_true', help='matrix products in bfloat16')
    return found.parse_args()


def main() -> None:
    """Train and test row after row, and write the table after each."""
    asked = options()
    torch.set_flush_denormal(True)
    bench = Bench(asked)
    settings = {
        name: value
        for name, value in vars(asked).items()
        if name not in ('data', 'out', 'views', 'results', 'test', 'so_far')
    }
    found: dict[str, list[dict[str, Any]]] = {}
    for name in asked.rows:
        seeds = [seed for seed in asked.seeds if not asked.so_far or bench.kept(name, seed).exists()]
        if not seeds:
            continue
        found[name] = [bench.measure(name, seed) for seed in seeds]
        write(
            asked.results or RESULTS / 'talk.json',
            {
                'made_by': {
                    'command': 'python benchmarks/talk.py',
                    'settings': settings,
                    'sight': bench.sight.model_id,
                    'data': [read_recipe(folder).name for folder in asked.data],
                    'test': bench.recipe.name,
                    'environment': environment(torch.device('cpu')),
                },
                **table(found, asked.out),
            },
        )


if __name__ == '__main__':
    told_to_end(main)
