"""The model cut into graphs of fixed shapes for one frame, and the way back from their tensors to encodings.

    encode_images  images -> a whole HeldEncoding, and the global token after it without text
    encode_part    images, ids of some patches and what is held of an earlier frame -> the same with these patches anew;
                   one graph for each number of patches, where tokens are adaptive (runtime.adaptive)
    encode_text    states of the images, what the words read of them, ids and mask -> what follows the images with text;
                   one graph for an instruction, another for the guides of models.actions.frame_token
    depth, semseg  encoder output and the task's own tokens -> a dense prediction

The shapes follow from the modalities of the frame and from whether it has text; nothing else is dynamic.

Symbols: Q texts of length T, I image tokens, K of them encoded anew, L tokens of the encoder, d width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.layers.hybrid import LayerState, Pass
from m3et_ros.layers.kv_cache import AttentionState
from m3et_ros.models.m3et.config import MODALITIES, M3ETConfig
from m3et_ros.models.m3et.encoding import GLOBAL, TEXT, Encoded, HeldEncoding, ImageEncoding
from m3et_ros.models.m3et.model import M3ET

DENSE = ('depth', 'semseg')
"""Dense tasks that a robot asks of a frame."""
PARTS = 8, 4, 2
"""Graphs of adaptive tokens encode a frame's tokens divided by so many, rounded up."""


@dataclass(frozen=True)
class TextlessImageEncoding(ImageEncoding):
    """An ImageEncoding that already holds the outputs of the global token where no text follows the images."""

    # Outputs of the stages, each (1, 1, d).
    global_stages: tuple[Tensor, ...] = field(default=(), repr=False)
    # Encoded.places and look there.
    global_places: Tensor | None = field(default=None, repr=False)
    global_look: Tensor | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Graph:
    """One piece of the model, ready to be built."""

    # 'encode_images', part_kind, text_kind or a task of DENSE.
    kind: str
    # Image modalities of the frame.
    modalities: tuple[str, ...]
    # True if text follows the images.
    with_text: bool
    # The piece itself.
    module: nn.Module
    # Examples of its inputs.
    inputs: tuple[Tensor, ...]

    @property
    def key(self) -> tuple[str, tuple[str, ...], bool]:
        """Return the key under which its runner is looked up."""
        return self.kind, self.modalities, self.with_text

    @property
    def name(self) -> str:
        """Return the name under which its artefacts are stored."""
        parts = [self.kind, *self.modalities]
        if self.with_text:
            parts.append('text')
        return '-'.join(parts)


class ImageGraph(nn.Module):
    """Images in the order of `modalities` -> flat_encoding; stages, places and look of the global token alone; scans.

    With images are given, for a part, ids (K,) int64 and flat_held of the frame before. Scans are those of flat_scans.
    """

    def __init__(self, model: M3ET, modalities: tuple[str, ...], dtype: torch.dtype):
        super().__init__()
        self.model, self.modalities, self.dtype = model, modalities, dtype

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return float32 tensors."""
        config, count = self.model.config, len(self.modalities)
        images = {m: image.to(self.dtype) for m, image in zip(self.modalities, inputs[:count], strict=True)}
        if len(inputs) == count:
            held = self.model.encode_changed(images)
        else:
            ids, *rest = inputs[count:]
            before = unflat_held([t.to(self.dtype) for t in rest], config, self.modalities)
            held = self.model.encode_changed(images, ids, before)
        alone = self.model.encode_text(held.image_encoding)
        flat = (*flat_encoding(held.image_encoding, config), *alone.stages, alone.places, alone.look)
        return tuple(t.float() for t in (*flat, *flat_scans(held, config)) if t is not None)


def part_kind(count: int) -> str:
    """Return the kind of the graph that encodes `count` patches anew."""
    return f'encode_part_{count}'


def text_kind(text: Tensor) -> str:
    """Return the kind of the graph that encodes words (Q, T) after images."""
    return f'encode_text_{len(text)}x{text.shape[1]}'


class TextGraph(nn.Module):
    """The tensors of text_inputs -> stages (Q, T + 1, d), places, look, and which tokens are valid, (Q, T + 1) float.

    Places and look are there where the config has them.
    """

    def __init__(self, model: M3ET, modalities: tuple[str, ...], dtype: torch.dtype):
        super().__init__()
        self.model, self.modalities, self.dtype = model, modalities, dtype

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return float32 tensors."""
        *states, ids, mask = inputs
        config = self.model.config
        source, position_ids = image_sources(config, self.modalities, states[0].device)
        colours = states.pop().to(self.dtype) if config.look_parts else None
        stages = [states.pop().to(self.dtype)] if config.look_parts else []
        places = states.pop() if config.places else None
        before = restored_states([t.to(self.dtype) for t in states], config)
        image_encoding = ImageEncoding(stages, before, source, None, {}, {}, position_ids, places, colours)
        encoded = self.model.encode_text(image_encoding, ids, mask)
        flat = (*encoded.stages, encoded.places, encoded.look, encoded.valid)
        return tuple(t.float() for t in flat if t is not None)


