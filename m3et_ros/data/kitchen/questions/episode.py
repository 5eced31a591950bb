"""Questions at the end of an episode, about what is no longer in view and what was done, answered from the truth.

They have OpenEQA's seven categories (docs/papers.md 9.3) and one for actions. What could be answered from the last frame is
not asked: things must be out of view, and what was done is over.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, permutations

import numpy as np

from m3et_ros.data.datasets.openeqa import EqaQuestion
from m3et_ros.data.kitchen.questions.episode_wordings import COUNTED, DONE, FACTS, HISTORY, PHRASINGS, USES
from m3et_ros.data.kitchen.questions.frame import Draft
from m3et_ros.data.kitchen.questions.frame_wordings import MOST, action
from m3et_ros.data.kitchen.questions.observer import Account
from m3et_ros.data.kitchen.questions.splits import ANSWERS_OF, HELD_OUT, concerns_held_out, split_of
from m3et_ros.data.kitchen.sim.objects import ALWAYS, COLOURS_OF
from m3et_ros.data.kitchen.sim.vocabulary import AFFORDS, COLOURS, OBJECTS, PLACES, plural, spoken, with_article
from m3et_ros.data.kitchen.sim.world import OPEN, ActionLabel

ALONG = ('on the counter', 'on the hob')
"""Places on one line, so that left and right are clear."""

APART = 0.35
"""Least difference in metres of positions that are compared."""

AHEAD = 2
"""How many more times one of yes and no may be the answer of a kind of question, or a category, than the other."""

Ask = Callable[[Account], Iterator[Draft]]


def _yes(fact: bool) -> str:
    return 'yes' if fact else 'no'


def _recognition(account: Account) -> Iterator[Draft]:
    """What was seen, of what is out of view now."""
    gone = {noun: count for noun, count in account.counts.items() if noun in OBJECTS and account.gone(noun)}
    never = [noun for noun, count in gone.items() if not count and noun not in ALWAYS]
    for noun, count in gone.items():
        if noun not in ALWAYS:
            yield 'was_seen', _yes(count > 0), {'article': with_article(noun), 'a': spoken(noun)}
        if 0 < count <= MOST:
            yield 'how_many', str(count), {'plural': plural(noun)}
    for noun in account.lost:
        for other in never if noun not in ALWAYS else ():
            first, second = sorted((noun, other))
            yield 'which_seen', spoken(noun), {'article': with_article(first), 'other': with_article(second)}
    for place in PLACES:
        here = [sight for sight in account.seen if sight.place == place]
        if len(here) == 1 and here[0].noun in account.lost:
            yield 'what_there', spoken(here[0].noun), {'place': place}


def _localization(account: Account) -> Iterator[Draft]:
    for noun, sight in account.lost.items():
        yield 'where_now', sight.place, {'a': spoken(noun)}
        for place in PLACES:
            yield 'is_there', _yes(place == sight.place), {'a': spoken(noun), 'place': place}


def _attribute(account: Account) -> Iterator[Draft]:
    """Colours, of what has not always the same."""
    coloured = {noun: sight for noun, sight in account.lost.items() if len(COLOURS_OF.get(noun, COLOURS)) > 1}
    for noun, sight in coloured.items():
        yield 'was_colour', sight.colour, {'a': spoken(noun)}
        for colour in COLOURS_OF.get(noun, COLOURS):
            yield 'was_that_colour', _yes(colour == sight.colour), {'a': spoken(noun), 'colour': colour}
    for (a, one), (b, other) in combinations(sorted(coloured.items()), 2):
        for right, wrong in ((one, other), (other, one)):
            if right.colour != wrong.colour and right.colour in COLOURS_OF.get(wrong.noun, COLOURS):
                yield 'which_colour', spoken(right.noun), {'a': spoken(a), 'b': spoken(b), 'colour': right.colour}


def _state(account: Account) -> Iterator[Draft]:
    """What was opened, left on, filled, cut ... and is out of view now."""
    opened = {label.noun for label in account.done if label.verb == 'open'}
    for noun in AFFORDS['open']:
        yield 'was_opened', _yes(noun in opened), {'article': 'the fridge' if noun == 'fridge' else with_article(noun)}
    for sight in account.seen:
        still = account.state.openness.get(sight.name, 0) > OPEN
        if sight.noun in ('fridge', 'tap') and account.gone(sight.noun) and sight.was_open is still:
            yield ('still_on', _yes(still), {}) if sight.noun == 'tap' else ('still_open', _yes(still), {'a': 'fridge'})
    for noun, sight in account.lost.items():
        if sight.was_filled is not None and sight.was_filled == (account.state.fill[sight.name] > 0):
            yield 'still_filled', _yes(sight.was_filled), {'a': spoken(noun)}
        for verb, words in DONE.items():
            if noun in AFFORDS[verb]:
                fact = any((label.verb, label.noun) == (verb, noun) for label in account.done)
                yield 'was_done', _yes(fact), {'a': spoken(noun), 'done': words, 'action': action(verb, noun)}


def _spatial(account: Account) -> Iterator[Draft]:
    """Left and right along the counter, near and far, together and apart."""
    spots = {spoken(noun): account.where(noun) for noun in account.lost}
    along = {spoken(noun): spots[spoken(noun)] for noun, sight in account.lost.items() if sight.place in ALONG}
    marks = {
        name: account.episode.scene.landmarks[name]
        for name in ('sink', 'bin')
        if name in {sight.noun for sight in account.seen}
    }
    for a, b in permutations(along | ({'sink': marks['sink']} if 'sink' in marks else {}), 2):
        across = (along.get(a, marks.get(a)) - along.get(b, marks.get(b)))[0]
        if abs(across) > APART:
            yield 'which_side', 'left' if across < 0 else 'right', {'a': a, 'b': b}
    for (a, one), (b, other) in combinations(sorted(spots.items()), 2):
        for mark, spot in marks.items():
            near, far = (float(np.linalg.norm(thing - spot)) for thing in (one, other))
            if abs(near - far) > APART:
                yield 'nearer_to', a if near < far else b, {'a': a, 'b': b, 'c': mark}
    for a, b in combinations(sorted(account.lost), 2):
        same = account.lost[a].place == account.lost[b].place
        yield 'same_place', _yes(same), {'a': spoken(a), 'b': spoken(b)}


class _Known:
    """What is known of the nouns to which a phrase of a table applies."""

    def __init__(self, account: Account, nouns: Sequence[str], doubtful: Sequence[str]):
        self.nouns = nouns
        # How many there were of each; a noun of which something was barely seen is left out.
        self.counts = {noun: account.counts[noun] for noun in nouns if noun in account.counts}
        self.seen = [noun for noun, count in self.counts.items() if count]
        self.gone = all(account.gone(noun) for noun in nouns)
        # Nothing barely seen, and nothing of which people disagree.
        self.sure = len(self.counts) == len(nouns) and all(account.counts.get(noun, 1) == 0 for noun in doubtful)
        things = [sight for sight in account.seen if sight.noun in (*nouns, *doubtful)]
        self.places = {account.state.places[sight.name] for sight in things}
        self.lost = {noun: account.lost[noun] for noun in self.seen if noun in account.lost}

    def only(self) -> str | None:
        """The one noun of these that was seen, if it was one thing and nothing else is in doubt."""
        return self.seen[0] if self.sure and len(self.seen) == 1 and self.seen[0] in self.lost else None

    def at(self) -> Iterator[tuple[str, str]]:
        """Places, and yes or no: whether there is something of this."""
        here = {sight.place for sight in self.lost.values()}
        clear = len(self.counts) == len(self.nouns) and len(self.lost) == len(self.seen)
        for place in PLACES if self.seen else ():
            if place in here or (clear and place not in self.places):
                yield place, _yes(place in here)


def _functional(account: Account) -> Iterator[Draft]:
    for use, nouns in USES.items():
        known = _Known(account, *nouns)
        if not known.gone:
            continue
        if not set(known.nouns) & set(ALWAYS) and (known.seen or known.sure):
            yield 'use_seen', _yes(bool(known.seen)), {'use': use}
        for place, fact in known.at():
            yield 'use_at', fact, {'use': use, 'place': place}
        only = known.only()
        if only:
            yield 'use_where', known.lost[only].place, {'use': use}
            if len(known.nouns) > 1:
                yield 'use_what', spoken(only), {'use': use}


def _world(account: Account) -> Iterator[Draft]:
    for fact, nouns in FACTS.items():
        known, words = _Known(account, *nouns), fact if fact in COUNTED else f'something {fact}'
        if not known.gone:
            continue
        if not set(known.nouns) & set(ALWAYS) and (known.seen or known.sure):
            yield 'fact_seen', _yes(bool(known.seen)), {'fact': words}
        if fact in COUNTED and known.sure and sum(known.counts.values()) <= MOST:
            yield 'fact_count', str(sum(known.counts.values())), {'facts': COUNTED[fact]}
        for place, there in known.at():
            yield 'fact_at', there, {'fact': words, 'place': place}
        only = known.only()
        if only:
            yield 'fact_where', known.lost[only].place, {'fact': words}
            if len(known.nouns) > 1:
                yield 'fact_what', spoken(only), {'fact': fact}


def _history(account: Account) -> Iterator[Draft]:
    """What was done, and in which order."""
    done = [action(label.verb, label.noun) for label in account.done]
    times = Counter(done)
    if len(done) <= MOST:
        yield 'how_many_done', str(len(done)), {}
    for kind, place in (('first', 0), ('last', -1), ('before_last', -2)):
        if len(done) > 2:
            yield kind, done[place], {}
    once = [name for name in done if times[name] == 1]
    for name, following in zip(done, done[1:]):
        if times[name] == 1:
            yield 'right_after', following, {'action': name}
    for earlier, later in combinations(once, 2):
        first, second = sorted((earlier, later))
        yield 'which_first', earlier, {'action': first, 'other': second}
    for name in times.keys() | set(_undone(account, times)):
        yield 'ever_done', _yes(name in times), {'action': name}


def _undone(account: Account, times: Counter) -> Iterator[str]:
    """Actions that could have been done to what was seen."""
    seen = {sight.noun for sight in account.seen}
    return (
        action(verb, noun)
        for verb, nouns in AFFORDS.items()
        for noun in nouns
        if noun in seen and action(verb, noun) not in times
    )


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
"""Category -> everything it can ask about an episode."""


def episode_drafts(account: Account) -> dict[str, list[Draft]]:
    """Category to all its questions about an episode, in a fixed order; of a training seed without what is held out."""
    training = split_of(account.episode.seed) == 'train'
    drafts = {
        category: [draft for draft in ask(account) if not (training and _is_held_out(draft, account.done))]
        for category, ask in ASK.items()
    }
    return {
        category: sorted(found, key=lambda draft: (draft[0], draft[1], sorted(draft[2].items())))
        for category, found in drafts.items()
    }


def _is_held_out(draft: Draft, done: Sequence[ActionLabel]) -> bool:
    """Whether a question speaks of a combination that training must not meet."""
    _, answer, fields = draft
    colours = any(
        fields.get('colour') == colour and spoken(noun) in fields.values() for colour, noun in HELD_OUT.colour_nouns
    )
    return colours or concerns_held_out(fields, answer) or bool(ANSWERS_OF & set(fields.values()))


def choose(
    episodes: Sequence[dict[str, list[Draft]]], count: int, rng: np.random.Generator
) -> list[list[tuple[str, Draft]]]:
    """Draw `count` questions of each episode: categories evenly, kinds in them evenly, then the rarest answer.

    Of the questions of a kind the one is taken whose answer its wording has had least often so far, then the kind: so
    that over several episodes the answers of a wording come out as even as the world allows. Yes and no are kept even,
    if need be at the price of fewer questions.

    Args:
        episodes: episode_drafts of each.
        count: questions of each; an episode that has fewer gives all of them.
        rng: decides between equals.

    Returns:
        For each episode its (category, draft), in the order of drawing.
    """
    had: Counter = Counter()
    return [_choose(drafts, count, rng, had) for drafts in episodes]


def _choose(
    drafts: dict[str, list[Draft]], count: int, rng: np.random.Generator, had: Counter
) -> list[tuple[str, Draft]]:
    """The questions of one episode; `had` counts answers over all."""
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
    """Those questions by which neither yes nor no gets too far ahead among those of their kind and category."""

    def ahead(among: str, answer: str) -> int:
        other = 'no' if answer == 'yes' else 'yes'
        return had[among, answer] - had[among, other]

    return [
        draft
        for draft in pool
        if draft[1] not in ('yes', 'no') or max(ahead(draft[0], draft[1]), ahead(category, draft[1])) < AHEAD
    ]


def _wording(draft: Draft) -> tuple:
    return draft[0], tuple(sorted(draft[2].items()))


def _rarest(pool: list[Draft], rng: np.random.Generator, had: Counter) -> Draft:
    """The question by which guessing gains least."""

    def gain(draft: Draft) -> tuple:
        wording = _wording(draft)
        return 2 * had[wording, draft[1]] - had[wording], had[draft[0], draft[1]], had[wording]

    return min((pool[i] for i in rng.permutation(len(pool))), key=gain)


def worded(chosen: Sequence[tuple[str, Draft]], episode_history: str, rng: np.random.Generator) -> list[EqaQuestion]:
    """Questions in OpenEQA's schema, numbered through.

    Args:
        chosen: as from choose.
        episode_history: name of the bag.
        rng: draws wordings.
    """
    questions = []
    for number, (category, (kind, answer, fields)) in enumerate(chosen):
        wordings = PHRASINGS[kind]
        text = wordings[rng.integers(len(wordings))].format(**fields)
        questions.append(EqaQuestion(text, answer, category, f'{episode_history}-{number:03d}', episode_history))
    return questions
