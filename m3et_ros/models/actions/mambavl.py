"""MambaVL: what is done and to what, from a video stream and two questions (2409.11513; docs/papers.md section 3).

Two selective scans, one over video tokens and one over question words, share the matrix A that sets how fast their
states fade; their means are added and classified. The video side is recurrent, so an endless stream costs a constant.

Symbols: B batch, Lv video tokens, Lq question words, d_in width of video tokens, d width, N states of a channel,
    n places in a video at which is asked.
    z_verb = mean M_v(video) + mean M_t(verb question) -> Linear -> verbs;  z_noun likewise with the noun question
    M_v, M_t Mamba-1 mixers that own no A;  A = -exp(A_log), A_log (expand * d, N), one for both

Some switches go beyond the paper, whose clips are cut around one action and asked about it alone. With `fade` the mean
over the video forgets, at a rate that every channel learns, for a robot's stream has no cuts. With `hidden` a layer
stands between the sum and the classes: without it a question could only raise the same classes whatever is seen.
With `follow` a table of which action followed which in training joins what the head itself expects next. With `busy`
the head also tells whether anything is being done at all, which the published clips leave no doubt of.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from m3et_ros.layers.mamba import Mamba1, MambaState, initial_A_log, no_decay
from m3et_ros.ops.selective_scan import selective_scan

RANGES = {
    'd_in': (1, 8192),
    'd': (1, 8192),
    'd_word': (1, 8192),
    'vocabulary': (1, 1_000_000),
    'verbs': (1, 100_000),
    'nouns': (1, 100_000),
    'expand': (1, 16),
    'N': (1, 4096),
    'd_conv': (1, 64),
    'fade': (0, 1_000_000),
    'hidden': (0, 8192),
    'busy': (0, 8192),
}


@dataclass(frozen=True)
class MambaVLConfig:
    """Sizes and switches of one MambaVL.

    Raises:
        ValueError: a field is out of range; the message names field, value and range.
    """

    # Width of the video tokens; another width than d adds a linear layer.
    d_in: int = 768
    # Width of the fusion.
    d: int = 768
    # Width of the word table.
    d_word: int = 768
    # Words in the table; the published one is RoBERTa's.
    vocabulary: int = 50265
    # Verb classes (EPIC-KITCHENS-100).
    verbs: int = 97
    # Noun classes (EPIC-KITCHENS-100).
    nouns: int = 300
    # Inner width of the mixers as a multiple of d.
    expand: int = 2
    # States of a channel.
    N: int = 16
    # Length of the causal convolutions.
    d_conv: int = 4
    # Tokens after which, at the start of training, a token's weight in the mean over the video has fallen to 1 / e;
    # 0 = the plain mean, as published.
    fade: int = 0
    # Width of the layer between sum and classes; 0 = none, as published.
    hidden: int = 0
    # Width of the layer that tells whether anything is being done; 0 = none, as published.
    busy: int = 0
    # Whether a table tells which pair of verb and noun follows which.
    follow: bool = False
    # Tokens a second that it was trained with; a live stream is thinned out to that. 0 takes what comes.
    rate_hz: float = 0.0
    # Ablation: False gives the question a matrix A of its own (the paper's disjoint variant).
    shared_A: bool = True
    # True keeps the word table as it was loaded, as published; it means little with a random table.
    freeze_words: bool = False

    def __post_init__(self):
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f'{name} is {value!r}; give a whole number from {low} to {high}')
        if isinstance(self.rate_hz, bool) or not 0 <= self.rate_hz <= 1000:
            raise ValueError(f'rate_hz is {self.rate_hz!r}; give a number from 0 to 1000')
        for name in ('shared_A', 'freeze_words', 'follow'):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f'{name} is {getattr(self, name)!r}; give true or false')


EXPECTED = 0.5
"""Power to which the head's own expectation is raised beside the table of `follow`; found on held-out training data."""

Chain = tuple[Tensor, Tensor]
"""Verb logits (B, verbs) and noun logits (B, verbs, nouns), of the noun given each verb."""


class VideoStream(NamedTuple):
    """What is kept of a video, however long it was.

    mixer: memory of the video scan.
    total: weighted sum of its outputs (B, d), float32.
    count: sum of the weights, (B, 1) or, where every channel fades for itself, (B, d), float32.
    """

    mixer: MambaState
    total: Tensor
    count: Tensor