def text_inputs(images: ImageEncoding, ids: Tensor, mask: Tensor) -> list[Tensor]:
    """Return the inputs of a TextGraph, in order.

    These are flat_states; the places of the image tokens where words read them; the encoder's outputs and the colours
    where answers read them; ids (Q, T) int64 and mask (Q, T) bool.
    """
    inputs = flat_states(images.states)
    if images.places is not None:
        inputs.append(images.places)
    if images.colours is not None:
        inputs += [images.stages[-1], images.colours]
    return [*inputs, ids, mask]


class DecodeGraph(nn.Module):
    """The tensors of decoder_inputs -> pixels."""

    def __init__(self, model: M3ET, task: str, modalities: tuple[str, ...], with_text: bool, dtype: torch.dtype):
        super().__init__()
        self.model, self.task, self.modalities, self.with_text, self.dtype = model, task, modalities, with_text, dtype

    def forward(self, context: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """Return one float32 tensor, as M3ET.decode gives it."""
        rest, config, device = list(others), self.model.config, context.device
        tokens = {self.task: rest.pop(0).to(self.dtype)} if self.task in self.modalities else {}
        visible = {m: torch.ones(t.shape[:2], dtype=torch.bool, device=t.device) for m, t in tokens.items()}
        if config.depth_validity and 'depth' in tokens:
            visible['depth'] = rest.pop(0) > 0
        images, position_ids = image_sources(config, self.modalities, device)
        source, position_ids, valid = [images], F.pad(position_ids, (0, 1)), None
        if self.with_text:
            source.append(torch.full((1, config.text_length), TEXT, device=device))
            valid = rest.pop(0) > 0
            if config.context_positions:
                position_ids = rest.pop(0)
        source.append(torch.full((1, 1), GLOBAL, device=device))
        encoded = Encoded([context.to(self.dtype)], torch.cat(source, 1), valid, tokens, visible, position_ids)
        return (self.model.decode(encoded, self.task).float(),)


def decoder_inputs(encoded: Encoded, task: str, config: M3ETConfig) -> list[Tensor]:
    """Return the inputs of a DecodeGraph, in order.

    These are the context (1, L, d); the task's own tokens (1, n, d), if the frame has that modality; for depth with
    its validity which of them are visible, (1, n) float; with text which tokens of the context are valid, (1, L)
    float, and for a decoder that adds positions their positions, (1, L) int64.
    """
    inputs = [encoded.context]
    if task in encoded.tokens:
        inputs.append(encoded.tokens[task])
        if task == 'depth' and config.depth_validity:
            inputs.append(encoded.visible[task].float())
    if encoded.valid is not None:
        inputs.append(encoded.valid.float())
        if config.context_positions:
            inputs.append(encoded.position_ids)
    return inputs


def image_sources(config: M3ETConfig, modalities: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the index in MODALITIES and the raster position of each image token, both (1, I) int64."""
    n = config.image_tokens
    source = torch.cat([torch.full((1, n), MODALITIES.index(m), device=device) for m in modalities], 1)
    return source, torch.arange(n, device=device).repeat(len(modalities))[None]


def flat_states(states: Sequence[LayerState]) -> list[Tensor]:
    """Return keys and values of T layers and the states of the others, in order."""
    return [t for state in states for t in ((state.k, state.v) if isinstance(state, AttentionState) else (state,))]


def restored_states(flat: Sequence[Tensor], config: M3ETConfig) -> list[LayerState]:
    """Return the states from the tensors of flat_states."""
    rest = iter(flat)
    return [AttentionState(next(rest), next(rest), None) if letter == 'T' else next(rest) for letter in config.schedule]


def flat_encoding(image_encoding: ImageEncoding, config: M3ETConfig) -> list[Tensor]:
    """Return stages, states and tokens of an encoding in which nothing is hidden.

    Of depth with its validity also which tokens are visible, because those without a measured pixel are not. Places and
    colours where the config has them.
    """
    flat = [*image_encoding.stages, *flat_states(image_encoding.states), *image_encoding.tokens.values()]
    if config.depth_validity and 'depth' in image_encoding.visible:
        flat.append(image_encoding.visible['depth'].float())
    return flat + [part for part in (image_encoding.places, image_encoding.colours) if part is not None]


def flat_scans(held: HeldEncoding, config: M3ETConfig) -> list[Tensor]:
    """Return the caches of the layers that scan, in order; those of T layers are their states."""
    caches = zip(config.schedule, held.encoder_pass.caches, strict=True)
    return [cache for letter, cache in caches if letter != 'T' and isinstance(cache, Tensor)]


def flat_held(held: HeldEncoding, config: M3ETConfig) -> list[Tensor]:
    """Return what the next frame needs of a held encoding: outputs, caches, and what decoders ask of some patches.

    These are the bare tokens of each modality, unless decoders ask with the outputs, and of depth with its validity
    which tokens are visible, (1, n) float.
    """
    image_encoding = held.image_encoding
    flat = [*held.encoder_pass.outputs, *flat_states(held.encoder_pass.caches)]
    if config.decoder_queries != 'encoded':
        flat += image_encoding.tokens.values()
    if config.depth_validity and 'depth' in image_encoding.visible:
        flat.append(image_encoding.visible['depth'].float())
    return flat


def unflat_held(flat: Sequence[Tensor], config: M3ETConfig, modalities: Sequence[str]) -> HeldEncoding:
    """Return a held encoding from the tensors of flat_held; its image encoding has tokens and visible alone."""
    rest = list(flat)
    outputs = [rest.pop(0) for _ in range(config.stages)]
    caches = restored_states(rest, config)
    del rest[: len(flat_states(caches))]
    queries = outputs[-1].chunk(len(modalities), 1)
    if config.decoder_queries != 'encoded':
        queries = tuple(rest.pop(0) for _ in modalities)
    tokens = dict(zip(modalities, queries, strict=True))
    visible = {m: torch.ones(t.shape[:2], dtype=torch.bool, device=t.device) for m, t in tokens.items()}
    if config.depth_validity and 'depth' in tokens:
        visible['depth'] = rest.pop(0) > 0
    source, position_ids = image_sources(config, modalities, outputs[-1].device)
    image_encoding = ImageEncoding(outputs, [], source, None, tokens, visible, position_ids)
    return HeldEncoding(image_encoding, Pass(outputs, [], caches))


def restored_held(flat: Sequence[Tensor], config: M3ETConfig, modalities: Sequence[str]) -> HeldEncoding:
    """Return the held encoding from the outputs of an ImageGraph; its image encoding is a TextlessImageEncoding."""
    last = len(flat) - len(config.schedule) + sum(letter == 'T' for letter in config.schedule)
    image_encoding, scans = restored_encoding(flat[:last], config, modalities), iter(flat[last:])
    states = image_encoding.states
    caches = [state if isinstance(state, AttentionState) else next(scans) for state in states]
    return HeldEncoding(image_encoding, Pass(image_encoding.stages, states, caches))


def restored_encoding(flat: Sequence[Tensor], config: M3ETConfig, modalities: Sequence[str]) -> TextlessImageEncoding:
    """Return the encoding from the outputs of an ImageGraph before the scans."""
    rest = iter(flat)

    def take(count: int) -> list[Tensor]:
        return [next(rest) for _ in range(count)]

    stages = take(config.stages)
    states = restored_states(take(sum(2 if letter == 'T' else 1 for letter in config.schedule)), config)
    tokens = dict(zip(modalities, take(len(modalities)), strict=True))
    visible = {m: torch.ones(t.shape[:2], dtype=torch.bool, device=t.device) for m, t in tokens.items()}
    if config.depth_validity and 'depth' in tokens:
        visible['depth'] = next(rest) > 0
    source, position_ids = image_sources(config, modalities, flat[0].device)
    places = next(rest) if config.places else None
    colours = next(rest) if config.look_parts else None
    return TextlessImageEncoding(
        stages,
        states,
        source,
        None,
        tokens,
        visible,
        position_ids,
        places,
        colours,
        global_stages=tuple(take(config.stages)),
        global_places=next(rest) if config.places else None,
        global_look=next(rest) if config.look_parts else None,
    )


def graphs(
    model: M3ET,
    dtype: torch.dtype,
    modality_sets: Sequence[tuple[str, ...]],
    device: str,
    guides: tuple[int, int] | None = None,
    adaptive: bool = False,
) -> Iterator[Graph]:
    """Yield every graph of a model for frames of those modalities; example inputs are float32, on `device`.

    Args:
        model: in `dtype`, on `device`.
        dtype: data type of its weights.
        modality_sets: sets of image modalities.
        device: 'cpu' or 'cuda'.
        guides: number and length of the texts of every frame, beside its instruction; None = there are none.
        adaptive: tokens are adaptive, so that parts of a frame are encoded.
    """
    config = model.config
    size, shapes = config.image_size, [(1, config.text_length)] + ([] if guides is None else [guides])
    texts = [torch.ones(shape, dtype=torch.int64, device=device) for shape in shapes]
    for modalities in modality_sets:
        images = tuple(torch.zeros(1, config.image_channels[m], size, size, device=device) for m in modalities)
        image_graph = ImageGraph(model, modalities, dtype).eval()
        with torch.no_grad():
            held = restored_held(image_graph(*images), config, modalities)
        encoding = held.image_encoding
        yield Graph('encode_images', modalities, False, image_graph, images)
        count = encoding.source.shape[1]
        # A small model has fewer patches than parts, and one graph serves several of them.
        for part in dict.fromkeys(-(-count // parts) for parts in PARTS) if adaptive else ():
            ids = torch.arange(part, device=device)
            yield Graph(part_kind(part), modalities, False, image_graph, (*images, ids, *flat_held(held, config)))
        text_graph = TextGraph(model, modalities, dtype).eval()
        for ids in texts:
            inputs = tuple(text_inputs(encoding, ids, ids.bool()))
            yield Graph(text_kind(ids), modalities, True, text_graph, inputs)
        for task in DENSE:
            if task not in config.tasks:
                continue
            for with_text in (False, True):
                count = encoding.source.shape[1] + 1
                if with_text:
                    count += config.text_length
                context = torch.zeros(1, count, config.d, device=device)
                places = torch.zeros(1, count, dtype=torch.int64, device=device)
                valid = torch.ones(1, count, device=device) if with_text else None
                encoded = Encoded([context], places, valid, encoding.tokens, encoding.visible, places)
                decoder = DecodeGraph(model, task, modalities, with_text, dtype).eval()
                yield Graph(task, modalities, with_text, decoder, tuple(decoder_inputs(encoded, task, config)))
