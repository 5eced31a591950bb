"""Answers in sentences: accuracy of the short answers in them, yes/no questions, and the things named by descriptions.

    predictions = ask_talker(checkpoint, encoder, KitchenSamples(cache, noise=NOISE, length=2000))
    talk_scores(predictions)

The questions are those of tasks.vqa, drawn evenly over families, so the figures are comparable with M3ET's own. A
sentence counts by its short answer (data.kitchen.questions.sentences.short_answer); a sentence without one is wrong.
Intervals are over kitchens.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from m3et_ros.data.checkpoints.image_encoders import ImageEncoders
from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.checkpoints.talk import TalkCheckpoint
from m3et_ros.data.features.visual_tokens import encode_view_batch
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.kitchen.cache.dialogues import LEAST_CELLS, Facts, describe, facts_of
from m3et_ros.data.kitchen.questions.sentences import DESCRIBE, parse_question, short_answer
from m3et_ros.data.kitchen.sim.vocabulary import OBJECTS, plural, spoken
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.data.sample import Sample
from m3et_ros.evaluation.batches import BATCH, cluster_of, in_batches, rounded, scored
from m3et_ros.evaluation.metrics.intervals import mean_rows, ratio
from m3et_ros.evaluation.metrics.pope import pope_a, pope_b, says_yes
from m3et_ros.evaluation.predictions import Prediction
from m3et_ros.evaluation.tasks.vqa import BEYOND_A_FRAME
from m3et_ros.models.vlm.generation import Sampling, collect_answers

FINE = ('distance', 'nearest', 'region', 'relation')
"""Families that ask for the position of things relative to each other and to the camera."""

HALLUCINATION = 'existence'
"""Family of the POPE-style set: half of its questions are about things that are not there."""

LONGEST, LONGEST_DESCRIPTION = 24, 64
"""Most word pieces of an answer, and of a description."""


@dataclass(frozen=True, kw_only=True)
class SentencePrediction(Prediction):
    """A prediction whose short answer was read from the written sentence; '' where it has none."""

    COLUMNS: ClassVar[tuple[str, ...]] = (
        'index',
        'key',
        'family',
        'question',
        'answer',
        'written',
        'read',
        'score',
        'yes',
        'no',
    )

    # Probabilities of 'yes' and of 'no' as the first word.
    yes: float
    no: float

    @property
    def read(self) -> str:
        """Short answer that was read from the sentence."""
        return self.predicted


@dataclass(frozen=True)
class DescriptionResult:
    """A description and the things that it names."""

    key: str
    # Kitchen of the view; intervals are over clusters.
    cluster: str
    written: str
    reference: str
    # Number of nouns named, of those in view, of nouns that should be named, and of those that were.
    named: int
    right: int
    wanted: int
    found: int

    def row(self) -> dict[str, Any]:
        """Return the row of descriptions.csv."""
        return {name: value for name, value in vars(self).items() if name != 'cluster'}


def ask_talker(
    checkpoint: TalkCheckpoint,
    encoder: Checkpoint | ImageEncoders,
    samples: KitchenSamples,
    *,
    batch: int = BATCH,
    progress: Progress = no_progress,
) -> list[SentencePrediction]:
    """Ask a model every question of a data set, one at a time; answers are decoded greedily.

    Args:
        checkpoint: the model.
        encoder: M3ET whose visual tokens it reads, or DINOv2 and SigLIP.
        samples: samples with questions of the kitchen.
        batch: samples at a time.
        progress: see data.progress.Progress.

    Returns:
        One prediction for each sample, in order.
    """
    predictions: list[SentencePrediction] = []
    numbered = ((i, samples[i]) for i in progress(range(len(samples)), len(samples), 'questions', 'question'))
    for group in in_batches(numbered, batch):
        own = [sample for _, sample in group]
        texts, odds = _write(checkpoint, encoder, own, [sample.question for sample in own], LONGEST)
        for (index, sample), text, (yes, no) in zip(group, texts, odds, strict=True):
            kind, fields = parse_question(sample.question) or ('', {})
            answer = short_answer(kind, fields, text) if kind else ''
            predictions.append(
                SentencePrediction(
                    index=index,
                    key=sample.key,
                    cluster=cluster_of(sample),
                    family=sample.family,
                    question=sample.question,
                    answer=sample.answer,
                    predicted=answer,
                    score=float(answer == sample.answer),
                    written=text,
                    yes=rounded(yes),
                    no=rounded(no),
                )
            )
    return sorted(predictions, key=lambda prediction: prediction.index)


def _write(
    checkpoint: TalkCheckpoint,
    encoder: Checkpoint | ImageEncoders,
    samples: Sequence[Sample],
    prompts: Sequence[str],
    longest: int,
) -> tuple[list[str], list[tuple[float, float]]]:
    """Return a sentence for each sample and prompt, and the probabilities that it begins with yes and with no."""
    connector, tokenizer = checkpoint.config.model.connector, checkpoint.tokenizer
    features = encode_view_batch(samples, encoder, grid=(connector.rows, connector.cols)).float()
    with torch.inference_mode():
        ids, mask = _prompts(checkpoint, prompts)
        prompt = checkpoint.model.prompt(features, ids, mask=mask)
        first = checkpoint.model.language(prompt.x, mask=prompt.mask, last=1).logits[:, -1].softmax(-1)
        steps = checkpoint.model.generate(features, ids, mask=mask, sampling=Sampling(longest, (tokenizer.sep,)))
        answers = collect_answers(steps, len(prompts), (tokenizer.sep,))
    yes, no = (first[:, int(tokenizer.encode([word], 3)[0][0, 1])].tolist() for word in ('yes', 'no'))
    return [tokenizer.decode(answer) for answer in answers], list(zip(yes, no, strict=True))


def _prompts(checkpoint: TalkCheckpoint, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return prompts (B, T) and their mask, padded in front."""
    ids, mask = checkpoint.tokenizer.encode(prompts, 64)
    rows = [row[own].flip(0) for row, own in zip(ids, mask, strict=True)]
    padded = pad_sequence(rows, batch_first=True, padding_value=checkpoint.tokenizer.pad).flip(1)
    lengths = torch.tensor([len(row) for row in rows])
    return padded, torch.arange(padded.shape[1]) >= padded.shape[1] - lengths[:, None]


