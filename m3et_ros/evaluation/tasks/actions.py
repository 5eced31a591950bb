"""Action recognition and anticipation in episodes, cached or recorded (docs/papers.md 7.7).

Every episode is one stream, as on a robot; no clips are cut around the actions. Recognition is asked at the last frame
of an action, anticipation at the last frame at least a second before it.

Symbols: N targets, V verbs, M nouns.
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
    masked_questions,
    noun_question,
    questions_after,
)
from m3et_ros.data.frame import Labels
from m3et_ros.data.kitchen.cache.episodes import GAP_S, EpisodeFrames
from m3et_ros.data.kitchen.questions.splits import HELD_OUT
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.evaluation.batches import interval_json, measured
from m3et_ros.evaluation.metrics.epic import BEST, action_id, rank_actions
from m3et_ros.evaluation.metrics.intervals import SHARE, bootstrap, mean_rows, ratio
from m3et_ros.evaluation.metrics.ranking import class_mean, label_ranks, listed_ranks
from m3et_ros.models.actions.mambavl import Chain, MambaVL, joint

TASKS = ('recognition', 'anticipation')
WAYS = {
    'recognition': ('generic', 'masked', 'two_pass', 'chain', 'oracle'),
    'anticipation': ('generic', 'chain', 'follow', 'history'),
}
"""Ways to ask for each task (data.action_questions). `oracle` and `history` contain true labels: upper bounds only."""

CHUNK = 256
"""Targets classified at a time, to bound memory."""

CHAINS = {'chain': (NOW_GIVEN, NOW[1]), 'chain_next': (NEXT_GIVEN, NEXT[1]), 'chain_last': (LAST_GIVEN, LAST[1])}
"""Noun question given a verb, and verb question, of each chain."""


@dataclass(frozen=True)
class Target:
    """One action to ask for."""

    episode: int
    # Frame of the episode at which the question is asked.
    frame: int
    # Number of the action in the episode.
    number: int
    # Number of the last action that is over at that frame, -1 for none.
    before: int


def targets(episodes: Sequence[EpisodeFrames], task: str) -> tuple[list[Target], Counter[str]]:
    """Return all actions of episodes that have a frame at which to ask, and the number of the others by reason.

    Args:
        episodes: the episodes.
        task: one of TASKS.
    """
    found, missing = [], Counter()
    for index, episode in enumerate(episodes):
        ends = {len(episode.stamps), *episode.breaks}
        stops = np.array([action.stop_s for action in episode.actions])
        for number, action in enumerate(episode.actions):
            until = action.stop_s - 1e-6 if task == 'recognition' else action.start_s - GAP_S + 1e-6
            frame = int(np.searchsorted(episode.stamps, until)) - 1
            if frame < 0 or (frame + 1 in ends and until > episode.stamps[frame] + 1):
                missing['outside_the_frames'] += 1
            elif task == 'recognition' and episode.stamps[frame] < action.start_s:
                missing['shorter_than_a_frame'] += 1
            else:
                over = np.flatnonzero(stops <= episode.stamps[frame] + 1e-6)
                found.append(Target(index, frame, number, int(over[-1]) if len(over) else -1))
    return found, missing


@dataclass(frozen=True)
class Answers:
    """Logits of a head for N targets."""

    # Verbs, (N, V).
    verbs: np.ndarray
    # Nouns, (N, M), or the noun given each verb, (N, V, M).
    nouns: np.ndarray
    # Verbs and nouns without the prior of the classes (MambaVL.balanced).
    balanced: tuple[np.ndarray, np.ndarray]


class Examiner:
    """Ask an action head about episodes.

    Args:
        head: the head, on its device.
        tokens: frame tokens of all episodes (data.features), (F, width).
        episodes: episodes of these frames.
        tokenizer: tokenizer of the model.
        labels: labels of the model.
        length: most text tokens of a question.
        progress: see data.progress.Progress.

    Attributes:
        features: features of the frames of each episode, (n, d).
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
        self.features = [
            self._encode(episode) for episode in progress(episodes, len(episodes), 'episodes encoded', 'episode')
        ]

    def _encode(self, episode: EpisodeFrames) -> torch.Tensor:
        """Return the features of the frames of an episode (n, d); the stream restarts at its breaks."""
        with measured(self.head) as device:
            edges = [episode.first + frame for frame in (0, *episode.breaks, len(episode.stamps))]
            streams = [torch.from_numpy(np.array(self.tokens[start:end])).float() for start, end in pairwise(edges)]
            return torch.cat([self.head.features(stream.to(device)[None])[0] for stream in streams])

    def ask(self, asked: Sequence[Target], way: str, *, ask: bool = True) -> Answers:
        """Ask for actions in one of WAYS.

        Args:
            asked: the targets.
            way: one of WAYS, with the ending _next for anticipation except for `history`.
            ask: False asks an empty question.

        Raises:
            ValueError: the way is unknown.
        """
        if way in CHAINS:
            return self._chain_answers(self._chain(asked, way))
        if way == 'follow_next':
            last, following = self._chain(asked, 'chain_last'), self._chain(asked, 'chain_next')
            return self._chain_answers(self.head.anticipate(last, following))
        if way == 'two_pass':
            first = self._classify(asked, [self._masked(target) for target in asked])
            pairs = [
                masked_questions(self._key(target), self.labels.verbs[verb], self.labels.nouns[noun])
                for target, verb, noun in zip(asked, first.verbs.argmax(1), first.nouns.argmax(1), strict=True)
            ]
            return self._classify(asked, pairs)
        ways = {
            'generic': lambda target: NOW,
            'masked': self._masked,
            'oracle': lambda target: masked_questions(self._key(target), *self._action(target, target.number)),
            'history': lambda target: questions_after(
                self._action(target, target.before) if target.before >= 0 else None
            ),
            'generic_next': lambda target: NEXT,
        }
        if way not in ways:
            known = ', '.join((*ways, 'two_pass', *CHAINS, 'follow_next'))
            raise ValueError(f'way is {way!r}; give one of {known}')
        return self._classify(asked, [ways[way](target) if ask else ('', '') for target in asked])

    def activity(self, asked: Sequence[Target]) -> list[float]:
        """Return the probability that an action is under way at each target; 1 where the head has no idle detection."""
        if self.head.busy_head is None:
            return [1.0] * len(asked)
        with measured(self.head):
            return self.head.activity_logits(self._features_at(asked)).sigmoid().tolist()

    def _features_at(self, asked: Sequence[Target]) -> torch.Tensor:
        """Return the features (N, d) at targets."""
        return torch.stack([self.features[target.episode][target.frame] for target in asked])

    def _chain_answers(self, chain: Chain) -> Answers:
        return _answers([[*chain, *self.head.balanced(*chain)]])

    def _chain(self, asked: Sequence[Target], way: str) -> Chain:
        """Ask by one of CHAINS, for the noun given each verb."""
        noun_form, verb_question = CHAINS[way]
        with measured(self.head) as device:

            def encode(questions: list[str]) -> torch.Tensor:
                words = self.tokenizer.encode(questions, self.length)
                return self.head.question_features(*(part.to(device) for part in words))

            verb = encode([verb_question])
            nouns = encode([noun_question(noun_form, name) for name in self.labels.verbs])
            return self.head.chain(self._features_at(asked), verb, nouns)

    def _action(self, target: Target, number: int) -> tuple[str, str]:
        """Return verb and noun of an action of the target's episode."""
        action = self.episodes[target.episode].actions[number]
        return self.labels.verbs[action.verb], self.labels.nouns[action.noun]

    def _key(self, target: Target) -> str:
        return f'{self.episodes[target.episode].name} {target.number}'

    def _masked(self, target: Target) -> Pair:
        return masked_questions(self._key(target))

    def _classify(self, asked: Sequence[Target], pairs: Sequence[Pair]) -> Answers:
        """Ask each target its pair of noun and verb question."""
        parts = []
        with measured(self.head) as device:
            for start in range(0, len(asked), CHUNK):
                features = self._features_at(asked[start : start + CHUNK])
                chunk = pairs[start : start + CHUNK]
                noun_words, verb_words = (
                    [part.to(device) for part in self.tokenizer.encode([pair[which] for pair in chunk], self.length)]
                    for which in range(2)
                )
                verbs, nouns = self.head.classify(features, noun_words[0], verb_words[0], noun_words[1], verb_words[1])
                parts.append([verbs, nouns, *self.head.balanced(verbs, nouns)])
            return _answers(parts)


