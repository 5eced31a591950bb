"""Build the submission file of the EPIC-KITCHENS-100 challenges, version 0.2, as a JSON dict (docs/papers.md 7.7)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from m3et_ros.evaluation.metrics.arrays import finite, same_length, to_numpy

VERBS, NOUNS, ACTIONS = 97, 300, 100
"""Number of scores that the server expects for each segment."""

CHALLENGES = ('action_recognition', 'action_anticipation')

Supervision = tuple[int, int, int]
"""Levels 0 to 5 of pretraining, training labels and training data, as the challenge defines them."""


def submission(
    ids: Sequence[str],
    verbs: ArrayLike,
    nouns: ArrayLike,
    actions: tuple[ArrayLike, ArrayLike] | None,
    *,
    challenge: str,
    supervision: Supervision,
) -> dict:
    """Build the JSON document of a submission.

    Args:
        ids: N narration ids, each once.
        verbs: scores (N, 97).
        nouns: scores (N, 300).
        actions: ids (N, 100) verb * 1000 + noun and scores (N, 100) as epic.rank_actions returns them; with None the
            server forms them.
        challenge: 'action_recognition' or 'action_anticipation'.
        supervision: levels of pretraining, training labels and training data.

    Raises:
        ValueError: the challenge is unknown, a level is outside 0 to 5, the server would refuse a shape, an id occurs
            twice, or a score is not finite.
    """
    if challenge not in CHALLENGES:
        raise ValueError(f'challenge is {challenge!r}; give one of {", ".join(CHALLENGES)}')
    if len(supervision) != 3 or not all(0 <= level <= 5 for level in supervision):
        raise ValueError(f'supervision is {supervision}; give three levels from 0 to 5')
    if len(set(ids)) != same_length(ids=ids):
        raise ValueError('a narration id is given twice; give each segment once')
    columns = {'verb': _rows('verbs', verbs, len(ids), VERBS), 'noun': _rows('nouns', nouns, len(ids), NOUNS)}
    names = {'verb': list(map(str, range(VERBS))), 'noun': list(map(str, range(NOUNS)))}
    results = {
        str(name): {task: dict(zip(names[task], rows[i].tolist(), strict=True)) for task, rows in columns.items()}
        for i, name in enumerate(ids)
    }
    if actions is not None:
        listed, scores = to_numpy(actions[0]), _rows('actions', actions[1], len(ids), ACTIONS)
        for result, row, values in zip(results.values(), _action_names(listed, scores.shape), scores, strict=True):
            result['action'] = dict(zip(row, values.tolist(), strict=True))
    levels = dict(zip(('sls_pt', 'sls_tl', 'sls_td'), supervision, strict=True))
    return {'version': '0.2', 'challenge': challenge, **levels, 'results': results}


def _rows(name: str, scores: ArrayLike, segments: int, width: int) -> np.ndarray:
    scores = finite(name, scores)
    if scores.shape != (segments, width):
        raise ValueError(f'{name} are {scores.shape}; the server takes {(segments, width)}')
    return scores


def _action_names(listed: np.ndarray, shape: tuple[int, ...]) -> list[list[str]]:
    verb, noun = np.divmod(listed, 1000)
    ordered = np.sort(listed, 1) if listed.shape == shape else None
    if (
        ordered is None
        or (verb >= VERBS).any()
        or (noun >= NOUNS).any()
        or (verb < 0).any()
        or (ordered[:, 1:] == ordered[:, :-1]).any()
    ):
        raise ValueError(
            f'action ids are {listed.shape}; give {shape}, each verb * 1000 + noun of the official '
            'classes and once in a row'
        )
    return [[f'{v},{n}' for v, n in zip(*row, strict=True)] for row in zip(verb.tolist(), noun.tolist(), strict=True)]
