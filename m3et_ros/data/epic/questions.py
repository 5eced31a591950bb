"""The pair of questions that a model is asked about each segment: of a file, or one that holds no label.

    {"P01_01_12": {"noun": "What does the person <mask> with the left hand?", "verb": "What is done to the <mask>?"}}

The paper's questions are written by a language model from the narration of the segment, with the other half masked.
Such a file may hint at the labels; the questions made here cannot.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from m3et_ros.data.action_questions import MASK, NEXT, Pair, masked_questions
from m3et_ros.data.datasets.class_map import read_json
from m3et_ros.data.epic.annotations import Segment
from m3et_ros.data.errors import InputError

PAPERS_MASK = '<mask>'
"""The mask in the words of the paper's text encoder."""


def read_questions(path: str | Path, segments: Iterable[Segment]) -> dict[str, Pair]:
    """Read the questions of segments: a JSON object from narration_id to `noun` and `verb`.

    Args:
        path: path of the file.
        segments: segments that need questions; others of the file are left out.

    Returns:
        Narration id to noun question and verb question; <mask> becomes the mask of the tokenizer.

    Raises:
        InputError: the file cannot be read, or lacks a question of a segment.
    """
    path = Path(path)
    document = read_json(path)
    found: dict[str, Pair] = {}
    missing = []
    for segment in segments:
        own = document.get(segment.narration_id) if isinstance(document, dict) else None
        noun, verb = (own.get(name) if isinstance(own, dict) else None for name in ('noun', 'verb'))
        if isinstance(noun, str) and isinstance(verb, str) and noun.strip() and verb.strip():
            found[segment.narration_id] = _masked(noun), _masked(verb)
        else:
            missing.append(segment.narration_id)
    if missing:
        raise InputError(
            'data_missing',
            f'{path} lacks the questions of {len(missing)} segments, the first is {missing[0]}; give an object with '
            'narration_id: {"noun": question, "verb": question} for each',
        )
    return found


def _masked(question: str) -> str:
    """Return a question with the mask of the tokenizer."""
    return question.strip().replace(PAPERS_MASK, MASK)


def questions_of(segments: Iterable[Segment], task: str, path: str | Path | None) -> Mapping[str, Pair]:
    """Return the questions of a file, or without one those that hold no label.

    The latter are the masked pair of the paper for recognition and the generic pair for anticipation.

    Args:
        segments: segments that need questions.
        task: 'recognition' or 'anticipation'.
        path: path of the file; None for none.

    Raises:
        InputError: as read_questions.
    """
    if path is not None:
        return read_questions(path, segments)
    ids = [segment.narration_id for segment in segments]
    return {name: NEXT if task == 'anticipation' else masked_questions(name) for name in ids}