def _answers(parts: Sequence[Sequence[torch.Tensor]]) -> Answers:
    verbs, nouns, *balanced = (torch.cat(part).float().cpu().numpy() for part in zip(*parts, strict=True))
    return Answers(verbs, nouns, tuple(balanced))


def truth(episodes: Sequence[EpisodeFrames], asked: Sequence[Target]) -> tuple[np.ndarray, list[str]]:
    """Return verb and noun of each target (N, 2), and its episode, the cluster for intervals."""
    actions = [episodes[target.episode].actions[target.number] for target in asked]
    return (
        np.array([(action.verb, action.noun) for action in actions]).reshape(-1, 2),
        [episodes[target.episode].name for target in asked],
    )


def held_out(pairs: np.ndarray, labels: Labels) -> np.ndarray:
    """Return a mask (N,) bool of the verb-noun pairs (N, 2) that training lacks."""
    known = {
        (labels.verbs.index(verb), labels.nouns.index(noun))
        for verb, noun in HELD_OUT.verb_nouns
        if verb in labels.verbs and noun in labels.nouns
    }
    return np.array([tuple(pair) in known for pair in pairs.tolist()], bool)


def ranks(answers: Answers, pairs: np.ndarray, *, balanced: bool = False) -> dict[str, np.ndarray]:
    """Rank the true verb, noun and action of each target, (N,) each.

    Args:
        answers: logits of a head.
        pairs: true verbs and nouns (N, 2).
        balanced: True ranks the logits without the prior of the classes.
    """
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
    """Return the share of ranks (N,) below k with its interval over kitchens."""
    return interval_json(bootstrap(mean_rows(found < k), ratio, kitchens))


