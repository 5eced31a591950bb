"""Where the model is cut into graphs of fixed shapes, one frame at a time, and how their tensors become objects again.

    see      images -> all of a Sight, and the global token heard after it without words
    listen   what words go on from, and words -> what is heard
    decode   encoder output and own tokens -> a dense prediction

Shapes follow from the modalities that are there and from whether something is said; nothing else is dynamic.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor, nn

from m3et_ros.layers.hybrid import LayerState
from m3et_ros.layers.kv_cache import AttentionState
from m3et_ros.models.m3et.config import MODALITIES, M3ETConfig
from m3et_ros.models.m3et.encoding import GLOBAL, TEXT, Encoded, ImageEncoding
from m3et_ros.models.m3et.model import M3ET

DENSE = ('depth', 'semseg')
"""What a robot asks of a frame."""


@dataclass(frozen=True)
class SilentImageEncoding(ImageEncoding):
    """A Sight that already knows what the global token hears after it when nothing is said."""

    # Outputs of the stages, each (1, 1, d).
    silence: tuple[Tensor, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Graph:
    """One piece of the model, ready to be built."""

    # 'see', 'listen' or a task.
    kind: str
    # Image modalities of the frame.
    modalities: tuple[str, ...]
    # Whether something is said.
    words: bool
    # The piece itself.
    module: nn.Module
    # Examples of its inputs.
    inputs: tuple[Tensor, ...]

    @property
    def key(self) -> tuple[str, tuple[str, ...], bool]:
        """By which it is found."""
        return self.kind, self.modalities, self.words

    @property
    def name(self) -> str:
        """By which its artefacts are kept."""
        return '-'.join((self.kind, *self.modalities, *(('words',) if self.words else ())))


class ImageGraph(nn.Module):
    """Images in the order of `modalities` -> flat_sight, and the stages of the silent global token."""

    def __init__(self, model: M3ET, modalities: tuple[str, ...], dtype: torch.dtype):
        super().__init__()
        self.model, self.modalities, self.dtype = model, modalities, dtype

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """All float32."""
        sight = self.model.encode_images(
            {m: image.to(self.dtype) for m, image in zip(self.modalities, images, strict=True)}
        )
        heard = self.model.encode_text(sight)
        return tuple(t.float() for t in (*flat_sight(sight), *heard.stages))


class Listen(nn.Module):
    """flat_states, ids (1, T) and mask (1, T) -> the stages (1, T + 1, d) and which tokens count, (1, T + 1) float."""

    def __init__(self, model: M3ET, modalities: tuple[str, ...], dtype: torch.dtype):
        super().__init__()
        self.model, self.modalities, self.dtype = model, modalities, dtype

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """All float32."""
        *states, ids, mask = inputs
        config = self.model.config
        source = sources_of(config, self.modalities, states[0].device)
        sight = ImageEncoding([], restored_states([t.to(self.dtype) for t in states], config), source, None, {}, {})
        heard = self.model.encode_text(sight, ids, mask)
        return (*(t.float() for t in heard.stages), heard.valid.float())


class Decode(nn.Module):
    """Context (1, L, d), own bare tokens where there are any, (1, L) float of what counts where words are -> pixels."""

    def __init__(self, model: M3ET, task: str, modalities: tuple[str, ...], words: bool, dtype: torch.dtype):
        super().__init__()
        self.model, self.task, self.modalities, self.words, self.dtype = model, task, modalities, words, dtype

    def forward(self, context: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """One float32 tensor, as M3ET.decode gives it."""
        others, config = list(others), self.model.config
        tokens = {self.task: others.pop(0).to(self.dtype)} if self.task in self.modalities else {}
        source = sources_of(config, self.modalities, context.device, config.text_length if self.words else 0, True)
        valid = others.pop(0) > 0 if self.words else None
        visible = {m: torch.ones(t.shape[:2], dtype=torch.bool, device=t.device) for m, t in tokens.items()}
        encoded = Encoded([context.to(self.dtype)], source, valid, tokens, visible)
        return (self.model.decode(encoded, self.task).float(),)


def sources_of(
    config: M3ETConfig, modalities: tuple[str, ...], device: torch.device, words: int = 0, last: bool = False
) -> Tensor:
    """Sources of all tokens of a frame, of so many words and, where asked for, of the global token: (1, L) int64."""
    parts = [torch.full((1, config.image_tokens), MODALITIES.index(m), device=device) for m in modalities]
    parts += [torch.full((1, words), TEXT, device=device)] * (words > 0)
    parts += [torch.full((1, 1), GLOBAL, device=device)] * last
    return torch.cat(parts, 1)


def flat_states(states: list[LayerState]) -> list[Tensor]:
    """Keys and values of T layers, states of the others."""
    return [t for state in states for t in ((state.k, state.v) if isinstance(state, AttentionState) else (state,))]


def restored_states(flat: list[Tensor], config: M3ETConfig) -> list[LayerState]:
    """What flat_states made flat."""
    rest = iter(flat)
    return [AttentionState(next(rest), next(rest), None) if letter == 'T' else next(rest) for letter in config.schedule]


def flat_sight(sight: ImageEncoding) -> list[Tensor]:
    """Stages, states and tokens of a Sight of which everything is seen."""
    return [*sight.stages, *flat_states(sight.states), *sight.tokens.values()]


def restored_sight(flat: list[Tensor], config: M3ETConfig, modalities: tuple[str, ...]) -> SilentImageEncoding:
    """The Sight of a See graph's outputs."""
    rest = iter(flat)

    def take(count: int) -> list[Tensor]:
        return [next(rest) for _ in range(count)]

    stages = take(config.stages)
    states = restored_states(take(sum(2 if letter == 'T' else 1 for letter in config.schedule)), config)
    tokens = dict(zip(modalities, take(len(modalities)), strict=True))
    visible = {m: torch.ones(t.shape[:2], dtype=torch.bool, device=t.device) for m, t in tokens.items()}
    return SilentImageEncoding(
        stages,
        states,
        sources_of(config, modalities, flat[0].device),
        None,
        tokens,
        visible,
        tuple(take(config.stages)),
    )


def graphs(model: M3ET, dtype: torch.dtype, plan: tuple[tuple[str, ...], ...], device: str) -> Iterator[Graph]:
    """Every graph of a model for frames of those modalities; example inputs are on `device`, in float32.

    Args:
        model: in `dtype`, on `device`.
        dtype: of its weights.
        plan: sets of image modalities.
        device: 'cpu' or 'cuda'.
    """
    config = model.config
    size, ids = config.image_size, torch.ones(1, config.text_length, dtype=torch.int64, device=device)
    for modalities in plan:
        images = tuple(torch.zeros(1, 3 if m == 'rgb' else 1, size, size, device=device) for m in modalities)
        see = ImageGraph(model, modalities, dtype).eval()
        with torch.no_grad():
            sight = restored_sight(list(see(*images)), config, modalities)
        yield Graph('see', modalities, False, see, images)
        yield Graph(
            'listen',
            modalities,
            True,
            Listen(model, modalities, dtype).eval(),
            (*flat_states(sight.states), ids, ids.bool()),
        )
        for task, words in product(DENSE, (False, True)):
            if task not in config.tasks:
                continue
            tokens = sight.source.shape[1] + 1 + words * config.text_length
            own = (sight.tokens[task],) if task in modalities else ()
            valid = (torch.ones(1, tokens, device=device),) if words else ()
            context = torch.zeros(1, tokens, config.d, device=device)
            yield Graph(
                task, modalities, words, Decode(model, task, modalities, words, dtype).eval(), (context, *own, *valid)
            )
