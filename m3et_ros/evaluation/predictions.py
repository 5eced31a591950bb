"""A model's answer to one question, the same record for every task that asks in words."""

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A question, its right answer, and what a model answered."""

    COLUMNS: ClassVar[tuple[str, ...]] = (
        'index',
        'key',
        'family',
        'question',
        'answer',
        'predicted',
        'confidence',
        'score',
        'written',
        'written_score',
    )
    """Columns of per_sample.csv, in order."""

    # Position of the question in the data set.
    index: int
    # Key of the sample, or id of the question.
    key: str
    # Kitchen or recording of the question; intervals are over clusters.
    cluster: str
    # Family or category of the question.
    family: str
    question: str
    # The right answer; of several, the one with the highest score.
    answer: str
    # The model's short answer: the first candidate of its answer head, or the answer read from a sentence.
    predicted: str
    # Score of the short answer, 0..1.
    score: float
    # Probability of the short answer among the candidates; None where a sentence was written instead.
    confidence: float | None = None
    # Text that the decoder wrote, and 1 where that is right; None where it was not asked.
    written: str | None = None
    written_score: float | None = None
    # True if the question can be answered with yes or no; None where that is not known.
    closed: bool | None = None
    # Category that the model assigned to the question; None where it assigns none.
    category: str | None = None

    def row(self) -> dict[str, Any]:
        """Return the row of per_sample.csv."""
        return {name: getattr(self, name) for name in self.COLUMNS}
