"""Samples from any source for training and evaluation, and batches of them as a model takes them.

Symbols: B batch, Q questions of a sample, H, W height and width of a view, S image side of the model, s side of its
    label map, T text tokens, A candidate answers.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from m3et_ros.data.frame import check_arrays
from m3et_ros.data.preprocess import DepthScale, depth_input, depth_scale, rgb_input, squeeze_depth, squeeze_labels
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.m3et.config import M3ETConfig

NO_ACTION = (-1, -1)
"""Verb and noun where no action is known or under way."""


@dataclass(frozen=True)
class QuestionAnswers:
    """One question about a view, with its answers."""

    # In words; empty for none.
    question: str = ''
    # Answer in words -> soft score in 0..1 (docs/papers.md 7.1); one answer of score 1 where there is no doubt.
    answers: Mapping[str, float] = field(default_factory=dict)
    # Kind of question under which accuracies are reported, for example 'colour'.
    family: str = ''
    # True if the question can be answered with yes or no; None where that is not known.
    closed: bool | None = None

    @property
    def answer(self) -> str:
        """The answer of the highest score, the first on a draw; empty for none."""
        return max(self.answers, key=lambda answer: self.answers[answer], default='')


@dataclass(frozen=True)
class Sample:
    """One view and, where there are any, questions about it.

    Raises:
        ValueError: a shape or type is not as listed, or a score is outside 0..1.
    """

    # Colours, (H, W, 3) uint8, R G B.
    rgb: np.ndarray
    # Input depth in metres, (H, W) float32, NaN unknown; None without a depth camera.
    depth: np.ndarray | None = None
    # Class ids, (h, w) uint8, 255 unlabelled; any size, stretched over the same view. None without labels.
    semseg: np.ndarray | None = None
    # Target depth, like depth; None where depth itself is the best that is known.
    clean_depth: np.ndarray | None = None
    # One question in words; empty for none.
    question: str = ''
    # Answer in words -> soft score in 0..1 (docs/papers.md 7.1); one answer of score 1 where there is no doubt.
    answers: Mapping[str, float] = field(default_factory=dict)
    # Kind of question under which accuracies are reported, for example 'colour'.
    family: str = ''
    # True if the question can be answered with yes or no; None where that is not known.
    closed: bool | None = None
    # Further questions about the same view; all samples of a batch need equally many.
    further: tuple[QuestionAnswers, ...] = ()
    # Positions in Labels.verbs and Labels.nouns of the action under way; -1 for none.
    now: tuple[int, int] = NO_ACTION
    # The same of the action that follows.
    next: tuple[int, int] = NO_ACTION
    # Source of the sample, to be displayed in logs and tables: 'seed 12 tick 70'.
    key: str = ''
    # Seed of the simulated kitchen, and tick of its episode; None for samples of another source.
    seed: int | None = None
    tick: int | None = None

    def __post_init__(self):
        check_arrays(self.rgb, depth=self.depth, clean_depth=self.clean_depth)
        if self.semseg is not None and (self.semseg.ndim != 2 or self.semseg.dtype != np.uint8):
            raise ValueError(f'semseg is {self.semseg.dtype} {self.semseg.shape}; give uint8 (h, w)')
        wrong = [score for asked in self.asked for score in asked.answers.values() if not 0 <= score <= 1]
        if wrong:
            raise ValueError(f'answers hold a score of {wrong[0]}; give 0 to 1')

    @property
    def asked(self) -> tuple[QuestionAnswers, ...]:
        """All questions, the sample's own first."""
        return (QuestionAnswers(self.question, self.answers, self.family, self.closed), *self.further)

    @property
    def answer(self) -> str:
        """The best answer to the sample's own question."""
        return self.asked[0].answer

    @property
    def target_depth(self) -> np.ndarray | None:
        """The best depth that is known: clean_depth, else depth."""
        return self.depth if self.clean_depth is None else self.clean_depth


@dataclass(frozen=True)
class Batch:
    """B samples as tensors, with Q questions each: those of the first sample, then those of the second ..."""

    # Inputs of M3ET: any of rgb (B, 3, S, S), depth (B, 1, S, S), with depth_validity (B, 2, S, S), semseg
    # (B, s, s), text and text_mask (B * Q, T).
    inputs: dict[str, Tensor]
    # Target depth, (B, 1, S, S) float32 standardised as the input is, NaN unknown; None if no sample has any.
    depth: Tensor | None
    # Metres of a standardised depth d: d * scale[:, 1] + scale[:, 0]; (B, 2) float32, NaN where unknown.
    scale: Tensor
    # Soft scores of the candidate answers, (B * Q, A) float32; answers that are not candidates are left out.
    scores: Tensor
    # Verb and noun under way, (B, 2) int64, -1 for none.
    now: Tensor
    # Verb and noun that follow, (B, 2) int64, -1 for none.
    next: Tensor
    # Questions, best answers and families, B * Q each.
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    families: tuple[str, ...]
    # Sources of the samples, B.
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)


