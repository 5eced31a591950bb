"""What was done in an episode, and in which order: a list of constant size, written while the frames go by.

A stream of Mamba-1 layers over one token a frame tells at each frame what is being done, whether an action has just
been finished, and which one. Finished actions fill up a sum, as in continuous integrate-and-fire (Dong and Xu, 2020);
each time it is full an entry is written. The first PINNED entries stay, of the others the newest: an hour of actions
costs what a minute does.

Symbols: B episodes, L frames, d_in width of a frame's token, d width, V verbs, N nouns, K entries.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from m3et_ros.layers.mamba import Mamba1, MambaState

PINNED = 8
"""First entries of a diary, which are never overwritten."""

FULL = 0.5
"""Sum of the chances of a finished action from which on an entry is written."""

STATES = 8
"""States of a channel of its layers."""

KEPT = 0.8
"""Share of the sum that is kept from frame to frame, so that doubts do not add up to an action."""


class ActionReadout(NamedTuple):
    """What is told of frames; logits, float32.

    verb: under way, (B, L, V + 1), the last for none.
    noun: (B, L, N).
    finished: whether an action has just been finished, (B, L).
    done_verb: the last that was finished, (B, L, V).
    done_noun: (B, L, N).
    stream: (B, L, d), what this was read from.
    """

    verb: Tensor
    noun: Tensor
    finished: Tensor
    done_verb: Tensor
    done_noun: Tensor
    stream: Tensor


class ActionLog(NamedTuple):
    """Finished actions, float32.

    verbs: (B, K, V), probabilities.
    nouns: (B, K, N).
    numbers: (B, K), how many were written before this entry; -1 for a free place.
    count: (B,), entries written so far.
    level: (B,), the sum that is being filled.
    """

    verbs: Tensor
    nouns: Tensor
    numbers: Tensor
    count: Tensor
    level: Tensor

    def at(self, rows: Tensor) -> 'ActionLog':
        """Some of the episodes, or the same one several times."""
        return ActionLog(*(part[rows] for part in self))


def empty_diary(B: int, entries: int, verbs: int, nouns: int, like: Tensor) -> ActionLog:
    """Diaries without an entry, where `like` is."""
    zeros = like.new_zeros(B, dtype=torch.float32)
    return ActionLog(
        like.new_zeros(B, entries, verbs, dtype=torch.float32),
        like.new_zeros(B, entries, nouns, dtype=torch.float32),
        like.new_full((B, entries), -1, dtype=torch.float32),
        zeros,
        zeros.clone(),
    )


def written(diary: ActionLog, finished: Tensor, verb: Tensor, noun: Tensor) -> ActionLog:
    """The diaries after one more frame.

    Args:
        diary: of B episodes.
        finished: chance that an action has just been finished, (B,).
        verb: of the last finished action, probabilities (B, V).
        noun: (B, N).
    """
    entries = diary.numbers.shape[1]
    pinned = min(PINNED, entries - 1)
    level = (KEPT * diary.level).clamp(min=-1) + finished
    full = level >= FULL
    place = torch.where(diary.count < pinned, diary.count, pinned + (diary.count - pinned) % (entries - pinned))
    here = full[:, None] & (torch.arange(entries, device=place.device) == place[:, None])
    return ActionLog(
        torch.where(here[..., None], verb[:, None], diary.verbs),
        torch.where(here[..., None], noun[:, None], diary.nouns),
        torch.where(here, diary.count[:, None], diary.numbers),
        diary.count + full,
        torch.where(full, level - 1, level),
    )


class Diarist(nn.Module):
    """Tokens of frames -> what is done in them."""

    def __init__(self, *, d_in: int, d_percepts: int, d: int, layers: int, verbs: int, nouns: int):
        super().__init__()
        self.enter = nn.Sequential(nn.LayerNorm(d_in), nn.Linear(d_in, d))
        self.percepts = nn.Linear(d_percepts, d)
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(layers))
        self.mixers = nn.ModuleList(Mamba1(d=d, N=STATES) for _ in range(layers))
        self.leave = nn.LayerNorm(d)
        self.now, self.noun = nn.Linear(d, verbs + 1), nn.Linear(d, nouns)
        self.finished, self.done_verb, self.done_noun = nn.Linear(d, 1), nn.Linear(d, verbs), nn.Linear(d, nouns)

    def forward(
        self, tokens: Tensor, percepts: Tensor, states: tuple[MambaState, ...] | None = None
    ) -> tuple[ActionReadout, tuple[MambaState, ...]]:
        """Follow frames.

        Args:
            tokens: (B, L, d_in).
            percepts: what else is told of each frame, (B, L, d_percepts).
            states: what went before; None = nothing.

        Returns:
            What is told of each frame, and the states after the last.
        """
        x = self.enter(tokens) + self.percepts(percepts)
        kept = []
        for i, (norm, mixer) in enumerate(zip(self.norms, self.mixers)):
            y, state = mixer(norm(x), state=None if states is None else states[i], return_state=True)
            x, kept = x + y, [*kept, state]
        y = self.leave(x)
        return ActionReadout(
            *(head(y).float() for head in (self.now, self.noun)),
            self.finished(y)[..., 0].float(),
            *(head(y).float() for head in (self.done_verb, self.done_noun)),
            y.float(),
        ), tuple(kept)

    def init_states(self, B: int) -> tuple[MambaState, ...]:
        """What nothing leaves behind."""
        return tuple(mixer.init_state(B) for mixer in self.mixers)


def kept_diaries(told: ActionReadout, diary: ActionLog) -> list[ActionLog]:
    """The diary after each frame of what was told: L of them."""
    chance, verbs, nouns = told.finished.sigmoid(), told.done_verb.softmax(-1), told.done_noun.softmax(-1)
    found = []
    for finished, verb, noun in zip(chance.unbind(1), verbs.unbind(1), nouns.unbind(1)):
        diary = written(diary, finished, verb, noun)
        found.append(diary)
    return found
