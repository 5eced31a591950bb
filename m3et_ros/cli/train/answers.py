"""Candidate answers of `m3et train vqa`: those of the model, of the data, or of a file; the share that they cover."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from m3et_ros.cli.output import Refused, print_status

if TYPE_CHECKING:
    from m3et_ros.data.checkpoints.m3et import Checkpoint
    from m3et_ros.data.datasets.sources import Sources

LEAST_COVERED = 0.5
"""Share of the questions of a source that the candidates must answer at least."""


def with_candidates(checkpoint: 'Checkpoint', sources: 'Sources', file: Path | None, seed: int) -> 'Checkpoint':
    """Return the checkpoint with the candidates of a run, and print which share of the questions they answer.

    Args:
        checkpoint: the model to train.
        sources: the data set.
        file: a file of answers; None takes those of VQAv2 where it is among the sources, and else those of the model.
        seed: seed of a new answer head.

    Raises:
        InputError: the file cannot be read.
        Refused: the candidates answer less than LEAST_COVERED of the questions of a source.
    """
    from m3et_ros.training.teach.extend import with_answers

    answers = candidates(checkpoint.labels.answers, sources, file)
    lines = []
    for name, questions, share in coverage(sources, answers):
        if share < LEAST_COVERED:
            raise Refused(
                f'The {len(answers):,} candidate answers are those of {share:.1%} of the questions of {name}, and at '
                f'least {LEAST_COVERED:.0%} are needed, because a model learns nothing from the others; give --answers '
                'with a file of the answers of this data.'
            )
        lines.append(f'{name}: {len(answers):,} candidate answers, those of {share:.1%} of {questions}.')
    for line in lines:
        print_status(line)
    return with_answers(checkpoint, answers, seed=seed) if checkpoint.model.config.answers else checkpoint


def candidates(own: Sequence[str], sources: 'Sources', file: Path | None) -> tuple[str, ...]:
    """Return the candidates of a run in the order of the answer head.

    Kitchens and labelled recordings are asked for the answers of the model, so beside these its answers stay.

    Args:
        own: answers of the model.
        sources: as in with_candidates.
        file: as in with_candidates.
    """
    from m3et_ros.data.datasets.vqav2 import VQAv2Samples, candidate_answers, read_answers

    asked = [data for data in sources.sets if isinstance(data, VQAv2Samples)]
    if file is not None:
        found = read_answers(file)
    elif asked:
        found = candidate_answers(sum((data.commonest for data in asked), Counter()))
    else:
        return tuple(own)
    stay = sources.caches or any(name.startswith('labelled:') for name in sources.names)
    return tuple(dict.fromkeys([*(own if stay else ()), *found]))


def coverage(sources: 'Sources', answers: Sequence[str]) -> Iterator[tuple[str, str, float]]:
    """Yield name, questions in words and the share of them that candidates answer, for each source that asks.

    For kitchens it is the share of the answers that their questions have. Labelled recordings ask only what the model
    has the answers to.
    """
    from m3et_ros.data.datasets.vqav2 import VQAv2Samples
    from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS

    known = set(answers)
    for name, data in zip(sources.names, sources.sets, strict=True):
        if isinstance(data, VQAv2Samples):
            yield name, f'{len(data):,} questions', data.covered(answers)
    if sources.caches and not known.issuperset(ANSWERS):
        share = sum(answer in known for answer in ANSWERS) / len(ANSWERS)
        yield sources.names[0], f'the {len(ANSWERS):,} answers of the kitchen', share
