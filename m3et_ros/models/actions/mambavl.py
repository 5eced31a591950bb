"""MambaVL: verb and noun of the action in a video stream, from two questions (2409.11513; docs/papers.md 3).

Two selective scans, one over video tokens and one over question words, share the matrix A that sets how fast their
states decay; their means are added and classified. The video side is recurrent, so a token of an endless stream costs
the same as any other.

Symbols: B batch, Lv video tokens, Lq question words, d_in width of video tokens, d width, N states of a channel.
    z_verb = mean M_v(video) + mean M_t(verb question) -> Linear -> verbs;  z_noun likewise with the noun question
    M_v, M_t Mamba-1 mixers that own no A;  A = -exp(A_log), A_log (expand * d, N), one for both

Some switches go beyond the paper, whose clips are cut around one action and come with questions about it alone. With
`fade` the mean over the video forgets, at a rate that every channel learns, because a robot's stream has no cuts. With
`hidden` a layer stands between the sum and the classes; without it a question could only raise the same classes
whatever the video shows. With `follow` a table of which action followed which in training joins the head's own
expectation. With `busy` the head also predicts whether any action is under way; in published clips one always is.
`PAPER` turns all of them off.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from m3et_ros.layers.mamba import Mamba1, MambaState, initial_A_log, no_decay
from m3et_ros.models.config_checks import check_number, check_switch, check_whole
from m3et_ros.ops.selective_scan import selective_scan

RANGES = {
    'd_in': (1, 65_536),
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
    'patches': (1, 65_536),
    'positions': (0, 65_536),
}
PAPER = {'fade': 0, 'hidden': 0, 'busy': 0, 'follow': False}
"""Switches of the published head; it also reads all patches of a frame, and embeddings with positions."""
EXPECTATION_POWER = 0.5
"""Power of the head's own expectation beside the table of `follow`, chosen on held-out training data."""
Chain = tuple[Tensor, Tensor]
"""Verb logits (B, verbs), and logits of the noun given each verb (B, verbs, nouns)."""


@dataclass(frozen=True)
class MambaVLConfig:
    """Sizes and switches of one MambaVL.

    Raises:
        ValueError: a field has the wrong type or is out of range; the message names field, value and range.
    """

    # Width of the video tokens; another width than d adds a linear layer.
    d_in: int = 768
    # Width of the fusion.
    d: int = 768
    # Width of the word table.
    d_word: int = 768
    # Tokens of a frame, which are one row of the inputs; the features after a frame are those after its last token.
    patches: int = 1
    # Words in the table; the published table is RoBERTa's.
    vocabulary: int = 50265
    # Most words of a question that gets embeddings of position and type and a LayerNorm, as published (RoBERTa's);
    # 0 = the word table alone.
    positions: int = 0
    # Share of the entries of these embeddings that is dropped in training, 0..0.9; published: 0.1.
    dropout: float = 0.0
    # True lets the pads of a question take part in scan and mean, as published; all questions then need one length.
    pads: bool = False
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
    # Tokens after which the weight of a token in the mean over the video has fallen to 1 / e, at the start of training;
    # 0 = the plain mean, as published.
    fade: int = 0
    # Width of the layer between sum and classes; 0 = none, as published.
    hidden: int = 0
    # Width of the layer that predicts whether any action is under way; 0 = none, as published.
    busy: int = 0
    # True adds a table of which pair of verb and noun follows which.
    follow: bool = False
    # Tokens per second in training, to which a live stream is thinned out; 0 = every frame is used.
    rate_hz: float = 0.0
    # Ablation: False gives the question a matrix A of its own (the paper's disjoint variant).
    shared_A: bool = True  # noqa: N815 - stored in checkpoints under this name
    # True freezes the embeddings of words as they were loaded, as published; of no use with random ones.
    freeze_words: bool = False

    def __post_init__(self):
        check_whole(self, RANGES)
        check_number(self, {'rate_hz': (0, 1000), 'dropout': (0, 0.9)})
        for name in ('dropout', 'pads'):
            if getattr(self, name) and not self.positions:
                raise ValueError(f'{name} is {getattr(self, name)} and positions is 0; give positions above 0')
        check_switch(self, 'pads', 'follow', 'shared_A', 'freeze_words')


