"""Answers to everyday questions that no model is taught, composed of its answers to questions that it was taught.

"Describe the scene." is answered by batches of questions about one encoding of the frame: what is there, where it is,
which colour it has. Nothing is named that the model did not affirm itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from m3et_ros.data.questions.reader import AT, Reading
from m3et_ros.data.questions.taught import Taught
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.results import Ranked
from m3et_ros.runtime.view import View

SURE = 0.6
"""Least probability of yes for a thing to be named."""

SURE_DETAIL = 0.5
"""Least probability of its colour or place to be mentioned."""

LEAST_SHARE = 0.003
"""Least share of the picture that the segmentation must give to a thing, chosen on validation kitchens."""

MOST = 10
"""Most things in a sentence, the surest first."""


@dataclass(frozen=True)
class NamedThing:
    """A thing that the model sees."""

    noun: str
    # Probability that it is there, 0..1.
    score: float
    # Colour and place in words; empty where the model is not sure, or was not taught to say.
    colour: str = ''
    place: str = ''

    @property
    def name(self) -> str:
        """The thing with its colour: 'red cup'."""
        return f'{self.colour} {self.noun}'.strip()


class Composer:
    """Composes answers about one view.

    Args:
        engine: holds the model.
        taught: the questions that it was taught.
    """

    def __init__(self, engine: Engine, taught: Taught):
        self._engine, self._taught = engine, taught

    def answer(self, reading: Reading, view: View) -> tuple[tuple[Ranked, ...], str]:
        """Return the answer to a question of reader.COMPOSED, and why there is none, which is usually empty.

        The answer is the first candidate; the others are the things that it names. Its probability is that of the
        least sure of them.
        """
        shares = self._shares(view)
        place = reading.values.get('place', '')
        if reading.kind == AT:
            surface = place.split()[-1]
            if surface in shares and shares[surface] < LEAST_SHARE:
                return (Ranked(-1, '', 0.0),), f'The {surface} is not in view.'
        things = self._things(view, shares)
        if reading.kind == AT:
            things = [thing for thing in things if thing.place == place]
            text = f'{listed([self._formed(thing) for thing in things])} {place}.' if things else f'nothing {place}.'
            text = 'I see ' + text
        else:
            text = described(things, self._formed)
            if not any(thing.place.endswith('hand') for thing in things):
                text += self._held(view)
        named = [Ranked(-1, thing.name, thing.score) for thing in things]
        return (Ranked(-1, text, min((one.score for one in named), default=SURE)), *named), ''

    def _shares(self, view: View) -> Mapping[str, float]:
        """Return class -> its share of the predicted segmentation; nothing for a model without one."""
        if 'semseg' not in self._engine.config.tasks:
            return {}
        classes = self._engine.labels.classes
        ids = self._engine.decode(view, ['semseg'])['semseg'][0].argmax(0).flatten()
        counts = ids.bincount(minlength=len(classes)).tolist()
        return {name: count / len(ids) for name, count in zip(classes, counts, strict=True)}

    def _things(self, view: View, shares: Mapping[str, float]) -> list[NamedThing]:
        """Return the things that the model affirms and the segmentation shows, the surest first."""
        nouns = [
            noun
            for noun in self._taught.frame['existence'].fields['article'].words
            if shares.get(noun, 1.0) >= LEAST_SHARE
        ]
        if not nouns:
            return []
        scores = self._answers('existence', 'article', nouns, view)
        found = sorted(((score.get('yes', 0.0), noun) for noun, score in scores.items()), reverse=True)
        things = [NamedThing(noun, score) for score, noun in found if score >= SURE][:MOST]
        colours = self._details('colour', things, view)
        places = self._details('location', things, view)
        return [
            NamedThing(thing.noun, thing.score, colours.get(thing.noun, ''), places.get(thing.noun, ''))
            for thing in things
        ]

    def _details(self, kind: str, things: Sequence[NamedThing], view: View) -> dict[str, str]:
        """Return noun -> the answer to a question about it, where the model was taught it and is sure."""
        taught = self._taught.frame.get(kind)
        nouns = [thing.noun for thing in things if taught is not None and thing.noun in taught.fields['a'].words]
        details = {}
        for noun, scores in (self._answers(kind, 'a', nouns, view) if nouns else {}).items():
            best = max(scores, key=lambda answer: scores[answer])
            fitting = ('place',) if kind == 'location' else ('colour',)
            if scores[best] >= SURE_DETAIL and any(best in self._taught.words(sort) for sort in fitting):
                details[noun] = best
        return details

    def _answers(self, kind: str, field: str, nouns: Sequence[str], view: View) -> dict[str, dict[str, float]]:
        """Ask a kind of question about every noun at once; returns noun -> answer -> probability."""
        taught = self._taught.frame[kind]
        questions = [self._taught.worded(taught, {field: noun}) for noun in nouns]
        rows = self._engine.answer_all(questions, view).tolist()
        answers = self._engine.labels.answers
        return {noun: dict(zip(answers, row, strict=True)) for noun, row in zip(nouns, rows, strict=True)}

    def _held(self, view: View) -> str:
        """Return a sentence about the hand, if the model was taught to answer about it and sees something in it."""
        taught = self._taught.frame.get('held')
        if taught is None:
            return ''
        scores = self._engine.answer_all([taught.wordings[0]], view)[0]
        best = int(scores.argmax())
        held = self._engine.labels.answers[best]
        if float(scores[best]) < SURE or held not in self._taught.forms:
            return ''
        return f' The hand is holding {self._taught.formed(held, "one")}.'

    def _formed(self, thing: NamedThing) -> str:
        """Return a thing with its article and colour: 'an orange cup', 'a yellow loaf of bread'."""
        one = self._taught.formed(thing.noun, 'one')
        if not thing.colour or thing.colour == thing.noun:
            return one
        article = 'an' if thing.colour[0] in 'aeiou' else 'a'
        return f'{article} {thing.colour} {one.removeprefix("a ").removeprefix("an ")}'


def described(things: Sequence[NamedThing], formed: Callable[[NamedThing], str]) -> str:
    """Return sentences that name things, those with a place by their places; a place itself is not named again.

    Args:
        things: the surest first.
        formed: returns a thing with its article.
    """
    if not things:
        return 'I see nothing that I know.'
    said = {thing.place.split()[-1] for thing in things if thing.place}
    by_place: dict[str, list[str]] = {}
    for thing in things:
        if thing.place or thing.noun not in said:
            by_place.setdefault(thing.place, []).append(formed(thing))
    rest = by_place.pop('', [])
    parts = [f'{listed(names)} {place}' for place, names in by_place.items()]
    sentences = [f'I see {listed(parts, ";" if len(parts) > 1 else ",")}.'] if parts else []
    if rest:
        sentences.append(f'{"There is also" if sentences else "I see"} {listed(rest)}.')
    return ' '.join(sentences)


def listed(names: Sequence[str], comma: str = ',') -> str:
    """Return names as a list in words: 'a cup, a pan and a pot'."""
    return (
        names[0]
        if len(names) == 1
        else f'{f"{comma} ".join(names[:-1])}{comma if comma == ";" else ""} and {names[-1]}'
    )
