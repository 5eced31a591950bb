"""Read a question before a model does: turn it into a wording that the model was taught, or say why it cannot answer.

reading = QuestionReader(taught).read('Hey robot, is there a mug in the picture?')
reading.question      # 'Is there a cup in view?'
reader.read('Is there a dragon on the table?').reason     # 'unknown_word'
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from m3et_ros.data.questions.lexicon import Lexicon, Token
from m3et_ros.data.questions.matching import (
    FIELD,
    Fit,
    Pattern,
    distance,
    fit,
    like,
    pattern,
    patterns,
    same_gist,
    values_in_order,
)
from m3et_ros.data.questions.paraphrases import AT_PLACE, EPISODE, FRAME, SCENE
from m3et_ros.data.questions.taught import Taught, TaughtField, TaughtKind
from m3et_ros.data.questions.words import plain, split_words

REASONS = ('no_question', 'unknown_word', 'unknown_form', 'impossible', 'needs_memory')
"""Reasons for which a question cannot be answered, as far as its words show."""

DESCRIBE = 'describe'
AT = 'at_place'
COMPOSED = (DESCRIBE, AT)
"""Kinds that no model is taught: their answers are composed of answers to taught questions."""

NEAR = 0.3
"""Largest cost of the difference to a wording, for each word of the vocabulary that both share; see matching."""

OFFERED = 3
"""Most wordings offered."""


@dataclass(frozen=True)
class Reading:
    """A question as it was understood."""

    # Taught wording to put to the model; empty where there is none.
    question: str = ''
    # Kind of the question, or one of COMPOSED; empty where it is of no known kind.
    kind: str = ''
    # Field -> taught word in plain form.
    values: Mapping[str, str] = field(default_factory=dict)
    # One of REASONS; empty where the question can be put to the model.
    reason: str = ''
    # The reason in one sentence.
    explanation: str = ''
    # Near questions that the model was taught.
    suggestions: tuple[str, ...] = ()


class QuestionReader:
    """Reads questions for one model.

    Args:
        taught: the questions that it was taught.
    """

    def __init__(self, taught: Taught):
        self.taught = taught
        self._frame = _Scope(taught, taught.frame, FRAME, composed=True)
        self._episode = _Scope(taught, taught.episode, EPISODE, composed=False)

    def read(self, text: str, scope: str = 'frame') -> Reading:
        """Read a question.

        Args:
            text: the question in everyday words.
            scope: 'frame', or 'episode' for questions about the episode; without taught questions about episodes those
                about frames hold there too.
        """
        said = plain(text)
        if not re.search(r'[^\W\d_]', said) or not split_words(said):
            return Reading(
                reason='no_question',
                explanation='There is no question in these words; ask something, such as '
                f'"{self._frame.examples()[0]}".',
                suggestions=tuple(self._frame.examples()[:OFFERED]),
            )
        about_episode = scope == 'episode' and bool(self.taught.episode)
        own, other = (self._episode, self._frame) if about_episode else (self._frame, self._episode)
        several = re.search(r'[.?!;]\s*\w', said) is not None
        reading = None
        if not several:
            # Word for word in the other scope says more than nearly in this one: "Have you seen a cup?".
            reading = own.exact(said) or self._across(other.exact(said), about_episode) or own.near(said)
            reading = reading or self._across(other.near(said), about_episode)
        if reading is None:
            reading = own.refuse(said, several)
        beyond = reading.kind in self.taught.frame and self.taught.frame[reading.kind].beyond_frame
        if not about_episode and beyond and not reading.reason:
            return Reading(reading.question, reading.kind, reading.values, 'needs_memory', _needs_memory(reading.kind))
        return reading

    @staticmethod
    def _across(crossed: Reading | None, about_episode: bool) -> Reading | None:
        """Return a question of the other scope as one that cannot be answered in this one."""
        if crossed is None or not crossed.question:
            return None
        if about_episode:
            return Reading(
                reason='unknown_form',
                explanation='This is a question about one frame; ask it without the scope of the episode.',
                suggestions=(crossed.question,),
            )
        return Reading(
            kind=crossed.kind,
            values=crossed.values,
            reason='needs_memory',
            explanation='One frame does not show what was before it; ask about the episode (--scope episode).',
            suggestions=(crossed.question,),
        )


def _needs_memory(kind: str) -> str:
    if kind.startswith('next'):
        return 'One frame does not show what comes next; the topic ~/anticipation does.'
    return 'One frame does not show what was done before it; ask about the episode (--scope episode).'


class _Scope:
    """The questions of one scope, ready to be matched."""

    def __init__(
        self, taught: Taught, kinds: Mapping[str, TaughtKind], more: Mapping[str, tuple[str, ...]], *, composed: bool
    ):
        self._taught, self._kinds = taught, kinds
        used = {name: more.get(name, ()) for name in kinds}
        fixed = [FIELD.sub(' ', text) for name, kind in kinds.items() for text in (*kind.wordings, *used[name])]
        extra: dict[str, tuple[tuple[str, ...], dict[str, TaughtField]]] = {}
        if composed and 'existence' in kinds:
            extra[DESCRIBE] = SCENE, {}
        if composed and 'is_located' in kinds and 'place' in kinds['is_located'].fields:
            extra[AT] = AT_PLACE, {'place': kinds['is_located'].fields['place']}
        fixed += [FIELD.sub(' ', text) for wordings, _ in extra.values() for text in wordings]
        self.lexicon = Lexicon(taught, kinds.values(), fixed)
        # The composed answer names all things at a place, where a taught one names a single thing.
        asked = {name: kind for name, kind in kinds.items() if name != 'what_at' or AT not in extra}
        self._patterns = patterns(asked, more, self.lexicon)
        for name, (wordings, fields) in extra.items():
            self._patterns += [pattern(name, wording, fields, self.lexicon, taught=False) for wording in wordings]

    def examples(self) -> list[str]:
        """Return one example of each kind."""
        return [
            self._taught.worded(kind, {name: one.words[0] for name, one in kind.fields.items()})
            for kind in self._kinds.values()
        ] or ['Is there a cup in view?']

    def exact(self, said: str) -> Reading | None:
        """Return the reading of a question that has the form of a known wording; None for others."""
        words = self.lexicon.tokens(split_words(said))
        # "in view" at the end says nothing more.
        for tokens in (words, words[:-1] if words[-1].text == 'in view' else []):
            fits = [
                found for one in self._patterns if (found := fit(one, tokens)) is not None and not any(found.faults)
            ]
            readings = [
                self._reading(one.pattern, one.values) for one in fits if one.pattern.kind == fits[0].pattern.kind
            ]
            if readings:
                # A taught wording that was given word for word goes to the model as it is.
                return next((one for one in readings if plain(one.question) == said), readings[0])
        return None

    def near(self, said: str) -> Reading | None:
        """Return the reading of a question that nearly has such a form, or all but the words of its fields."""
        tokens = self.lexicon.tokens(split_words(said))
        near = [(cost, at) for at, one in enumerate(self._patterns) if (cost := self._near(one, tokens)) is not None]
        near = near or [(0.0, at) for at, one in enumerate(self._patterns) if same_gist(one, tokens)]
        if near:
            one = self._patterns[min(near)[1]]
            return self._reading(one, values_in_order(one, tokens) or {})
        # "in view" at the end says nothing more.
        for some in (tokens, tokens[:-1] if tokens[-1].text == 'in view' else []):
            fits = [found for one in self._patterns if (found := fit(one, some)) is not None]
            if fits:
                return self._refused(min(fits, key=lambda one: one.faults))
        return None

    def _near(self, one: Pattern, tokens: list[Token]) -> float | None:
        """Return the cost of the difference to a wording that a question nearly is; None where it is not."""
        if not one.slots or values_in_order(one, tokens) is None:
            return None
        cost = distance(one, tokens)
        return cost if cost <= NEAR * len(one.slots) + 1e-9 else None

    def _reading(self, one: Pattern, values: Mapping[str, str]) -> Reading:
        words = {name: one.words[name][value] for name, value in values.items()}
        if one.kind in COMPOSED:
            asked = SCENE[0] if one.kind == DESCRIBE else one.wording.format(**words)
            return Reading(asked, one.kind, words)
        kind = self._kinds[one.kind]
        at = kind.wordings.index(one.wording if one.taught else like(kind, one.wording) or kind.wordings[0])
        return Reading(self._taught.worded(kind, words, at), one.kind, words)

    def _refused(self, best: Fit) -> Reading:
        """Return why a question is refused of which only words of fields are wrong."""
        if best.unknown:
            words = best.unknown[0]
            near = difflib.get_close_matches(words, self.lexicon.surfaces, OFFERED, 0.7)
            hint = f'; did you mean "{near[0]}"?' if near else '; m3et questions lists the words.'
            return Reading(
                kind=best.pattern.kind,
                values=best.values,
                reason='unknown_word',
                explanation=f'The model was never taught "{words}"{hint}',
                suggestions=tuple(self._mended(best, one) for one in near),
            )
        name, word = best.untaught[0]
        return Reading(
            kind=best.pattern.kind,
            values=best.values,
            reason='impossible',
            explanation=f'The model was never taught such a question about "{word}"; it was taught it about '
            f'{", ".join(best.pattern.fields[name].words[:5])}, ...',
            suggestions=tuple(self._about(word)),
        )

    def _mended(self, best: Fit, near: str) -> str:
        """Return a question with a near word in the place of the unknown one; the word itself if it does not fit."""
        token = self.lexicon.tokens(near.split())[0]
        values = dict(best.values)
        for name in best.pattern.slots:
            field = best.pattern.fields[name]
            if name not in values and field.sort in token.sorts:
                values[name] = token.text
        one = best.pattern
        known = all(values.get(name) in one.words[name] for name in one.slots)
        return self._reading(one, values).question if known else near

    def _about(self, word: str) -> list[str]:
        """Return taught questions about a word."""
        found = []
        for one in self._patterns:
            first = one.taught and one.wording == self._kinds[one.kind].wordings[0]
            if (
                first
                and len(one.slots) == 1
                and word in one.words[one.slots[0]]
                and not self._kinds[one.kind].beyond_frame
            ):
                found.append(self._reading(one, {one.slots[0]: word}).question)
        return found[:OFFERED]

    def refuse(self, said: str, several: bool) -> Reading:
        """Return the refusal of a question of no known form, with the nearest wordings about the same words."""
        tokens = self.lexicon.tokens(split_words(said))
        ranked = []
        for at, one in enumerate(self._patterns):
            if not one.taught or self._kinds[one.kind].beyond_frame:
                continue
            values = values_in_order(one, tokens)
            if values is not None and one.slots:
                ranked.append((distance(one, tokens), at, self._reading(one, values).question))
        near = [question for _, _, question in sorted(ranked)][:OFFERED] or self.examples()[:OFFERED]
        explanation = (
            'These are several sentences; ask one question at a time.'
            if several
            else 'The model was never taught a question of this kind; m3et questions lists what can be asked.'
        )
        return Reading(reason='unknown_form', explanation=explanation, suggestions=tuple(near))