class TextEmbeddings(nn.Module):
    """RoBERTa's embeddings: LayerNorm(word + position + type), of which pads, which come last, have the type alone.

    Args:
        d: width.
        positions: most words of a question.
        dropout: share of the entries that is dropped in training.
    """

    def __init__(self, *, d: int, positions: int, dropout: float = 0.0):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.positions = no_decay(0.02 * torch.randn(positions, d))
        self.kind = no_decay(0.02 * torch.randn(d))
        self.norm = nn.LayerNorm(d, eps=1e-5)

    def forward(self, words: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the embeddings (B, Lq, d) of words (B, Lq, d); mask (B, Lq) bool is False for pads.

        Raises:
            ValueError: a question has more words than there are positions.
        """
        if words.shape[1] > len(self.positions):
            raise ValueError(f'a question has {words.shape[1]} words; give at most {len(self.positions)}')
        placed = words + self.positions[: words.shape[1]]
        if mask is not None:
            placed = placed * mask[..., None]
        return self.dropout(self.norm(placed + self.kind))


class VideoStream(NamedTuple):
    """State of a video stream; its size does not depend on the length.

    mixer: state of the video scan.
    total: weighted sum of its outputs (B, d), float32.
    weight: sum of the weights, (B, 1), or (B, d) where every channel fades on its own, float32.
    """

    mixer: MambaState
    total: Tensor
    weight: Tensor


class MambaVL(nn.Module):
    """Classifies verb and noun of the action in a video, each with a question of its own."""

    verb_prior: Tensor
    noun_prior: Tensor
    pair_prior: Tensor | None
    follows: Tensor | None

    def __init__(self, config: MambaVLConfig):
        super().__init__()
        self.config = config
        options = {'d': config.d, 'expand': config.expand, 'N': config.N, 'd_conv': config.d_conv}
        self.video_proj = nn.Identity() if config.d_in == config.d else nn.Linear(config.d_in, config.d)
        self.words = nn.Embedding(config.vocabulary, config.d_word)
        self.words.weight.requires_grad_(not config.freeze_words)
        self.text: TextEmbeddings | None = None
        if config.positions:
            self.text = TextEmbeddings(d=config.d_word, positions=config.positions, dropout=config.dropout)
            self.text.requires_grad_(not config.freeze_words)
        self.txt_proj = nn.Sequential(
            nn.Linear(config.d_word, config.d, bias=False),
            nn.ReLU(),
            nn.Linear(config.d, config.d),
            nn.ReLU(),
            nn.Linear(config.d, config.d),
        )
        self.video_mixer = Mamba1(**options, own_A=False)
        self.text_mixer = Mamba1(**options, own_A=False)
        self.A_log = no_decay(initial_A_log(config.expand * config.d, config.N))
        self.text_A_log = None if config.shared_A else no_decay(self.A_log.detach().clone())
        self.fade = no_decay(torch.full((config.d,), 1 / config.fade).log()) if config.fade else None
        self.verb_head = _head(config.d, config.hidden, config.verbs)
        self.noun_head = _head(config.d, config.hidden, config.nouns)
        # Trained last, on its own (training.actions).
        self.busy_head = _head(config.d, config.busy, 1).requires_grad_(False) if config.busy else None
        # Logarithms of the share of each class in training: see balanced.
        self.register_buffer('verb_prior', torch.zeros(config.verbs))
        self.register_buffer('noun_prior', torch.zeros(config.nouns))
        # The same of pairs, and the share of each pair (columns) among those that followed a pair (rows).
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
            video: frames (B, Lv, patches * d_in) in the order of time.
            noun_question: word ids (B, Lq) of the question about the object.
            verb_question: word ids (B, Lq) of the question about the action.
            noun_mask: (B, Lq) bool, True = word, False = pad.
            verb_mask: as noun_mask.
            video_mask: (B, Lv) bool, True = valid frame.

        Returns:
            Verb logits (B, verbs) and noun logits (B, nouns).
        """
        features = self.features(video, video_mask=video_mask)[:, -1]
        return self.classify(features, noun_question, verb_question, noun_mask, verb_mask)

    def features(self, video: Tensor, *, video_mask: Tensor | None = None) -> Tensor:
        """Return the video features (B, Lv, d), float32, after each of the frames (B, Lv, patches * d_in)."""
        # Without a state to start from, so that a fused kernel may serve.
        tokens, mask = self._tokens(video, video_mask)
        y = self.video_mixer(self.video_proj(tokens), mask=mask, A_log=self.A_log)
        features = _mean(*self._sums(y, mask, None))
        return features if self.config.patches == 1 else features[:, self.config.patches - 1 :: self.config.patches]

    def _tokens(self, video: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the tokens (B, Lv * patches, d_in) of frames with their mask."""
        patches = self.config.patches
        if patches == 1:
            return video, mask
        return video.unflatten(2, (patches, -1)).flatten(1, 2), None if mask is None else mask.repeat_interleave(
            patches, 1
        )

    def init_stream(self, B: int) -> VideoStream:
        """Return the state of B streams before their first token, on the device of the weights."""
        total = self.A_log.new_zeros(B, self.config.d, dtype=torch.float32)
        return VideoStream(
            self.video_mixer.init_state(B), total, total.new_zeros(B, total.shape[1] if self.config.fade else 1)
        )

    def update(self, state: VideoStream, tokens: Tensor, *, mask: Tensor | None = None) -> VideoStream:
        """Update B streams with their next frames (B, n, patches * d_in), n >= 1; mask (B, n) bool, True = valid."""
        tokens, mask = self._tokens(tokens, mask)
        y, mixer = self.video_mixer(
            self.video_proj(tokens), mask=mask, A_log=self.A_log, state=state.mixer, return_state=True
        )
        total, weight = self._sums(y, mask, state)
        return VideoStream(mixer, total[:, -1].clone(), weight[:, -1].clone())  # views would keep all tokens alive

    def read(
        self,
        state: VideoStream,
        noun_question: Tensor,
        verb_question: Tensor,
        noun_mask: Tensor | None = None,
        verb_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return verb logits (B, verbs) and noun logits (B, nouns) of the stream so far; the state does not change."""
        return self.classify(self.stream_features(state), noun_question, verb_question, noun_mask, verb_mask)

    def stream_features(self, state: VideoStream) -> Tensor:
        """Return the features (B, d), float32, after the last token of a stream, as `features` does."""
        return _mean(state.total, state.weight)

    def classify(
        self,
        features: Tensor,
        noun_question: Tensor,
        verb_question: Tensor,
        noun_mask: Tensor | None = None,
        verb_mask: Tensor | None = None,
        *,
        asked: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Classify video features.

        Args:
            features: (B, d), as `features` returns them for a token.
            noun_question: word ids (B, Lq), or of any number of questions where `asked` selects among them.
            verb_question: as noun_question.
            noun_mask: as in forward.
            verb_mask: as in forward.
            asked: (B,) int64, index of the pair of questions for each sample; None = each has its own.

        Returns:
            Verb logits (B, verbs) and noun logits (B, nouns).
        """
        verb, noun = self.question_features(verb_question, verb_mask), self.question_features(noun_question, noun_mask)
        if asked is not None:
            verb, noun = verb[asked], noun[asked]
        return self.verb_head(features + verb), self.noun_head(features + noun)

    def chain(self, features: Tensor, verb: Tensor, nouns: Tensor) -> Chain:
        """Classify the verb, and the noun once for every verb: p(v, n) = p(v) p(n | v).

        Args:
            features: (B, d), as `features` returns them for a token.
            verb: question_features of the question about the action, (1, d).
            nouns: question_features of the questions about the object, one for each verb, (verbs, d).
        """
        return self.verb_head(features + verb), self.noun_head(features[:, None] + nouns)

    def activity_logits(self, features: Tensor) -> Tensor:
        """Return logits (B,) that any action is under way, from features (B, d).

        Raises:
            ValueError: the head was built without busy.
        """
        if self.busy_head is None:
            raise ValueError('this head has no layer for activity; build it with busy > 0')
        return self.busy_head(features)[:, 0]

    def anticipate(self, last: Chain, following: Chain) -> Chain:
        """Combine both views of the next action: p(next) ~ p_head(next)^EXPECTATION_POWER sum p(last) follows.

        Args:
            last: the last action, as `chain` returns it.
            following: the head's own expectation of the next action.

        Raises:
            ValueError: the head was built without follow.
        """
        if self.follows is None or self.pair_prior is None:
            raise ValueError('this head has no table of what follows; build it with follow=True')
        by_table = joint(*last).flatten(1).exp() @ self.follows
        by_table = by_table.clamp(min=1e-9).log().view(-1, *self.pair_prior.shape)
        return _as_chain(EXPECTATION_POWER * joint(*following) + by_table)

    def balanced(self, verbs: Tensor, nouns: Tensor, tau: float = 1.0) -> tuple[Tensor, Tensor]:
        """Subtract tau times the logarithm of each class's share in training, so that no class gains by being common.

        This post-hoc logit adjustment (Menon et al., ICLR 2021) raises class-mean recall and lowers top-1 accuracy.

        Args:
            verbs: logits (B, verbs).
            nouns: logits (B, nouns), or (B, verbs, nouns) of a Chain.
            tau: 0 leaves the logits as they are, 1 divides by the prior.

        Returns:
            Logits of the same shapes.
        """
        if nouns.dim() == 3 and self.pair_prior is not None:
            return _as_chain(joint(verbs, nouns) - tau * self.pair_prior)
        return verbs - tau * self.verb_prior, nouns - tau * self.noun_prior

    def question_features(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the mean of the text scan over the words of questions: ids and mask (B, Lq) -> (B, d), float32."""
        A_log = self.A_log if self.text_A_log is None else self.text_A_log
        words = self.words(ids) if self.text is None else self.text(self.words(ids), mask)
        if self.config.pads:
            mask = None
        y = self.text_mixer(self.txt_proj(words), mask=mask, A_log=A_log)
        return _mean(y.float().sum(1), _valid(y, mask).sum(1))

    def _sums(self, y: Tensor, mask: Tensor | None, state: VideoStream | None) -> tuple[Tensor, Tensor]:
        """Return sums up to each token, continued from a state: of a mixer's outputs (B, L, d), and of their weights.

        Outputs are 0 where masked; there the sums do not change.
        """
        y, valid = y.float(), _valid(y, mask)
        if self.fade is None:
            total, weight = y.cumsum(1), valid.cumsum(1)
            if state is None:
                return total, weight
            return total + state.total[:, None], weight + state.weight[:, None]
        total = _faded(y, self.fade, valid, None if state is None else state.total)
        weight = _faded(valid.expand_as(y), self.fade, valid, None if state is None else state.weight)
        return total, weight


def _faded(y: Tensor, fade: Tensor, valid: Tensor, before: Tensor | None) -> Tensor:
    """Return s_t = exp(-exp(fade)) s_{t-1} + y_t, (B, L, d); s does not change where a token is not valid."""
    # Computed for each sum: gradients of shared rates would be added in another order, with other last digits.
    rates = -fade.float().exp()[:, None]
    one = torch.ones_like(valid)
    state = None if before is None else before[..., None]
    sums, _ = selective_scan(y, valid.expand_as(y), rates, one, one, state=state)
    return sums


def joint(verbs: Tensor, nouns: Tensor) -> Tensor:
    """Return the log probabilities of pairs (B, verbs, nouns) from the logits of a Chain."""
    return verbs.log_softmax(-1)[..., None] + nouns.log_softmax(-1)


def _as_chain(scores: Tensor) -> Chain:
    """Turn logits of pairs (B, verbs, nouns) into a Chain."""
    scores = scores - scores.logsumexp((1, 2), keepdim=True)
    verbs = scores.logsumexp(2)
    return verbs, scores - verbs[..., None]


def _head(d: int, hidden: int, classes: int) -> nn.Module:
    """Build the head of a question: one linear layer, or two where hidden is above 0."""
    if not hidden:
        return nn.Linear(d, classes)
    return nn.Sequential(nn.LayerNorm(d), nn.Linear(d, hidden), nn.GELU(), nn.Linear(hidden, classes))


def _valid(y: Tensor, mask: Tensor | None) -> Tensor:
    """Return 1 for the valid tokens of y (B, L, d) and 0 for others: (B, L, 1), float32."""
    return y.new_ones(*y.shape[:2], 1, dtype=torch.float32) if mask is None else mask[..., None].float()


def _mean(total: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean, 0 where there is no weight."""
    return total / weight.clamp(min=torch.finfo(total.dtype).tiny)
