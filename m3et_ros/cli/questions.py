"""`m3et questions`: what can be asked with a model, by kind, with examples and the words of each field."""

import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m3et_ros.cli.options import Json
from m3et_ros.cli.output import Refused, print_json, print_line
from m3et_ros.data.checkpoints import DEFAULT_MODEL, SHIPPED

if TYPE_CHECKING:
    from m3et_ros.data.checkpoints.labels import CheckpointFacts
    from m3et_ros.data.checkpoints.m3et import Checkpoint

WIDTH = 100
"""Characters of a line."""

COMPOSED = (
    ('describe', ('Describe the scene.', 'What do you see?', 'What is this?')),
    ('at_place', ('What is {place}?', 'Which objects are {place}?')),
)
"""Everyday questions that are answered by several taught ones, with examples."""


def questions_of(model: str) -> dict[str, Any]:
    """Return the questions that a model was taught, by scope and kind.

    Args:
        model: named size, checkpoint folder or Hub id.

    Returns:
        model_id; for 'frame' and 'episode' a list of kinds with wordings, an example of each, words by field, and
        whether one frame can answer it; and the everyday questions under 'composed'.

    Raises:
        Refused: nobody knows what the model was taught.
        InputError: the model cannot be opened.
    """
    from m3et_ros.runtime.understanding import taught_of

    checkpoint = _facts_of(model)
    taught = taught_of(checkpoint)
    if taught is None:
        raise Refused(
            f'{checkpoint.model_id} does not say what it was taught, so every question is put to it as it is; its '
            'labels.json has no taught questions, or its weights are random.'
        )
    described: dict[str, Any] = {'model_id': checkpoint.model_id}
    for scope, kinds in (('frame', taught.frame), ('episode', taught.episode)):
        described[scope] = [
            {
                'kind': name,
                'wordings': list(kind.wordings),
                'examples': [
                    taught.worded(kind, _example(kind, position), position) for position in range(len(kind.wordings))
                ],
                'fields': {key: list(one.words) for key, one in kind.fields.items()},
                'answered_by_one_frame': not kind.beyond_frame and scope == 'frame',
            }
            for name, kind in kinds.items()
        ]
    places = taught.words('place')
    described['composed'] = [
        {'kind': name, 'examples': [one.format(place=places[0]) for one in examples]}
        for name, examples in COMPOSED
        if 'existence' in taught.frame and (places or name != 'at_place')
    ]
    return described


def _facts_of(model: str) -> 'CheckpointFacts | Checkpoint':
    """Return what the folder of a model says of it; a model that is none by name is opened, which imports torch."""
    folder = Path(model) if os.sep in model else SHIPPED / f'm3et_{model}'
    if folder.is_dir():
        from m3et_ros.data.checkpoints.labels import read_facts

        return read_facts(folder)
    from m3et_ros.runtime.open_model import open_checkpoint

    return open_checkpoint(model)


def _example(kind: Any, position: int) -> dict[str, str]:
    """Return a word for each field, others for each position, and different ones for the fields of a wording."""
    return {
        key: one.words[(number + 3 * position) % len(one.words)]
        for number, (key, one) in enumerate(kind.fields.items())
    }


def questions(
    model: Annotated[str, typer.Argument(help='Named size, checkpoint folder or Hub id.')] = DEFAULT_MODEL,
    as_json: Json = False,
) -> None:
    """List what can be asked with a model: kinds of questions, examples, and the words of their fields.

    Articles, plurals, American spelling, politeness and common synonyms (a mug is a cup) are understood too.
    """
    described = questions_of(model)
    if as_json:
        print_json(described)
        return
    print_line(f'Questions to {described["model_id"]}\n\nEveryday questions about a frame:')
    for one in described['composed']:
        _print_kind(one['kind'], one['examples'])
    now = [one for one in described['frame'] if one['answered_by_one_frame']]
    print_line('\nAbout a frame:')
    for one in now:
        _print_kind(one['kind'], one['examples'])
    beyond = [one['kind'] for one in described['frame'] if not one['answered_by_one_frame']]
    if beyond:
        _print_wrapped(f'One frame does not show the answers to: {", ".join(beyond)}.', '  ')
    if described['episode']:
        print_line('\nAbout the episode (--scope episode):')
        for one in described['episode']:
            _print_kind(one['kind'], one['examples'])
    print_line('\nWords:')
    for words, kinds in _vocabularies([*now, *described['episode']]).items():
        _print_wrapped(f'{", ".join(words)}   [{", ".join(kinds)}]', '  ')


def _vocabularies(kinds: list[dict[str, Any]]) -> dict[tuple[str, ...], list[str]]:
    """Return list of words -> the kinds that take it, each list once."""
    found: dict[tuple[str, ...], list[str]] = {}
    for kind in kinds:
        for words in kind['fields'].values():
            users = found.setdefault(tuple(words), [])
            if kind['kind'] not in users:
                users.append(kind['kind'])
    return found


def _print_kind(name: str, examples: list[str]) -> None:
    _print_wrapped(f'{name:<17}{"  ".join(examples)}', '  ')


def _print_wrapped(text: str, indent: str) -> None:
    print_line(
        textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=f'{indent}  ', replace_whitespace=False)
    )
