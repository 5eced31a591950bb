"""M3ET: any subset of rgb, depth, segmentation and text in; any of them, and answers, out (papers.md, section 2).

Symbols: B batch, S image side, s segmentation side, n patches of an image, T text tokens, V vocabulary,
    K visible tokens, L = K + 1 tokens of the encoder (the global token is the last), d width.
Order of tokens: rgb raster, depth raster, segmentation raster, text, global. A missing modality has no tokens.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.layers.attention import SemanticGate
from m3et_ros.layers.hybrid import HybridStack
from m3et_ros.layers.mamba import no_decay
from m3et_ros.models.adapters import build_adapters, check_inputs, unpatchify
from m3et_ros.models.config import MODALITIES, M3ETConfig
from m3et_ros.models.decoders import AnswerHead, build_decoders
from m3et_ros.models.positions import sincos_2d

TEXT = MODALITIES.index('text')
GLOBAL = len(MODALITIES)
"""Source of the global token, beside the modalities' places in MODALITIES."""


@dataclass(frozen=True)
class Encoded:
    """What the encoder leaves behind; decoders, answers and memories all read this."""

    # Outputs of the stages, each (B, L, d); the last one is normalised and is what decoders attend to.
    stages: list[Tensor]
    # Where each token came from, (B, L) int64: place in MODALITIES, or GLOBAL.
    source: Tensor
    # (B, L) bool, False for pads of text, which stand first; None where there is no pad.
    valid: Tensor | None
    # Bare tokens of every present modality, (B, n, d): the decoders' queries.
    tokens: Mapping[str, Tensor]
    # Which of them the encoder saw, (B, n) bool.
    visible: Mapping[str, Tensor]
    # (B, T) bool, False for pads; None where there is no text or no pad.
    text_mask: Tensor | None = None

    @property
    def context(self) -> Tensor:
        """Encoder output (B, L, d)."""
        return self.stages[-1]

    def summary(self) -> Tensor:
        """Mean of the encoder's text tokens (B, d); the global token of samples without text."""
        spoken = self.source == TEXT
        spoken = (spoken if self.valid is None else spoken & self.valid)[..., None].to(self.context.dtype)
        count = spoken.sum(1)
        mean = (self.context * spoken).sum(1) / count.clamp(min=1)
        return torch.where(count > 0, mean, self.context[:, -1])


