"""Questions at the end of an episode about objects out of view and finished actions, with true answers.

They have OpenEQA's seven categories (docs/papers.md 9.3) and one for actions. The last frame alone does not answer
them: objects must be out of view, and actions must be over.

From a seed to a question: after questions/episode_wordings.py, before questions/checkpoints.py.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, pairwise, permutations

import numpy as np

from m3et_ros.data.datasets.openeqa import EqaQuestion
from m3et_ros.data.kitchen.questions.episode_wordings import COUNTED, DONE, FACTS, HISTORY, PHRASINGS, USES
from m3et_ros.data.kitchen.questions.frame import Draft
from m3et_ros.data.kitchen.questions.frame_wordings import MOST, action, yes_or_no
from m3et_ros.data.kitchen.questions.observer import EpisodeKnowledge
from m3et_ros.data.kitchen.questions.splits import ANSWERS_OF, HELD_OUT, concerns_held_out, split_of
from m3et_ros.data.kitchen.sim.objects import ALWAYS, COLOURS_OF
from m3et_ros.data.kitchen.sim.vocabulary import AFFORDS, COLOURS, OBJECTS, PLACES, plural, spoken, with_article
from m3et_ros.data.kitchen.sim.world import OPEN

ALONG = ('on the counter', 'on the hob')
"""Places on one line, so that left and right are clear."""

APART = 0.35
"""Least difference in metres of compared positions."""

AHEAD = 2
"""Largest lead of yes over no, or of no over yes, among the answers of a kind of question and of a category."""

Ask = Callable[[EpisodeKnowledge], Iterator[Draft]]


def _recognition(known: EpisodeKnowledge) -> Iterator[Draft]:
    """Ask about objects that were in view before and are out of view now."""
    gone = {noun: count for noun, count in known.counts.items() if noun in OBJECTS and known.gone(noun)}
    never = [noun for noun, count in gone.items() if not count and noun not in ALWAYS]
    for noun, count in gone.items():
        if noun not in ALWAYS:
            yield 'was_seen', yes_or_no(count > 0), {'article': with_article(noun), 'a': spoken(noun)}
        if 0 < count <= MOST:
            yield 'how_many', str(count), {'plural': plural(noun)}
    for noun in known.lost:
        for other in never if noun not in ALWAYS else ():
            first, second = sorted((noun, other))
            yield 'which_seen', spoken(noun), {'article': with_article(first), 'other': with_article(second)}
    for place in PLACES:
        here = [one for one in known.clear if one.place == place]
        if len(here) == 1 and here[0].noun in known.lost:
            yield 'what_there', spoken(here[0].noun), {'place': place}


def _localization(known: EpisodeKnowledge) -> Iterator[Draft]:
    for noun, one in known.lost.items():
        yield 'where_now', one.place, {'a': spoken(noun)}
        for place in PLACES:
            yield 'is_there', yes_or_no(place == one.place), {'a': spoken(noun), 'place': place}


def _attribute(known: EpisodeKnowledge) -> Iterator[Draft]:
    """Ask for the colours of objects that come in several."""
    coloured = {noun: one for noun, one in known.lost.items() if len(COLOURS_OF.get(noun, COLOURS)) > 1}
    for noun, one in coloured.items():
        yield 'was_colour', one.colour, {'a': spoken(noun)}
        for colour in COLOURS_OF.get(noun, COLOURS):
            yield 'was_that_colour', yes_or_no(colour == one.colour), {'a': spoken(noun), 'colour': colour}
    for (a, first), (b, second) in combinations(sorted(coloured.items()), 2):
        for right, wrong in ((first, second), (second, first)):
            if right.colour != wrong.colour and right.colour in COLOURS_OF.get(wrong.noun, COLOURS):
                yield 'which_colour', spoken(right.noun), {'a': spoken(a), 'b': spoken(b), 'colour': right.colour}


def _state(known: EpisodeKnowledge) -> Iterator[Draft]:
    """Ask about containers that were opened, and about the state of what is out of view: open, running, filled, cut."""
    opened = {label.noun for label in known.done if label.verb == 'open'}
    for noun in AFFORDS['open']:
        article = 'the fridge' if noun == 'fridge' else with_article(noun)
        yield 'was_opened', yes_or_no(noun in opened), {'article': article}
    for one in known.clear:
        still = known.state.openness.get(one.name, 0) > OPEN
        if one.noun in ('fridge', 'tap') and known.gone(one.noun) and one.was_open is still:
            if one.noun == 'tap':
                yield 'still_on', yes_or_no(still), {}
            else:
                yield 'still_open', yes_or_no(still), {'a': 'fridge'}
    for noun, one in known.lost.items():
        if one.was_filled is not None and one.was_filled == (known.state.fill[one.name] > 0):
            yield 'still_filled', yes_or_no(one.was_filled), {'a': spoken(noun)}
        for verb, words in DONE.items():
            if noun in AFFORDS[verb]:
                fact = any((label.verb, label.noun) == (verb, noun) for label in known.done)
                yield 'was_done', yes_or_no(fact), {'a': spoken(noun), 'done': words, 'action': action(verb, noun)}


def _spatial(known: EpisodeKnowledge) -> Iterator[Draft]:
    """Ask what is left and right along the counter, what is nearer, and what is in the same place."""
    positions = {spoken(noun): known.position_of(noun) for noun in known.lost}
    visible = {one.noun for one in known.clear}
    marks = {name: known.episode.scene.landmarks[name] for name in ('sink', 'bin') if name in visible}
    along = {spoken(noun): positions[spoken(noun)] for noun, one in known.lost.items() if one.place in ALONG}
    if 'sink' in marks:
        along['sink'] = marks['sink']
    for a, b in permutations(along, 2):
        across = (along[a] - along[b])[0]
        if abs(across) > APART:
            yield 'which_side', 'left' if across < 0 else 'right', {'a': a, 'b': b}
    for (a, first), (b, second) in combinations(sorted(positions.items()), 2):
        for mark, spot in marks.items():
            near, far = (float(np.linalg.norm(position - spot)) for position in (first, second))
            if abs(near - far) > APART:
                yield 'nearer_to', a if near < far else b, {'a': a, 'b': b, 'c': mark}
    for a, b in combinations(sorted(known.lost), 2):
        same = known.lost[a].place == known.lost[b].place
        yield 'same_place', yes_or_no(same), {'a': spoken(a), 'b': spoken(b)}


class _Phrase:
    """The knowledge about the nouns of one phrase of USES or FACTS.

    Args:
        known: knowledge about the episode.
        nouns: to which the phrase applies.
        doubtful: on which people might disagree.

    Attributes:
        counts: noun -> number of its instances; nouns with an unclear instance are left out.
        observed: nouns that were observed.
        gone: all nouns are out of view.
        sure: no instance is unclear and no doubtful noun was observed.
        lost: noun -> its only instance, out of view.
    """

    def __init__(self, known: EpisodeKnowledge, nouns: Sequence[str], doubtful: Sequence[str]):
        self.nouns = nouns
        self.counts = {noun: known.counts[noun] for noun in nouns if noun in known.counts}
        self.observed = [noun for noun, count in self.counts.items() if count]
        self.gone = all(known.gone(noun) for noun in nouns)
        self.sure = len(self.counts) == len(nouns) and all(known.counts.get(noun, 1) == 0 for noun in doubtful)
        self.lost = {noun: known.lost[noun] for noun in self.observed if noun in known.lost}
        self._places = {known.state.places[one.name] for one in known.clear if one.noun in (*nouns, *doubtful)}

    def may_ask_existence(self) -> bool:
        """Return whether the answer to a question about its existence is certain and not obvious."""
        return not set(self.nouns) & set(ALWAYS) and (bool(self.observed) or self.sure)

    def only(self) -> str | None:
        """Return the only noun that was observed, if it was a single object and nothing is doubtful."""
        return self.observed[0] if self.sure and len(self.observed) == 1 and self.observed[0] in self.lost else None

    def places(self) -> Iterator[tuple[str, str]]:
        """Yield places, with yes or no: an object of these nouns is there."""
        here = {one.place for one in self.lost.values()}
        clear = len(self.counts) == len(self.nouns) and len(self.lost) == len(self.observed)
        for place in PLACES if self.observed else ():
            if place in here or (clear and place not in self._places):
                yield place, yes_or_no(place in here)


def _functional(known: EpisodeKnowledge) -> Iterator[Draft]:
    for use, nouns in USES.items():
        phrase = _Phrase(known, *nouns)
        if not phrase.gone:
            continue
        if phrase.may_ask_existence():
            yield 'use_seen', yes_or_no(bool(phrase.observed)), {'use': use}
        for place, answer in phrase.places():
            yield 'use_at', answer, {'use': use, 'place': place}
        only = phrase.only()
        if only:
            yield 'use_where', phrase.lost[only].place, {'use': use}
            if len(phrase.nouns) > 1:
                yield 'use_what', spoken(only), {'use': use}


def _world(known: EpisodeKnowledge) -> Iterator[Draft]:
    for fact, nouns in FACTS.items():
        phrase, words = _Phrase(known, *nouns), fact if fact in COUNTED else f'something {fact}'
        if not phrase.gone:
            continue
        if phrase.may_ask_existence():
            yield 'fact_seen', yes_or_no(bool(phrase.observed)), {'fact': words}
        if fact in COUNTED and phrase.sure and sum(phrase.counts.values()) <= MOST:
            yield 'fact_count', str(sum(phrase.counts.values())), {'facts': COUNTED[fact]}
        for place, answer in phrase.places():
            yield 'fact_at', answer, {'fact': words, 'place': place}
        only = phrase.only()
        if only:
            yield 'fact_where', phrase.lost[only].place, {'fact': words}
            if len(phrase.nouns) > 1:
                yield 'fact_what', spoken(only), {'fact': fact}


def _history(known: EpisodeKnowledge) -> Iterator[Draft]:
    """Ask for the actions and their order."""
    done = [action(label.verb, label.noun) for label in known.done]
    times = Counter(done)
    if len(done) <= MOST:
        yield 'how_many_done', str(len(done)), {}
    for kind, place in (('first', 0), ('last', -1), ('before_last', -2)):
        if len(done) > 2:
            yield kind, done[place], {}
    for name, following in pairwise(done):
        if times[name] == 1:
            yield 'right_after', following, {'action': name}
    for earlier, later in combinations([name for name in done if times[name] == 1], 2):
        first, second = sorted((earlier, later))
        yield 'which_first', earlier, {'action': first, 'other': second}
    visible = {one.noun for one in known.clear}
    possible = {action(verb, noun) for verb, nouns in AFFORDS.items() for noun in nouns if noun in visible}
    for name in times.keys() | possible:
        yield 'ever_done', yes_or_no(name in times), {'action': name}


ASK: dict[str, Ask] = {
    'object recognition': _recognition,
    'object localization': _localization,
    'attribute recognition': _attribute,
    'spatial understanding': _spatial,
    'object state recognition': _state,
    'functional reasoning': _functional,
    'world knowledge': _world,
    HISTORY: _history,
}
"""Category -> the generator of all its questions about an episode."""


def episode_drafts(known: EpisodeKnowledge) -> dict[str, list[Draft]]:
    """Return category -> all its questions about an episode, sorted; of a training seed without the held-out ones."""
    training = split_of(known.episode.seed) == 'train'
    return {
        category: sorted(
            (draft for draft in ask(known) if not (training and _is_held_out(draft))),
            key=lambda draft: (draft[0], draft[1], sorted(draft[2].items())),
        )
        for category, ask in ASK.items()
    }


def _is_held_out(draft: Draft) -> bool:
    """Return whether a question mentions a combination that is held out from training."""
    _, answer, fields = draft
    colours = any(
        fields.get('colour') == colour and spoken(noun) in fields.values() for colour, noun in HELD_OUT.colour_nouns
    )
    return colours or concerns_held_out(fields, answer) or bool(ANSWERS_OF & set(fields.values()))


def choose(
    episodes: Sequence[dict[str, list[Draft]]], count: int, rng: np.random.Generator
) -> list[list[tuple[str, Draft]]]:
    """Draw `count` questions of each episode: categories evenly, kinds in them evenly, then the rarest answer.

    Of the questions of a kind, the draw takes the one whose answer has been rarest so far, first for its wording and
    then for its kind. Over several episodes the answers of a wording thus come out as even as the kitchens allow. Yes
    and no are balanced, if necessary by drawing fewer questions.

    Args:
        episodes: episode_drafts of each.
        count: questions of each; an episode with fewer gives all of them.
        rng: decides between equals.

    Returns:
        For each episode its (category, draft), in the order of drawing.
    """
    had: Counter = Counter()
    return [_choose(drafts, count, rng, had) for drafts in episodes]


def _choose(
    drafts: dict[str, list[Draft]], count: int, rng: np.random.Generator, had: Counter
) -> list[tuple[str, Draft]]:
    """Draw the questions of one episode; `had` counts the answers over all episodes."""
    left: dict[str, dict[str, list[Draft]]] = {category: defaultdict(list) for category in drafts}
    for category, found in drafts.items():
        for draft in found:
            left[category][draft[0]].append(draft)
    chosen: list[tuple[str, Draft]] = []
    taken: Counter = Counter()
    while len(chosen) < count:
        left = {
            category: {kind: pool for kind, pool in kinds.items() if _allowed(category, pool, had)}
            for category, kinds in left.items()
        }
        left = {category: kinds for category, kinds in left.items() if kinds}
        if not left:
            break
        category = min(left, key=lambda name: taken[name])
        kind = min(left[category], key=lambda name: (taken[name], had[name]))
        draft = _rarest(_allowed(category, left[category][kind], had), rng, had)
        left[category][kind].remove(draft)
        taken.update((category, kind))
        had.update((kind, (kind, draft[1]), (category, draft[1]), _wording(draft), (_wording(draft), draft[1])))
        chosen.append((category, draft))
    return chosen


def _allowed(category: str, pool: list[Draft], had: Counter) -> list[Draft]:
    """Return the questions that keep the lead of yes or no within AHEAD, in their kind and in their category."""

    def lead(among: str, answer: str) -> int:
        other = 'no' if answer == 'yes' else 'yes'
        return had[among, answer] - had[among, other]

    return [
        draft
        for draft in pool
        if draft[1] not in ('yes', 'no') or max(lead(draft[0], draft[1]), lead(category, draft[1])) < AHEAD
    ]


def _wording(draft: Draft) -> tuple:
    return draft[0], tuple(sorted(draft[2].items()))


def _rarest(pool: list[Draft], rng: np.random.Generator, had: Counter) -> Draft:
    """Return the question by which guessing gains least; rng decides between equals."""

    def gain(draft: Draft) -> tuple:
        wording = _wording(draft)
        return 2 * had[wording, draft[1]] - had[wording], had[draft[0], draft[1]], had[wording]

    return min((pool[i] for i in rng.permutation(len(pool))), key=gain)


def worded(chosen: Sequence[tuple[str, Draft]], episode_history: str, rng: np.random.Generator) -> list[EqaQuestion]:
    """Return questions in OpenEQA's schema, numbered through.

    Args:
        chosen: (category, draft) as from choose.
        episode_history: name of the bag.
        rng: draws wordings.
    """
    questions = []
    for number, (category, (kind, answer, fields)) in enumerate(chosen):
        wordings = PHRASINGS[kind]
        text = wordings[rng.integers(len(wordings))].format(**fields)
        questions.append(EqaQuestion(text, answer, category, f'{episode_history}-{number:03d}', episode_history))
    return questions
