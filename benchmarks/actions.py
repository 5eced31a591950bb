"""Measure what the parts of the action head contribute: shared or disjoint A, questions, Mamba against Transformer.

    python benchmarks/actions.py --model kitchen --data CACHE ... --test CACHE ... --out runs/actions
                                                                # writes benchmarks/results/actions.json

Each variant of MambaVL is trained on the same windows with the same steps and seeds, and tested on test kitchens
against guesses from true labels: the commonest action, the last action again, and the commonest successor of the last.
The caches hold episodes (`m3et generate cache --stride 4 --frames 100`), and one frozen model encodes every frame once.
The Transformer variant has causal attention blocks of the mixers' size in their place. The paper's form reads all
patches of every frame, which are encoded only where it is asked for. Figures are written after each run.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from runs import RESULTS, run_script, write
from torch import Tensor, nn

from m3et_ros.cli.output import print_status
from m3et_ros.cli.progress import track
from m3et_ros.data.features.episodes import encode_episodes
from m3et_ros.data.kitchen.cache.episodes import frame_rate
from m3et_ros.data.kitchen.cache.recipe import read_recipe
from m3et_ros.evaluation.files import made_by
from m3et_ros.evaluation.tasks.actions import Examiner, References, examine, reference_scores
from m3et_ros.layers.attention import TransformerBlock
from m3et_ros.models.actions.mambavl import MambaVL, MambaVLConfig
from m3et_ros.models.m3et.adapters import sincos_2d
from m3et_ros.runtime.open_model import action_config, open_checkpoint
from m3et_ros.training.actions import Act, Windows, train_head
from m3et_ros.training.run_state import TrainingSession

VARIANTS = {'shared_A': {}, 'disjoint_A': {'shared_A': False}, 'without_questions': {}, 'transformer': {}, 'paper': {}}
FIGURES = ('top1', 'top5', 'mean_top5_recall_unbalanced')
LONGEST = 1024
"""Most tokens for the Transformer's positions."""


class Attentive(nn.Module):
    """A causal Transformer block of about the size of the mixer that it replaces."""

    def __init__(self, mixer: nn.Module, d: int, heads: int = 4):
        super().__init__()
        size = sum(parameter.numel() for parameter in mixer.parameters())
        self.block = TransformerBlock(d=d, heads=heads, mlp_ratio=max(0.25, (size / d**2 - 4) / 2))
        self.register_buffer('positions', sincos_2d(LONGEST, 1, d), persistent=False)

    def forward(self, u: Tensor, *, mask: Tensor | None = None, A_log: Tensor | None = None) -> Tensor:
        """Return the outputs (B, L, d) for a whole sequence, as the mixer does."""
        y = self.block(u + self.positions[: u.shape[1]], mask=mask, causal=True)
        return y if mask is None else y.masked_fill(~mask[..., None], 0)


