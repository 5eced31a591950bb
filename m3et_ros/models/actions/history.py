"""Prediction of the next action from the labels of past ones: MambaVL's scan over actions (docs/papers.md 3, 9.2).

There are no pixels: a token is a past action. As in MambaVL a second scan reads a question, here one about the last
action, and both share the matrix A. Beside the scan stand two memories, which form a copy mechanism. One has a slot for
every object used so far: what was last done to it, how long ago, how often. The other has a slot for every verb: to
which object it was last done. A slot votes for its own class, and an object's slot also for repeating what was done to
it. The probability of an action is that of its noun times that of its verb given the noun, so pairs that never occurred
together in training are ranked too.

Symbols: B windows of videos, L past actions, T targets, S and R slots of objects and verbs, Q questions, Lq words,
    V verbs, M nouns, d, e widths.
    x_0 = start, x_l = W [verb + noun + pair + pause + length];  x <- x + Mamba(norm x), twice, A shared
    h = x at the last visible action + lag to the cut + last verb + last noun;  h_q = h + W_q mean M_t(question)
    logit(n) = W_n f(h_noun) + vote of the slot of n
    logit(v | n) = W_v relu(H h_verb + E_n + G s_n) + vote of the slot of v
                   + votes of s_n for the last verb and the one before;  s_n the slot of n, or one for 'not used so far'
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
from m3et_ros.models.config_checks import check_share, check_switch, check_whole

TIMES = 16
"""Buckets of a time in seconds, wider and wider: the first up to 0.18 s, the last from twelve minutes."""

COUNTS = 8
"""Buckets of the number of uses of an object."""

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
        ValueError: a field has the wrong type or is out of range; the message names field, value and range.
    """

    # Verb classes (EPIC-KITCHENS-100).
    verbs: int = 97
    # Noun classes (EPIC-KITCHENS-100).
    nouns: int = 300
    # Pairs of verb and noun with their own embedding: those of the training videos.
    pairs: int = 3568
    # Words of the questions, padding included.
    words: int = 512
    # Width of the scan.
    d: int = 96
    # Width of the embeddings of actions and slots.
    e: int = 64
    # Width of the layer that predicts the verb of a noun.
    hidden: int = 192
    # Mixers over the past actions.
    layers: int = 2
    # Slots of objects, for those used last.
    slots: int = 40
    # Slots of verbs, for those used last.
    verb_slots: int = 24
    # States of a channel.
    N: int = 16
    # Length of the causal convolutions.
    d_conv: int = 4
    # Share of the values dropped in training, below 1.
    dropout: float = 0.3
    # Share of the slots whose class is hidden in training, below 1, so that rare classes are copied like others.
    forget: float = 0.3
    # Ablation: False leaves out the question.
    question: bool = True
    # Ablation: False leaves out the memories.
    memory: bool = True

    def __post_init__(self):
        check_whole(self, RANGES)
        check_share(self, 'dropout', 'forget')
        check_switch(self, 'question', 'memory')

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> 'HistoryConfig':
        """Rebuild a config from to_dict's result.

        Raises:
            ValueError: a key is unknown, or a value has the wrong type or is out of range.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known), key=str)
        if unknown:
            raise ValueError(f'the config holds {unknown[0]!r}; the fields are {", ".join(known)}')
        return cls(**values)


class Slots(NamedTuple):
    """Slots of the objects, or verbs, used so far, S of them, newest first.

    values: (T, S, e).
    keys: noun, or verb, of each slot (T, S) int64, -1 for an empty slot.
    last, before: verbs, or nouns, of its last two uses (T, S) int64; unknown ones are one too large.
    """

    values: Tensor
    keys: Tensor
    last: Tensor
    before: Tensor


class TargetContext(NamedTuple):
    """Encoded past of T targets, up to the moment of anticipation.

    noun, verb: context of either question, (T, d).
    objects, deeds: slots of objects and of verbs; None without memories.
    """

    noun: Tensor
    verb: Tensor
    objects: Slots | None
    deeds: Slots | None


class HistoryModel(nn.Module):
    """Predicts noun and verb of the next action.

    A batch is a mapping of tensors. An id that is one too large (verbs, nouns, pairs) means 'unknown or none':
        verbs, nouns, pairs, pauses (B, L) int64, lengths_s (B, L) float, mask (B, L) bool: the past actions;
        window, place (T,) int64: each target's window, and the number of its visible actions, 0 to L;
        cut_s (T,) float: seconds from the end of the last visible action to the moment of anticipation;
        last_verb, last_noun (T,) int64: the last visible action;
        objects_key, objects_last, objects_before, objects_count (T, S) int64, objects_lag_s (T, S) float, and the same
            of deeds (T, R): see data.epic.history;
        noun_question, verb_question (Q, Lq) int64 word ids, 0 = pad; asked (T,) int64: each target's question.
    """

    def __init__(self, config: HistoryConfig):
        super().__init__()
        self.config = c = config
        self.A_log = no_decay(initial_A_log(2 * c.d, c.N))
        self.encoder = _PastEncoder(c)
        self.cut = nn.Embedding(TIMES, c.d)
        self.last_verb, self.last_noun = nn.Embedding(c.verbs + 1, c.d), nn.Embedding(c.nouns + 1, c.d)
        self.dropout = nn.Dropout(c.dropout)
        if c.question:
            self.word, self.text_mixer = nn.Embedding(c.words, c.d, padding_idx=0), _mixer(c)
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
        """Encode the past of every target of a batch."""
        past = self.encoder(batch, self.A_log)
        h = past[batch['window'], batch['place']] + self.cut(time_bucket(batch['cut_s']))
        h = h + self.last_verb(batch['last_verb']) + self.last_noun(batch['last_noun'])
        noun, verb = h, h
        if self.config.question:
            asked = batch['asked']
            noun = h + self.ask_noun(self._question(batch['noun_question']))[asked]
            verb = h + self.ask_verb(self._question(batch['verb_question']))[asked]
        if not self.config.memory:
            return TargetContext(noun, verb, None, None)
        return TargetContext(noun, verb, self.objects(batch, 'objects'), self.deeds(batch, 'deeds'))

    def nouns(self, context: TargetContext) -> Tensor:
        """Return logits (T, M) of the next noun."""
        logits = self.noun_head(self.dropout(F.relu(self.noun_hidden(context.noun))))
        if context.objects is None:
            return logits
        votes = self.noun_votes(context.objects.values, context.noun)[..., 0]
        return _with_votes(logits, context.objects.keys, votes)

    def verbs(self, context: TargetContext) -> Tensor:
        """Return logits (T, V) of the next verb, over all nouns."""
        no_noun = torch.full((len(context.verb),), self.config.nouns, device=context.verb.device)
        hidden = self.verb_context(context.verb) + self.verb_noun(no_noun) + self.verb_slot(self.unused)
        return self._verb_logits(hidden) + self._verb_slot_votes(context)

    def verbs_of(self, context: TargetContext, nouns: Tensor) -> Tensor:
        """Return logits (T, V) of the next verb, given the noun (T,)."""
        objects, slot = context.objects, self.unused
        if objects is None:
            hidden = self.verb_context(context.verb) + self.verb_noun(nouns) + self.verb_slot(slot)
            return self._verb_logits(hidden) + self._verb_slot_votes(context)
        own = (objects.keys == nouns[:, None])[..., None]
        slots = torch.where(own.any(1), torch.where(own, objects.values, 0).sum(1), slot)
        hidden = self.verb_context(context.verb) + self.verb_noun(nouns) + self.verb_slot(slots)
        logits = self._verb_logits(hidden) + self._verb_slot_votes(context)
        again = self.again(objects.values, context.verb) * own
        for number, verbs in enumerate((objects.last, objects.before)):
            logits = _with_votes(logits, verbs.where(verbs < self.config.verbs, -1), again[..., number])
        return logits

    def actions(self, context: TargetContext) -> Tensor:
        """Return log probabilities (T, M, V) of all pairs of noun and verb; their exponentials sum to 1."""
        objects, count = context.objects, self.config.nouns
        slots: Tensor = self.unused
        if objects is not None:
            slots = slots.expand(len(context.verb), count + 1, -1).clone()
            place = torch.where(objects.keys >= 0, objects.keys, count)[..., None]
            slots = slots.scatter(1, place.expand_as(objects.values), objects.values.to(slots.dtype))
            slots = slots[:, :count]
        hidden = self.verb_context(context.verb)[:, None] + self.verb_noun.weight[:count] + self.verb_slot(slots)
        logits = self._verb_logits(hidden) + self._verb_slot_votes(context)[:, None]
        if objects is not None:
            logits = self._with_repeats(logits.flatten(1), objects, context.verb).view_as(logits)
        return logits.log_softmax(-1) + self.nouns(context).log_softmax(-1)[..., None]

    def _with_repeats(self, logits: Tensor, objects: Slots, verb: Tensor) -> Tensor:
        """Add the votes for repeating what was done to an object to the logits of all pairs, (T, M V)."""
        again = self.again(objects.values, verb)
        for number, verbs in enumerate((objects.last, objects.before)):
            known = (objects.keys >= 0) & (verbs < self.config.verbs)
            pairs = torch.where(known, objects.keys * self.config.verbs + verbs, -1)
            logits = _with_votes(logits, pairs, again[..., number])
        return logits

    def _verb_logits(self, hidden: Tensor) -> Tensor:
        return self.verb_head(self.dropout(F.relu(hidden)))

    def _verb_slot_votes(self, context: TargetContext) -> Tensor:
        """Return the votes (T, V) of the verbs used so far, over all nouns."""
        none = context.verb.new_zeros(len(context.verb), self.config.verbs)
        if context.deeds is None:
            return none
        return _with_votes(none, context.deeds.keys, self.verb_votes(context.deeds.values, context.verb)[..., 0])

    def _question(self, ids: Tensor) -> Tensor:
        """Return the mean of the text scan over the words of questions (Q, Lq): (Q, d)."""
        mask = ids != 0
        y = self.text_mixer(self.dropout(self.word(ids)), mask=mask, A_log=self.A_log)
        return y.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


class _PastEncoder(nn.Module):
    """The scan over past actions."""

    def __init__(self, c: HistoryConfig):
        super().__init__()
        self.verb, self.noun = nn.Embedding(c.verbs + 1, c.e), nn.Embedding(c.nouns + 1, c.e)
        self.pair = nn.Embedding(c.pairs + 1, c.e)
        self.pause, self.length = nn.Embedding(2 * TIMES, c.e), nn.Embedding(TIMES, c.e)
        self.project, self.dropout = nn.Linear(c.e, c.d), nn.Dropout(c.dropout)
        self.start = nn.Parameter(torch.randn(c.d) * 0.02)
        self.layers = nn.ModuleList(_mixer(c) for _ in range(c.layers))
        self.norms = nn.ModuleList(nn.RMSNorm(c.d) for _ in range(c.layers + 1))

    def forward(self, batch: Mapping[str, Tensor], A_log: Tensor) -> Tensor:
        """Return outputs (B, L + 1, d); output l covers the first l actions."""
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
        for layer, norm in zip(self.layers, self.norms[:-1], strict=True):
            x = x + self.dropout(layer(norm(x), mask=mask, A_log=A_log))
        return self.norms[-1](x)


class _Memory(nn.Module):
    """One slot for every noun, or verb, used so far; newest first."""

    def __init__(self, c: HistoryConfig, *, keys: int, others: int, slots: int):
        super().__init__()
        self.key, self.last, self.before = (nn.Embedding(size, c.e) for size in (keys + 1, others + 1, others + 2))
        self.lag, self.count, self.rank = (nn.Embedding(size, c.e) for size in (TIMES, COUNTS, slots))
        self.dropout, self.forget = nn.Dropout(c.dropout), c.forget

    def forward(self, batch: Mapping[str, Tensor], name: str) -> Slots:
        """Encode the slots of a memory; `name` is the prefix of its tensors in the batch."""
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
    """Votes of slots, added to logits, from their contents and the context."""

    def __init__(self, c: HistoryConfig, votes: int):
        super().__init__()
        self.key, self.context = nn.Linear(c.e, c.e), nn.Linear(c.d, c.e)
        self.vote, self.query = nn.Linear(c.e, votes), nn.Linear(c.d, c.e * votes)

    def forward(self, slots: Tensor, h: Tensor) -> Tensor:
        """Return votes (T, S, votes) of slots (T, S, e) in contexts h (T, d)."""
        hidden = F.relu(self.key(slots) + self.context(h)[:, None])
        queries = self.query(h).unflatten(-1, (slots.shape[-1], -1))
        return self.vote(hidden) + slots @ queries / math.sqrt(slots.shape[-1])


def _mixer(c: HistoryConfig) -> Mamba1:
    """Build a mixer that takes A from the model."""
    return Mamba1(d=c.d, N=c.N, d_conv=c.d_conv, own_A=False)


def _with_votes(logits: Tensor, keys: Tensor, votes: Tensor) -> Tensor:
    """Add votes (T, S) for the classes `keys` (T, S) to logits (T, C); a vote for -1 is void."""
    return logits.scatter_add(1, keys.clamp(min=0), (votes * (keys >= 0)).to(logits.dtype))


def time_bucket(seconds: Tensor) -> Tensor:
    """Return buckets 0 to TIMES - 1 of times from 0 s, any shape; each ends 1.7 times as late as the one before."""
    return (1.3 * (torch.log2(seconds.clamp(min=0) + 0.25) + 2)).clamp(0, TIMES - 1).long()


def count_bucket(count: Tensor) -> Tensor:
    """Return buckets 0 to COUNTS - 1 of numbers from 1, any shape."""
    return (1.5 * torch.log2(count.float().clamp(min=1))).clamp(0, COUNTS - 1).long()


def pause_bucket(seconds: Tensor) -> Tensor:
    """Return buckets 0 to 2 TIMES - 1 of the pause before an action, any shape; negative where actions overlap."""
    return torch.where(seconds >= 0, TIMES + time_bucket(seconds), TIMES - 1 - time_bucket(-seconds))
