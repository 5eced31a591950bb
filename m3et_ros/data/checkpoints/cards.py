"""The YAML head of model cards, by which the Hugging Face Hub lists a checkpoint.

A card is Markdown behind the head; the head is written when a card has none, and a head that is there stays.
"""

import re
from typing import Any

import yaml

LIBRARY = 'm3et_ros'
HEAD = re.compile(r'\A---\r?\n(.*?)\r?\n---(?:\r?\n|\Z)', re.S)
TAGS = ('robotics', 'ros2', 'mamba')
PIPELINES = {
    'm3et': 'visual-question-answering',
    'talk': 'image-text-to-text',
    'history': 'robotics',
    'video': 'video-classification',
}
"""Task of the Hub by kind of checkpoint."""
BASE = re.compile(r'Started from `([^`\s]+)`')
"""The line of a card that names the checkpoint which training began with."""


def with_head(card: str, kind: str) -> str:
    """Return a model card with a YAML head.

    Args:
        card: text of the card, Markdown.
        kind: kind of the checkpoint, a key of PIPELINES.

    Returns:
        The card itself where it has a head, or the head of that kind before it.

    Raises:
        ValueError: the card begins with a head that is no YAML mapping.
    """
    if found := HEAD.match(card):
        try:
            values = yaml.safe_load(found[1])
        except yaml.YAMLError as error:
            raise ValueError(f'the head of the model card is no YAML ({error})') from error
        if not isinstance(values, dict):
            raise ValueError('the head of the model card is no YAML mapping')
        return card
    values = head(kind)
    if base := BASE.search(card):
        # Ids of ours, such as kitchen@b7af2be1, are no names of the Hub, which base_model has to be.
        values['m3et_base'] = base[1]
    return f'---\n{yaml.safe_dump(values, sort_keys=False)}---\n\n{card}'


def head(kind: str) -> dict[str, Any]:
    """Return the values of the head for a kind of checkpoint, a key of PIPELINES."""
    return {
        'license': 'apache-2.0',
        'library_name': LIBRARY,
        'pipeline_tag': PIPELINES[kind],
        'tags': [*TAGS, kind],
        'language': ['en'],
    }
