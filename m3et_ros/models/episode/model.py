"""An episode in a memory of constant size, and answers to questions about it.

Three things are kept of all frames so far: a slot for each class of things, in which a selective scan keeps what it
looks like and where it was, a diary of what was done (models.diary), and what is in view now (models.eye). What a slot
takes in and forgets depends on what is seen: out of view it stands still. The words of a question read all three; a
word that names a class is handed its slot.

    h_t = exp(dt_t A) h_{t-1} + dt_t x_t,    n_t = exp(dt_t A) n_{t-1} + dt_t,    slot = h_t / n_t with log n_t
    dt = peak * softplus(W u), A negative, one for each channel: from the mean of all that was seen to the newest of it

Symbols: B episodes, L frames, n patches, M moments at which is asked, Q questions of a moment, T word pieces,
    C classes, P width of a percept, s width of a slot (d_slot and all answers of the facts), d width, K entries of
    the diary, A answers.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.layers.attention import SelfAttention, scaled_attention
from m3et_ros.layers.mamba import MambaState, initial_dt_bias, no_decay
from m3et_ros.models.episode.action_log import ActionLog, ActionReadout, Diarist, empty_diary, kept_diaries
from m3et_ros.models.episode.percepts import PEAK, STATISTICS, PerceptEncoder
from m3et_ros.ops.selective_scan import selective_scan

RANGES = {
    'd_patch': (1, 8192),
    'd_in': (1, 65536),
    'grid': (1, 256),
    'vocabulary': (1, 1_000_000),
    'verbs': (1, 100_000),
    'nouns': (1, 100_000),
    'd': (1, 8192),
    'heads': (1, 64),
    'd_eye': (1, 8192),
    'd_value': (1, 8192),
    'd_slot': (1, 8192),
    'd_stream': (1, 8192),
    'layers': (1, 64),
    'blocks': (1, 64),
    'entries': (2, 1024),
    'length': (1, 512),
    'lasting': (0, 64),
}
ORDINALS = 16
"""Entries of a diary are told apart by their number up to this one, from the beginning and from the end."""


@dataclass(frozen=True)
class EpisodeConfig:
    """Sizes of a memory, and the words that it was made for.

    Raises:
        ValueError: a field is out of range; the message names field, value and range.
    """

    # Width of a patch (eye.patch_width), and of a frame's token (frame_token.frame_width).
    d_patch: int
    d_in: int
    # Side of the grid of patches.
    grid: int
    # Word pieces in the tokenizer, and most of them in a question.
    vocabulary: int
    length: int
    # Verbs and nouns of the actions.
    verbs: int
    nouns: int
    # Word pieces of the name of each class.
    classes: tuple[tuple[int, ...], ...]
    # The answers, and the word pieces of each.
    answers: tuple[str, ...]
    answer_pieces: tuple[tuple[int, ...], ...]
    # Categories of questions.
    categories: tuple[str, ...]
    # Number of answers of each fact that is told of a class, and how many of the facts, the first, no action changes.
    facts: tuple[int, ...]
    lasting: int
    # Place among the answers of each answer of the facts, one after the other; -1 for what is no answer.
    fact_answers: tuple[int, ...]
    # Frames a second that it was trained with; a live camera is thinned out to that. 0 takes what comes.
    rate_hz: float = 0.0
    # Width of words, and of what answers them.
    d: int = 128
    heads: int = 4
    d_eye: int = 192
    d_value: int = 48
    d_slot: int = 40
    d_stream: int = 192
    # Mamba layers of the diary, and blocks that read.
    layers: int = 2
    blocks: int = 2
    # Entries of the diary.
    entries: int = 24
    # Ablation: True answers from the words alone.
    blind: bool = False

    def __post_init__(self):
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f'{name} is {value!r}; give a whole number from {low} to {high}')
        if isinstance(self.rate_hz, bool) or not 0 <= self.rate_hz <= 1000:
            raise ValueError(f'rate_hz is {self.rate_hz!r}; give a number from 0 to 1000')
        if not isinstance(self.blind, bool):
            raise ValueError(f'blind is {self.blind!r}; give true or false')
        if not self.facts or self.lasting > len(self.facts) or min(self.facts) < 2:
            raise ValueError(
                f'facts is {self.facts!r} and lasting {self.lasting}; give facts of 2 or more answers and '
                'as many lasting ones at most'
            )
        if not self.classes or not self.answers or len(self.answers) != len(self.answer_pieces):
            raise ValueError(
                f'there are {len(self.classes)} classes, {len(self.answers)} answers and pieces of '
                f'{len(self.answer_pieces)}; give at least one of each, and pieces for every answer'
            )
        if len(self.fact_answers) != sum(self.facts) or not all(-1 <= i < len(self.answers) for i in self.fact_answers):
            raise ValueError(
                f'fact_answers is {self.fact_answers!r}; give a place among {len(self.answers)} answers, '
                f'or -1, for each of the {sum(self.facts)} answers of facts'
            )


class EpisodeState(NamedTuple):
    """All that is kept of B episodes; constant size.

    stream: states of the diary's layers.
    slots: h and n of every slot, (B, 2 * C * s, 1), float32.
    diary: what was done.
    newest: percepts of the newest frame, (B, C, P).
    """

    stream: tuple[MambaState, ...]
    slots: Tensor
    diary: ActionLog
    newest: Tensor


class EpisodeHead(nn.Module):
    """Eye, slots, diary and reader of one config."""

    def __init__(self, config: EpisodeConfig):
        super().__init__()
        self.config = config
        C, s, d = len(config.classes), config.d_slot, config.d
        self.words = nn.Embedding(config.vocabulary, d)
        nn.init.normal_(self.words.weight, std=0.5 * d**-0.5)
        self.own_keys = no_decay(torch.randn(C, d) * d**-0.5)
        for name, pieces in (('class', config.classes), ('answer', config.answer_pieces)):
            self.register_buffer(f'{name}_pieces', _padded(pieces), persistent=False)
        self.eye = PerceptEncoder(
            d_patch=config.d_patch,
            grid=config.grid,
            e=config.d_eye,
            d_value=config.d_value,
            classes=C,
            facts=config.facts,
        )
        P, told = self.eye.width, sum(config.facts)
        # What an action may change of a class: the diarist is told no more, or it would learn kitchens by heart.
        self.moving = STATISTICS + sum(config.facts[config.lasting :])
        self.diarist = Diarist(
            d_in=config.d_in,
            d_percepts=C * self.moving,
            d=config.d_stream,
            layers=config.layers,
            verbs=config.verbs,
            nouns=config.nouns,
        )
        self.take = nn.Sequential(nn.LayerNorm(P), nn.Linear(P, 2 * s))
        self.take_facts, self.take_key = nn.Linear(told, 2 * s, bias=False), nn.Linear(d, 2 * s)
        self.take_around = nn.Linear(C * STATISTICS, 2 * s)
        self.give = nn.Sequential(nn.GELU(), nn.Linear(2 * s, 2 * s + told))
        self.dt_bias = no_decay(initial_dt_bias(s + told))
        self.A_log = no_decay(torch.cat([torch.linspace(-7, 2, s), torch.ones(told)]))
        self.reader = Reader(config, s + told, P + told)

    # What is kept

    def init_state(self, B: int) -> EpisodeState:
        """Begin B episodes, where the weights are."""
        config, C = self.config, len(self.config.classes)
        like = self.A_log
        return EpisodeState(
            self.diarist.init_states(B),
            like.new_zeros(B, 2 * C * len(self.A_log), 1),
            empty_diary(B, config.entries, config.verbs, config.nouns, like),
            like.new_zeros(B, C, self.eye.width),
        )

    def update(self, state: EpisodeState, patches: Tensor, token: Tensor) -> EpisodeState:
        """Take in the next frames: patches (B, L, n, d_patch) and tokens (B, L, d_in), L >= 1."""
        percepts = self.look(patches)
        told, stream = self.tell(token, percepts, state.stream)
        diary = kept_diaries(told, state.diary)[-1]
        _, slots = self.keep(percepts, state.slots)
        return EpisodeState(stream, slots, diary, percepts[:, -1].clone())

    def look(self, patches: Tensor) -> Tensor:
        """Percepts (B, L, C, P) of frames' patches (B, L, n, d_patch)."""
        return self.eye(patches.flatten(0, 1))[1].unflatten(0, patches.shape[:2])

    def tell(
        self, tokens: Tensor, percepts: Tensor, states: tuple[MambaState, ...] | None = None
    ) -> tuple[ActionReadout, tuple[MambaState, ...]]:
        """What is done in frames, from tokens (B, L, d_in) and percepts (B, L, C, P); see Diarist."""
        return self.diarist(tokens, self.moves(percepts), states)

    def moves(self, percepts: Tensor) -> Tensor:
        """What the diarist is told of percepts (B, L, C, P): (B, L, C * moving)."""
        facts = self.eye.told(percepts)[..., sum(self.config.facts[: self.config.lasting]) :]
        return torch.cat([percepts[..., -STATISTICS:], facts], -1).flatten(2)

    def keep(self, percepts: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Let slots take in percepts (B, L, C, P): slots after each frame (B, L, C, 2 s), and what goes on."""
        facts = self.eye.told(percepts)
        seen = self.take(percepts) + self.take_facts(facts) + self.take_key(self.keys())
        around = self.take_around(percepts[..., -STATISTICS:].flatten(2))
        peak = percepts[..., PEAK, None].float()
        x, step = self.give(seen + around[:, :, None]).float().split([self.config.d_slot, len(self.A_log)], -1)
        # Facts go in as they are told, so that a thing may have a colour in which it never was before.
        x = torch.cat([x, facts / peak.clamp(min=1e-6)], -1)
        dt = peak * F.softplus(step + self.dt_bias)
        A = -self.A_log.float().exp().repeat(2 * x.shape[2])[:, None]
        one = torch.ones_like(dt[:, :, 0, :1])
        both = torch.cat([x.flatten(2), torch.ones_like(x).flatten(2)], -1)
        kept, after = selective_scan(both, dt.flatten(2).repeat(1, 1, 2), A, one, one, state=before)
        return self._slots(kept), after

    def _slots(self, kept: Tensor) -> Tensor:
        """Means and weights (B, L, C, 2 s) of h and n, (B, L, 2 C s)."""
        h, n = (part.unflatten(-1, (-1, len(self.A_log))) for part in kept.chunk(2, -1))
        return torch.cat([h / n.clamp(min=1e-6), (n + 1e-3).log()], -1)

    def keys(self) -> Tensor:
        """What the names of the classes mean, (C, d)."""
        return self._mean_words(self.class_pieces) + self.own_keys

    def _mean_words(self, pieces: Tensor) -> Tensor:
        there = (pieces >= 0).float()[..., None]
        return (self.words(pieces.clamp(min=0)) * there).sum(1) / there.sum(1).clamp(min=1)

    # What is answered

    def read(self, state: EpisodeState, ids: Tensor, mask: Tensor, named: Tensor) -> tuple[Tensor, Tensor]:
        """Answer questions about episodes; the state is left as it is.

        Args:
            state: of B episodes.
            ids: word pieces (B, Q, T), [CLS] first.
            mask: (B, Q, T) bool, False for pads.
            named: class that a piece names, (B, Q, T), -1 for none.

        Returns:
            Logits of the answers (B, Q, A), and of the categories of questions (B, Q, categories).
        """
        return self.answer(self._slots(state.slots[:, None, :, 0])[:, 0], state.newest, state.diary, ids, mask, named)

    def answer(
        self, slots: Tensor, newest: Tensor, diary: ActionLog, ids: Tensor, mask: Tensor, named: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As read, from slots (B, C, 2 s), the newest percepts (B, C, P) and diaries."""
        keys, newest = self.keys(), torch.cat([newest, self.eye.told(newest)], -1)
        facts = slots[..., self.config.d_slot : len(self.A_log)]
        return self.reader(
            torch.cat([slots, newest], -1),
            facts,
            diary,
            keys,
            self.words,
            self._mean_words(self.answer_pieces),
            ids,
            mask,
            named,
        )


class Reader(nn.Module):
    """Blocks in which the words of questions attend to each other and to what is kept."""

    def __init__(self, config: EpisodeConfig, s: int, seen: int):
        """Build it for slots of width 2 s, and `seen` values of each class in the newest frame."""
        super().__init__()
        d = config.d
        self.blind = config.blind
        self.slot = nn.Sequential(nn.Linear(2 * s + seen, d), nn.GELU(), nn.Linear(d, d))
        # What a fact means is what the words of its answer mean, whatever it is told of; and how far such an answer is
        # to be believed depends on what is asked.
        self.meant, self.trust = nn.Linear(d, d, bias=False), nn.Linear(d, len(config.facts))
        nn.init.eye_(self.meant.weight)
        nn.init.zeros_(self.trust.weight)
        nn.init.zeros_(self.trust.bias)
        kinds = [kind for kind, answers in enumerate(config.facts) for _ in range(answers)]
        said = torch.tensor(config.fact_answers)[:, None] == torch.arange(len(config.answers))
        self.register_buffer('kinds', torch.tensor(kinds), persistent=False)
        self.register_buffer('said', said.float(), persistent=False)
        self.verb, self.before = nn.Linear(config.verbs, d), nn.Linear(2 * d, d)
        self.noun = nn.Linear(config.nouns, d)
        self.from_start, self.from_end = nn.Embedding(ORDINALS, d), nn.Embedding(ORDINALS, d)
        self.named = nn.Linear(d, d)
        self.places = no_decay(torch.randn(config.length, d) * 0.02)
        self.norm = nn.LayerNorm(d)
        self.blocks = nn.ModuleList(Block(d, config.heads) for _ in range(config.blocks))
        self.leave = nn.LayerNorm(d)
        self.likeness = nn.Linear(d, d, bias=False)
        self.answers = nn.Linear(d, len(config.answers))
        self.categories = nn.Linear(d, len(config.categories))

    def forward(
        self,
        slots: Tensor,
        facts: Tensor,
        diary: ActionLog,
        keys: Tensor,
        words: nn.Embedding,
        spoken: Tensor,
        ids: Tensor,
        mask: Tensor,
        named: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """See EpisodeHead.read.

        Here slots (B, C, 2 s + seen) and facts (B, C, answers of facts) are of the classes, keys (C, d) their names,
        and `spoken` what answers mean, (A, d).
        """
        x = words(ids) + self.places[: ids.shape[2]]
        kept = there = None
        if not self.blind:
            held = self.slot(slots) + keys + self.meant(facts @ (self.said @ spoken))
            entries, there = self._entries(diary)
            kept = self.norm(torch.cat([held, entries], 1))
            there = F.pad(there, (keys.shape[0], 0), value=True)
            rows = torch.arange(len(ids), device=ids.device)[:, None, None]
            x = x + self.named(kept[rows, named.clamp(min=0)]) * (named >= 0)[..., None]
        for block in self.blocks:
            x = block(x, mask, kept, there)
        y = self.leave(x[:, :, 0])
        answers = self.answers(y) + self.likeness(y) @ spoken.T
        if not self.blind:
            told = (facts[rows, named.clamp(min=0)] * (named >= 0)[..., None]).sum(2)
            told = told / (named >= 0).sum(2, keepdim=True).clamp(min=1)
            answers = answers + (self.trust(y)[..., self.kinds] * told) @ self.said
        return answers, self.categories(y)

    def _entries(self, diary: ActionLog) -> tuple[Tensor, Tensor]:
        """Tokens of the entries (B, K, d), and which there are, (B, K) bool."""
        there = diary.numbers >= 0
        what = torch.cat([self.verb(diary.verbs), self.noun(diary.nouns)], -1)
        # What was written just before an entry: as the first entries stay, not always in the place before it.
        just = (diary.numbers[:, :, None] - 1 == diary.numbers[:, None]) & there[:, :, None] & there[:, None]
        start = diary.numbers.clamp(0, ORDINALS - 1).long()
        end = (diary.count[:, None] - 1 - diary.numbers).clamp(0, ORDINALS - 1).long()
        verb, noun = what.chunk(2, -1)
        tokens = verb + noun + self.before(just.to(what.dtype) @ what) + self.from_start(start) + self.from_end(end)
        return tokens, there


class Block(nn.Module):
    """x += words attend to words; x += words attend to what is kept; x += MLP."""

    def __init__(self, d: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(d) for _ in range(3))
        self.words = SelfAttention(d=d, heads=heads)
        self.query, self.key_value, self.out = nn.Linear(d, d), nn.Linear(d, 2 * d), nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))

    def forward(self, x: Tensor, mask: Tensor, kept: Tensor | None, there: Tensor | None) -> Tensor:
        """Words (B, Q, T, d) with mask (B, Q, T), and what is kept (B, S, d) of which there is (B, S), or None."""
        attended, _ = self.words(self.norm1(x).flatten(0, 1), mask=mask.flatten(0, 1))
        x = x + attended.view_as(x)
        if kept is not None:
            x = x + self._recall(self.norm2(x).flatten(1, 2), kept, there).view_as(x)
        return x + self.mlp(self.norm3(x))

    def _recall(self, x: Tensor, kept: Tensor, there: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(x), *self.key_value(kept).chunk(2, -1))
        )
        return self.out(scaled_attention(q, k, v, mask=there[:, None, None]).transpose(1, 2).flatten(2))


def _padded(pieces: tuple[tuple[int, ...], ...]) -> Tensor:
    """Rows of ids (rows, longest) int64, -1 for pads."""
    rows = [torch.tensor(row, dtype=torch.int64) for row in pieces]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