def recall5(found: np.ndarray, classes: np.ndarray, kitchens: Sequence[str]) -> dict[str, Any]:
    """Return class-mean top-5 recall of ranks (N,) of classes (N,) with its interval over kitchens."""
    names, index = np.unique(classes, return_inverse=True)
    rows = np.zeros((len(found), 2 * len(names)))
    rows[np.arange(len(found)), index] = found < 5
    rows[np.arange(len(found)), len(names) + index] = 1
    return interval_json(bootstrap(rows, class_mean, kitchens, bounds=SHARE))


def action_scores(answers: Answers, pairs: np.ndarray, kitchens: Sequence[str]) -> dict[str, Any]:
    """Score verb, noun and action: top-1, top-5, and mean top-5 recall of balanced and of plain logits."""
    plain, without_prior = ranks(answers, pairs), ranks(answers, pairs, balanced=True)
    classes = {'verb': pairs[:, 0], 'noun': pairs[:, 1], 'action': action_id(pairs[:, 0], pairs[:, 1])}
    return {'samples': len(pairs)} | {
        kind: {
            'top1': top1(plain[kind], kitchens),
            'top5': top1(plain[kind], kitchens, 5),
            'mean_top5_recall': recall5(without_prior[kind], classes[kind], kitchens),
            'mean_top5_recall_unbalanced': recall5(plain[kind], classes[kind], kitchens),
        }
        for kind in plain
    }


def examine(examiner: Examiner, *, ask: bool = True) -> dict[str, Any]:
    """Ask about all actions in all ways, for both tasks.

    Args:
        examiner: head and episodes.
        ask: False asks an empty question, once for each task.

    Returns:
        Task to way to the scores of all, seen and held-out pairs; and 'left_out', the actions without a frame.

    Raises:
        ValueError: no action has a frame at which to ask, in any task.
    """
    found: dict[str, Any] = {}
    for task in TASKS:
        asked, missing = targets(examiner.episodes, task)
        found[task] = {'left_out': dict(missing)}
        if not asked:
            continue
        pairs, kitchens = truth(examiner.episodes, asked)
        new = held_out(pairs, examiner.labels)
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


def examine_idle_detection(examiner: Examiner) -> dict[str, Any]:
    """Measure how well a head separates frames within an action from frames between two actions.

    Returns:
        `frames`, their share `within` an action, `accuracy` at a probability of one half with its interval over
        episodes, and `auroc`, the area under the ROC curve over all frames, 0.5 by chance.

    Raises:
        ValueError: the head has no idle detection.
    """
    with measured(examiner.head):
        logits = torch.cat([examiner.head.activity_logits(part) for part in examiner.features]).cpu().numpy()
    within = np.concatenate([episode.now() >= 0 for episode in examiner.episodes])
    names = [episode.name for episode in examiner.episodes for _ in episode.stamps]
    below = np.searchsorted(np.sort(logits[~within]), logits[within])
    both = within.any() and not within.all()
    return {
        'frames': len(within),
        'within': round(float(within.mean()), 4),
        'accuracy': top1(np.where((logits > 0) == within, 0, 1), names),
        'auroc': round(float(below.mean() / (~within).sum()), 4) if both else None,
    }


def _some(answers: Answers, where: np.ndarray) -> Answers:
    return Answers(answers.verbs[where], answers.nouns[where], tuple(part[where] for part in answers.balanced))


class References:
    """Baselines from true labels alone: the commonest action, the last one again, and its most frequent successor.

    Args:
        episodes: episodes of training.
    """

    def __init__(self, episodes: Sequence[EpisodeFrames]):
        self.prior: Counter[tuple[int, int]] = Counter()
        self.after: dict[tuple[int, int] | None, Counter[tuple[int, int]]] = {}
        for episode in episodes:
            names = [(action.verb, action.noun) for action in episode.actions]
            self.prior.update(names)
            for before, name in zip([None, *names], names, strict=False):
                self.after.setdefault(before, Counter())[name] += 1

    def lines(self, episodes: Sequence[EpisodeFrames], asked: Sequence[Target]) -> dict[str, list[list[int]]]:
        """Return baseline to action ids of each target, best first."""
        common = [name for name, _ in self.prior.most_common()]

        def ranked(first: Sequence[tuple[int, int]]) -> list[int]:
            return [int(action_id(*name)) for name in dict.fromkeys([*first, *common])][:100]

        befores = [
            [(action.verb, action.noun) for action in episodes[target.episode].actions[: target.before + 1]]
            for target in asked
        ]
        return {
            'prior': [ranked([]) for _ in asked],
            'repeat_last': [ranked(names[::-1]) for names in befores],
            'bigram': [
                ranked([name for name, _ in self.after.get(names[-1] if names else None, Counter()).most_common()])
                for names in befores
            ],
        }


def reference_scores(references: References, episodes: Sequence[EpisodeFrames]) -> dict[str, Any]:
    """Score the baselines on anticipation: top-1, top-5 and mean top-5 recall of the action."""
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