def talk_scores(predictions: Sequence[SentencePrediction]) -> dict[str, Any]:
    """Score predictions: overall, answerable from one frame, fine spatial questions, families, and POPE both ways.

    Raises:
        ValueError: there are no predictions.
    """
    families = np.array([one.family for one in predictions])
    groups = {
        'all': np.ones(len(predictions), bool),
        'answerable_from_one_frame': ~np.isin(families, BEYOND_A_FRAME),
        'fine_spatial': np.isin(families, FINE),
    }
    result: dict[str, Any] = {name: _part(predictions, where) for name, where in groups.items() if where.any()}
    result['families'] = {str(name): _part(predictions, families == name) for name in sorted(set(families))}
    result['unread'] = rounded(float(np.mean([not one.read for one in predictions])))
    asked = [one for one in predictions if one.family == HALLUCINATION]
    if asked:
        result['pope'] = _pope(asked)
    return result


def _part(predictions: Sequence[SentencePrediction], where: np.ndarray) -> dict[str, Any]:
    own = [predictions[i] for i in np.flatnonzero(where)]
    accuracy = scored(mean_rows([one.score for one in own]), ratio, [one.cluster for one in own])
    return {'accuracy': accuracy, 'samples': len(own)}


def _pope(asked: Sequence[SentencePrediction]) -> dict[str, Any]:
    """Score existence questions by both harnesses; yes is the positive class."""
    truth = [one.answer == 'yes' for one in asked]
    by_probability = pope_a({'kitchen': ([one.yes for one in asked], [one.no for one in asked], truth)})
    by_sentence = pope_b({'kitchen': ([one.written for one in asked], truth)})
    hallucinated = [says_yes(one.written) for one, present in zip(asked, truth, strict=True) if not present]
    return {
        'samples': len(asked),
        'hallucinated': rounded(float(np.mean(hallucinated))) if hallucinated else None,
        **{
            f'harness_{found.harness}': {name: rounded(value) for name, value in vars(found.splits['kitchen']).items()}
            for found in (by_probability, by_sentence)
        },
    }


