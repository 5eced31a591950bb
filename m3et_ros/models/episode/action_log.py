"""The action log of an episode: the finished actions in their order, in a list of constant size.

A stream of Mamba-1 layers over one token per frame recognises the action under way, whether an action has just
finished, and which one. The probabilities that an action has finished are summed up, as in continuous
integrate-and-fire (Dong and Xu, 2020); an entry is logged each time the sum reaches THRESHOLD. The first PINNED entries
stay, and of the others the newest, so an hour of actions costs what a minute does.

Symbols: B episodes, L frames, d_in width of a frame's token, d width, V verbs, N nouns, K entries.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from m3et_ros.layers.mamba import Mamba1, MambaState

PINNED = 8
"""First entries of a log, which are never overwritten."""
THRESHOLD = 0.5
"""Sum of the probabilities of a finished action at which an entry is logged."""
CARRIED = 0.8
"""Share of the sum that is carried from frame to frame, so that doubts do not add up to an action."""
STATES = 8
"""States of a channel of the layers."""


class ActionReadout(NamedTuple):
    """Readout of frames; logits, float32.

    verb: verb under way, (B, L, V + 1), the last for none.
    noun: noun under way, (B, L, N).
    finished: an action has just finished, (B, L).
    done_verb: verb of the last finished action, (B, L, V).
    done_noun: noun of the last finished action, (B, L, N).
    stream: features that all this is read from, (B, L, d).
    """

    verb: Tensor
    noun: Tensor
    finished: Tensor
    done_verb: Tensor
    done_noun: Tensor
    stream: Tensor


class ActionLog(NamedTuple):
    """Finished actions, float32.

    verbs: probabilities (B, K, V).
    nouns: probabilities (B, K, N).
    numbers: number of entries logged before this one, (B, K); -1 for a free place.
    total: entries logged so far, (B,).
    level: sum of probabilities towards the next entry, (B,).
    """

    verbs: Tensor
    nouns: Tensor
    numbers: Tensor
    total: Tensor
    level: Tensor

    def at(self, rows: Tensor) -> 'ActionLog':
        """Return the logs of some of the episodes; a row may be repeated."""
        return ActionLog(*(part[rows] for part in self))

    def updated(self, finished: Tensor, verb: Tensor, noun: Tensor) -> 'ActionLog':
        """Return the logs after one more frame.

        Args:
            finished: probability that an action has just finished, (B,).
            verb: probabilities for the last finished action, (B, V).
            noun: as verb, (B, N).
        """
        entries = self.numbers.shape[1]
        pinned = min(PINNED, entries - 1)
        level = (CARRIED * self.level).clamp(min=-1) + finished
        full = level >= THRESHOLD
        place = torch.where(self.total < pinned, self.total, pinned + (self.total - pinned) % (entries - pinned))
        here = full[:, None] & (torch.arange(entries, device=place.device) == place[:, None])
        return ActionLog(
            torch.where(here[..., None], verb[:, None], self.verbs),
            torch.where(here[..., None], noun[:, None], self.nouns),
            torch.where(here, self.total[:, None], self.numbers),
            self.total + full,
            torch.where(full, level - 1, level),
        )


def empty_action_log(B: int, entries: int, verbs: int, nouns: int, like: Tensor) -> ActionLog:
    """Return logs of B episodes without an entry, on the device of `like`."""
    zeros = like.new_zeros(B, dtype=torch.float32)
    return ActionLog(
        like.new_zeros(B, entries, verbs, dtype=torch.float32),
        like.new_zeros(B, entries, nouns, dtype=torch.float32),
        like.new_full((B, entries), -1, dtype=torch.float32),
        zeros,
        zeros.clone(),
    )


def action_logs(readout: ActionReadout, log: ActionLog) -> list[ActionLog]:
    """Return the log after each of the L frames of a readout, continued from `log`."""
    finished, verbs, nouns = readout.finished.sigmoid(), readout.done_verb.softmax(-1), readout.done_noun.softmax(-1)
    logs = []
    for frame in zip(finished.unbind(1), verbs.unbind(1), nouns.unbind(1), strict=True):
        log = log.updated(*frame)
        logs.append(log)
    return logs


class ActionRecogniser(nn.Module):
    """Recognises actions in a stream of frames.

    Args:
        d_in: width of a frame's token.
        d_percepts: width of what the percepts of a frame add.
        d: width of the stream.
        layers: Mamba-1 layers.
        verbs: V.
        nouns: N.
    """

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
        """Recognise the actions in the next frames.

        Args:
            tokens: (B, L, d_in).
            percepts: input from the percepts of each frame, (B, L, d_percepts).
            states: states after earlier frames; None = there are none.

        Returns:
            The readout of each frame, and the states after the last.
        """
        x = self.enter(tokens) + self.percepts(percepts)
        after: list[MambaState] = []
        for i, (norm, mixer) in enumerate(zip(self.norms, self.mixers, strict=True)):
            y, state = mixer(norm(x), state=None if states is None else states[i], return_state=True)
            x = x + y
            after.append(state)
        y = self.leave(x)
        readout = ActionReadout(
            verb=self.now(y).float(),
            noun=self.noun(y).float(),
            finished=self.finished(y)[..., 0].float(),
            done_verb=self.done_verb(y).float(),
            done_noun=self.done_noun(y).float(),
            stream=y.float(),
        )
        return readout, tuple(after)

    def init_states(self, B: int) -> tuple[MambaState, ...]:
        """Return the empty states of B episodes."""
        return tuple(cast(Mamba1, mixer).init_state(B) for mixer in self.mixers)
