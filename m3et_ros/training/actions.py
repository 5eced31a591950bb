"""Learning what is done and what comes next from episodes that were watched (MambaVL; docs/papers.md, section 3).

An action head reads the tokens of a frozen M3ET, so an episode is encoded once and the head is trained in minutes.
A sample is a window of an episode; at some of its frames is asked what is being done, what starts at least GAP_S
later, and what started last. The wordings vary (data.action_questions): nothing given away, the other half of the
action masked or filled, the noun asked for given the verb, the action before named.

Symbols: B windows, n frames of a window, K frames at which is asked, T text tokens, width of a frame's token.
"""

from collections.abc import Callable, Mapping, Sequence
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
    after,
    filled,
    given,
)
from m3et_ros.data.frame import Labels
from m3et_ros.data.kitchen.cache.episodes import EpisodeFrames
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.actions.mambavl import MambaVL
from m3et_ros.training.loop import Outcome, Trainer, TrainingSession
from m3et_ros.training.recipe import Recipe

TASKS = ('now', 'next', 'last')


@dataclass(frozen=True)
class ActionWindow:
    """Part of an episode."""

    # (n, width) float16.
    tokens: np.ndarray
    # Frames at which is asked, (K,), and verb and noun of what is done there and what comes next, (K, 2), -1 for none.
    places: np.ndarray
    now: np.ndarray
    next: np.ndarray
    last: np.ndarray
    # The pair of questions of each, task by task: 3 * K.
    questions: tuple[Pair, ...]
    # Where the window came from.
    key: str


class Windows(Dataset[ActionWindow]):
    """Windows of watched episodes; the same seed, epoch and index always give the same one.

    Args:
        tokens: of all frames, (F, width).
        episodes: with their actions.
        labels: words of verbs and nouns.
        length: frames of a window, n; shorter episodes are left out.
        asked: frames of a window at which is asked, K, at most all.
        ask: False asks the same empty question everywhere (the ablation without questions).
        seed: of the draws.

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
        self.tokens, self.labels, self.frames, self.asked, self.ask, self.seed = (
            tokens,
            labels,
            length,
            min(asked, length),
            ask,
            seed,
        )
        self.episodes = [episode for episode in episodes if len(episode.stamps) >= length and episode.actions]
        if not self.episodes:
            raise ValueError(f'no episode has {length} frames and an action; give longer ones')
        self.epoch = 0

    def __len__(self) -> int:
        return sum(len(episode.stamps) // self.frames for episode in self.episodes)

    def __getitem__(self, index: int) -> ActionWindow:
        """One window; an index stands for a draw."""
        rng = np.random.default_rng((self.seed, self.epoch, index))
        episode = self.episodes[rng.integers(len(self.episodes))]
        start = int(rng.integers(len(episode.stamps) - self.frames + 1))
        places = np.sort(rng.choice(self.frames, self.asked, replace=False))
        now, following, last = (table[start + places] for table in (episode.now(), episode.next(), episode.last()))
        pairs = np.array([(action.verb, action.noun) for action in episode.actions] + [(-1, -1)])
        stamps = episode.stamps[start + places]
        asked = (
            [self._of_now(episode, number, rng) for number in now]
            + [self._of_next(episode, number, stamp, rng) for number, stamp in zip(following, stamps)]
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
        """The generic pair, the noun asked for given the verb, or the paper's forms, filled or masked."""
        way = rng.integers(6)
        if way < 2 or number < 0:
            return NOW
        action, key = episode.actions[number], f'{episode.name} {number}'
        if way < 4:
            return given(NOW_GIVEN, self.labels.verbs[action.verb]), NOW[1]
        if way == 4:
            return filled(key)
        return filled(key, self.labels.verbs[action.verb], self.labels.nouns[action.noun])

    def _of_next(self, episode: EpisodeFrames, number: int, stamp: float, rng: np.random.Generator) -> Pair:
        """The generic pair, the noun asked for given the verb, or a pair that names the last action that is over."""
        over, way = [action for action in episode.actions if action.stop_s <= stamp], rng.integers(6)
        if 2 <= way < 5 and number >= 0:
            return given(NEXT_GIVEN, self.labels.verbs[episode.actions[number].verb]), NEXT[1]
        if not over or way < 5:
            return NEXT
        return after((self.labels.verbs[over[-1].verb], self.labels.nouns[over[-1].noun]))

    def _of_last(self, episode: EpisodeFrames, number: int, rng: np.random.Generator) -> Pair:
        """The generic pair, or the noun asked for given the verb."""
        if number < 0 or rng.random() < 0.5:
            return LAST
        return given(LAST_GIVEN, self.labels.verbs[episode.actions[number].verb]), LAST[1]


