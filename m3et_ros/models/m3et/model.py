"""M3ET: any subset of rgb, depth, segmentation and text in; any of them, and answers, out (docs/papers.md 2).

Symbols: B batch, Q questions per sample, S image side, s segmentation side, n patches of an image, T text tokens,
    V vocabulary, d width, K visible tokens, I of them in images, L = K + 1 tokens of the encoder, the global one last.
Order of tokens: rgb raster, depth raster, segmentation raster, text, global. A missing modality has no tokens.

Images come first and do not depend on the words, unless config.images_hear (hearing.py). Words attend to them, and
their scans continue where those of the images ended. So one ImageEncoding of a frame serves any number of questions,
and each question costs only its words and one global token.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.layers.attention import HeadAttention, SemanticGate
from m3et_ros.layers.hybrid import HybridStack
from m3et_ros.layers.mamba import no_decay
from m3et_ros.models.m3et.adapters import (
    TextAdapter,
    build_adapters,
    check_inputs,
    check_pads_last,
    measured_patches,
    shown_pixels,
    sincos_2d,
    unpatchify,
)
from m3et_ros.models.m3et.answers import PlacedAnswerHead, build_answer_head
from m3et_ros.models.m3et.config import IMAGE_MODALITIES, MODALITIES, M3ETConfig
from m3et_ros.models.m3et.decoders import Decoder, build_decoders
from m3et_ros.models.m3et.encoding import (
    GLOBAL,
    TEXT,
    Encoded,
    HeldEncoding,
    ImageEncoding,
    joined,
    raster_ids,
    returned,
    select,
    sources,
)
from m3et_ros.models.m3et.hearing import heard
from m3et_ros.models.m3et.masking import visible_mask
from m3et_ros.models.m3et.readout import PlaceReader, Readout, no_places, token_colours, token_places


class M3ET(nn.Module):
    """Adapters, hybrid encoder, task decoders, text decoder and answer head of one config."""

    positions: Tensor

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
        self.answer_head = build_answer_head(config)
        self.readout = Readout(config) if config.places else None
        measured = config.depth_validity and 'depth' in config.modalities
        self.unmeasured = no_decay(torch.randn(config.d) * 0.02) if measured else None
        self.register_buffer('positions', sincos_2d(config.grid, config.grid, config.d), persistent=False)

    def forward(
        self, inputs: Mapping[str, Tensor], *, visible: Tensor | None = None, tasks: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Encode and decode.

        Args:
            inputs: as encode takes them.
            visible: as encode takes it.
            tasks: some of rgb, depth, semseg, text, answers; None = all that the model has.

        Returns:
            Task to prediction, as decode and answer_logits return them.
        """
        encoded = self.encode(inputs, visible=visible)
        if tasks is None:
            tasks = self.config.tasks if self.answer_head is None else (*self.config.tasks, 'answers')
        return {
            task: self.answer_logits(encoded) if task == 'answers' else self.decode(encoded, task) for task in tasks
        }

    def encode(self, inputs: Mapping[str, Tensor], *, visible: Tensor | None = None) -> Encoded:
        """Encode the modalities that are present.

        Args:
            inputs: any of rgb (B, 3, S, S) and depth (B, 1, S, S), both standardised, the latter with depth_validity
                (B, 2, S, S): 0 where unknown, and 1 where measured, else 0; semseg (B, s, s) int64 with
                255 for unlabelled; text (B, T) int64 with text_mask (B, T) bool, False for pads (default: no pads).
            visible: ids (B, K) int64, distinct per sample and in any order, of the tokens that the encoder may see,
                counted over the present modalities in the order above; None = all.

        Raises:
            ValueError: an input does not fit the config; the message names it.
        """
        check_inputs(dict(inputs), self.config)
        images = {m: inputs[m] for m in IMAGE_MODALITIES if m in inputs}
        text, text_mask, batch = inputs.get('text'), inputs.get('text_mask'), len(next(iter(inputs.values())))
        if visible is None:
            return self.add_text(self._encode_images(images) if images else None, text, text_mask, batch=batch)
        counts = [len(images) * self.config.image_tokens, 0 if text is None else text.shape[1]]
        visible_patches, visible_words = visible_mask(visible, batch, sum(counts)).split(counts, 1)
        # Without words every sample shows as many image tokens as ids were given, which saves counting them.
        shown = visible.shape[1] if text is None or not batch else int(visible_patches.sum(1).max())
        encoding = self._encode_images(images, visible_patches, shown, text is not None) if shown else None
        return self.add_text(encoding, text, text_mask, visible=visible_words, batch=batch)

    def encode_images(self, images: Mapping[str, Tensor]) -> ImageEncoding:
        """Encode images once for any number of questions.

        Args:
            images: any of rgb, depth and semseg, as encode takes them; at least one.

        Raises:
            ValueError: an input does not fit the config; the message names it.
        """
        check_inputs(dict(images), self.config)
        return self._encode_images({m: images[m] for m in IMAGE_MODALITIES if m in images})

    def encode_changed(
        self, images: Mapping[str, Tensor], indices: Tensor | None = None, held: HeldEncoding | None = None
    ) -> HeldEncoding:
        """Encode some patches of images anew and take the other tokens from earlier images.

        Args:
            images: as encode_images takes them; with the modalities and the batch size of `held`.
            indices: ids (K,) int64, ascending, K >= 1, of the patches to encode, counted over the present modalities
                in the order above; None = all.
            held: encoding of earlier images; None = there is none, and all patches are encoded.

        Returns:
            The encoding to hold now. With all patches its image_encoding is that of encode_images.

        Raises:
            ValueError: an input does not fit the config or `held`; the message names it.
        """
        check_inputs(dict(images), self.config)
        images = {m: images[m] for m in IMAGE_MODALITIES if m in images}
        if held is not None and list(images) != list(held.image_encoding.tokens):
            raise ValueError(
                f'images are {", ".join(images)} and {", ".join(held.image_encoding.tokens)} are held; give the '
                'same modalities, or hold nothing'
            )
        # All patches are adapted: that is cheap, a stem runs on whole images anyway, and shapes depend on K alone.
        tokens, visible = self._adapt(images)
        # Places and colours are those of the new images everywhere.
        places, colours = self._read_images(images, tokens, visible)
        embedded = torch.cat([self._with_position(m, t) for m, t in tokens.items()], 1)
        if held is None or indices is None:
            results = self.encoder.renew(embedded)
        else:
            new, before = embedded[:, indices], held.image_encoding
            results = self.encoder.renew(new, indices, held.encoder_pass)
            tokens, visible = (
                _renewed(old, now, indices) for old, now in ((before.tokens, tokens), (before.visible, visible))
            )
            if before.embedded is not None:
                embedded = before.embedded.index_copy(1, indices, new)
        if self.config.decoder_queries == 'encoded':
            tokens = dict(zip(tokens, results.outputs[-1].chunk(len(tokens), 1), strict=True))
        source = torch.cat([sources(t, MODALITIES.index(m)) for m, t in tokens.items()], 1)
        position_ids = torch.cat([raster_ids(t) for t in tokens.values()], 1)
        encoding = ImageEncoding(
            *(results.outputs, results.states, source, None, tokens, visible, position_ids, places, colours),
            embedded=embedded if self.config.images_hear else None,
        )
        return HeldEncoding(encoding, results)

    def _adapt(
        self, images: Mapping[str, Tensor], visible: Tensor | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return bare tokens (B, n, d) of images, and which of them stand for something visible, (B, n) bool.

        Args:
            images: present image modalities in their order.
            visible: (B, tokens) bool; None = all.
        """
        tokens, shown = {}, {}
        for number, (m, values) in enumerate(images.items()):
            if visible is not None:
                shown[m] = visible.chunk(len(images), 1)[number]
                if self.config.stem == 'conv' and m != 'semseg':
                    values = shown_pixels(values, shown[m], self.config.patch)
            tokens[m] = self.adapters[m](values)
            if visible is None:
                shown[m] = torch.ones(tokens[m].shape[:2], dtype=torch.bool, device=values.device)
            if m == 'depth' and self.unmeasured is not None:
                measured = measured_patches(values, self.config.patch)
                tokens[m] = torch.where(measured[..., None], tokens[m], self.unmeasured.to(tokens[m].dtype))
                shown[m] = shown[m] & measured
        return tokens, shown

    def add_text(
        self,
        images: ImageEncoding | None,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        *,
        visible: Tensor | None = None,
        batch: int = 1,
    ) -> Encoded:
        """Encode words, or the global token alone, after images, as encode_text does; return the whole sequence."""
        images = self.hear(images, text, text_mask, visible=visible)
        encoded = self.encode_text(images, text, text_mask, visible=visible, batch=batch)
        return encoded if images is None else joined(images, encoded)

    def encode_text(
        self,
        images: ImageEncoding | None,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        *,
        visible: Tensor | None = None,
        batch: int = 1,
        head_attentions: list[HeadAttention] | None = None,
    ) -> Encoded:
        """Encode words, or the global token alone, after images.

        Args:
            images: encoding of B samples; None = no images.
            text: word pieces (B * Q, T) int64, those of the first sample first; None = no words.
            text_mask: (B * Q, T) bool, False for pads, which stand behind the words; None = no pads.
            visible: (B * Q, T) bool, the words that the encoder may see; None = all.
            batch: B where there are neither images nor text.
            head_attentions: receives for every T layer the attention from T words and the global token to the images.
                Pads come before the words there, the global token last.

        Returns:
            The words and the global token alone, which is enough for answer_logits.

        Raises:
            ValueError: pads stand before words.
        """
        B = len(text) if text is not None else batch if images is None else len(images.source)
        x = self.global_embedding.to(self.positions.dtype).expand(B, 1, -1)
        source, valid, position_ids = sources(x, GLOBAL), None, raster_ids(x)
        tokens: dict[str, Tensor] = {}
        shown: dict[str, Tensor] = {}
        if text is not None:
            images = self.hear(images, text, text_mask, visible=visible)
            tokens['text'], shown['text'], words, valid, word_ids = self._words(text, text_mask, visible)
            if valid is not None:
                valid = F.pad(valid, (0, 1), value=True)
            x, source = torch.cat([words, x], 1), torch.cat([sources(words, TEXT), source], 1)
            position_ids = F.pad(word_ids, (0, 1))
        states = None if images is None else images.states
        reading = None if self.readout is None or images is None else PlaceReader(self.readout, images)
        stages = self.encoder(x, mask=valid, states=states, head_attentions=head_attentions, read_out=reading)
        encoded = Encoded(stages, source, valid, tokens, shown, position_ids, text_mask)
        if self.readout is None:
            return encoded
        places, look = no_places(B, self.config, self.positions) if reading is None else reading.results(encoded)
        return replace(encoded, places=places, look=look)

    def hear(
        self,
        images: ImageEncoding | None,
        text: Tensor | None,
        text_mask: Tensor | None,
        *,
        visible: Tensor | None = None,
    ) -> ImageEncoding | None:
        """Return images as each question lets them see themselves; unchanged if they hear none or heard it already.

        Args:
            images: encoding of B samples; None = no images.
            text: words of B * Q questions, as encode_text takes them.
            text_mask: the same.
            visible: the same.
        """
        if images is None or images.embedded is None or text is None:
            return images
        _, _, words, valid, _ = self._words(text, text_mask, visible)
        return heard(images, words, valid, self.encoder, encoded_queries=self.config.decoder_queries == 'encoded')

    def _words(
        self, text: Tensor, text_mask: Tensor | None, visible: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor]:
        """Return bare words and which of them are visible; words with their positions, which are valid, their ids."""
        check_pads_last(text_mask)
        bare = self.adapters['text'](text)
        words = self._with_position('text', bare)
        mask = text_mask if visible is None else visible
        if visible is not None and text_mask is not None:
            mask = text_mask & visible
        if mask is None:
            return bare, torch.ones_like(text, dtype=torch.bool), words, None, raster_ids(words)
        # Pads go before the words, because convolution and scan start from zeros anyway.
        order = mask.int().argsort(stable=True, dim=1)
        return bare, mask, select(order, words), select(order, mask), order

    def decode(self, encoded: Encoded, task: str) -> Tensor:
        """Reconstruct one modality, whether it was present or not.

        Returns:
            rgb (B, 3, S, S) or depth (B, 1, S, S), both standardised; semseg logits (B, classes, s, s); text logits
            (B, T, V), where T is text_length if there was no text.

        Raises:
            ValueError: the model has no such decoder.
        """
        decoder = self._decoder(task)
        tokens = encoded.tokens.get(task)
        positions = self._text_adapter.positions if task == 'text' else self.positions
        count = len(positions) if tokens is None else tokens.shape[1]
        if task == 'text' and tokens is not None and self.config.decoder_queries == 'encoded':
            # Between the images and the global token, pads first.
            words = slice(-1 - count, -1)
            tokens = returned(encoded.position_ids[:, words], encoded.context[:, words], count)
        queries = decoder.queries(tokens, encoded.visible.get(task), positions[:count])
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
        token = self.global_token(encoded)
        if isinstance(self.answer_head, PlacedAnswerHead):
            return self.answer_head(token, encoded.places, encoded.look)
        return self.answer_head(token)

    def text_logits(self, encoded: Encoded, answer_ids: Tensor) -> Tensor:
        """Return logits (B, T, V) of an answer under teacher forcing.

        Args:
            encoded: a frame and question, or join_frames of several.
            answer_ids: (B, T) int64, the answer shifted right: [CLS] first, no [SEP]. Logits t are of token t + 1.

        Raises:
            ValueError: T is above text_length, or the model has no text decoder.
        """
        return self._word_logits(self._answer_states(encoded, answer_ids))

    def generate(self, encoded: Encoded, *, bos: int, eos: int, max_tokens: int = 8) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield a greedy answer token by token, each computed on demand: ids (B,) int64, probability (B,).

        The probability is that of the token given those before it. A sample that has ended continues with eos at
        probability 1; the iterator ends once all samples have ended, without yielding that step.

        Raises:
            ValueError: max_tokens is not in 1..text_length, or the model has no text decoder.
        """
        if not 1 <= max_tokens <= self.config.text_length:
            raise ValueError(f'max_tokens is {max_tokens}; give 1 to {self.config.text_length}')
        ids = torch.full((len(encoded.context), 1), bos, device=encoded.context.device)
        ended = torch.zeros_like(ids[:, 0], dtype=torch.bool)
        for _ in range(max_tokens):
            with torch.no_grad():
                scores = self._word_logits(self._answer_states(encoded, ids)[:, -1])
                probability, token = scores.float().softmax(-1).max(-1)
            token, probability = torch.where(ended, eos, token), probability.masked_fill(ended, 1.0)
            ended = ended | (token == eos)
            if ended.all():
                return
            yield token, probability
            ids = torch.cat([ids, token[:, None]], 1)

    def _answer_states(self, encoded: Encoded, ids: Tensor) -> Tensor:
        """Return the text decoder's output (B, T, d) for an answer (B, T) shifted right."""
        decoder, length = self._decoder('text'), ids.shape[1]
        if not 1 <= length <= self.config.text_length:
            raise ValueError(f'the answer has {length} tokens; give 1 to {self.config.text_length}')
        text = self._text_adapter
        return self._run(decoder, encoded, text(ids) + text.positions[:length], causal=True)

    def _run(
        self,
        decoder: Decoder,
        encoded: Encoded,
        queries: Tensor,
        query_mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        return decoder(
            queries,
            encoded.context,
            summary=encoded.summary(),
            gate=self.gate,
            context_mask=encoded.valid,
            query_mask=query_mask,
            causal=causal,
            positions=self._context_positions(encoded) if self.config.context_positions else None,
            source=encoded.source,
        )

    def _context_positions(self, encoded: Encoded) -> Tensor:
        """Return the positions of the encoder's outputs, (B, L, d); zeros for the global token."""
        tables = [self.positions, self._text_adapter.positions] if 'text' in self.adapters else [self.positions]
        table, source = F.pad(torch.cat(tables), (0, 0, 0, 1)), encoded.source
        ids = encoded.position_ids + torch.where(source == TEXT, len(self.positions), 0)
        return F.embedding(torch.where(source == GLOBAL, len(table) - 1, ids), table)

    def _word_logits(self, states: Tensor) -> Tensor:
        return F.linear(states, self._text_adapter.table.weight, self.text_bias)

    @property
    def _text_adapter(self) -> TextAdapter:
        return cast(TextAdapter, self.adapters['text'])

    def _decoder(self, task: str) -> Decoder:
        if task not in self.decoders:
            raise ValueError(f'{self.config.name} has no decoder for {task!r}; it has {", ".join(self.config.tasks)}')
        return cast(Decoder, self.decoders[task])

    def _with_position(self, modality: str, tokens: Tensor) -> Tensor:
        """Add position and type to bare tokens (B, n, d)."""
        positions = self._text_adapter.positions[: tokens.shape[1]] if modality == 'text' else self.positions
        return tokens + positions + self.types[MODALITIES.index(modality)]

    def _read_images(
        self, images: Mapping[str, Tensor], tokens: Mapping[str, Tensor], visible: Mapping[str, Tensor]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return ImageEncoding.places and colours of bare tokens, which of them visible, in raster order."""
        if self.readout is None:
            return None, None
        return token_places(images, visible), token_colours(tokens, visible) if self.config.look_parts else None

    def _encode_images(
        self, images: Mapping[str, Tensor], visible: Tensor | None = None, shown: int = 0, unequal: bool = False
    ) -> ImageEncoding:
        """Encode images.

        Args:
            images: present image modalities in their order.
            visible: (B, tokens) bool; None = all.
            shown: the most tokens that are visible in one sample.
            unequal: fewer may be visible in other samples.
        """
        tokens, shows = self._adapt(images, visible)
        places, colours = self._read_images(images, tokens, shows)
        x = torch.cat([self._with_position(m, t) for m, t in tokens.items()], 1)
        source = torch.cat([sources(t, MODALITIES.index(m)) for m, t in tokens.items()], 1)
        position_ids, valid, order = torch.cat([raster_ids(t) for t in tokens.values()], 1), None, None
        if visible is not None:
            # Fillers go first: a causal scan starts from zeros anyway, so zeros in front change nothing.
            order = visible.int().argsort(stable=True, dim=1)[:, -shown:]
            x, source, filled = select(order, x), select(order, source), select(order, visible)
            # Only a traced model takes the caller's word: counting what is filled would fix it in the graph.
            counted = unequal or not torch.compiler.is_compiling()
            position_ids, valid = select(order, position_ids), filled if counted and not bool(filled.all()) else None
            places, colours = (None if part is None else select(order, part) for part in (places, colours))
        stages, states = self.encoder(x, mask=valid, return_states=True)
        if self.config.decoder_queries == 'encoded':
            outputs = (
                stages[-1] if order is None else returned(order, stages[-1], sum(t.shape[1] for t in tokens.values()))
            )
            tokens = dict(zip(tokens, outputs.chunk(len(tokens), 1), strict=True))
        embedded = x if self.config.images_hear else None
        return ImageEncoding(stages, states, source, valid, tokens, shows, position_ids, places, colours, embedded)


def _renewed(old: Mapping[str, Tensor], new: Mapping[str, Tensor], indices: Tensor) -> dict[str, Tensor]:
    """Return tensors of each modality, (B, n) or (B, n, d), new at `indices` (K,) of all tokens and old elsewhere."""
    before, now = (torch.cat(list(each.values()), 1) for each in (old, new))
    return dict(zip(new, before.index_copy(1, indices, now[:, indices]).chunk(len(new), 1), strict=True))