NAMES = {words: noun for noun in OBJECTS for words in (spoken(noun), plural(noun))}
"""Singular and plural word to noun, for everything that can be picked up."""


def named_in(text: str) -> set[str]:
    """Return the nouns of the things that a description names; 'I can see an orange cup' names no can and no orange."""
    words = ' '.join(re.sub(r'[^\w\s]', ' ', text.lower()).split())
    words = re.sub(r'\b(i|you|we|one) can\b', '', words)
    words = re.sub(rf'\borange (?=(?:{"|".join(NAMES)})\b)', '', words)
    return {noun for name, noun in NAMES.items() if re.search(rf'\b{name}\b', words)}


def describe_views(
    checkpoint: TalkCheckpoint,
    encoder: Checkpoint | ImageEncoders,
    samples: KitchenSamples,
    *,
    views: int,
    batch: int = BATCH,
    progress: Progress = no_progress,
) -> list[DescriptionResult]:
    """Let a model describe views spread evenly over a cache.

    A noun is in view if one cell of the label map has it, and wanted if the reference description names it.

    Args:
        checkpoint: the model.
        encoder: M3ET whose visual tokens it reads, or DINOv2 and SigLIP.
        samples: samples with questions, for the facts.
        views: number of views.
        batch: views at a time.
        progress: see data.progress.Progress.
    """
    frames = np.unique(np.linspace(0, len(samples.frames) - 1, views).astype(int))
    results: list[DescriptionResult] = []
    starts = range(0, len(frames), batch)
    for start in progress(starts, len(starts), 'descriptions', 'batch'):
        chosen = [int(samples.frames[i]) for i in frames[start : start + batch]]
        pictures = [samples.frame_sample(frame) for frame in chosen]
        prompts = [DESCRIBE[i % len(DESCRIBE)] for i in range(start, start + len(chosen))]
        texts, _ = _write(checkpoint, encoder, pictures, prompts, LONGEST_DESCRIPTION)
        results += [
            _description_result(facts_of(samples, frame), picture, text)
            for frame, picture, text in zip(chosen, pictures, texts, strict=True)
        ]
    return results


def _description_result(facts: Facts, picture: Sample, text: str) -> DescriptionResult:
    named, in_view = named_in(text), set(facts.cells)
    wanted = {noun for noun, cells in facts.cells.items() if cells >= LEAST_CELLS and noun in facts.named}
    return DescriptionResult(
        picture.key,
        cluster_of(picture),
        text,
        describe(facts),
        len(named),
        len(named & in_view),
        len(wanted),
        len(wanted & named),
    )


def description_scores(results: Sequence[DescriptionResult]) -> dict[str, Any]:
    """Return CHAIR of things and of sentences (Rohrbach 2018), and precision and recall of named things."""
    kitchens = [one.cluster for one in results]

    def share(part: list[int], whole: list[int]) -> dict[str, Any]:
        return scored(np.stack([np.array(part, float), np.array(whole, float)], 1), ratio, kitchens)

    return {
        'descriptions': len(results),
        'chair_things': share([one.named - one.right for one in results], [one.named for one in results]),
        'chair_descriptions': share([int(one.named > one.right) for one in results], [1] * len(results)),
        'precision': share([one.right for one in results], [one.named for one in results]),
        'recall': share([one.found for one in results], [one.wanted for one in results]),
    }
