"""The memory of an episode, of constant size, and answers to questions about the episode.

The memory has three parts: a slot for each class of things, in which a selective scan averages the appearance and the
positions of the thing; a log of the finished actions (action_log.py); and the percepts of the newest frame
(percepts.py). The percepts determine how much a slot takes in and forgets: out of view it does not change. The words
of a question attend to all three, and a word that names a class also receives the slot of that class.

    h_t = exp(dt_t A) h_{t-1} + dt_t x_t,    n_t = exp(dt_t A) n_{t-1} + dt_t,    slot = h_t / n_t with log n_t
    dt = peak * softplus(W u);  A is negative, one for each channel, and sets how far a channel reaches from the mean of
    all frames to the newest one

Symbols: B episodes, L frames, n patches, Q questions, T word pieces, C classes, P width of a percept, s width of a slot
    (d_slot and all answers of the facts), d width, K entries of the log, A answers.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.layers.attention import SelfAttention, scaled_attention
from m3et_ros.layers.mamba import MambaState, initial_dt_bias, no_decay
from m3et_ros.models.config_checks import (
    check_divides,
    check_number,
    check_switch,
    check_texts,
    check_whole,
    check_whole_items,
    check_whole_rows,
)
from m3et_ros.models.episode.action_log import ActionLog, ActionReadout, ActionRecogniser, action_logs, empty_action_log
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
"""Entries of the log have an embedding for their number up to this one, from the start and from the end."""


@dataclass(frozen=True)
class EpisodeConfig:
    """Sizes of a memory, and the words and labels that it was built for.

    Raises:
        ValueError: a field has the wrong type or is out of range; the message names field, value and range.
    """

    # Width of a patch (percepts.patch_width), and of a frame's token (frame_token.frame_width).
    d_patch: int
    d_in: int
    # Side of the grid of patches.
    grid: int
    # Word pieces of the tokenizer, and the most of them in a question.
    vocabulary: int
    length: int
    # Verbs and nouns of the actions.
    verbs: int
    nouns: int
    # Word pieces of the name of each class.
    classes: tuple[tuple[int, ...], ...]
    # Candidate answers, and the word pieces of each.
    answers: tuple[str, ...]
    answer_pieces: tuple[tuple[int, ...], ...]
    # Categories of questions.
    categories: tuple[str, ...]
    # Number of answers of each fact about a class, and how many of the facts, the first ones, no action changes.
    facts: tuple[int, ...]
    lasting: int
    # For each answer of each fact, its index among the candidate answers, -1 for none.
    fact_answers: tuple[int, ...]
    # Frames per second in training, to which a live camera is thinned out; 0 = every frame is used.
    rate_hz: float = 0.0
    # Width of words and of the blocks that answer, and their attention heads.
    d: int = 128
    heads: int = 4
    # Widths of the percept encoder, of the learned part of a percept, of a slot, and of the action recogniser.
    d_eye: int = 192
    d_value: int = 48
    d_slot: int = 40
    d_stream: int = 192
    # Mamba layers of the action recogniser, and blocks that answer.
    layers: int = 2
    blocks: int = 2
    # Entries of the action log.
    entries: int = 24
    # Ablation: True answers from the words of the question alone.
    blind: bool = False

    def __post_init__(self):
        check_whole(self, RANGES)
        check_number(self, {'rate_hz': (0, 1000)})
        check_switch(self, 'blind')
        check_texts(self, 'answers', 'categories')
        check_whole_items(self, {'facts': (2, 10_000), 'fact_answers': (-1, len(self.answers) - 1)})
        check_whole_rows(self, {'classes': (0, self.vocabulary - 1), 'answer_pieces': (0, self.vocabulary - 1)})
        check_divides(self, 'heads', self.d, 'd')
        if not self.facts:
            raise ValueError('facts is (); give at least one fact')
        if self.lasting > len(self.facts):
            raise ValueError(f'lasting is {self.lasting}; give at most the number of facts, {len(self.facts)}')
        if not self.classes or not self.answers or not self.categories or len(self.answers) != len(self.answer_pieces):
            raise ValueError(
                f'there are {len(self.classes)} classes, {len(self.answers)} answers, pieces of '
                f'{len(self.answer_pieces)} and {len(self.categories)} categories; give one of each at least, and '
                'pieces for every answer'
            )
        if len(self.fact_answers) != sum(self.facts):
            raise ValueError(
                f'fact_answers is {self.fact_answers!r}; give an index or -1 for each of the {sum(self.facts)} answers '
                'of facts'
            )


class EpisodeState(NamedTuple):
    """Memory of B episodes; its size is constant.

    stream: states of the action recogniser.
    slots: h and n of every slot, (B, 2 * C * s, 1), float32.
    action_log: finished actions.
    newest: percepts of the newest frame, (B, C, P).
    """

    stream: tuple[MambaState, ...]
    slots: Tensor
    action_log: ActionLog
    newest: Tensor


class MemoryContents(NamedTuple):
    """Contents of a memory, as the reader attends to them.

    slots: slot and newest percept of each class, (B, C, 2 s + P + answers of facts).
    facts: facts held in the slots, (B, C, answers of facts).
    keys: meaning of the class names, (C, d).
    action_log: finished actions.
    """

    slots: Tensor
    facts: Tensor
    keys: Tensor
    action_log: ActionLog


class EpisodeHead(nn.Module):
    """Percept encoder, slots, action recogniser and reader of one config.

    Some attributes have older names than the rest (eye: percept encoder, diarist: action recogniser), because
    checkpoints store their weights under them.
    """

    class_pieces: Tensor
    answer_pieces: Tensor

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
        P, facts = self.eye.width, sum(config.facts)
        # The recogniser receives only what an action may change of a class, or it would memorise kitchens.
        self.moving = STATISTICS + sum(config.facts[config.lasting :])
        self.diarist = ActionRecogniser(
            d_in=config.d_in,
            d_percepts=C * self.moving,
            d=config.d_stream,
            layers=config.layers,
            verbs=config.verbs,
            nouns=config.nouns,
        )
        self.take = nn.Sequential(nn.LayerNorm(P), nn.Linear(P, 2 * s))
        self.take_facts, self.take_key = nn.Linear(facts, 2 * s, bias=False), nn.Linear(d, 2 * s)
        self.take_around = nn.Linear(C * STATISTICS, 2 * s)
        self.give = nn.Sequential(nn.GELU(), nn.Linear(2 * s, 2 * s + facts))
        self.dt_bias = no_decay(initial_dt_bias(s + facts))
        self.A_log = no_decay(torch.cat([torch.linspace(-7, 2, s), torch.ones(facts)]))
        self.reader = Reader(config, s + facts, P + facts)

    def init_state(self, B: int) -> EpisodeState:
        """Return the memory of B episodes before their first frame, on the device of the weights."""
        config, C = self.config, len(self.config.classes)
        like = self.A_log
        return EpisodeState(
            self.diarist.init_states(B),
            like.new_zeros(B, 2 * C * len(self.A_log), 1),
            empty_action_log(B, config.entries, config.verbs, config.nouns, like),
            like.new_zeros(B, C, self.eye.width),
        )

    def update(self, state: EpisodeState, patches: Tensor, token: Tensor) -> EpisodeState:
        """Update the memory with the next frames: patches (B, L, n, d_patch) and tokens (B, L, d_in), L >= 1."""
        percepts = self.encode_percepts(patches)
        readout, stream = self.recognise_actions(token, percepts, state.stream)
        log = action_logs(readout, state.action_log)[-1]
        _, slots = self.update_slots(percepts, state.slots)
        return EpisodeState(stream, slots, log, percepts[:, -1].clone())

    def encode_percepts(self, patches: Tensor) -> Tensor:
        """Return the percepts (B, L, C, P) of frames from their patches (B, L, n, d_patch)."""
        return self.eye(patches.flatten(0, 1))[1].unflatten(0, patches.shape[:2])

    def recognise_actions(
        self, tokens: Tensor, percepts: Tensor, states: tuple[MambaState, ...] | None = None
    ) -> tuple[ActionReadout, tuple[MambaState, ...]]:
        """Recognise actions from tokens (B, L, d_in) and percepts (B, L, C, P); see ActionRecogniser."""
        return self.diarist(tokens, self.action_inputs(percepts), states)

    def action_inputs(self, percepts: Tensor) -> Tensor:
        """Return the part of percepts (B, L, C, P) that the action recogniser receives: (B, L, C * moving)."""
        facts = self.eye.fact_probabilities(percepts)[..., sum(self.config.facts[: self.config.lasting]) :]
        return torch.cat([percepts[..., -STATISTICS:], facts], -1).flatten(2)

    def update_slots(self, percepts: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Update slots with percepts.

        Args:
            percepts: (B, L, C, P).
            before: EpisodeState.slots; None = empty.

        Returns:
            The slots after each frame (B, L, C, 2 s), and EpisodeState.slots after the last.
        """
        facts = self.eye.fact_probabilities(percepts)
        things = self.take(percepts) + self.take_facts(facts) + self.take_key(self.keys())
        around = self.take_around(percepts[..., -STATISTICS:].flatten(2))
        peak = percepts[..., PEAK, None].float()
        x, step = self.give(things + around[:, :, None]).float().split([self.config.d_slot, len(self.A_log)], -1)
        # Facts bypass the layers, so that a thing may have a colour that it never had in training.
        x = torch.cat([x, facts / peak.clamp(min=1e-6)], -1)
        dt = peak * F.softplus(step + self.dt_bias)
        A = -self.A_log.float().exp().repeat(2 * x.shape[2])[:, None]
        one = torch.ones_like(dt[:, :, 0, :1])
        both = torch.cat([x.flatten(2), torch.ones_like(x).flatten(2)], -1)
        states, after = selective_scan(both, dt.flatten(2).repeat(1, 1, 2), A, one, one, state=before)
        return self._slots(states), after

    def _slots(self, states: Tensor) -> Tensor:
        """Return means and log weights (B, L, C, 2 s) of h and n, (B, L, 2 C s)."""
        h, n = (part.unflatten(-1, (-1, len(self.A_log))) for part in states.chunk(2, -1))
        return torch.cat([h / n.clamp(min=1e-6), (n + 1e-3).log()], -1)

    def keys(self) -> Tensor:
        """Return the meaning of the class names, (C, d)."""
        return self._mean_words(self.class_pieces) + self.own_keys

    def _mean_words(self, pieces: Tensor) -> Tensor:
        """Return the mean word of each row of pieces (rows, longest), pads being -1: (rows, d)."""
        there = (pieces >= 0).float()[..., None]
        return (self.words(pieces.clamp(min=0)) * there).sum(1) / there.sum(1).clamp(min=1)

    def read(self, state: EpisodeState, ids: Tensor, mask: Tensor, named: Tensor) -> tuple[Tensor, Tensor]:
        """Answer questions about episodes; the state does not change.

        Args:
            state: state of B episodes.
            ids: word pieces (B, Q, T), [CLS] first.
            mask: (B, Q, T) bool, False for pads.
            named: class that a piece names, (B, Q, T), -1 for none.

        Returns:
            Logits of the answers (B, Q, A), and of the categories of questions (B, Q, categories).
        """
        slots = self._slots(state.slots[:, None, :, 0])[:, 0]
        return self.answer(slots, state.newest, state.action_log, ids, mask, named)

    def answer(
        self, slots: Tensor, newest: Tensor, log: ActionLog, ids: Tensor, mask: Tensor, named: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Answer as `read` does, from slots (B, C, 2 s), the newest percepts (B, C, P) and action logs."""
        newest = torch.cat([newest, self.eye.fact_probabilities(newest)], -1)
        facts = slots[..., self.config.d_slot : len(self.A_log)]
        contents = MemoryContents(torch.cat([slots, newest], -1), facts, self.keys(), log)
        return self.reader(contents, self.words, self._mean_words(self.answer_pieces), ids, mask, named)


class Reader(nn.Module):
    """Blocks in which the words of a question attend to each other and to the contents of a memory.

    Args:
        config: config of the memory.
        s: width of half a slot.
        view: width of a newest percept with its facts.
    """

    kinds: Tensor
    fact_to_answer: Tensor

    def __init__(self, config: EpisodeConfig, s: int, view: int):
        super().__init__()
        d = config.d
        self.blind = config.blind
        self.slot = nn.Sequential(nn.Linear(2 * s + view, d), nn.GELU(), nn.Linear(d, d))
        # A fact has the meaning of the words of its answer, for every class. The weight of such an answer
        # depends on the question.
        self.meant, self.trust = nn.Linear(d, d, bias=False), nn.Linear(d, len(config.facts))
        nn.init.eye_(self.meant.weight)
        nn.init.zeros_(self.trust.weight)
        nn.init.zeros_(self.trust.bias)
        kinds = [kind for kind, answers in enumerate(config.facts) for _ in range(answers)]
        fact_to_answer = torch.tensor(config.fact_answers)[:, None] == torch.arange(len(config.answers))
        self.register_buffer('kinds', torch.tensor(kinds), persistent=False)
        self.register_buffer('fact_to_answer', fact_to_answer.float(), persistent=False)
        self.verb, self.before = nn.Linear(config.verbs, d), nn.Linear(2 * d, d)
        self.noun = nn.Linear(config.nouns, d)
        self.from_start, self.from_end = nn.Embedding(ORDINALS, d), nn.Embedding(ORDINALS, d)
        self.named = nn.Linear(d, d)
        self.places = no_decay(torch.randn(config.length, d) * 0.02)
        self.norm = nn.LayerNorm(d)
        self.blocks = nn.ModuleList(ReaderBlock(d, config.heads) for _ in range(config.blocks))
        self.leave = nn.LayerNorm(d)
        self.likeness = nn.Linear(d, d, bias=False)
        self.answers = nn.Linear(d, len(config.answers))
        self.categories = nn.Linear(d, len(config.categories))

    def forward(
        self,
        contents: MemoryContents,
        words: nn.Embedding,
        answer_meanings: Tensor,
        ids: Tensor,
        mask: Tensor,
        named: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Answer questions as EpisodeHead.read does.

        Args:
            contents: contents of the memory.
            words: table of word pieces.
            answer_meanings: meaning of each answer (A, d).
            ids: as in EpisodeHead.read.
            mask: as in EpisodeHead.read.
            named: as in EpisodeHead.read.
        """
        x = words(ids) + self.places[: ids.shape[2]]
        memory = there = None
        rows = torch.arange(len(ids), device=ids.device)[:, None, None]
        if not self.blind:
            facts = contents.facts @ (self.fact_to_answer @ answer_meanings)
            things = self.slot(contents.slots) + contents.keys + self.meant(facts)
            entries, there = self._entries(contents.action_log)
            memory = self.norm(torch.cat([things, entries], 1))
            there = F.pad(there, (contents.keys.shape[0], 0), value=True)
            x = x + self.named(memory[rows, named.clamp(min=0)]) * (named >= 0)[..., None]
        for block in self.blocks:
            x = block(x, mask, memory, there)
        y = self.leave(x[:, :, 0])
        answers = self.answers(y) + self.likeness(y) @ answer_meanings.T
        if not self.blind:
            of_named = (contents.facts[rows, named.clamp(min=0)] * (named >= 0)[..., None]).sum(2)
            of_named = of_named / (named >= 0).sum(2, keepdim=True).clamp(min=1)
            answers = answers + (self.trust(y)[..., self.kinds] * of_named) @ self.fact_to_answer
        return answers, self.categories(y)

    def _entries(self, log: ActionLog) -> tuple[Tensor, Tensor]:
        """Return tokens of the entries (B, K, d), and which entries there are (B, K) bool."""
        there = log.numbers >= 0
        action = torch.cat([self.verb(log.verbs), self.noun(log.nouns)], -1)
        # The entry logged just before; as the first entries stay, it is not always in the place before.
        previous = (log.numbers[:, :, None] - 1 == log.numbers[:, None]) & there[:, :, None] & there[:, None]
        start = log.numbers.clamp(0, ORDINALS - 1).long()
        end = (log.total[:, None] - 1 - log.numbers).clamp(0, ORDINALS - 1).long()
        verb, noun = action.chunk(2, -1)
        before = self.before(previous.to(action.dtype) @ action)
        return verb + noun + before + self.from_start(start) + self.from_end(end), there


class ReaderBlock(nn.Module):
    """x += words attend to words; x += words attend to the memory; x += MLP."""

    def __init__(self, d: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(d) for _ in range(3))
        self.words = SelfAttention(d=d, heads=heads)
        self.query, self.key_value, self.out = nn.Linear(d, d), nn.Linear(d, 2 * d), nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))

    def forward(self, x: Tensor, mask: Tensor, memory: Tensor | None, there: Tensor | None) -> Tensor:
        """Mix words (B, Q, T, d) with mask (B, Q, T); memory (B, S, d) with mask `there` (B, S), or None."""
        attended, _ = self.words(self.norm1(x).flatten(0, 1), mask=mask.flatten(0, 1))
        x = x + attended.view_as(x)
        if memory is not None and there is not None:
            x = x + self._recall(self.norm2(x).flatten(1, 2), memory, there).view_as(x)
        return x + self.mlp(self.norm3(x))

    def _recall(self, x: Tensor, memory: Tensor, there: Tensor) -> Tensor:
        """Attend from words (B, Q * T, d) to the memory."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(x), *self.key_value(memory).chunk(2, -1))
        )
        return self.out(scaled_attention(q, k, v, mask=there[:, None, None]).transpose(1, 2).flatten(2))


def _padded(pieces: tuple[tuple[int, ...], ...]) -> Tensor:
    """Return ids (rows, longest) int64, padded with -1."""
    rows = [torch.tensor(row, dtype=torch.int64) for row in pieces]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