def collate(
    samples: Sequence[Sample], config: M3ETConfig, tokenizer: Tokenizer | None = None, *, answers: Sequence[str] = ()
) -> Batch:
    """Turn samples into the tensors of a model, as the robot does with its frames (data.preprocess).

    Depth and label maps enter only where every sample has them: a missing modality has no tokens, and one batch has
    one set of modalities. A sample without a question in a batch with questions has a text mask of False.

    Args:
        samples: B of them; sizes may differ.
        config: config of the model.
        tokenizer: for the questions; None leaves text out.
        answers: the candidates, A words in the order of the answer head.

    Raises:
        ValueError: there is no sample, or one has more questions than another.
    """
    if not samples or len({len(sample.further) for sample in samples}) > 1:
        raise ValueError(
            f'samples is empty or uneven ({len(samples)}); give at least one, and all with equally many questions'
        )
    asked = [one for sample in samples for one in sample.asked]
    scales = []
    for sample in samples:
        scale = depth_scale(sample.depth, config)
        scales.append(scale if scale is not None else depth_scale(sample.clean_depth, config))
    inputs = {'rgb': torch.cat([rgb_input(sample.rgb, config.image_size) for sample in samples])}
    depths = [
        depth_input(sample.depth, config.image_size, scale, validity=config.depth_validity)
        for sample, scale in zip(samples, scales, strict=True)
        if sample.depth is not None and scale is not None and np.isfinite(sample.depth).any()
    ]
    if len(depths) == len(samples):
        inputs['depth'] = torch.cat(depths)
    maps = [squeeze_labels(sample.semseg, config.semseg_size) for sample in samples if sample.semseg is not None]
    if len(maps) == len(samples):
        inputs['semseg'] = torch.from_numpy(np.stack(maps)).long()
    if tokenizer is not None and any(one.question for one in asked):
        ids, mask = tokenizer.encode([one.question for one in asked], config.text_length)
        has_question = torch.tensor([bool(one.question) for one in asked])
        longest = int(mask.sum(1).max())  # pads that no question of the batch needs would only cost time
        inputs |= {'text': ids[:, :longest], 'text_mask': (mask & has_question[:, None])[:, :longest]}
    return Batch(
        inputs={name: value for name, value in inputs.items() if name.removesuffix('_mask') in config.modalities},
        depth=_depth_target(samples, scales, config.image_size),
        scale=torch.tensor([(scale.mean, scale.std) if scale else (np.nan, np.nan) for scale in scales]),
        scores=_scores(asked, tuple(answers)),
        now=torch.tensor([sample.now for sample in samples]),
        next=torch.tensor([sample.next for sample in samples]),
        questions=tuple(one.question for one in asked),
        answers=tuple(one.answer for one in asked),
        families=tuple(one.family for one in asked),
        keys=tuple(sample.key for sample in samples),
    )


def _depth_target(samples: Sequence[Sample], scales: Sequence[DepthScale | None], size: int) -> Tensor | None:
    """Return Batch.depth."""
    targets = []
    for sample, scale in zip(samples, scales, strict=True):
        target = sample.target_depth
        if target is None or scale is None:
            targets.append(np.full((size, size), np.nan))
        else:
            targets.append((squeeze_depth(target, size) - scale.mean) / scale.std)
    stacked = np.stack(targets).astype(np.float32)
    return torch.from_numpy(stacked)[:, None] if np.isfinite(stacked).any() else None


@functools.lru_cache(maxsize=8)
def _positions(answers: tuple[str, ...]) -> dict[str, int]:
    return {answer: i for i, answer in enumerate(answers)}


def _scores(asked: Sequence[QuestionAnswers], answers: tuple[str, ...]) -> Tensor:
    """Return soft scores (questions, A)."""
    scores, positions = torch.zeros(len(asked), len(answers)), _positions(answers)
    for row, one in zip(scores, asked, strict=True):
        for answer, score in one.answers.items():
            if answer in positions:
                row[positions[answer]] = score
    return scores
