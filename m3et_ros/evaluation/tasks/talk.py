"""What a talking model is worth: sentences read back to short answers, yes and no, and what descriptions name.

    replies = ask_talker(checkpoint, sight, KitchenSamples(cache, noise=NOISE, length=2000))

The questions are those of evaluation.runs.questions, drawn evenly over families, so figures stand beside M3ET's own. A
sentence counts by its short answer (data.kitchen.sentences.short_answer): what cannot be read is wrong.
Intervals are over kitchens.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.checkpoints.talk import TalkCheckpoint
from m3et_ros.data.features import see
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.kitchen.cache.dialogues import LEAST_CELLS, describe, facts_of
from m3et_ros.data.kitchen.questions.sentences import DESCRIBE, recognised, short_answer
from m3et_ros.data.kitchen.sim.vocabulary import OBJECTS, plural, spoken
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.data.sample import Sample
from m3et_ros.evaluation.batches import BATCH, in_batches, kitchen_of, rounded, scored
from m3et_ros.evaluation.metrics.intervals import mean_rows, ratio
from m3et_ros.evaluation.metrics.pope import pope_a, pope_b, says_yes
from m3et_ros.evaluation.tasks.vqa import BEYOND_A_FRAME
from m3et_ros.models.vlm.generation import Sampling, whole

FINE = ('distance', 'nearest', 'region', 'relation')
"""Families that ask where things are to each other and to the camera."""

HALLUCINATION = 'existence'
"""The family of the POPE-style set: half of its questions are about what is not there."""

LONGEST, LONGEST_TOLD = 24, 64
"""Most word pieces of an answer, and of a description."""


@dataclass(frozen=True)
class Said:
    """What a model said to one question."""

    # Place in the data set, and where the sample came from.
    index: int
    key: str
    family: str
    question: str
    # The right short answer, the sentence that was written, and what was read from it.
    answer: str
    written: str
    read: str
    # 1 where they agree.
    score: float
    # Probabilities of 'yes' and of 'no' as the first word.
    yes: float
    no: float


@dataclass(frozen=True)
class Told:
    """A description and what it names."""

    key: str
    written: str
    reference: str
    # Nouns named, those of them in view, nouns that it should have named, and those of them that it did.
    named: int
    right: int
    wanted: int
    found: int


def ask_talker(
    checkpoint: TalkCheckpoint,
    sight: Checkpoint,
    samples: KitchenSamples,
    *,
    batch: int = BATCH,
    progress: Progress = no_progress,
) -> list[Said]:
    """Put every question of a data set to a model; greedy, one question at a time for each view.

    Args:
        checkpoint: the model.
        sight: the M3ET that it reads.
        samples: with questions of the kitchen.
        batch: samples at a time.
        progress: see feed.Progress.
    """
    said: list[Said] = []
    numbered = ((i, samples[i]) for i in progress(range(len(samples)), len(samples), 'questions', 'question'))
    for group in in_batches(numbered, batch):
        found, first = _written(checkpoint, sight, [s for _, s in group], [s.question for _, s in group], LONGEST)
        said += [_said(index, sample, text, odds) for (index, sample), text, odds in zip(group, found, first)]
    return sorted(said, key=lambda one: one.index)


def _said(index: int, sample: Sample, written: str, odds: tuple[float, float]) -> Said:
    kind, fields = recognised(sample.question) or ('', {})
    read = short_answer(kind, fields, written) if kind else ''
    return Said(
        index,
        sample.key,
        sample.family,
        sample.question,
        sample.answer,
        written,
        read,
        float(read == sample.answer),
        *(rounded(value) for value in odds),
    )


def _written(
    checkpoint: TalkCheckpoint, sight: Checkpoint, samples: Sequence[Sample], prompts: Sequence[str], longest: int
) -> tuple[list[str], list[tuple[float, float]]]:
    """Sentences, and the probabilities that they begin with yes and with no."""
    connector, tokenizer = checkpoint.config.model.connector, checkpoint.tokenizer
    features = see(samples, sight, grid=(connector.rows, connector.cols)).float()
    with torch.inference_mode():
        ids, mask = _prompts(checkpoint, prompts)
        prompt = checkpoint.model.prompt(features, ids, mask=mask)
        first = checkpoint.model.language(prompt.x, mask=prompt.mask, last=1).logits[:, -1].softmax(-1)
        steps = checkpoint.model.generate(features, ids, mask=mask, sampling=Sampling(longest, (tokenizer.sep,)))
        answers = whole(steps, len(prompts), (tokenizer.sep,))
    yes, no = (first[:, int(tokenizer.encode([word], 3)[0][0, 1])].tolist() for word in ('yes', 'no'))
    return [tokenizer.decode(answer) for answer in answers], list(zip(yes, no))


def _prompts(checkpoint: TalkCheckpoint, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Prompts (B, T) and their mask, pads in front."""
    ids, mask = checkpoint.tokenizer.encode(prompts, 64)
    rows = [row[own].flip(0) for row, own in zip(ids, mask)]
    padded = pad_sequence(rows, batch_first=True, padding_value=checkpoint.tokenizer.pad).flip(1)
    lengths = torch.tensor([len(row) for row in rows])
    return padded, torch.arange(padded.shape[1]) >= padded.shape[1] - lengths[:, None]


