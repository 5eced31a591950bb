"""Train an action head on episodes: recognise and anticipate actions, then detect idle frames (docs/papers.md 3).

An action head (MambaVL) reads the tokens of a frozen M3ET. Each episode is therefore encoded once, and training the
head takes minutes. A sample is a window of an episode. Questions at some of its frames ask for the action under way,
the action that starts at least GAP_S later, and the action that started last. Their wordings vary
(data.action_questions): no hint, the other half of the action masked or filled in, the noun asked for given the verb,
or the previous action named.

Between two actions a head still predicts the likeliest one. In a final step a small layer therefore learns to separate
frames within an action from frames between two. It learns from every frame of the episodes, while the rest of the head
stays as it is.

Symbols: B windows, n frames of a window, K frames with questions, T text tokens, F frames, width of a frame's token,
    d width of the head's features, U different pairs of questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

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
from m3et_ros.data.kitchen.cache.episodes import EpisodeFrames
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.actions.mambavl import MambaVL
from m3et_ros.training.loop import Outcome, train
from m3et_ros.training.recipe import Recipe, check_share
from m3et_ros.training.run_state import WHOLE_RUN, TrainingSession

TASKS = ('now', 'next', 'last')
PASSES, BATCH, LR, WEIGHT_DECAY = 12, 512, 1e-3, 0.05


@dataclass(frozen=True)
class ActionWindow:
    """A part of an episode with questions at some of its frames."""

    # (n, width) float16.
    tokens: np.ndarray
    # Frames with questions, (K,); verb and noun of the action under way there, of the next and of the last one, (K, 2)
    # each, -1 for none.
    places: np.ndarray
    now: np.ndarray
    next: np.ndarray
    last: np.ndarray
    # The pair of questions at each of these frames, task by task: 3 * K.
    questions: tuple[Pair, ...]
    # Origin of the window, for messages.
    key: str


class Windows(Dataset[ActionWindow]):
    """Random windows of encoded episodes; the same seed, epoch and index always give the same window.

    Args:
        tokens: tokens of all frames, (F, width).
        episodes: with their actions.
        labels: names of verbs and nouns.
        length: frames of a window, n; shorter episodes are skipped.
        asked: frames of a window with questions, K; at most `length`.
        ask: False uses the same empty question everywhere (the ablation without questions).
        seed: seed of the draws.

    Raises:
        ValueError: no episode is long enough.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        episodes: Sequence[EpisodeFrames],
        labels: Labels,
        *,
        length: int = 100,
        asked: int = 50,
        ask: bool = True,
        seed: int = 0,
    ):
        self.tokens, self.labels, self.seed = tokens, labels, seed
        self.frames, self.asked, self.ask = length, min(asked, length), ask
        self.episodes = [episode for episode in episodes if len(episode.stamps) >= length and episode.actions]
        if not self.episodes:
            raise ValueError(f'no episode has {length} frames and an action; give longer ones')
        self.epoch = 0

    def __len__(self) -> int:
        return sum(len(episode.stamps) // self.frames for episode in self.episodes)

    def __getitem__(self, index: int) -> ActionWindow:
        """Draw a window; the index identifies the draw."""
        rng = np.random.default_rng((self.seed, self.epoch, index))
        episode = self.episodes[rng.integers(len(self.episodes))]
        start = int(rng.integers(len(episode.stamps) - self.frames + 1))
        places = np.sort(rng.choice(self.frames, self.asked, replace=False))
        now, following, last = (table[start + places] for table in (episode.now(), episode.next(), episode.last()))
        pairs = np.array([(action.verb, action.noun) for action in episode.actions] + [(-1, -1)])
        stamps = episode.stamps[start + places]
        asked = (
            [self._of_now(episode, number, rng) for number in now]
            + [self._of_next(episode, number, stamp, rng) for number, stamp in zip(following, stamps, strict=True)]
            + [self._of_last(episode, number, rng) for number in last]
        )
        first = episode.first + start
        return ActionWindow(
            self.tokens[first : first + self.frames],
            places,
            pairs[now],
            pairs[following],
            pairs[last],
            tuple(asked) if self.ask else (('', ''),) * len(asked),
            f'seed {episode.name} frame {start}',
        )

    def _of_now(self, episode: EpisodeFrames, number: int, rng: np.random.Generator) -> Pair:
        """Draw the generic pair, the noun asked for given the verb, or the paper's form, filled or masked."""
        form = rng.integers(6)
        if form < 2 or number < 0:
            return NOW
        action, key = episode.actions[number], f'{episode.name} {number}'
        if form < 4:
            return noun_question(NOW_GIVEN, self.labels.verbs[action.verb]), NOW[1]
        if form == 4:
            return masked_questions(key)
        return masked_questions(key, self.labels.verbs[action.verb], self.labels.nouns[action.noun])

    def _of_next(self, episode: EpisodeFrames, number: int, stamp: float, rng: np.random.Generator) -> Pair:
        """Draw the generic pair, the noun asked for given the verb, or a pair that names the last finished action."""
        finished, form = [action for action in episode.actions if action.stop_s <= stamp], rng.integers(6)
        if 2 <= form < 5 and number >= 0:
            return noun_question(NEXT_GIVEN, self.labels.verbs[episode.actions[number].verb]), NEXT[1]
        if not finished or form < 5:
            return NEXT
        return questions_after((self.labels.verbs[finished[-1].verb], self.labels.nouns[finished[-1].noun]))

    def _of_last(self, episode: EpisodeFrames, number: int, rng: np.random.Generator) -> Pair:
        """Draw the generic pair, or the noun asked for given the verb."""
        if number < 0 or rng.random() < 0.5:
            return LAST
        return noun_question(LAST_GIVEN, self.labels.verbs[episode.actions[number].verb]), LAST[1]


@dataclass(frozen=True)
class CollateWindows:
    """Turn windows into tensors.

    The batch holds tokens (B, n, width); places (B, K); now, next and last (B, K, 2); noun_ids, noun_mask, verb_ids and
    verb_mask (U, T) of the different pairs of questions; and asked (B * 3 * K,), the pair of each question.
    """

    tokenizer: Tokenizer
    # Most text tokens of a question.
    length: int

    def __call__(self, windows: Sequence[ActionWindow]) -> tuple[dict[str, Tensor], list[str]]:
        """Return tensors by name, and B keys."""
        asked = [pair for window in windows for pair in window.questions]
        pairs = {pair: number for number, pair in enumerate(dict.fromkeys(asked))}
        tensors = {'asked': torch.tensor([pairs[pair] for pair in asked])}
        tensors['tokens'] = torch.from_numpy(np.stack([window.tokens for window in windows])).float()
        for name in ('places', *TASKS):
            tensors[name] = torch.from_numpy(np.stack([getattr(window, name) for window in windows])).long()
        for which, name in enumerate(('noun', 'verb')):
            ids, mask = self.tokenizer.encode([pair[which] for pair in pairs], self.length)
            longest = int(mask.sum(1).max())
            tensors |= {f'{name}_ids': ids[:, :longest], f'{name}_mask': mask[:, :longest]}
        return tensors, [window.key for window in windows]


@dataclass(frozen=True)
class Act(Recipe):
    """Recognise and anticipate actions with one head."""

    samples: int = 40_000
    batch: int = 16
    lr: float = 1e-3
    weight_decay: float = 0.05
    # Label smoothing of the targets.
    smoothing: float = 0.1
    # Share of a token's entries that are dropped in training.
    dropout: float = 0.4

    def __post_init__(self):
        super().__post_init__()
        check_share(self, 'smoothing', 'dropout', one=False)

    def losses(self, model: MambaVL, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the cross-entropies of verb and noun for each of TASKS, with smoothed targets."""
        tokens = batch['tokens']
        kept = torch.rand(tokens.shape, generator=generator) >= self.dropout
        features = model.features(tokens * kept.to(tokens.device) / (1 - self.dropout))
        features = features.gather(1, batch['places'][..., None].expand(-1, -1, features.shape[-1]))
        # In the order of the questions: task by task within each window.
        verbs, nouns = model.classify(
            features.repeat(1, len(TASKS), 1).flatten(0, 1),
            batch['noun_ids'],
            batch['verb_ids'],
            batch['noun_mask'],
            batch['verb_mask'],
            asked=batch['asked'],
        )
        targets = torch.cat([batch[task] for task in TASKS], 1)
        found = {}
        for place, (kind, logits) in enumerate((('verb', verbs), ('noun', nouns))):
            errors = F.cross_entropy(
                logits, targets[..., place].flatten(), ignore_index=-1, reduction='none', label_smoothing=self.smoothing
            ).view(targets.shape[:2])
            known = (targets[..., place] >= 0).float()
            for task, error, counted in zip(
                TASKS, errors.chunk(len(TASKS), 1), known.chunk(len(TASKS), 1), strict=True
            ):
                found[f'{task}_{kind}'] = (error * counted).sum() / counted.sum().clamp(min=1)
        return found


def count_priors(head: MambaVL, episodes: Sequence[EpisodeFrames]) -> None:
    """Set the class priors of a head to the frequencies of the training actions, and its biases to the priors."""
    for name, prior, layer in (('verb', head.verb_prior, head.verb_head), ('noun', head.noun_prior, head.noun_head)):
        classes = [getattr(action, name) for episode in episodes for action in episode.actions]
        share = (np.bincount(classes, minlength=len(prior)) + 0.5) / (len(classes) + 0.5 * len(prior))
        prior.copy_(torch.from_numpy(np.log(share)))
        last = layer if isinstance(layer, nn.Linear) else layer[-1]
        with torch.no_grad():
            last.bias.copy_(prior)
    if head.follows is not None:
        count_follows(head, episodes)


def count_follows(head: MambaVL, episodes: Sequence[EpisodeFrames]) -> None:
    """Set a head's pair priors and pair transitions to the frequencies of the training actions.

    Every transition count is smoothed by one pseudo-count, divided among the successors by the frequency of each pair.
    """
    nouns, pairs = head.config.nouns, head.pair_prior.numel()
    sequences = [[action.verb * nouns + action.noun for action in episode.actions] for episode in episodes]
    counts = np.bincount([pair for pairs_done in sequences for pair in pairs_done], minlength=pairs) + 0.5
    share, after_each = counts / counts.sum(), np.zeros((pairs, pairs))
    for places in sequences:
        np.add.at(after_each, (places[:-1], places[1:]), 1)
    after_each = (after_each + share) / (after_each.sum(1, keepdims=True) + 1)
    head.pair_prior.copy_(torch.from_numpy(np.log(share)).view_as(head.pair_prior))
    head.follows.copy_(torch.from_numpy(after_each))


def train_head(
    head: MambaVL,
    data: Windows,
    tokenizer: Tokenizer,
    length: int,
    folder: Path,
    *,
    recipe: Act = Act(),
    seed: int = 0,
    session: TrainingSession = WHOLE_RUN,
) -> tuple[Outcome, nn.Module, bool]:
    """Train an action head in place for one session.

    Args:
        head: starts from the priors of the training actions.
        data: windows to learn from.
        tokenizer: tokenizer of the questions.
        length: most text tokens of a question.
        folder: folder of state and log.
        recipe: recipe of the run.
        seed: seed of the order and of every random choice.
        session: duration, logging, and whether to resume.

    Returns:
        As loop.train.

    Raises:
        InputError: as loop.train.
    """
    if not session.resume:
        count_priors(head, data.episodes)
    return train(recipe, head, data, CollateWindows(tokenizer, length), folder, seed=seed, session=session)


def frame_features(head: MambaVL, tokens: np.ndarray, episodes: Sequence[EpisodeFrames]) -> tuple[Tensor, Tensor]:
    """Return the features of the head after each frame (F, d), and whether an action is under way there (F,) bool."""
    device, features = head.A_log.device, []
    with torch.no_grad():
        for episode in episodes:
            clip = torch.from_numpy(np.array(tokens[episode.first : episode.first + len(episode.stamps)])).float()
            features.append(head.features(clip.to(device)[None])[0])
    under_way = np.concatenate([episode.now() >= 0 for episode in episodes])
    return torch.cat(features), torch.from_numpy(under_way).to(device)


def train_idle_detection(
    head: MambaVL, tokens: np.ndarray, episodes: Sequence[EpisodeFrames], *, seed: int = 0
) -> float:
    """Train the idle detection of a trained head in place; the rest of the head does not change.

    Args:
        head: built with busy > 0.
        tokens: tokens of all frames (data.features), (F, width).
        episodes: the training episodes of these frames.
        seed: seed of the layer's weights and of the order.

    Returns:
        Cross-entropy of the last pass, in nats.
    """
    head.eval()
    head.busy_head.requires_grad_(True)
    features, under_way = frame_features(head, tokens, episodes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in head.busy_head:
            if hasattr(layer, 'reset_parameters'):
                layer.reset_parameters()
        optimiser = torch.optim.AdamW(head.busy_head.parameters(), LR, weight_decay=WEIGHT_DECAY)
        for _ in range(PASSES):
            losses = []
            for rows in torch.randperm(len(features)).to(features.device).split(BATCH):
                loss = F.binary_cross_entropy_with_logits(head.activity_logits(features[rows]), under_way[rows].float())
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(loss.item())
    head.busy_head.requires_grad_(False)
    return float(np.mean(losses))
