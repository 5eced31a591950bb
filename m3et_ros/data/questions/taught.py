"""The questions that a model was taught: their wordings and the words of each field. A checkpoint stores them.

`Taught` is plain data: labels.json of a checkpoint holds it under the key `taught`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from m3et_ros.data.errors import InputError

FORMS = ('plain', 'one', 'many')
"""Forms in which a wording takes a word: 'cup', 'a cup', 'cups'."""


@dataclass(frozen=True)
class TaughtField:
    """One field of a wording.

    Raises:
        ValueError: the form is none of FORMS, or there are no words.
    """

    # Sort of its words, such as 'noun' or 'colour'.
    sort: str
    # Words with which the field was taught, in plain form.
    words: tuple[str, ...]
    # One of FORMS.
    form: str = 'plain'

    def __post_init__(self):
        if self.form not in FORMS:
            raise ValueError(f'form is {self.form!r}; give {", ".join(FORMS)}')
        if not self.words:
            raise ValueError(f'a field of sort {self.sort!r} has no words; give at least one')


@dataclass(frozen=True)
class TaughtKind:
    """One kind of question."""

    # Wordings with fields in braces; the first is the one that examples show.
    wordings: tuple[str, ...]
    # Field -> its words.
    fields: Mapping[str, TaughtField] = field(default_factory=dict)
    # One frame does not show the answer: it is about actions before or after it.
    beyond_frame: bool = False


@dataclass(frozen=True)
class Taught:
    """All that a model was taught to answer."""

    # Kind -> questions about one frame.
    frame: Mapping[str, TaughtKind]
    # Kind -> questions about an episode; empty where the model has no memory of episodes.
    episode: Mapping[str, TaughtKind] = field(default_factory=dict)
    # Noun -> with its article, and its plural: 'milk' -> ('a milk carton', 'milk cartons').
    forms: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def words(self, sort: str) -> tuple[str, ...]:
        """Return all words of a sort, each once, in the order in which the kinds name them."""
        fields = [
            one for kinds in (self.frame, self.episode) for kind in kinds.values() for one in kind.fields.values()
        ]
        return tuple(dict.fromkeys(word for one in fields if one.sort == sort for word in one.words))

    @property
    def sorts(self) -> tuple[str, ...]:
        """Return every sort of words."""
        kinds = [*self.frame.values(), *self.episode.values()]
        return tuple(dict.fromkeys(one.sort for kind in kinds for one in kind.fields.values()))

    def worded(self, kind: TaughtKind, values: Mapping[str, str], wording: int = 0) -> str:
        """Return a wording of a kind with its fields filled in.

        Args:
            kind: a kind of this object.
            values: field -> word in plain form.
            wording: position of the wording.
        """
        return kind.wordings[wording].format(
            **{name: self.formed(word, kind.fields[name].form) for name, word in values.items()}
        )

    def formed(self, word: str, form: str) -> str:
        """Return a word in one of FORMS: 'cup' -> 'a cup' or 'cups'."""
        if form == 'plain':
            return word
        one, many = self.forms.get(word, (word, word))
        return one if form == 'one' else many


def taught_from(values: Any) -> Taught:
    """Rebuild a Taught from the JSON of a checkpoint.

    Raises:
        InputError: model_config, it is of another shape; the message names the part.
    """
    try:
        return Taught(
            frame=_kinds(values['frame']),
            episode=_kinds(values.get('episode', {})),
            forms={noun: (str(one), str(many)) for noun, (one, many) in values.get('forms', {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            'model_config',
            f'The taught questions in labels.json are refused ({type(error).__name__}: {error}); '
            'remove the key taught, or fetch the checkpoint again.',
        ) from error


def _kinds(values: Mapping[str, Any]) -> dict[str, TaughtKind]:
    return {
        name: TaughtKind(
            tuple(kind['wordings']),
            {
                key: TaughtField(str(one['sort']), tuple(map(str, one['words'])), one.get('form', 'plain'))
                for key, one in kind.get('fields', {}).items()
            },
            bool(kind.get('beyond_frame', False)),
        )
        for name, kind in values.items()
    }
