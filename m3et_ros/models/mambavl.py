"""MambaVL: what is done and to what, from a video stream and two questions (2409.11513; papers.md section 3).

Two selective scans, one over video tokens and one over question words, share the matrix A that sets how fast their
states fade; their means are added and classified. The video side is recurrent, so an endless stream costs a constant.

Symbols: B batch, Lv video tokens, Lq question words, d_in width of video tokens, d width, N states of a channel.
    z_verb = mean M_v(video) + mean M_t(verb question) -> Linear -> verbs;  z_noun likewise with the noun question
    M_v, M_t Mamba-1 mixers that own no A;  A = -exp(A_log), A_log (expand * d, N), one for both
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from m3et_ros.layers.mamba import Mamba1, MambaState, initial_A_log, no_decay

RANGES = {'d_in': (1, 8192), 'd': (1, 8192), 'd_word': (1, 8192), 'vocabulary': (1, 1_000_000), 'verbs': (1, 100_000),
          'nouns': (1, 100_000), 'expand': (1, 16), 'N': (1, 4096), 'd_conv': (1, 64)}


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
    # Ablation: False gives the question a matrix A of its own (the paper's disjoint variant).
    shared_A: bool = True
    # True keeps the word table as it was loaded, as published; it means little with a random table.
    freeze_words: bool = False

    def __post_init__(self):
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f'{name} is {value!r}; give a whole number from {low} to {high}')
        for name in ('shared_A', 'freeze_words'):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f'{name} is {getattr(self, name)!r}; give true or false')


class VideoStream(NamedTuple):
    """What is kept of a video, however long it was.

    mixer: memory of the video scan.
    total: sum of its outputs (B, d), float32.
    count: valid tokens so far (B, 1), int64.
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
            nn.Linear(config.d_word, config.d, bias=False), nn.ReLU(), nn.Linear(config.d, config.d), nn.ReLU(),
            nn.Linear(config.d, config.d))
        self.video_mixer = Mamba1(**options)
        self.text_mixer = Mamba1(**options)
        self.A_log = no_decay(initial_A_log(config.expand * config.d, config.N))
        self.text_A_log = None if config.shared_A else no_decay(self.A_log.detach().clone())
        self.verb_head = nn.Linear(config.d, config.verbs)
        self.noun_head = nn.Linear(config.d, config.nouns)

    def forward(self, video: Tensor, noun_question: Tensor, verb_question: Tensor, noun_mask: Tensor | None = None,
                verb_mask: Tensor | None = None, *, video_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
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
        # Without a state to start from, so that a fused kernel may serve.
        y = self.video_mixer(self.video_proj(video), mask=video_mask, A_log=self.A_log)
        return self._classify(_mean(*_sums(y, video_mask)), noun_question, verb_question, noun_mask, verb_mask)

    def init_stream(self, B: int) -> VideoStream:
        """Begin B streams, where the weights are."""
        total = self.A_log.new_zeros(B, self.config.d, dtype=torch.float32)
        return VideoStream(self.video_mixer.init_state(B), total, total.new_zeros(B, 1, dtype=torch.int64))

    def update(self, state: VideoStream, tokens: Tensor, *, mask: Tensor | None = None) -> VideoStream:
        """Take in the next tokens (B, n, d_in), n >= 1; mask (B, n) bool, True = valid."""
        y, mixer = self.video_mixer(self.video_proj(tokens), mask=mask, A_log=self.A_log, state=state.mixer,
                                    return_state=True)
        total, count = _sums(y, mask)
        return VideoStream(mixer, state.total + total, state.count + count)

    def read(self, state: VideoStream, noun_question: Tensor, verb_question: Tensor, noun_mask: Tensor | None = None,
             verb_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Verb logits (B, verbs) and noun logits (B, nouns) of what was seen so far; the state is left as it is."""
        return self._classify(_mean(state.total, state.count), noun_question, verb_question, noun_mask, verb_mask)

    def _classify(self, seen: Tensor, noun_question: Tensor, verb_question: Tensor, noun_mask: Tensor | None,
                  verb_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        verb = seen + self._question(verb_question, verb_mask)
        noun = seen + self._question(noun_question, noun_mask)
        dtype = self.verb_head.weight.dtype
        return self.verb_head(verb.to(dtype)), self.noun_head(noun.to(dtype))

    def _question(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """Mean of the text scan over the words of a question (B, Lq) -> (B, d), float32."""
        A_log = self.A_log if self.text_A_log is None else self.text_A_log
        return _mean(*_sums(self.text_mixer(self.txt_proj(self.words(ids)), mask=mask, A_log=A_log), mask))


def _sums(y: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sum of a mixer's outputs (B, L, d), which are 0 where masked, and number of valid tokens (B, 1)."""
    if mask is None:
        mask = torch.ones(y.shape[:2], dtype=torch.bool, device=y.device)
    return y.float().sum(1), mask.sum(1, keepdim=True)


def _mean(total: Tensor, count: Tensor) -> Tensor:
    """Mean over tokens; 0 where there are none."""
    return total / count.clamp(min=1)
