"""What each part of M3ET is good for: the same budget without it, and the whole model with a modality missing.

    python benchmarks/ablations.py --data CACHE ... --out runs/ablations  # writes benchmarks/results/ablations.json

At the defaults that is eight trainings of 350,000 views: about a day on two CPU cores, an hour or two on a large GPU
with --bf16; every line of progress tells the time left. --rows takes some of the rows, --minutes cuts it into sittings.
Rows that exist are not trained again, and the table is written after each row. A row of benchmarks/twin.py of the same
options does not stand in for one: folders differ.

Rows, by docs/papers.md 2.1 and 2.6: `full`; no_semantic_bias, no_gate, no_cross_attention (the paper's 16 dB),
all_transformer and all_mamba differ from it in one field; rgb_only never sees depth, in training or test; blind is
trained and tested on words alone, the best guess that can be learnt. depth_missing, rgb_missing and images_missing are
the model of `full`, tested without.
"""

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from runs import RESULTS, Bench, parser, told_to_end, write
from scores import Exam, Rows, differences, figures, measure
from torch import Tensor, nn

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.sample import Sample
from m3et_ros.evaluation.tasks.vqa import SHOWN
from m3et_ros.models.m3et.cost import parameters_of
from m3et_ros.models.m3et.sizes import SIZES
from m3et_ros.training.losses import answer_loss, generation_loss
from m3et_ros.training.m3et import Answer


class WithoutDepth(KitchenSamples):
    """Kitchens through a camera without depth; what depth should be is still known."""

    def __getitem__(self, index: int) -> Sample:
        """See KitchenSamples."""
        sample = super().__getitem__(index)
        truth = sample.depth if sample.clean_depth is None else sample.clean_depth
        return replace(sample, depth=None, clean_depth=truth)


@dataclass(frozen=True)
class Blind(Answer):
    """Stage 2 on words alone."""

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return answer and words."""
        encoded = model.add_text(None, batch['text'], batch['text_mask'])
        found = {'answer': self.answer * answer_loss(model.answer_logits(encoded), batch['scores'], batch['asked'])}
        if self.words:
            logits = model.text_logits(encoded, batch['answer'][:, :-1])
            found['words'] = self.words * generation_loss(logits, batch['answer'], batch['answer_mask'])
        return found


@dataclass(frozen=True)
class Row:
    """A model, how it is trained and what it is shown when it is tested."""

    # Fields of the config; a schedule of one letter is repeated for every layer.
    changes: Mapping[str, Any] = field(default_factory=dict)
    # How kitchens are read, in training and test.
    samples: type[KitchenSamples] = KitchenSamples
    # Images that come with a question in the test.
    shown: tuple[str, ...] = SHOWN
    # Whether pictures are rebuilt and labelled in the test.
    dense: bool = True
    # Trained by words alone.
    blind: bool = False
    # Not trained: the model of `full`, tested otherwise.
    borrowed: bool = False


ROWS = {
    'full': Row(),
    'no_semantic_bias': Row({'semantic_bias': False}),
    'no_gate': Row({'gate': False}),
    'no_cross_attention': Row({'cross_attention': False}),
    'all_transformer': Row({'schedule': 'T'}),
    'all_mamba': Row({'schedule': 'M'}),
    'rgb_only': Row(samples=WithoutDepth, shown=('rgb',)),
    'blind': Row(shown=(), dense=False, blind=True),
    'depth_missing': Row(samples=WithoutDepth, shown=('rgb',), borrowed=True),
    'rgb_missing': Row(shown=('depth',), dense=False, borrowed=True),
    'images_missing': Row(shown=(), dense=False, borrowed=True),
}


def start(bench: Bench, row: Row, seed: int) -> Checkpoint:
    """The model of a row with random weights."""
    layers = len(SIZES[bench.options.size].schedule)
    changes = {name: value * layers if name == 'schedule' else value for name, value in row.changes.items()}
    return bench.start(seed, **changes)


def trained(bench: Bench, row: Row, folder: Path, seed: int) -> tuple[Checkpoint, list[float]]:
    """The model of a row after its stages, and the seconds of its training."""
    recipes = (Blind(**asdict(bench.stages[1])),) if row.blind else bench.stages
    checkpoint, seconds = bench.train(start(bench, row, seed), folder, seed, recipes=recipes, samples=row.samples)
    return checkpoint, [seconds]


@dataclass
class Result:
    """What is known of a row."""

    checkpoint: Checkpoint
    tests: list[Rows] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def entry(name: str, result: Result, full: Result) -> dict[str, Any]:
    """A row as the table has it."""
    row, config, whole = ROWS[name], result.checkpoint.model.config, full.checkpoint.model.config.to_dict()
    less = {} if result is full else {'less_full': differences(result.tests, full.tests[: len(result.tests)])}
    return {
        'changes': {key: value for key, value in config.to_dict().items() if value != whole[key]},
        'model_of_full': row.borrowed,
        'trained_without': _lacking(row),
        'shown_with_questions': list(row.shown),
        'parameters': sum(parameters_of(config).values()),
        'training_seconds': [round(seconds, 1) for seconds in result.seconds],
        **figures(result.tests),
        **less,
    }


def _lacking(row: Row) -> list[str]:
    """Images that the model never saw in training."""
    if row.borrowed:
        return []
    return ['rgb', 'depth', 'semseg'] if row.blind else ['depth'] if row.samples is WithoutDepth else []


def options() -> argparse.Namespace:
    """What was asked for; `full` always comes first."""
    found = parser(__doc__, one=200_000, two=150_000, seeds='0')
    found.add_argument('--rows', nargs='+', choices=list(ROWS), default=list(ROWS), help='only these, and full')
    asked = found.parse_args()
    asked.rows = [name for name in ROWS if name == 'full' or name in asked.rows]
    return asked


def main() -> None:
    """Train what is not borrowed, test every row and write the table."""
    asked = options()
    bench = Bench(asked, len(asked.seeds) * sum(not ROWS[name].borrowed for name in asked.rows))
    results: dict[str, Result] = {}
    table: dict[str, Any] = {}
    for seed in asked.seeds:
        full: Checkpoint | None = None
        for name in asked.rows:
            row, folder = ROWS[name], asked.out / f'{"full" if ROWS[name].borrowed else name}-{seed}'
            checkpoint, seconds = (full, []) if row.borrowed else trained(bench, row, folder, seed)
            full = full or checkpoint
            result = results.setdefault(name, Result(checkpoint))
            result.seconds += seconds
            result.tests.append(
                measure(
                    checkpoint,
                    folder / f'test_{name}',
                    Exam(bench.cache, asked.questions, asked.frames, row.samples, row.shown, row.dense),
                )
            )
            table[name] = entry(name, result, results['full'])
            write(asked.results or RESULTS / 'ablations.json', {**bench.made_by('ablations.py', full), 'rows': table})


if __name__ == '__main__':
    told_to_end(main)