class M3ET(nn.Module):
    """Adapters, hybrid encoder, task decoders, text decoder and answer head of one config."""

    def __init__(self, config: M3ETConfig):
        super().__init__()
        self.config = config
        self.adapters = build_adapters(config)
        self.types = no_decay(torch.randn(len(MODALITIES), config.d) * 0.02)
        self.global_embedding = no_decay(torch.randn(config.d) * 0.02)
        self.encoder = HybridStack(d=config.d, schedule=config.schedule, heads=config.heads, mixer=config.mixer,
                                   mixer_options=config.mixer_options, directions=config.directions,
                                   stages=config.stages)
        self.decoders = build_decoders(config)
        gated = config.gate and config.cross_attention and bool(config.tasks)
        self.gate = SemanticGate(d_context=config.d, hidden=config.d_gate, d=config.d_decoder) if gated else None
        self.text_bias = nn.Parameter(torch.zeros(config.vocabulary)) if 'text' in config.tasks else None
        self.answer_head = AnswerHead(d=config.d, answers=config.answers) if config.answers else None
        self.register_buffer('positions', sincos_2d(config.grid, config.grid, config.d), persistent=False)

    def forward(self, inputs: Mapping[str, Tensor], *, visible: Tensor | None = None,
                tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Encode and decode at one go.

        Args:
            inputs: see encode.
            visible: see encode.
            tasks: some of rgb, depth, semseg, text, answers; None takes all that the model has.

        Returns:
            Task to prediction, see decode and answer_logits.
        """
        encoded = self.encode(inputs, visible=visible)
        if tasks is None:
            tasks = self.config.tasks + (('answers',) if self.answer_head is not None else ())
        return {task: self.answer_logits(encoded) if task == 'answers' else self.decode(encoded, task)
                for task in tasks}

    def encode(self, inputs: Mapping[str, Tensor], *, visible: Tensor | None = None) -> Encoded:
        """Encode whatever modalities are present.

        Args:
            inputs: any of rgb (B, 3, S, S) and depth (B, 1, S, S), both standardised; semseg (B, s, s) int64 with
                255 for unlabelled; text (B, T) int64 with text_mask (B, T) bool, False for pads (default: no pads).
            visible: ids (B, K) int64, distinct per sample and in any order, of the tokens that the encoder may see,
                counted over the present modalities in the order above; None shows all.

        Raises:
            ValueError: an input does not fit the config; the message names it.
        """
        check_inputs(dict(inputs), self.config)
        present = [m for m in self.config.modalities if m in inputs]
        tokens = {m: self.adapters[m](inputs[m]) for m in present}
        text_mask = inputs.get('text_mask') if 'text' in present else None
        x = torch.cat([self._place(m, tokens[m]) for m in present], 1)
        source = torch.cat([torch.full(tokens[m].shape[:2], MODALITIES.index(m), device=x.device)
                            for m in present], 1)
        valid = None if text_mask is None else torch.cat([
            text_mask if m == 'text' else torch.ones(tokens[m].shape[:2], dtype=torch.bool, device=x.device)
            for m in present], 1)
        seen = self._seen(source.shape, visible, x.device)
        if visible is not None:
            x, source, valid = _select(visible.sort(1).values, x, source, valid)
        if valid is not None:
            # Pads go first: zeros before a causal scan are what it starts from, so their number changes nothing.
            x, source, valid = _select(valid.int().argsort(stable=True, dim=1), x, source, valid)
        x, source, valid = self._append_global(x, source, valid)
        shown = dict(zip(present, seen.split([t.shape[1] for t in tokens.values()], 1)))
        if text_mask is not None:
            shown['text'] = shown['text'] & text_mask
        return Encoded(self.encoder(x, mask=valid), source, valid, tokens, shown, text_mask)

    def decode(self, encoded: Encoded, task: str) -> Tensor:
        """Reconstruct one modality, whether it was present or not.

        Returns:
            rgb (B, 3, S, S), depth (B, 1, S, S), both standardised; semseg logits (B, classes, s, s);
            text logits (B, T, V), T being text_length where there was no text.

        Raises:
            ValueError: the model has no such decoder.
        """
        decoder = self._decoder(task)
        tokens = encoded.tokens.get(task)
        places = self.adapters['text'].positions if task == 'text' else self.positions
        count = len(places) if tokens is None else tokens.shape[1]
        queries = decoder.queries(tokens, encoded.visible.get(task), places[:count])
        query_mask = encoded.text_mask if task == 'text' else None
        out = self._run(decoder, encoded, queries.expand(len(encoded.context), -1, -1), query_mask=query_mask)
        if task == 'text':
            return self._word_logits(out)
        return unpatchify(out, self.config.semseg_patch if task == 'semseg' else self.config.patch)

    def global_token(self, encoded: Encoded) -> Tensor:
        """Return the encoder's global token (B, d)."""
        return encoded.context[:, -1]

    def answer_logits(self, encoded: Encoded) -> Tensor:
        """Return scores (B, answers) of the candidate answers.

        Raises:
            ValueError: the model has no answer head.
        """
        if self.answer_head is None:
            raise ValueError(f'{self.config.name} has no answer head; build it with answers above 0')
        return self.answer_head(self.global_token(encoded))

    def text_logits(self, encoded: Encoded, answer_ids: Tensor) -> Tensor:
        """Return logits (B, T, V) of an answer under teacher forcing.

        Args:
            encoded: the frame and question, or join_frames of several.
            answer_ids: (B, T) int64, the answer shifted right: [CLS] first, no [SEP]. Logits t speak of token t + 1.

        Raises:
            ValueError: T is above text_length, or the model has no text decoder.
        """
        return self._word_logits(self._answer_states(encoded, answer_ids))

    def generate(self, encoded: Encoded, *, bos: int, eos: int, max_tokens: int = 8) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield a greedy answer token by token, each computed only when asked for: ids (B,) int64, probability (B,).

        The probability is that of the token given those before it. A sample that has ended goes on with eos at
        probability 1; the iterator ends, without yielding that step, once all have.

        Raises:
            ValueError: max_tokens is not in 1..text_length, or the model has no text decoder.
        """
        if not 1 <= max_tokens <= self.config.text_length:
            raise ValueError(f'max_tokens is {max_tokens}; give 1 to {self.config.text_length}')
        ids = torch.full((len(encoded.context), 1), bos, device=encoded.context.device)
        ended = torch.zeros_like(ids[:, 0], dtype=torch.bool)
        for _ in range(max_tokens):
            token, probability = self._greedy(encoded, ids)
            token, probability = torch.where(ended, eos, token), probability.masked_fill(ended, 1.0)
            ended = ended | (token == eos)
            if ended.all():
                return
            yield token, probability
            ids = torch.cat([ids, token[:, None]], 1)

    @torch.no_grad()
    def _greedy(self, encoded: Encoded, ids: Tensor) -> tuple[Tensor, Tensor]:
        scores = self._word_logits(self._answer_states(encoded, ids)[:, -1])
        probability, token = scores.float().softmax(-1).max(-1)
        return token, probability

    def _answer_states(self, encoded: Encoded, ids: Tensor) -> Tensor:
        decoder, length = self._decoder('text'), ids.shape[1]
        if not 1 <= length <= self.config.text_length:
            raise ValueError(f'the answer has {length} tokens; give 1 to {self.config.text_length}')
        text = self.adapters['text']
        return self._run(decoder, encoded, text(ids) + text.positions[:length], causal=True)

    def _run(self, decoder: nn.Module, encoded: Encoded, queries: Tensor, **options) -> Tensor:
        return decoder(queries, encoded.context, summary=encoded.summary(), gate=self.gate,
                       context_mask=encoded.valid, **options)

    def _word_logits(self, states: Tensor) -> Tensor:
        return F.linear(states, self.adapters['text'].table.weight, self.text_bias)

    def _decoder(self, task: str) -> nn.Module:
        if task not in self.decoders:
            raise ValueError(f'{self.config.name} has no decoder for {task!r}; it has {", ".join(self.config.tasks)}')
        return self.decoders[task]

    def _place(self, modality: str, tokens: Tensor) -> Tensor:
        """Add position and type to bare tokens (B, n, d)."""
        places = self.adapters['text'].positions[:tokens.shape[1]] if modality == 'text' else self.positions
        return tokens + places + self.types[MODALITIES.index(modality)]

    def _append_global(self, x: Tensor, source: Tensor, valid: Tensor | None):
        x = torch.cat([x, self.global_embedding.to(x.dtype).expand(len(x), 1, -1)], 1)
        valid = None if valid is None else F.pad(valid, (0, 1), value=True)
        return x, F.pad(source, (0, 1), value=GLOBAL), valid

    @staticmethod
    def _seen(shape: torch.Size, visible: Tensor | None, device: torch.device) -> Tensor:
        """Return visible ids as a mask (B, tokens) bool."""
        if visible is None:
            return torch.ones(shape, dtype=torch.bool, device=device)
        if visible.dim() != 2 or len(visible) != shape[0] or not 1 <= visible.shape[1] <= shape[1]:
            raise ValueError(f'visible is {tuple(visible.shape)}; give ({shape[0]}, 1 to {shape[1]}) token ids')
        return torch.zeros(shape, dtype=torch.bool, device=device).scatter_(1, visible, True)


def join_frames(frames: Sequence[Encoded], *, every: int = 4) -> Encoded:
    """Make one context of several frames encoded with the same question (papers.md, section 2.5, EQA).

    Every `every`-th patch token of each modality and frame, the text tokens of the last frame and the mean of the
    global tokens: 8 frames of 196 patches leave 392 + text + 1 tokens. There is no temporal model in it.

    Raises:
        ValueError: no frames, or every below 1.
    """
    if not frames or every < 1:
        raise ValueError(f'{len(frames)} frames and every = {every}; give at least one of each')
    keep = torch.cat([_thinned(frame, every, last=frame is frames[-1]) for frame in frames], 1)
    source = torch.cat([frame.source[:, :-1] for frame in frames], 1)
    order = (~keep).int().argsort(stable=True, dim=1)[:, :int(keep.sum(1).max())]
    stages = []
    for outputs in zip(*(frame.stages for frame in frames)):
        kept, = _select(order, torch.cat([z[:, :-1] for z in outputs], 1))
        centre = torch.stack([z[:, -1:] for z in outputs]).mean(0)
        stages.append(torch.cat([kept, centre], 1))
    source, valid = _select(order, source, keep)
    return Encoded(stages, F.pad(source, (0, 1), value=GLOBAL), F.pad(valid, (0, 1), value=True), {}, {})


def _thinned(frame: Encoded, every: int, *, last: bool) -> Tensor:
    """Which tokens of a frame, global one left out, a joined context keeps: (B, L - 1) bool."""
    source = frame.source[:, :-1]
    valid = torch.ones_like(source, dtype=torch.bool) if frame.valid is None else frame.valid[:, :-1]
    keep = valid & (source == TEXT) & last
    for modality in range(TEXT):
        own = valid & (source == modality)
        keep = keep | own & ((own.cumsum(1) - 1) % every == 0)
    return keep


def _select(ids: Tensor, *tensors: Tensor | None) -> list[Tensor | None]:
    """Take the tokens ids (B, K) of (B, L) and (B, L, d) tensors."""
    return [None if t is None else t.gather(1, ids if t.dim() == 2 else ids[..., None].expand(-1, -1, t.shape[-1]))
            for t in tensors]