class MambaVL(nn.Module):
    """Verb and noun of the action in a video, asked for by two questions."""

    def __init__(self, config: MambaVLConfig):
        super().__init__()
        self.config = config
        options = {'d': config.d, 'expand': config.expand, 'N': config.N, 'd_conv': config.d_conv, 'own_A': False}
        self.video_proj = nn.Identity() if config.d_in == config.d else nn.Linear(config.d_in, config.d)
        self.words = nn.Embedding(config.vocabulary, config.d_word)
        self.words.weight.requires_grad_(not config.freeze_words)
        self.txt_proj = nn.Sequential(
            nn.Linear(config.d_word, config.d, bias=False),
            nn.ReLU(),
            nn.Linear(config.d, config.d),
            nn.ReLU(),
            nn.Linear(config.d, config.d),
        )
        self.video_mixer = Mamba1(**options)
        self.text_mixer = Mamba1(**options)
        self.A_log = no_decay(initial_A_log(config.expand * config.d, config.N))
        self.text_A_log = None if config.shared_A else no_decay(self.A_log.detach().clone())
        self.fade = no_decay(torch.full((config.d,), 1 / config.fade).log()) if config.fade else None
        self.verb_head, self.noun_head = (_head(config, classes) for classes in (config.verbs, config.nouns))
        # Taught last, on its own (training.busy).
        self.busy_head = _layers(config.d, config.busy, 1).requires_grad_(False) if config.busy else None
        # Logarithms of how often each class was the right one in training: see balanced.
        self.register_buffer('verb_prior', torch.zeros(config.verbs))
        self.register_buffer('noun_prior', torch.zeros(config.nouns))
        # The same of pairs, and the share of each pair (columns) among those that came after a pair (rows).
        pairs = config.verbs * config.nouns
        self.register_buffer('pair_prior', torch.zeros(config.verbs, config.nouns) if config.follow else None)
        self.register_buffer('follows', torch.full((pairs, pairs), 1 / pairs) if config.follow else None)

    def forward(
        self,
        video: Tensor,
        noun_question: Tensor,
        verb_question: Tensor,
        noun_mask: Tensor | None = None,
        verb_mask: Tensor | None = None,
        *,
        video_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Classify whole clips.

        Args:
            video: tokens (B, Lv, d_in) in the order of time.
            noun_question: word ids (B, Lq) of the question about the object.
            verb_question: word ids (B, Lq) of the question about the action.
            noun_mask: (B, Lq) bool, True = word, False = pad.
            verb_mask: as noun_mask.
            video_mask: (B, Lv) bool, True = valid.

        Returns:
            Verb logits (B, verbs) and noun logits (B, nouns).
        """
        seen = self.follow(video, video_mask=video_mask)[:, -1]
        return self.classify(seen, noun_question, verb_question, noun_mask, verb_mask)

    def follow(self, video: Tensor, *, video_mask: Tensor | None = None) -> Tensor:
        """What `read` would rest on after each of the video tokens (B, Lv, d_in): (B, Lv, d), float32."""
        # Without a state to start from, so that a fused kernel may serve.
        y = self.video_mixer(self.video_proj(video), mask=video_mask, A_log=self.A_log)
        return _mean(*self._sums(y, video_mask, None))

    def init_stream(self, B: int) -> VideoStream:
        """Begin B streams, where the weights are."""
        total = self.A_log.new_zeros(B, self.config.d, dtype=torch.float32)
        return VideoStream(
            self.video_mixer.init_state(B), total, total.new_zeros(B, total.shape[1] if self.config.fade else 1)
        )

    def update(self, state: VideoStream, tokens: Tensor, *, mask: Tensor | None = None) -> VideoStream:
        """Take in the next tokens (B, n, d_in), n >= 1; mask (B, n) bool, True = valid."""
        y, mixer = self.video_mixer(
            self.video_proj(tokens), mask=mask, A_log=self.A_log, state=state.mixer, return_state=True
        )
        total, count = self._sums(y, mask, state)
        return VideoStream(mixer, total[:, -1].clone(), count[:, -1].clone())  # views would keep all tokens alive

    def read(
        self,
        state: VideoStream,
        noun_question: Tensor,
        verb_question: Tensor,
        noun_mask: Tensor | None = None,
        verb_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Verb logits (B, verbs) and noun logits (B, nouns) of what was seen so far; the state is left as it is."""
        return self.classify(self.seen(state), noun_question, verb_question, noun_mask, verb_mask)

    def seen(self, state: VideoStream) -> Tensor:
        """What `follow` says after the last token of a stream: (B, d), float32."""
        return _mean(state.total, state.count)

    def classify(
        self,
        seen: Tensor,
        noun_question: Tensor,
        verb_question: Tensor,
        noun_mask: Tensor | None = None,
        verb_mask: Tensor | None = None,
        *,
        asked: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Classify what was seen.

        Args:
            seen: of `follow`, (B, d).
            noun_question: as forward takes it; of any number of questions where `asked` tells which are meant.
            verb_question: as noun_question.
            noun_mask: as forward.
            verb_mask: as forward.
            asked: (B,) int64, number of the pair of questions asked of each; None = the first of the first, and so on.

        Returns:
            Verb logits (B, verbs) and noun logits (B, nouns).
        """
        verb, noun = self.heard(verb_question, verb_mask), self.heard(noun_question, noun_mask)
        if asked is not None:
            verb, noun = verb[asked], noun[asked]
        return self.verb_head(seen + verb), self.noun_head(seen + noun)

    def chained(self, seen: Tensor, verb: Tensor, nouns: Tensor) -> Chain:
        """Ask for the verb, and for the noun once for every verb: p(v, n) = p(v) p(n | v).

        Args:
            seen: of `follow`, (B, d).
            verb: the question about the action, of `heard`, (1, d).
            nouns: the questions about the object, of `heard`, (verbs, d), each given its verb.

        """
        return self.verb_head(seen + verb), self.noun_head(seen[:, None] + nouns)

    def busy(self, seen: Tensor) -> Tensor:
        """How sure it is that anything is being done, of what was seen (B, d): logits (B,).

        Raises:
            ValueError: built without busy.
        """
        if self.busy_head is None:
            raise ValueError('this head cannot tell whether anything is being done; build it with busy > 0')
        return self.busy_head(seen)[:, 0]

    def foreseen(self, last: Chain, following: Chain) -> Chain:
        """Let what was done last have a say in what comes next: p(next) ~ p_head(next)^EXPECTED sum p(last) follows.

        Args:
            last: what was done last, as `chained` tells it.
            following: what the head itself expects.

        Raises:
            ValueError: built without follow.
        """
        if self.follows is None:
            raise ValueError('this head has no table of what follows; build it with follow=True')
        told = joint(*last).flatten(1).exp() @ self.follows
        scores = EXPECTED * joint(*following) + told.clamp(min=1e-9).log().view(-1, *self.pair_prior.shape)
        return _parted(scores)

    def balanced(self, verbs: Tensor, nouns: Tensor, tau: float = 1.0) -> tuple[Tensor, Tensor] | Chain:
        """Logits that favour no class for being common: less tau times the logarithm of its share in training.

        Post-hoc logit adjustment (Menon et al., ICLR 2021): it serves class-mean recall and costs top-1 accuracy.
        """
        if nouns.dim() == 3 and self.pair_prior is not None:
            return _parted(joint(verbs, nouns) - tau * self.pair_prior)
        return verbs - tau * self.verb_prior, nouns - tau * self.noun_prior

    def heard(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mean of the text scan over the words of questions: ids and mask (B, Lq) -> (B, d), float32."""
        A_log = self.A_log if self.text_A_log is None else self.text_A_log
        y = self.text_mixer(self.txt_proj(self.words(ids)), mask=mask, A_log=A_log)
        return _mean(y.float().sum(1), _valid(y, mask).sum(1))

    def _sums(self, y: Tensor, mask: Tensor | None, state: VideoStream | None) -> tuple[Tensor, Tensor]:
        """Weighted sums of a mixer's outputs (B, L, d) up to each token, and of the weights, from where state stands.

        Outputs are 0 where masked; there the sums stand still.
        """
        y, valid = y.float(), _valid(y, mask)
        if self.fade is None:
            total, count = y.cumsum(1), valid.cumsum(1)
            return (total, count) if state is None else (total + state.total[:, None], count + state.count[:, None])
        return (
            self._faded(y, valid, state and state.total),
            self._faded(valid.expand_as(y), valid, state and state.count),
        )

    def _faded(self, y: Tensor, valid: Tensor, before: Tensor | None) -> Tensor:
        """s_t = exp(-exp(fade)) s_{t-1} + y_t, (B, L, d); s stands still where a token is not valid."""
        one = torch.ones_like(valid)
        sums, _ = selective_scan(
            y,
            valid.expand_as(y),
            -self.fade.float().exp()[:, None],
            one,
            one,
            state=None if before is None else before[..., None],
        )
        return sums


def joint(verbs: Tensor, nouns: Tensor) -> Tensor:
    """Logarithms of the probabilities of pairs, (B, verbs, nouns), from logits as a Chain has them."""
    return verbs.log_softmax(-1)[..., None] + nouns.log_softmax(-1)


def _parted(scores: Tensor) -> Chain:
    """Logits of pairs (B, verbs, nouns) as a Chain."""
    scores = scores - scores.logsumexp((1, 2), keepdim=True)
    verbs = scores.logsumexp(2)
    return verbs, scores - verbs[..., None]


def _head(config: MambaVLConfig, classes: int) -> nn.Module:
    return _layers(config.d, config.hidden, classes) if config.hidden else nn.Linear(config.d, classes)


def _layers(d: int, hidden: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(d), nn.Linear(d, hidden), nn.GELU(), nn.Linear(hidden, classes))


def _valid(y: Tensor, mask: Tensor | None) -> Tensor:
    """1 for tokens of y (B, L, d) that count, 0 for others: (B, L, 1), float32."""
    return y.new_ones(*y.shape[:2], 1, dtype=torch.float32) if mask is None else mask[..., None].float()


def _mean(total: Tensor, count: Tensor) -> Tensor:
    """Weighted mean; 0 where nothing was weighed."""
    return total / count.clamp(min=torch.finfo(total.dtype).tiny)
