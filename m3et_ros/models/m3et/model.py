"""M3ET: any subset of rgb, depth, segmentation and text in; any of them, and answers, out (docs/papers.md, section 2).

Symbols: B batch, Q questions, S image side, s segmentation side, n patches of an image, T text tokens, V vocabulary,
    K visible tokens, I of them in images, L = K + 1 tokens of the encoder (the global token is the last), d width.
Order of tokens: rgb raster, depth raster, segmentation raster, text, global. A missing modality has no tokens.

Images come first and never see the words: words attend to them, and go on from where their scans ended. So one pass
over a frame, a Sight, serves any number of questions, and each question costs its own words and one global token.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.layers.attention import HeadAttention, SemanticGate
from m3et_ros.layers.hybrid import HybridStack
from m3et_ros.layers.mamba import no_decay
from m3et_ros.models.m3et.adapters import build_adapters, check_inputs, cut, sincos_2d, unpatchify
from m3et_ros.models.m3et.config import IMAGE_MODALITIES, MODALITIES, M3ETConfig
from m3et_ros.models.m3et.decoders import AnswerHead, build_decoders
from m3et_ros.models.m3et.encoding import GLOBAL, TEXT, Encoded, Held, ImageEncoding, both_of, joined, select, sources


class M3ET(nn.Module):
    """Adapters, hybrid encoder, task decoders, text decoder and answer head of one config."""

    def __init__(self, config: M3ETConfig):
        super().__init__()
        self.config = config
        self.adapters = build_adapters(config)
        self.types = no_decay(torch.randn(len(MODALITIES), config.d) * 0.02)
        self.global_embedding = no_decay(torch.randn(config.d) * 0.02)
        self.encoder = HybridStack(
            d=config.d,
            schedule=config.schedule,
            heads=config.heads,
            mixer=config.mixer,
            mixer_options=config.mixer_options,
            directions=config.directions,
            stages=config.stages,
        )
        self.decoders = build_decoders(config)
        gated = config.gate and config.cross_attention and bool(config.tasks)
        self.gate = SemanticGate(d_context=config.d, hidden=config.d_gate, d=config.d_decoder) if gated else None
        self.text_bias = nn.Parameter(torch.zeros(config.vocabulary)) if 'text' in config.tasks else None
        self.answer_head = AnswerHead(d=config.d, answers=config.answers) if config.answers else None
        self.register_buffer('positions', sincos_2d(config.grid, config.grid, config.d), persistent=False)

    def forward(
        self, inputs: Mapping[str, Tensor], *, visible: Tensor | None = None, tasks: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
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
        return {
            task: self.answer_logits(encoded) if task == 'answers' else self.decode(encoded, task) for task in tasks
        }

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
        images = {m: inputs[m] for m in IMAGE_MODALITIES if m in inputs}
        visible_words = None
        if visible is not None:
            seen = self._seen(visible, images, inputs.get('text'))
            seen, visible_words = seen.split(
                [len(images) * self.config.image_tokens, seen.shape[1] - len(images) * self.config.image_tokens], 1
            )
            # Without words every sample shows as many image tokens as were asked for; no need to count them.
            shown = visible.shape[1] if 'text' not in inputs else int(seen.sum(1).max())
            sight = self._encode_images(images, seen, shown) if shown else None
        else:
            sight = self._encode_images(images) if images else None
        return self.add_text(
            sight,
            inputs.get('text'),
            inputs.get('text_mask'),
            visible=visible_words,
            batch=len(next(iter(inputs.values()))),
        )

    def encode_images(self, images: Mapping[str, Tensor]) -> ImageEncoding:
        """Encode images, once for all that will be asked of them.

        Args:
            images: any of rgb, depth and semseg, as encode takes them; at least one.

        Raises:
            ValueError: an input does not fit the config; the message names it.
        """
        check_inputs(dict(images), self.config)
        return self._encode_images({m: images[m] for m in IMAGE_MODALITIES if m in images})

    def encode_changed(
        self, images: Mapping[str, Tensor], places: Tensor | None = None, held: Held | None = None
    ) -> Held:
        """Encode some patches of images anew among what is held of earlier images; the other tokens stay.

        Args:
            images: as encode_images takes them; those of `held` where there is one, in the same modalities and as many samples.
            places: ids (K,) int64, rising, K >= 1, of the patches that are encoded, counted over the present
                modalities in the order above; None = all.
            held: of earlier images; None = nothing, all is encoded.

        Returns:
            What is held now. With all patches its sight is that of encode_images.

        Raises:
            ValueError: an input does not fit the config or `held`; the message names it.
        """
        check_inputs(dict(images), self.config)
        images = {m: images[m] for m in IMAGE_MODALITIES if m in images}
        if held is None or places is None:
            tokens = {m: self.adapters[m](values) for m, values in images.items()}
            x = torch.cat([self._place(m, t) for m, t in tokens.items()], 1)
            passed = self.encoder.renew(x)
        else:
            if list(images) != list(held.sight.tokens):
                raise ValueError(
                    f'images are {", ".join(images)} and {", ".join(held.sight.tokens)} are held; give '
                    'the same modalities, or hold nothing'
                )
            tokens, x = self._adapt_anew(images, places, held)
            passed = self.encoder.renew(x, places, held.passed)
        source = torch.cat([sources(t, MODALITIES.index(m)) for m, t in tokens.items()], 1)
        visible = {m: torch.ones(t.shape[:2], dtype=torch.bool, device=x.device) for m, t in tokens.items()}
        return Held(ImageEncoding(passed.outputs, passed.states, source, None, tokens, visible), passed)

    def _adapt_anew(self, images: Mapping[str, Tensor], places: Tensor, held: Held) -> tuple[dict[str, Tensor], Tensor]:
        """All bare tokens, some of them new, and the new ones (B, K, d) with position and type."""
        n, tokens, new = self.config.image_tokens, dict(held.sight.tokens), []
        for number, (m, values) in enumerate(images.items()):
            ids = places[(places >= number * n) & (places < (number + 1) * n)] - number * n
            if not len(ids):
                continue
            side = self.config.semseg_patch if m == 'semseg' else self.config.patch
            part = self.adapters[m](cut(values, side, ids)).unflatten(0, (len(values), -1))[:, :, 0]
            tokens[m] = tokens[m].index_copy(1, ids, part)
            new.append(part + self.positions[ids] + self.types[MODALITIES.index(m)])
        return tokens, torch.cat(new, 1)

    def add_text(
        self,
        sight: ImageEncoding | None,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        *,
        visible: Tensor | None = None,
        batch: int = 1,
    ) -> Encoded:
        """Go on from images with words, or with the global token alone, and put all in one sequence: see encode_text."""
        heard = self.encode_text(sight, text, text_mask, visible=visible, batch=batch)
        return joined(sight, heard) if sight else heard

    def encode_text(
        self,
        sight: ImageEncoding | None,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        *,
        visible: Tensor | None = None,
        batch: int = 1,
        looks: list[HeadAttention] | None = None,
    ) -> Encoded:
        """Go on from images with words, or with the global token alone.

        Args:
            sight: of B samples; None = no images.
            text: word pieces (B * Q, T) int64, those of the first sample first; None = nothing is said.
            text_mask: (B * Q, T) bool, False for pads; None = no pads.
            visible: (B * Q, T) bool, the words that the encoder may see; None = all.
            batch: B where there is neither sight nor text.
            looks: gets, for every T layer, where in the images T words and the global token look. Pads stand before
                the words there, the global token last.

        Returns:
            The words and the global token alone, enough for answer_logits.
        """
        B = len(text) if text is not None else len(sight.source) if sight else batch
        x = self.global_embedding.to(self.positions.dtype).expand(B, 1, -1)
        source, valid, tokens, shown = sources(x, GLOBAL), None, {}, {}
        if text is not None:
            tokens['text'] = self.adapters['text'](text)
            heard = both_of(text_mask, visible)
            words, kinds = self._place('text', tokens['text']), sources(tokens['text'], TEXT)
            shown['text'] = torch.ones_like(kinds, dtype=torch.bool) if heard is None else heard
            if heard is not None:
                # Pads go before the words, where zeros are what convolution and scan start from anyway.
                words, heard = select(heard.int().argsort(stable=True, dim=1), words, heard)
                valid = F.pad(heard, (0, 1), value=True)
            x, source = torch.cat([words, x], 1), torch.cat([kinds, source], 1)
        stages = self.encoder(x, mask=valid, states=sight.states if sight else None, looks=looks)
        return Encoded(stages, source, valid, tokens, shown, text_mask)

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
        return decoder(
            queries, encoded.context, summary=encoded.summary(), gate=self.gate, context_mask=encoded.valid, **options
        )

    def _word_logits(self, states: Tensor) -> Tensor:
        return F.linear(states, self.adapters['text'].table.weight, self.text_bias)

    def _decoder(self, task: str) -> nn.Module:
        if task not in self.decoders:
            raise ValueError(f'{self.config.name} has no decoder for {task!r}; it has {", ".join(self.config.tasks)}')
        return self.decoders[task]

    def _place(self, modality: str, tokens: Tensor) -> Tensor:
        """Add position and type to bare tokens (B, n, d)."""
        places = self.adapters['text'].positions[: tokens.shape[1]] if modality == 'text' else self.positions
        return tokens + places + self.types[MODALITIES.index(modality)]

    def _encode_images(self, images: Mapping[str, Tensor], seen: Tensor | None = None, shown: int = 0) -> ImageEncoding:
        """Encode images of which (B, tokens) bool are seen, None = all; `shown` is the most that a sample shows."""
        tokens = {m: self.adapters[m](values) for m, values in images.items()}
        x = torch.cat([self._place(m, t) for m, t in tokens.items()], 1)
        source = torch.cat([sources(t, MODALITIES.index(m)) for m, t in tokens.items()], 1)
        visible = torch.ones_like(source, dtype=torch.bool) if seen is None else seen
        valid = None
        if seen is not None:
            # Fillers go first: zeros before a causal scan are what it starts from, so their number changes nothing.
            order = seen.int().argsort(stable=True, dim=1)[:, -shown:]
            x, source, valid = select(order, x, source, seen)
            valid = None if bool(valid.all()) else valid
        stages, states = self.encoder(x, mask=valid, return_states=True)
        counts = [t.shape[1] for t in tokens.values()]
        return ImageEncoding(stages, states, source, valid, tokens, dict(zip(tokens, visible.split(counts, 1))))

    def _seen(self, visible: Tensor, images: Mapping[str, Tensor], text: Tensor | None) -> Tensor:
        """Return visible ids as a mask (B, tokens) bool."""
        B = len(next(iter(images.values()))) if images else len(text)
        total = len(images) * self.config.image_tokens + (0 if text is None else text.shape[1])
        if visible.dim() != 2 or len(visible) != B or not 1 <= visible.shape[1] <= total:
            raise ValueError(f'visible is {tuple(visible.shape)}; give ({B}, 1 to {total}) token ids')
        return torch.zeros(B, total, dtype=torch.bool, device=visible.device).scatter_(1, visible, True)