def talk_scores(said: Sequence[Said]) -> dict[str, Any]:
    """Accuracy overall, of what one frame can answer, of fine spatial questions and by family; POPE both ways.

    Raises:
        ValueError: nothing was said.
    """
    families = np.array([one.family for one in said])
    groups = {
        'all': np.ones(len(said), bool),
        'answerable_from_one_frame': ~np.isin(families, BEYOND_A_FRAME),
        'fine_spatial': np.isin(families, FINE),
    }
    result: dict[str, Any] = {name: _part(said, where) for name, where in groups.items() if where.any()}
    result['families'] = {str(name): _part(said, families == name) for name in sorted(set(families))}
    result['unread'] = rounded(float(np.mean([not one.read for one in said])))
    asked = [one for one in said if one.family == HALLUCINATION]
    if asked:
        result['pope'] = _pope(asked)
    return result


def _part(said: Sequence[Said], where: np.ndarray) -> dict[str, Any]:
    own = [said[i] for i in np.flatnonzero(where)]
    accuracy = scored(mean_rows([one.score for one in own]), ratio, [kitchen_of(one.key) for one in own])
    return {'accuracy': accuracy, 'samples': len(own)}


def _pope(asked: Sequence[Said]) -> dict[str, Any]:
    """Existence questions by both harnesses; yes is the positive class."""
    truth = [one.answer == 'yes' for one in asked]
    likelier = pope_a({'kitchen': ([one.yes for one in asked], [one.no for one in asked], truth)})
    spoken_ = pope_b({'kitchen': ([one.written for one in asked], truth)})
    hallucinated = [says_yes(one.written) for one, there in zip(asked, truth) if not there]
    return {
        'samples': len(asked),
        'hallucinated': rounded(float(np.mean(hallucinated))) if hallucinated else None,
        **{
            f'harness_{found.harness}': {name: rounded(value) for name, value in vars(found.splits['kitchen']).items()}
            for found in (likelier, spoken_)
        },
    }


NAMES = {words: noun for noun in OBJECTS for words in (spoken(noun), plural(noun))}
"""Singular and plural words of everything that can be picked up."""


def named_in(text: str) -> set[str]:
    """Nouns of things that a description names: in 'I can see an orange cup' no can and no orange."""
    said = ' '.join(re.sub(r'[^\w\s]', ' ', text.lower()).split())
    said = re.sub(r'\b(i|you|we|one) can\b', '', said)
    said = re.sub(rf'\borange (?=(?:{"|".join(NAMES)})\b)', '', said)
    return {noun for name, noun in NAMES.items() if re.search(rf'\b{name}\b', said)}


def tell_talker(
    checkpoint: TalkCheckpoint,
    sight: Checkpoint,
    samples: KitchenSamples,
    *,
    views: int,
    batch: int = BATCH,
    progress: Progress = no_progress,
) -> list[Told]:
    """Let a model describe views spread evenly over a cache.

    A noun is in view where one cell of the label map is its, and wanted where describe would name it.

    Args:
        samples: with questions, for the facts.
        views: how many.
    """
    frames = np.unique(np.linspace(0, len(samples._frames) - 1, views).astype(int))
    told: list[Told] = []
    starts = range(0, len(frames), batch)
    for start in progress(starts, len(starts), 'descriptions', 'batch'):
        chosen = [int(samples._frames[i]) for i in frames[start : start + batch]]
        pictures = [samples._view(frame) for frame in chosen]
        prompts = [DESCRIBE[i % len(DESCRIBE)] for i in range(start, start + len(chosen))]
        texts, _ = _written(checkpoint, sight, pictures, prompts, LONGEST_TOLD)
        told += [
            _told(facts_of(samples, frame), picture.key, text) for frame, picture, text in zip(chosen, pictures, texts)
        ]
    return told


def _told(facts: Any, key: str, text: str) -> Told:
    named, seen = named_in(text), set(facts.cells)
    wanted = {noun for noun, cells in facts.cells.items() if cells >= LEAST_CELLS and noun in facts.named}
    return Told(key, text, describe(facts), len(named), len(named & seen), len(wanted), len(wanted & named))


def description_scores(told: Sequence[Told]) -> dict[str, Any]:
    """CHAIR of things and of sentences (Rohrbach 2018), precision and recall of named things, over kitchens."""
    kitchens = [kitchen_of(one.key) for one in told]

    def share(over: list[int], of: list[int]) -> dict[str, Any]:
        return scored(np.stack([np.array(over, float), np.array(of, float)], 1), ratio, kitchens)

    return {
        'descriptions': len(told),
        'chair_things': share([one.named - one.right for one in told], [one.named for one in told]),
        'chair_descriptions': share([int(one.named > one.right) for one in told], [1] * len(told)),
        'precision': share([one.right for one in told], [one.named for one in told]),
        'recall': share([one.found for one in told], [one.wanted for one in told]),
    }