def build(variant: str, config: MambaVLConfig, seed: int) -> MambaVL:
    """Build the head of a variant with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = MambaVL(replace(config, **VARIANTS[variant]))
        if variant == 'transformer':
            head.video_mixer, head.text_mixer = (
                Attentive(mixer, config.d) for mixer in (head.video_mixer, head.text_mixer)
            )
            head.A_log.requires_grad_(False)  # it has no effect
        return head


def main() -> None:
    """Encode the caches, train and test every variant with every seed, and write the figures."""
    asked = options()
    checkpoint = open_checkpoint(asked.model)
    forms = sorted({variant == 'paper' for variant in asked.variants})
    encoded = {paper: encode(checkpoint, asked, paper=paper) for paper in forms}
    configs = {
        paper: action_config(checkpoint.model.config, checkpoint.labels, paper=paper, rate_hz=frame_rate(asked.data))
        for paper in forms
    }
    document: dict[str, Any] = {
        'made_by': made_by(
            f'python benchmarks/actions.py --model {asked.model}',
            checkpoint,
            read_recipe(asked.test[0]),
            data=[read_recipe(folder).name for folder in asked.data],
            **{name: getattr(asked, name) for name in ('seeds', 'samples', 'length', 'batch')},
        ),
        'references': reference_scores(References(encoded[forms[0]][0][1]), encoded[forms[0]][1][1]),
        'variants': {},
    }
    for seed in asked.seeds:
        for variant in asked.variants:
            print_status(f'{variant}, seed {seed}')
            eyes = encoded[variant == 'paper']
            head, parameters = trained(variant, configs[variant == 'paper'], seed, asked, checkpoint, eyes[0])
            scores = examine(
                Examiner(head, *eyes[1], checkpoint.tokenizer, checkpoint.labels, checkpoint.model.config.text_length),
                ask=variant != 'without_questions',
            )
            row = document['variants'].setdefault(variant, {'parameters': parameters, 'seeds': {}})
            row['seeds'][str(seed)] = brief(scores)
            row['means'] = means(list(row['seeds'].values()))
            write(asked.results or RESULTS / 'actions.json', document)


def encode(checkpoint: Any, asked: argparse.Namespace, *, paper: bool) -> list[tuple[np.ndarray, Sequence]]:
    """Return tokens and episodes of the training and the test caches; all patches of a frame for the paper's form."""
    return [
        encode_episodes(
            checkpoint,
            folders,
            asked.out / (f'{name}-paper' if paper else name),
            bf16=asked.bf16,
            whole=paper,
            progress=track,
        )
        for name, folders in (('train', asked.data), ('test', asked.test))
    ]


def trained(
    variant: str,
    config: MambaVLConfig,
    seed: int,
    asked: argparse.Namespace,
    checkpoint: Any,
    eyes: tuple[np.ndarray, Sequence],
) -> tuple[MambaVL, int]:
    """Train a head; return it with its number of trainable parameters."""
    head = build(variant, config, seed)
    data = Windows(*eyes, checkpoint.labels, length=asked.length, ask=variant != 'without_questions', seed=seed)
    folder = asked.out / f'{variant}-{seed}'
    _, head, _ = train_head(
        head,
        data,
        checkpoint.tokenizer,
        checkpoint.model.config.text_length,
        folder,
        recipe=Act(samples=asked.samples, batch=asked.batch),
        seed=seed,
        session=TrainingSession(resume=True).of_stage(folder),
    )
    return head.eval(), sum(p.numel() for p in head.parameters() if p.requires_grad)


def brief(scores: dict) -> dict[str, Any]:
    """Return task -> way -> kind -> figures over all targets, without the split by seen and unseen pairs."""
    return {
        task: {way: subsets['all'] for way, subsets in ways.items() if way != 'left_out'}
        for task, ways in scores.items()
    }


def means(scores: Sequence[dict]) -> dict[str, Any]:
    """Return means over seeds, task -> way -> figure of the action, from the output of `brief`."""
    return {
        task: {
            way: {
                figure: round(float(np.mean([score[task][way]['action'][figure]['value'] for score in scores])), 6)
                for figure in FIGURES
            }
            for way in ways
        }
        for task, ways in scores[0].items()
    }


def options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', default='kitchen', help='model that encodes the frames')
    parser.add_argument('--data', type=Path, nargs='+', required=True, help='caches of training episodes')
    parser.add_argument('--test', type=Path, nargs='+', required=True, help='caches of test episodes')
    parser.add_argument('--out', type=Path, required=True, help='folder of tokens and runs')
    parser.add_argument('--results', type=Path, help='JSON file; default in benchmarks/results')
    parser.add_argument('--seeds', type=lambda text: [int(word) for word in text.split(',')], default='0,1,2')
    parser.add_argument('--samples', type=int, default=Act.samples, help='windows of each training')
    parser.add_argument('--length', type=int, default=100, help='frames of a window')
    parser.add_argument('--batch', type=int, default=Act.batch)
    parser.add_argument('--variants', nargs='+', choices=sorted(VARIANTS), default=list(VARIANTS))
    parser.add_argument('--bf16', action='store_true', help='encode frames in bfloat16')
    return parser.parse_args()


if __name__ == '__main__':
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    run_script(main)
