"""The model that `m3et train pretrain` and `vqa` start from: an existing one, or a new one with changed switches."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m3et_ros.cli.output import Refused
from m3et_ros.data.checkpoints import DEFAULT_MODEL

if TYPE_CHECKING:
    from m3et_ros.data.checkpoints.m3et import Checkpoint
    from m3et_ros.models.m3et.config import M3ETConfig

FOLLOWING = ('name', 'vocabulary', 'classes', 'answers', 'answer_parts', 'look_parts')
"""Fields of a config that follow from size, tokenizer and labels."""


@dataclass(frozen=True, kw_only=True)
class StartOptions:
    """The model to start from."""

    model: Annotated[str, typer.Option(help='Named size with random weights to start from.')] = DEFAULT_MODEL
    changes: Annotated[
        list[str] | None,
        typer.Option(
            '--set',
            help='FIELD=VALUE of a new model, as in its config.json: images_hear=true, decoder_queries=encoded, '
            'schedule=TTTT; may be given several times.',
            show_default=False,
        ),
    ] = None
    start: Annotated[
        str | None, typer.Option('--from', help='Model to start from instead: a named size, a folder or hf:owner/name.')
    ] = None
    vocabulary: Annotated[
        Path | None,
        typer.Option(
            '--tokenizer',
            help='BERT tokenizer.json or vocab.txt of a new model; by default one is trained on the kitchen.',
        ),
    ] = None


def open_start(start: StartOptions, seed: int) -> 'Checkpoint':
    """Return the checkpoint to train, without its further heads, which would not fit the trained tokens.

    Args:
        start: named size, changes of its config, model to start from and tokenizer.
        seed: seed of random weights.

    Raises:
        InputError: checkpoint or tokenizer cannot be read.
        Refused: there is no such size or field, a value is out of its range, or a checkpoint was given and a tokenizer
            or changes.
    """
    from m3et_ros.data.checkpoints.m3et import random_checkpoint
    from m3et_ros.data.kitchen.labels import corpus, kitchen_labels
    from m3et_ros.data.tokenizer import Tokenizer
    from m3et_ros.models.m3et.sizes import SIZES
    from m3et_ros.runtime.open_model import open_checkpoint, untrained

    if start.start is not None:
        if start.vocabulary is not None:
            raise Refused('A checkpoint has its own tokenizer; leave --tokenizer out, or --from.')
        if start.changes:
            raise Refused('A checkpoint has its own configuration; leave --set out, or --from.')
        return replace(open_checkpoint(start.start), heads={})
    if start.model not in SIZES:
        raise Refused(
            f'There is no model size {start.model!r}; give one of {", ".join(SIZES)}, or --from a checkpoint.'
        )
    if start.vocabulary is None and not start.changes:
        return replace(untrained(start.model, seed), heads={})
    config = changed(SIZES[start.model], start.changes or ())
    if start.vocabulary is None:
        tokenizer = Tokenizer.train(corpus(), vocabulary=config.vocabulary)
    else:
        tokenizer = Tokenizer.load(start.vocabulary)
        config = replace(config, vocabulary=tokenizer.vocabulary)
    return random_checkpoint(config, tokenizer, kitchen_labels(), seed)


def changed(config: 'M3ETConfig', changes: Sequence[str]) -> 'M3ETConfig':
    """Return a config with changed fields.

    Args:
        config: the config of a named size.
        changes: 'field=value', the value as JSON; text needs no quotation marks.

    Raises:
        Refused: there is no such field, it follows from other things, or the value is out of its range.
    """
    known = [field.name for field in fields(config) if field.name not in FOLLOWING]
    values: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition('=')
        if not equals or name not in known:
            raise Refused(f'--set has {change[:100]!r}; give FIELD=VALUE with one of the fields {", ".join(known)}.')
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        values[name] = tuple(value) if isinstance(value, list) else value
    try:
        return replace(config, **values)
    except (ValueError, TypeError) as error:
        raise Refused(f'--set is refused: {error}.') from error
