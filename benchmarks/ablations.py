"""Measure what each part of M3ET contributes: the full model against models without one part, at equal budget.

    python benchmarks/ablations.py --data CACHE ... --out runs/ablations  # writes benchmarks/results/ablations.json

Each model is trained on the same views and tested on the same questions and frames; three more rows test the full model
with a modality missing. The defaults are twelve trainings of 350,000 views, a day and a half on two CPU cores, two or
three hours on a large GPU with --bf16; progress lines report the time left. --rows takes only some rows. With
--samples-two 0 models learn and are tested on the reconstruction of images alone, without the rows about questions.
With --from MODEL every row starts from trained weights instead of random ones, and --samples-one 0 --samples-two N says
how long each adapts to its change; `blind` and rows with other layers are left out.
--minutes divides the work into sessions. Completed rows are not trained again, and the table is written after each row.
A row of benchmarks/twin.py with the same options is not reused, because its folder differs.

Rows (docs/papers.md 2.1, 2.6): no_semantic_bias, no_gate, no_cross_attention (the paper's 16 dB), all_transformer and
all_mamba differ from `full` in one field, and so do encoded_queries, context_positions and cross_mlp, which add to the
decoders what MultiMAE's have; multimae_decoder adds all three and a second block, and leaves out the gate and the
semantic bias; bare_decoder has none of the three. A row that is `full` itself at this size is left out. In images_hear
the images attend to the words of each question, so that a question costs the encoder's pass over the images. rgb_only
is trained and tested without depth. blind is trained and tested on text alone, which gives the best guess that can be
learnt. depth_missing, rgb_missing and images_missing test `full` without that input.
"""

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from runs import RESULTS, Bench, parser, run_script, write
from scores import Exam, Rows, differences, figures, measure
from torch import Tensor, nn

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.sample import Sample
from m3et_ros.evaluation.tasks.vqa import SHOWN
from m3et_ros.models.m3et.cost import parameters_of
from m3et_ros.models.m3et.sizes import MULTIMAE_DECODERS, SIZES
from m3et_ros.runtime.open_model import open_checkpoint
from m3et_ros.training.losses import answer_loss, generation_loss
from m3et_ros.training.m3et import Answer


class WithoutDepth(KitchenSamples):
    """Kitchens seen by a camera without depth; the true depth remains the target."""

    def __getitem__(self, index: int) -> Sample:
        """Return the sample without its depth."""
        sample = super().__getitem__(index)
        truth = sample.depth if sample.clean_depth is None else sample.clean_depth
        return replace(sample, depth=None, clean_depth=truth)