@dataclass(frozen=True)
class CollateWindows:
    """Windows to tensors: tokens (B, n, width), places (B, K), now, next and last (B, K, 2); of the U different pairs
    of questions noun_ids, noun_mask, verb_ids, verb_mask, (U, T) each; asked (B * 3 * K,), which pair each is.
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
    """Recognition and anticipation by one head."""

    samples: int = 40_000
    batch: int = 16
    lr: float = 1e-3
    weight_decay: float = 0.05
    # Share of the probability that the targets give to all classes alike.
    smoothing: float = 0.1
    # Share of a token's entries that are dropped while training.
    dropout: float = 0.4

    def __post_init__(self):
        super().__post_init__()
        for name in ('smoothing', 'dropout'):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise ValueError(f'{name} is {value!r}; give a number from 0 to less than 1')

    def losses(self, model: MambaVL, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return verb and noun of each of TASKS, as cross-entropies with smoothed targets."""
        tokens = batch['tokens']
        kept = torch.rand(tokens.shape, generator=generator) >= self.dropout
        seen = model.follow(tokens * kept.to(tokens.device) / (1 - self.dropout))
        seen = seen.gather(1, batch['places'][..., None].expand(-1, -1, seen.shape[-1]))
        # As the questions stand: of each window one task after the other.
        verbs, nouns = model.classify(
            seen.repeat(1, len(TASKS), 1).flatten(0, 1),
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
            there = (targets[..., place] >= 0).float()
            for task, error, counted in zip(TASKS, errors.chunk(len(TASKS), 1), there.chunk(len(TASKS), 1)):
                found[f'{task}_{kind}'] = (error * counted).sum() / counted.sum().clamp(min=1)
        return found


def count_priors(head: MambaVL, episodes: Sequence[EpisodeFrames]) -> None:
    """Let a head know how common each class is among the actions that it learns from, and start from there."""
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
    """Let a head know how common pairs are, and which follows which; a pair is as good as seen once after any other,
    in the shares of all pairs.
    """
    nouns, pairs = head.config.nouns, head.pair_prior.numel()
    told = [[action.verb * nouns + action.noun for action in episode.actions] for episode in episodes]
    counts = np.bincount(sum(told, []), minlength=pairs) + 0.5
    share, after_each = counts / counts.sum(), np.zeros((pairs, pairs))
    for places in told:
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
    sitting: TrainingSession = TrainingSession(),
    tell: Callable[[dict], None] = lambda entry: None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Outcome, nn.Module, bool]:
    """Train an action head in place, for one sitting; arguments and result as of recipes.run.

    Args:
        length: most text tokens of a question.

    Raises:
        InputError: as Trainer.run and training.state.
    """
    if not sitting.resume:
        count_priors(head, data.episodes)
    trainer = Trainer(recipe, head, data, CollateWindows(tokenizer, length), Path(folder), seed=seed, sitting=sitting)
    outcome = trainer.run(tell, stop)
    return outcome, trainer.delivered, trainer.accelerator.is_main_process


# MERGED m3et_ros/training/busy: Whether anything is being done at all: what an action head is taught last, on top of all that it has learnt.
#
# MERGED Between two actions a head names the likeliest all the same. So a small layer learns, from every frame of the episodes
# MERGED and with the rest of the head as it is, to tell frames within an action from those between two.
PASSES, BATCH, LR, WEIGHT_DECAY = 12, 512, 1e-3, 0.05


def frames_seen(head: MambaVL, tokens: np.ndarray, episodes: Sequence[EpisodeFrames]) -> tuple[Tensor, Tensor]:
    """What the head has seen after each frame (F, d), and whether an action is under way there (F,) bool."""
    device, seen = head.A_log.device, []
    with torch.no_grad():
        for episode in episodes:
            clip = torch.from_numpy(np.array(tokens[episode.first : episode.first + len(episode.stamps)])).float()
            seen.append(head.follow(clip.to(device)[None])[0])
    under_way = np.concatenate([episode.now() >= 0 for episode in episodes])
    return torch.cat(seen), torch.from_numpy(under_way).to(device)


def teach_busy(head: MambaVL, tokens: np.ndarray, episodes: Sequence[EpisodeFrames], *, seed: int = 0) -> float:
    """Teach it to a trained head in place; nothing else of the head changes.

    Args:
        head: built with busy > 0.
        tokens: of all frames (training.watched), (F, d_in).
        episodes: of these frames, of training.
        seed: of the layer's weights and the order.

    Returns:
        Cross-entropy of the last pass, nats.
    """
    head.eval()
    head.busy_head.requires_grad_(True)
    seen, under_way = frames_seen(head, tokens, episodes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in head.busy_head:
            if hasattr(layer, 'reset_parameters'):
                layer.reset_parameters()
        optimiser = torch.optim.AdamW(head.busy_head.parameters(), LR, weight_decay=WEIGHT_DECAY)
        for _ in range(PASSES):
            losses = []
            for some in torch.randperm(len(seen)).to(seen.device).split(BATCH):
                loss = F.binary_cross_entropy_with_logits(head.busy(seen[some]), under_way[some].float())
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(loss.item())
    head.busy_head.requires_grad_(False)
    return float(np.mean(losses))
