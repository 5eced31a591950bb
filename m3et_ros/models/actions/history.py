"""What happens next, from the labels of what happened before: MambaVL's scan over past actions (docs/papers.md 3, 9.2).

There are no pixels: a token is a past action. As in MambaVL a second scan reads a question, here one about the last
action, and both share the matrix A. Beside the scan stand two memories, the copy mechanism: a slot for every object
used so far (what was last done to it, how long ago, how often) and one for every verb (to what it was last done). A
slot votes for its own class, and that of an object besides for repeating what was done to it. The probability of an
action is that of its noun times that of its verb given the noun, so that pairs never seen together are ranked, too.

Symbols: B windows of videos, L past actions, T targets, S and R slots of objects and verbs, Q questions, Lq words,
    V verbs, M nouns, d, e widths.
    x_0 = start, x_l = W [verb + noun + pair + pause + length];  x <- x + Mamba(norm x), twice, A shared
    h = x at the last action that is visible + lag to the cut + last verb + last noun;  h_q = h + W_q mean M_t(question)
    logit(n) = W_n f(h_noun) + vote of the slot of n
    logit(v | n) = W_v relu(H h_verb + E_n + G s_n) + vote of the slot of v
                   + votes of s_n for the last verb and the one before;  s_n the slot of n or one for 'not used so far'
    vote(s, h) = w . relu(K s + U h) + s . Q h
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.layers.mamba import Mamba1, initial_A_log, no_decay

TIMES = 16
"""Buckets of a time in seconds: up to 0.18 s, then wider and wider, the last from twelve minutes."""

COUNTS = 8
"""Buckets of how often an object was used."""

RANGES = {
    'verbs': (1, 10_000),
    'nouns': (1, 10_000),
    'pairs': (1, 10_000_000),
    'words': (1, 1_000_000),
    'd': (1, 8192),
    'e': (1, 8192),
    'hidden': (1, 8192),
    'layers': (1, 64),
    'slots': (1, 1024),
    'verb_slots': (1, 1024),
    'N': (1, 4096),
    'd_conv': (1, 64),
}


@dataclass(frozen=True)
class HistoryConfig:
    """Sizes and switches of one model.

    Raises:
        ValueError: a field is out of range; the message names field, value and range.
    """

    # Verb classes (EPIC-KITCHENS-100).
    verbs: int = 97
    # Noun classes (EPIC-KITCHENS-100).
    nouns: int = 300
    # Pairs of verb and noun with an embedding of their own: those of the training videos.
    pairs: int = 3568
    # Words of the questions, padding included.
    words: int = 512
    # Width of the scan.
    d: int = 96
    # Width of the embeddings of actions and slots.
    e: int = 64
    # Width of the layer that finds the verb of a noun.
    hidden: int = 192
    # Mixers over the past actions.
    layers: int = 2
    # Objects that are remembered, the last used ones.
    slots: int = 40
    # Verbs that are remembered, the last used ones.
    verb_slots: int = 24
    # States of a channel.
    N: int = 16
    # Length of the causal convolutions.
    d_conv: int = 4
    # Share of the values that are dropped in training.
    dropout: float = 0.3
    # Share of the slots that forget in training which class they are of, so that rare classes are copied like others.
    forget: float = 0.3
    # Ablation: False does without the question.
    question: bool = True
    # Ablation: False does without the memories.
    memory: bool = True

    def __post_init__(self):
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f'{name} is {value!r}; give a whole number from {low} to {high}')
        for name in ('dropout', 'forget'):
            if isinstance(getattr(self, name), bool) or not 0 <= getattr(self, name) < 1:
                raise ValueError(f'{name} is {getattr(self, name)!r}; give a number from 0 to less than 1')
        for name in ('question', 'memory'):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f'{name} is {getattr(self, name)!r}; give true or false')

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> 'HistoryConfig':
        """Rebuild a config from to_dict's result.

        Raises:
            ValueError: a key is unknown or a value out of range.
        """
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            known = ', '.join(field.name for field in fields(cls))
            raise ValueError(f'the config holds {unknown[0]!r}; the fields are {known}')
        return cls(**values)


class Slots(NamedTuple):
    """What is remembered of the objects, or verbs, used so far; S slots, newest first.

    values: (T, S, e).
    keys: the nouns, or verbs, they are of (T, S) int64, -1 for none.
    last, before: the verbs, or nouns, that went with the last two uses (T, S) int64, unknown ones too large.
    """

    values: Tensor
    keys: Tensor
    last: Tensor
    before: Tensor


class TargetContext(NamedTuple):
    """What is known of T targets when they must be anticipated.

    noun, verb: context of either question, (T, d).
    objects, deeds: memories of nouns and of verbs; None without.
    """

    noun: Tensor
    verb: Tensor
    objects: Slots | None
    deeds: Slots | None


class HistoryModel(nn.Module):
    """Noun and verb of the next action.

    A batch is a mapping of tensors; ids that are one too large (verbs, nouns, pairs) say 'unknown or none':
        verbs, nouns, pairs, pauses (B, L) int64, lengths_s (B, L) float, mask (B, L) bool: the past actions;
        window, place (T,) int64: each target's window, and how many of its actions are visible, 0 to L;
        cut_s (T,) float: seconds from the end of the last visible action to the moment of anticipation;
        last_verb, last_noun (T,) int64: the last visible action;
        objects_key, objects_last, objects_before, objects_count (T, S) int64, objects_lag_s (T, S) float, and the same
            of deeds (T, R): see data.epic_history;
        noun_question, verb_question (Q, Lq) int64 word ids, 0 = pad; asked (T,) int64: each target's question.
    """

    def __init__(self, config: HistoryConfig):
        super().__init__()
        self.config = c = config
        options = {'d': c.d, 'N': c.N, 'd_conv': c.d_conv, 'own_A': False}
        self.A_log = no_decay(initial_A_log(2 * c.d, c.N))
        self.encoder = _Past(c, options)
        self.cut = nn.Embedding(TIMES, c.d)
        self.last_verb, self.last_noun = nn.Embedding(c.verbs + 1, c.d), nn.Embedding(c.nouns + 1, c.d)
        self.dropout = nn.Dropout(c.dropout)
        if c.question:
            self.word, self.text_mixer = nn.Embedding(c.words, c.d, padding_idx=0), Mamba1(**options)
            self.ask_noun, self.ask_verb = nn.Linear(c.d, c.d), nn.Linear(c.d, c.d)
        if c.memory:
            self.objects = _Memory(c, keys=c.nouns, others=c.verbs, slots=c.slots)
            self.deeds = _Memory(c, keys=c.verbs, others=c.nouns, slots=c.verb_slots)
            self.noun_votes, self.verb_votes = _Votes(c, 1), _Votes(c, 1)
            self.again = _Votes(c, 2)
        self.noun_hidden, self.noun_head = nn.Linear(c.d, c.d), nn.Linear(c.d, c.nouns)
        self.verb_context, self.verb_noun = nn.Linear(c.d, c.hidden), nn.Embedding(c.nouns + 1, c.hidden)
        self.verb_slot, self.verb_head = nn.Linear(c.e, c.hidden, bias=False), nn.Linear(c.hidden, c.verbs)
        self.unused = nn.Parameter(torch.zeros(c.e))
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.05)

    def context(self, batch: Mapping[str, Tensor]) -> TargetContext:
        """Take in the past of every target."""
        past = self.encoder(batch, self.A_log)
        h = past[batch['window'], batch['place']] + self.cut(time_bucket(batch['cut_s']))
        h = h + self.last_verb(batch['last_verb']) + self.last_noun(batch['last_noun'])
        noun, verb = h, h
        if self.config.question:
            asked = batch['asked']
            noun = h + self.ask_noun(self._question(batch['noun_question']))[asked]
            verb = h + self.ask_verb(self._question(batch['verb_question']))[asked]
        memory = self.config.memory
        return TargetContext(
            noun,
            verb,
            self.objects(batch, 'objects') if memory else None,
            self.deeds(batch, 'deeds') if memory else None,
        )

    def nouns(self, seen: TargetContext) -> Tensor:
        """Logits (T, M) of the next noun."""
        logits = self.noun_head(self.dropout(F.relu(self.noun_hidden(seen.noun))))
        if seen.objects is None:
            return logits
        return _voted(logits, seen.objects.keys, self.noun_votes(seen.objects.values, seen.noun)[..., 0])

    def verbs(self, seen: TargetContext) -> Tensor:
        """Logits (T, V) of the next verb, whatever its noun."""
        nobody = torch.full((len(seen.verb),), self.config.nouns, device=seen.verb.device)
        hidden = self.verb_context(seen.verb) + self.verb_noun(nobody) + self.verb_slot(self.unused)
        return self._verbs(hidden) + self._common(seen)

    def verbs_of(self, seen: TargetContext, nouns: Tensor) -> Tensor:
        """Logits (T, V) of the next verb where the noun (T,) is given."""
        slot = self.unused
        if seen.objects is not None:
            own = (seen.objects.keys == nouns[:, None])[..., None]
            slot = torch.where(own.any(1), torch.where(own, seen.objects.values, 0).sum(1), slot)
        logits = self._verbs(self.verb_context(seen.verb) + self.verb_noun(nouns) + self.verb_slot(slot))
        logits = logits + self._common(seen)
        if seen.objects is None:
            return logits
        again = self.again(seen.objects.values, seen.verb) * own
        for number, verbs in enumerate((seen.objects.last, seen.objects.before)):
            logits = _voted(logits, verbs.where(verbs < self.config.verbs, -1), again[..., number])
        return logits

    def actions(self, seen: TargetContext) -> Tensor:
        """Log probabilities (T, M, V) of all pairs of noun and verb; their exponentials sum to 1."""
        count, slots = self.config.nouns, self.unused
        if seen.objects is not None:
            slots = slots.expand(len(seen.verb), count + 1, -1).clone()
            place = torch.where(seen.objects.keys >= 0, seen.objects.keys, count)[..., None]
            slots = slots.scatter(1, place.expand_as(seen.objects.values), seen.objects.values.to(slots.dtype))
            slots = slots[:, :count]
        hidden = self.verb_context(seen.verb)[:, None] + self.verb_noun.weight[:count] + self.verb_slot(slots)
        logits = self._verbs(hidden) + self._common(seen)[:, None]
        if seen.objects is not None:
            logits = self._repeated(logits.flatten(1), seen).view_as(logits)
        return logits.log_softmax(-1) + self.nouns(seen).log_softmax(-1)[..., None]

    def _repeated(self, logits: Tensor, seen: TargetContext) -> Tensor:
        """Logits (T, M V) with the votes for doing again what was done to an object."""
        objects, again = seen.objects, self.again(seen.objects.values, seen.verb)
        for number, verbs in enumerate((objects.last, objects.before)):
            known = (objects.keys >= 0) & (verbs < self.config.verbs)
            logits = _voted(
                logits, torch.where(known, objects.keys * self.config.verbs + verbs, -1), again[..., number]
            )
        return logits

    def _verbs(self, hidden: Tensor) -> Tensor:
        return self.verb_head(self.dropout(F.relu(hidden)))

    def _common(self, seen: TargetContext) -> Tensor:
        """What the verbs used so far add to the logits of verbs, (T, V), whatever the noun."""
        nothing = seen.verb.new_zeros(len(seen.verb), self.config.verbs)
        if seen.deeds is None:
            return nothing
        return _voted(nothing, seen.deeds.keys, self.verb_votes(seen.deeds.values, seen.verb)[..., 0])

    def _question(self, ids: Tensor) -> Tensor:
        """Mean of the text scan over the words of a question (Q, Lq) -> (Q, d)."""
        mask = ids != 0
        y = self.text_mixer(self.dropout(self.word(ids)), mask=mask, A_log=self.A_log)
        return y.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


class _Past(nn.Module):
    """The scan over past actions."""

    def __init__(self, c: HistoryConfig, options: dict[str, Any]):
        super().__init__()
        self.verb, self.noun = nn.Embedding(c.verbs + 1, c.e), nn.Embedding(c.nouns + 1, c.e)
        self.pair = nn.Embedding(c.pairs + 1, c.e)
        self.pause, self.length = nn.Embedding(2 * TIMES, c.e), nn.Embedding(TIMES, c.e)
        self.project, self.dropout = nn.Linear(c.e, c.d), nn.Dropout(c.dropout)
        self.start = nn.Parameter(torch.randn(c.d) * 0.02)
        self.layers = nn.ModuleList(Mamba1(**options) for _ in range(c.layers))
        self.norms = nn.ModuleList(nn.RMSNorm(c.d) for _ in range(c.layers + 1))

    def forward(self, batch: Mapping[str, Tensor], A_log: Tensor) -> Tensor:
        """Outputs (B, L + 1, d); place l has seen l actions."""
        x = (
            self.verb(batch['verbs'])
            + self.noun(batch['nouns'])
            + self.pair(batch['pairs'])
            + self.pause(batch['pauses'])
            + self.length(time_bucket(batch['lengths_s']))
        )
        x = self.project(self.dropout(x))
        x = torch.cat([self.start.to(x.dtype).expand(len(x), 1, -1), x], 1)
        mask = F.pad(batch['mask'], (1, 0), value=True)
        for layer, norm in zip(self.layers, self.norms):
            x = x + self.dropout(layer(norm(x), mask=mask, A_log=A_log))
        return self.norms[-1](x)


class _Memory(nn.Module):
    """One slot for every noun, or verb, used so far, newest first."""

    def __init__(self, c: HistoryConfig, *, keys: int, others: int, slots: int):
        super().__init__()
        self.key, self.last, self.before = (nn.Embedding(size, c.e) for size in (keys + 1, others + 1, others + 2))
        self.lag, self.count, self.rank = (nn.Embedding(size, c.e) for size in (TIMES, COUNTS, slots))
        self.dropout, self.forget = nn.Dropout(c.dropout), c.forget

    def forward(self, batch: Mapping[str, Tensor], name: str) -> Slots:
        """The slots of a memory by name."""
        keys, last, before, count, lag_s = (
            batch[f'{name}_{part}'] for part in ('key', 'last', 'before', 'count', 'lag_s')
        )
        known = keys.clamp(min=0)
        if self.training and self.forget:
            known = known.masked_fill(
                torch.rand(keys.shape, device=keys.device) < self.forget, self.key.num_embeddings - 1
            )
        x = (
            self.key(known)
            + self.last(last)
            + self.before(before)
            + self.lag(time_bucket(lag_s))
            + self.count(count_bucket(count))
            + self.rank.weight[: keys.shape[1]]
        )
        return Slots(self.dropout(F.relu(x)), keys, last, before)


class _Votes(nn.Module):
    """What slots add to logits, by their contents and the context."""

    def __init__(self, c: HistoryConfig, votes: int):
        super().__init__()
        self.key, self.context = nn.Linear(c.e, c.e), nn.Linear(c.d, c.e)
        self.vote, self.query = nn.Linear(c.e, votes), nn.Linear(c.d, c.e * votes)

    def forward(self, slots: Tensor, h: Tensor) -> Tensor:
        """Votes (T, S, votes) of slots (T, S, e) in contexts h (T, d)."""
        hidden = F.relu(self.key(slots) + self.context(h)[:, None])
        queries = self.query(h).unflatten(-1, (slots.shape[-1], -1))
        return self.vote(hidden) + slots @ queries / math.sqrt(slots.shape[-1])


def _voted(logits: Tensor, keys: Tensor, votes: Tensor) -> Tensor:
    """Logits (T, C) with votes (T, S) for the classes keys (T, S); those for -1 are void."""
    return logits.scatter_add(1, keys.clamp(min=0), (votes * (keys >= 0)).to(logits.dtype))


def time_bucket(seconds: Tensor) -> Tensor:
    """Bucket 0 to TIMES - 1 of times from 0 s, any shape; a bucket ends 1.7 times as late as the one before."""
    return (1.3 * (torch.log2(seconds.clamp(min=0) + 0.25) + 2)).clamp(0, TIMES - 1).long()


def count_bucket(count: Tensor) -> Tensor:
    """Bucket 0 to COUNTS - 1 of numbers from 1, any shape."""
    return (1.5 * torch.log2(count.float().clamp(min=1))).clamp(0, COUNTS - 1).long()


def pause_bucket(seconds: Tensor) -> Tensor:
    """Bucket 0 to 2 TIMES - 1 of the pause before an action, any shape; negative where actions overlap."""
    return torch.where(seconds >= 0, TIMES + time_bucket(seconds), TIMES - 1 - time_bucket(-seconds))