@dataclass(frozen=True)
class Blind(Answer):
    """Stage 2 on text alone."""

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the losses answer and words."""
        encoded = model.add_text(None, batch['text'], batch['text_mask'])
        found = {'answer': self.answer * answer_loss(model.answer_logits(encoded), batch['scores'], batch['asked'])}
        if self.words:
            logits = model.text_logits(encoded, batch['answer'][:, :-1])
            found['words'] = self.words * generation_loss(logits, batch['answer'], batch['answer_mask'])
        return found


@dataclass(frozen=True)
class Row:
    """A model, its training, and its inputs in the test."""

    # Fields of the config; a schedule of one letter is repeated for every layer.
    changes: Mapping[str, Any] = field(default_factory=dict)
    # Data set class, in training and test.
    samples: type[KitchenSamples] = KitchenSamples
    # Images that accompany a question in the test.
    shown: tuple[str, ...] = SHOWN
    # Test the reconstruction of images, too.
    dense: bool = True
    # Train on text alone.
    blind: bool = False
    # Use the model of `full` instead of training one.
    borrowed: bool = False


ROWS = {
    'full': Row(),
    'no_semantic_bias': Row({'semantic_bias': False}),
    'no_gate': Row({'gate': False}),
    'no_cross_attention': Row({'cross_attention': False}),
    'encoded_queries': Row({'decoder_queries': 'encoded'}),
    'context_positions': Row({'context_positions': True}),
    'cross_mlp': Row({'cross_mlp': True}),
    'bare_decoder': Row({'decoder_queries': 'tokens', 'context_positions': False, 'cross_mlp': False}),
    'multimae_decoder': Row(MULTIMAE_DECODERS),
    'images_hear': Row({'images_hear': True}),
    'all_transformer': Row({'schedule': 'T'}),
    # Without a T layer nothing points, so answers are not read from places.
    'all_mamba': Row({'schedule': 'M', 'places': False, 'answer_parts': 0, 'look_parts': 0}),
    'rgb_only': Row(samples=WithoutDepth, shown=('rgb',)),
    'blind': Row(shown=(), dense=False, blind=True),
    'depth_missing': Row(samples=WithoutDepth, shown=('rgb',), borrowed=True),
    'rgb_missing': Row(shown=('depth',), dense=False, borrowed=True),
    'images_missing': Row(shown=(), dense=False, borrowed=True),
}


def start(bench: Bench, row: Row, seed: int) -> Checkpoint:
    """Build the model of a row with random weights."""
    layers = len(bench.base.model.config.schedule)
    changes = {name: value * layers if name == 'schedule' else value for name, value in row.changes.items()}
    return bench.start(seed, **changes)


def trained(bench: Bench, row: Row, folder: Path, seed: int) -> tuple[Checkpoint, list[float]]:
    """Train the model of a row; return it with the seconds of its training."""
    recipes = (Blind(**asdict(bench.stages[-1])),) if row.blind else bench.stages
    checkpoint, seconds = bench.train(start(bench, row, seed), folder, seed, recipes=recipes, samples=row.samples)
    return checkpoint, [seconds]


@dataclass
class Result:
    """Results of a row so far."""

    checkpoint: Checkpoint
    tests: list[Rows] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def entry(name: str, result: Result, full: Result) -> dict[str, Any]:
    """Return a row of the table."""
    row, config, reference = ROWS[name], result.checkpoint.model.config, full.checkpoint.model.config.to_dict()
    less = {} if result is full else {'less_full': differences(result.tests, full.tests[: len(result.tests)])}
    return {
        'changes': {key: value for key, value in config.to_dict().items() if value != reference[key]},
        'model_of_full': row.borrowed,
        'trained_without': _missing_in_training(row),
        'shown_with_questions': list(row.shown),
        'parameters': sum(parameters_of(config).values()),
        'training_seconds': [round(seconds, 1) for seconds in result.seconds],
        **figures(result.tests),
        **less,
    }


def _missing_in_training(row: Row) -> list[str]:
    """Return the images that training did not show."""
    if row.borrowed:
        return []
    if row.blind:
        return ['rgb', 'depth', 'semseg']
    return ['depth'] if row.samples is WithoutDepth else []


def options() -> tuple[argparse.Namespace, Checkpoint | None]:
    """Parse the command line and open the model of --from.

    `full` is always the first row; rows equal to it, or without a test, are left out.
    """
    found = parser(__doc__, one=200_000, two=150_000, seeds='0')
    found.add_argument('--rows', nargs='+', choices=list(ROWS), default=list(ROWS), help='only these, and full')
    found.add_argument('--from', dest='start', help='trained model from which all start: a name or folder')
    asked = found.parse_args()
    weights = open_checkpoint(asked.start) if asked.start else None
    if weights:
        asked.size, asked.start = weights.model.config.name, weights.model_id
    full = (weights.model.config if weights else SIZES[asked.size]).to_dict()
    left_out = {name for name, row in ROWS.items() if row.changes and row.changes.items() <= full.items()}
    if not asked.samples_two:
        asked.questions = 0
        left_out |= {name for name, row in ROWS.items() if row.blind or not row.dense or 'images_hear' in row.changes}
    if weights:
        left_out |= {name for name, row in ROWS.items() if 'schedule' in row.changes or row.blind}
    asked.rows = [name for name in ROWS if name == 'full' or (name in asked.rows and name not in left_out)]
    return asked, weights


def main() -> None:
    """Train every row that has its own model, test all rows and write the table."""
    asked, weights = options()
    bench = Bench(asked, len(asked.seeds) * sum(not ROWS[name].borrowed for name in asked.rows), weights)
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
    run_script(main)
