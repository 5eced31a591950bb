"""What an action head says of episodes, cached or recorded: the action under way, and the one to come (docs/papers.md 7.7).

Every episode is one stream, read where it is asked: for recognition at the last frame of an action, for anticipation at
the last frame that lies at least a second before it. Nothing is cut around the actions, as on a robot.

Symbols: N actions asked for, V verbs, M nouns.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from m3et_ros.data.action_questions import (
    LAST,
    LAST_GIVEN,
    NEXT,
    NEXT_GIVEN,
    NOW,
    NOW_GIVEN,
    Pair,
    after,
    filled,
    given,
)
from m3et_ros.data.frame import Labels
from m3et_ros.data.kitchen.cache.episodes import GAP_S, EpisodeFrames
from m3et_ros.data.kitchen.questions.splits import HELD_OUT
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.evaluation.batches import measured, told
from m3et_ros.evaluation.metrics.epic import BEST, action_id, rank_actions
from m3et_ros.evaluation.metrics.intervals import bootstrap, mean_rows, ratio
from m3et_ros.evaluation.metrics.ranking import label_ranks, listed_ranks
from m3et_ros.models.actions.mambavl import Chain, MambaVL, joint

TASKS = ('recognition', 'anticipation')
WAYS = {
    'recognition': ('generic', 'masked', 'two_pass', 'chain', 'oracle'),
    'anticipation': ('generic', 'chain', 'follow', 'history'),
}
"""How may be asked (data.action_questions). `oracle` and `history` are told true labels: upper bounds, not results."""

CHAINS = {'chain': (NOW_GIVEN, NOW[1]), 'chain_next': (NEXT_GIVEN, NEXT[1]), 'chain_last': (LAST_GIVEN, LAST[1])}
"""Noun question given a verb, and verb question."""


@dataclass(frozen=True)
class Target:
    """One action that is asked for."""

    episode: int
    # Frame of the episode at which is asked.
    place: int
    # Number of the action in the episode.
    number: int
    # Number of the last action that is over there, -1 for none.
    before: int


def targets(episodes: Sequence[EpisodeFrames], task: str) -> tuple[list[Target], Counter[str]]:
    """All actions of episodes with the frame at which to ask, and how many have no such frame, by reason."""
    found, missing = [], Counter()
    for index, episode in enumerate(episodes):
        ends = {len(episode.stamps), *episode.breaks}
        stops = np.array([action.stop_s for action in episode.actions])
        for number, action in enumerate(episode.actions):
            until = action.stop_s - 1e-6 if task == 'recognition' else action.start_s - GAP_S + 1e-6
            place = int(np.searchsorted(episode.stamps, until)) - 1
            if place < 0 or (place + 1 in ends and until > episode.stamps[place] + 1):
                missing['outside_the_frames'] += 1
            elif task == 'recognition' and episode.stamps[place] < action.start_s:
                missing['shorter_than_a_frame'] += 1
            else:
                over = np.flatnonzero(stops <= episode.stamps[place] + 1e-6)
                found.append(Target(index, place, number, int(over[-1]) if len(over) else -1))
    return found, missing


@dataclass(frozen=True)
class Answers:
    """What a head said of targets."""

    # Logits (N, V) and (N, M), or (N, V, M) of the noun given the verb; and the same without preference for what is
    # common (MambaVL.balanced).
    verbs: np.ndarray
    nouns: np.ndarray
    balanced: tuple[np.ndarray, np.ndarray]


class Examiner:
    """Puts questions about episodes to an action head.

    Args:
        head: on its device.
        tokens: of all frames (training.watched), (F, width).
        episodes: of these frames.
        tokenizer, labels, length: of the model: words, and most text tokens of a question.
    """

    def __init__(
        self,
        head: MambaVL,
        tokens: np.ndarray,
        episodes: Sequence[EpisodeFrames],
        tokenizer: Tokenizer,
        labels: Labels,
        length: int,
        progress: Progress = no_progress,
    ):
        self.head, self.tokens, self.episodes, self.labels = head, tokens, episodes, labels
        self.tokenizer, self.length = tokenizer, length
        self.seen = [self._follow(episode) for episode in progress(episodes, len(episodes), 'episodes seen', 'episode')]

    def _follow(self, episode: EpisodeFrames) -> torch.Tensor:
        with measured(self.head) as device:
            edges = [episode.first + place for place in (0, *episode.breaks, len(episode.stamps))]
            streams = [torch.from_numpy(np.array(self.tokens[start:end])).float() for start, end in pairwise(edges)]
            return torch.cat([self.head.follow(stream.to(device)[None])[0] for stream in streams])

    def ask(self, asked: Sequence[Target], way: str, *, ask: bool = True) -> Answers:
        """Ask for actions in one of WAYS; with ask=False the question is empty.

        Raises:
            ValueError: an unknown way.
        """
        if way in CHAINS or way == 'follow_next':
            chain = (
                self._chain(asked, way)
                if way in CHAINS
                else self.head.foreseen(self._chain(asked, 'chain_last'), self._chain(asked, 'chain_next'))
            )
            return _answers([[*chain, *self.head.balanced(*chain)]])
        if way == 'two_pass':
            first = self._read(asked, [self._masked(target) for target in asked])
            pairs = [
                filled(self._key(target), self.labels.verbs[verb], self.labels.nouns[noun])
                for target, verb, noun in zip(asked, first.verbs.argmax(1), first.nouns.argmax(1))
            ]
            return self._read(asked, pairs)
        ways = {
            'generic': lambda target: NOW,
            'masked': self._masked,
            'oracle': self._oracle,
            'history': self._history,
            'generic_next': lambda target: NEXT,
        }
        if way not in ways:
            raise ValueError(f'way is {way!r}; give one of {", ".join((*ways, "two_pass"))}')
        return self._read(asked, [ways[way](target) if ask else ('', '') for target in asked])

    def busy(self, asked: Sequence[Target]) -> list[float]:
        """How likely it is that anything is being done at each target, 0..1; 1 where the head does not tell."""
        if self.head.busy_head is None:
            return [1.0] * len(asked)
        with measured(self.head):
            seen = torch.stack([self.seen[target.episode][target.place] for target in asked])
            return self.head.busy(seen).sigmoid().tolist()

    def _chain(self, asked: Sequence[Target], way: str) -> Chain:
        """One of CHAINS, the noun asked for given each verb."""
        form, generic = CHAINS[way]
        with measured(self.head) as device:

            def heard(texts: list[str]) -> torch.Tensor:
                return self.head.heard(*(part.to(device) for part in self.tokenizer.encode(texts, self.length)))

            verb, nouns = heard([generic]), heard([given(form, name) for name in self.labels.verbs])
            seen = torch.stack([self.seen[target.episode][target.place] for target in asked])
            return self.head.chained(seen, verb, nouns)

    def _action(self, target: Target, number: int) -> tuple[str, str]:
        action = self.episodes[target.episode].actions[number]
        return self.labels.verbs[action.verb], self.labels.nouns[action.noun]

    def _key(self, target: Target) -> str:
        return f'{self.episodes[target.episode].name} {target.number}'

    def _masked(self, target: Target) -> Pair:
        return filled(self._key(target))

    def _oracle(self, target: Target) -> Pair:
        return filled(self._key(target), *self._action(target, target.number))

    def _history(self, target: Target) -> Pair:
        return after(self._action(target, target.before) if target.before >= 0 else None)

    def _read(self, asked: Sequence[Target], pairs: Sequence[Pair]) -> Answers:
        parts = []
        with measured(self.head) as device:
            for start in range(0, len(asked), 256):
                some = asked[start : start + 256]
                seen = torch.stack([self.seen[target.episode][target.place] for target in some])
                words = [
                    part.to(device)
                    for which in range(2)
                    for part in self.tokenizer.encode([pair[which] for pair in pairs[start : start + 256]], self.length)
                ]
                verbs, nouns = self.head.classify(seen, words[0], words[2], words[1], words[3])
                parts.append([verbs, nouns, *self.head.balanced(verbs, nouns)])
            return _answers(parts)


def _answers(parts: Sequence[Sequence[torch.Tensor]]) -> Answers:
    verbs, nouns, *balanced = (torch.cat(part).float().cpu().numpy() for part in zip(*parts))
    return Answers(verbs, nouns, tuple(balanced))


def truth(episodes: Sequence[EpisodeFrames], asked: Sequence[Target]) -> tuple[np.ndarray, list[str]]:
    """Verb and noun of each target (N, 2), and its kitchen."""
    actions = [episodes[target.episode].actions[target.number] for target in asked]
    return (
        np.array([(action.verb, action.noun) for action in actions]).reshape(-1, 2),
        [episodes[target.episode].name for target in asked],
    )


def held_out(pairs: np.ndarray, labels: Labels) -> np.ndarray:
    """Which verb-noun pairs (N, 2) training never met: (N,) bool."""
    known = {
        (labels.verbs.index(verb), labels.nouns.index(noun))
        for verb, noun in HELD_OUT.verb_nouns
        if verb in labels.verbs and noun in labels.nouns
    }
    return np.array([tuple(pair) in known for pair in pairs.tolist()], bool)


def ranks(answers: Answers, pairs: np.ndarray, *, balanced: bool = False) -> dict[str, np.ndarray]:
    """Rank of the true verb, noun and action of each target, (N,) each."""
    verbs, nouns = answers.balanced if balanced else (answers.verbs, answers.nouns)
    if nouns.ndim == 3:
        pair = joint(torch.from_numpy(verbs), torch.from_numpy(nouns))
        listed = pair.flatten(1).argsort(dim=1, descending=True, stable=True)[:, :BEST].numpy()
        nouns, ids = pair.logsumexp(1).numpy(), action_id(listed // pair.shape[2], listed % pair.shape[2])
    else:
        ids, _ = rank_actions(verbs, nouns)
    return {
        'verb': label_ranks(verbs, pairs[:, 0]),
        'noun': label_ranks(nouns, pairs[:, 1]),
        'action': listed_ranks(ids, action_id(pairs[:, 0], pairs[:, 1])),
    }


def top1(found: np.ndarray, kitchens: Sequence[str], k: int = 1) -> dict[str, Any]:
    """Share of ranks (N,) below k with its interval over kitchens."""
    return told(bootstrap(mean_rows(found < k), ratio, kitchens))


def recall5(found: np.ndarray, classes: np.ndarray, kitchens: Sequence[str]) -> dict[str, Any]:
    """Class-mean top-5 recall of ranks (N,) of classes (N,) with its interval over kitchens."""
    names, index = np.unique(classes, return_inverse=True)
    rows = np.zeros((len(found), 2 * len(names)))
    rows[np.arange(len(found)), index] = found < 5
    rows[np.arange(len(found)), len(names) + index] = 1
    return told(bootstrap(rows, _class_mean, kitchens))


def _class_mean(sums: np.ndarray) -> np.ndarray:
    hits, counts = np.split(sums, 2, -1)
    present = counts > 0
    recall = np.where(present, hits / np.where(present, counts, 1), 0)
    return recall.sum(-1) / present.sum(-1)


def action_scores(answers: Answers, pairs: np.ndarray, kitchens: Sequence[str]) -> dict[str, Any]:
    """Top-1, top-5 and mean top-5 recall of verb, noun and action; the recall of balanced scores, see MambaVL."""
    plain, fair = ranks(answers, pairs), ranks(answers, pairs, balanced=True)
    classes = {'verb': pairs[:, 0], 'noun': pairs[:, 1], 'action': action_id(pairs[:, 0], pairs[:, 1])}
    return {'samples': len(pairs)} | {
        kind: {
            'top1': top1(plain[kind], kitchens),
            'top5': top1(plain[kind], kitchens, 5),
            'mean_top5_recall': recall5(fair[kind], classes[kind], kitchens),
            'mean_top5_recall_unbalanced': recall5(plain[kind], classes[kind], kitchens),
        }
        for kind in plain
    }


def examine(examiner: Examiner, *, ask: bool = True) -> dict[str, Any]:
    """Everything that can be asked: task -> way -> scores of all, seen and held-out pairs; and what had no frame.

    Raises:
        ValueError: there is no frame at which to ask for any action, in any task.
    """
    found: dict[str, Any] = {}
    for task in TASKS:
        asked, missing = targets(examiner.episodes, task)
        if not asked:
            found[task] = {'left_out': dict(missing)}
            continue
        pairs, kitchens = truth(examiner.episodes, asked)
        new = held_out(pairs, examiner.labels)
        found[task] = {'left_out': dict(missing)}
        for way in WAYS[task] if ask else ('generic',):
            if way == 'follow' and examiner.head.follows is None:
                continue
            of_next = task == 'anticipation' and way != 'history'
            answers = examiner.ask(asked, f'{way}_next' if of_next else way, ask=ask)
            found[task][way] = {
                name: action_scores(_some(answers, where), pairs[where], [kitchens[i] for i in np.flatnonzero(where)])
                for name, where in (('all', np.ones_like(new)), ('seen', ~new), ('held_out', new))
                if where.any()
            }
    if all(set(ways) == {'left_out'} for ways in found.values()):
        raise ValueError(f'no action can be asked for ({found}); give longer episodes')
    return found


def examine_busy(examiner: Examiner) -> dict[str, Any]:
    """How well a head tells frames within an action from those between two.

    Returns:
        `frames`, the share of them that lie `within` an action, `accuracy` at a probability of one half with its
        interval over episodes, and the area under the ROC curve `auroc` over all frames: 0.5 guesses.

    Raises:
        ValueError: the head tells nothing of it.
    """
    with measured(examiner.head):
        told_busy = torch.cat([examiner.head.busy(seen) for seen in examiner.seen]).cpu().numpy()
    within = np.concatenate([episode.now() >= 0 for episode in examiner.episodes])
    names = [episode.name for episode in examiner.episodes for _ in episode.stamps]
    below = np.searchsorted(np.sort(told_busy[~within]), told_busy[within])
    both = within.any() and not within.all()
    return {
        'frames': len(within),
        'within': round(float(within.mean()), 4),
        'accuracy': top1(np.where((told_busy > 0) == within, 0, 1), names),
        'auroc': round(float(below.mean() / (~within).sum()), 4) if both else None,
    }


def _some(answers: Answers, where: np.ndarray) -> Answers:
    return Answers(answers.verbs[where], answers.nouns[where], tuple(part[where] for part in answers.balanced))


class References:
    """Guesses from true labels alone: how common an action is, the last one again, and what mostly follows it.

    Args:
        episodes: of training.
    """

    def __init__(self, episodes: Sequence[EpisodeFrames]):
        self.prior: Counter[tuple[int, int]] = Counter()
        self.after: dict[tuple[int, int] | None, Counter[tuple[int, int]]] = {}
        for episode in episodes:
            names = [(action.verb, action.noun) for action in episode.actions]
            self.prior.update(names)
            for before, name in zip([None, *names], names):
                self.after.setdefault(before, Counter())[name] += 1

    def lines(self, episodes: Sequence[EpisodeFrames], asked: Sequence[Target]) -> dict[str, list[list[int]]]:
        """Line -> action ids for each target, best first."""
        common = [name for name, _ in self.prior.most_common()]

        def listed(first: Sequence[tuple[int, int]]) -> list[int]:
            return [int(action_id(*name)) for name in dict.fromkeys([*first, *common])][:100]

        befores = [
            [(action.verb, action.noun) for action in episodes[target.episode].actions[: target.before + 1]]
            for target in asked
        ]
        return {
            'prior': [listed([]) for _ in asked],
            'repeat_last': [listed(names[::-1]) for names in befores],
            'bigram': [
                listed([name for name, _ in self.after.get(names[-1] if names else None, Counter()).most_common()])
                for names in befores
            ],
        }


def reference_scores(references: References, episodes: Sequence[EpisodeFrames]) -> dict[str, Any]:
    """Action top-1 and mean top-5 recall of the lines, anticipation."""
    asked, _ = targets(episodes, 'anticipation')
    pairs, kitchens = truth(episodes, asked)
    ids = action_id(pairs[:, 0], pairs[:, 1])
    found = {}
    for name, lists in references.lines(episodes, asked).items():
        width = max(map(len, lists))
        listed = np.array([row + [-1] * (width - len(row)) for row in lists])
        position = listed_ranks(listed, ids)
        found[name] = {
            'action': {
                'top1': top1(position, kitchens),
                'top5': top1(position, kitchens, 5),
                'mean_top5_recall_unbalanced': recall5(position, ids, kitchens),
            }
        }
    return found
