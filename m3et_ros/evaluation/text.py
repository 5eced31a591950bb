"""Free-text answers against references: exact match and token F1 (papers.md 7.6), GQA's rule (7.2).

Every score is between 0 and 1. Answers are normalised on both sides unless said otherwise.
"""

from collections import Counter
from collections.abc import Sequence

from m3et_ros.evaluation.normalise import normalise


def exact_match(prediction: str, references: str | Sequence[str]) -> float:
    """1 if the normalised prediction equals any normalised reference, else 0."""
    return float(normalise(prediction) in {normalise(reference) for reference in _list(references)})


def token_f1(prediction: str, reference: str) -> float:
    """Harmonic mean of precision and recall over the multiset of words; 1 if both sides are empty."""
    said, asked = normalise(prediction).split(), normalise(reference).split()
    if not said or not asked:
        return float(said == asked)
    common = sum((Counter(said) & Counter(asked)).values())
    return 2 * common / (len(said) + len(asked))


def best_f1(prediction: str, references: str | Sequence[str]) -> float:
    """The best token F1 over the reference and its extra references.

    Raises:
        ValueError: there is no reference.
    """
    return max(token_f1(prediction, reference) for reference in _list(references))


def gqa_match(prediction: str, reference: str) -> float:
    """GQA: 1 if equal after lower case and a trailing full stop taken off, else 0 (papers.md 7.2)."""
    return float(_gqa(prediction) == _gqa(reference))


def _gqa(answer: str) -> str:
    return answer.strip().lower().removesuffix('.')


def _list(references: str | Sequence[str]) -> Sequence[str]:
    references = (references,) if isinstance(references, str) else references
    if not references:
        raise ValueError('no reference answer; give at least one')
    return references
