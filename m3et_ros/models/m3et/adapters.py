"""Adapters from images, label maps and word pieces to tokens of one width (docs/papers.md 2.3, steps 1 and 2).

Symbols: B batch, C channels, S image side, p patch side, g = S/p, n = g^2 tokens, K patches, T text tokens, d width.
Adapters return bare tokens; the model adds position and modality type where the tokens of several modalities meet.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from m3et_ros.layers.mamba import no_decay
from m3et_ros.models.m3et.config import M3ETConfig


def patchify(images: Tensor, patch: int) -> Tensor:
    """Cut (B, C, S, S) into raster-ordered patches (B, n, C * p * p), channel-major within a patch."""
    B, C, height, width = images.shape
    grid = images.reshape(B, C, height // patch, patch, width // patch, patch)
    return grid.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, patch: int) -> Tensor:
    """Put raster-ordered patches (B, n, C * p * p) of a square image back together as (B, C, S, S)."""
    B, n, values = patches.shape
    side, C = int(n**0.5), values // patch**2
    return (
        patches.reshape(B, side, side, C, patch, patch)
        .permute(0, 3, 1, 4, 2, 5)
        .reshape(B, C, side * patch, side * patch)
    )


def measured_patches(depth: Tensor, patch: int) -> Tensor:
    """Return which patches of depth with validity (B, 2, S, S) hold a measured pixel, (B, n) bool."""
    return nn.functional.max_pool2d(depth[:, 1:], patch).flatten(1) > 0


def shown_pixels(images: Tensor, visible: Tensor, patch: int) -> Tensor:
    """Return images (B, C, S, S) with zeros in the patches that are not visible, (B, n) bool."""
    grid = images.shape[-1] // patch
    pixels = visible.view(-1, 1, grid, grid).repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    return torch.where(pixels, images, 0)


def sincos_2d(rows: int, columns: int, d: int) -> Tensor:
    """Return the fixed positions (rows * columns, d) of a raster-ordered grid, float32, each entry in [-1, 1].

    The first half of a vector encodes the column, the second half the row. Each half is d/4 sines and then d/4 cosines
    of wavelengths from 2 pi to 20,000 pi (MultiMAE, MAE; docs/papers.md 1 and 2.3). MAE has this order; the first half
    of MultiMAE's tells the row. Before its weights are used here, swap the halves of what reads these positions.

    Raises:
        ValueError: d is not a multiple of 4.
    """
    if d % 4:
        raise ValueError(f'd is {d}; give a multiple of 4')
    frequencies = 10000.0 ** -(torch.arange(d // 4, dtype=torch.float64) / (d // 4))
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing='ij')
    angles = torch.stack([column.flatten(), row.flatten()], 1)[..., None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(1).float()


class ImageAdapter(nn.Module):
    """One linear map per patch: (B, C, S, S) float -> (B, n, d)."""

    def __init__(self, *, channels: int, patch: int, d: int):
        super().__init__()
        self.channels, self.patch = channels, patch
        self.project = nn.Linear(channels * patch**2, d)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return tokens (B, n, d) of standardised images (B, C, S, S)."""
        return self.project(patchify(images, self.patch))


class DeepImageAdapter(nn.Module):
    """Two linear maps per patch with a GELU between, each over a quarter of its side: (B, C, S, S) float -> (B, n, d).

    The first map works on cells of p/4 pixels, where small things show. A token still depends on its own patch alone,
    so hidden patches stay hidden.
    """

    def __init__(self, *, channels: int, patch: int, d: int, width: int):
        super().__init__()
        self.cells = ImageAdapter(channels=channels, patch=patch // 4, d=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.project = nn.Linear(16 * width, d)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return tokens (B, n, d) of standardised images (B, C, S, S)."""
        cells = nn.functional.gelu(self.norm(self.cells(images)))
        side = int(cells.shape[1] ** 0.5)
        grid = cells.reshape(len(cells), side // 4, 4, side // 4, 4, cells.shape[2])
        return self.project(grid.transpose(2, 3).flatten(3).flatten(1, 2))


class ConvStem(nn.Module):
    """Convolutions of 3 x 3 and stride 2 down to one cell per patch: (B, C, S, S) float -> (B, n, d).

    Each is followed by a GELU, all but the first by a LayerNorm over channels before it, which there would cost as much
    as the convolution, and the last by a linear map. A token depends on its patch
    and on p/2 - 1 pixels before it and p/2 after it: the last convolution is padded on the other side than those before
    it, which puts a patch into the middle of what its token sees. Hidden patches have to be zeroed in the input.
    """

    def __init__(self, *, channels: int, patch: int, d: int, width: int):
        super().__init__()
        steps = patch.bit_length() - 1
        widths = [channels, *(width * 2**step for step in range(steps))]
        # For the right and lower rim of an image of even sides padding is not used.
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=int(b < widths[-1])) for a, b in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(b, eps=1e-6) for b in widths[2:])
        self.project = nn.Linear(widths[-1], d)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return tokens (B, n, d) of standardised images (B, C, S, S)."""
        # Channels last: the norms need them so, and a training step takes less time.
        x, last = images.contiguous(memory_format=torch.channels_last), len(self.convs) - 1
        for number, conv in enumerate(self.convs):
            x = conv(x if number < last else nn.functional.pad(x, (0, 1, 0, 1)))
            if number:
                x = self.norms[number - 1](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            x = nn.functional.gelu(x)
        return self.project(x.permute(0, 2, 3, 1).flatten(1, 2))


class SemsegAdapter(nn.Module):
    """Learned class embedding per pixel, then one linear map per patch: (B, s, s) int64 -> (B, n, d).

    Ids outside 0..classes-1, among them 255 for unlabelled, embed to zeros.
    """

    def __init__(self, *, classes: int, class_width: int, patch: int, d: int):
        super().__init__()
        self.embedding = nn.Embedding(classes, class_width)
        nn.init.trunc_normal_(self.embedding.weight, std=0.02)
        self.pixels = ImageAdapter(channels=class_width, patch=patch, d=d)

    def forward(self, ids: Tensor) -> Tensor:
        """Return tokens (B, n, d) of a class map (B, s, s)."""
        last = self.embedding.num_embeddings - 1
        labelled = (ids >= 0) & (ids <= last)
        embedded = self.embedding(ids.clamp(0, last)) * labelled[..., None]
        return self.pixels(embedded.permute(0, 3, 1, 2))


class TextAdapter(nn.Module):
    """Word-piece table and learned positions; the table is also the output layer of the text decoder."""

    def __init__(self, *, vocabulary: int, length: int, d: int):
        super().__init__()
        self.table = nn.Embedding(vocabulary, d)
        self.positions = no_decay(torch.randn(length, d) * 0.02)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """Return tokens (B, T, d) of word pieces (B, T) int64."""
        return self.table(ids)


def build_adapters(config: M3ETConfig) -> nn.ModuleDict:
    """Return one adapter per modality of the config."""
    build = {
        'rgb': lambda: _image_adapter(config, 'rgb', config.adapter_width),
        'depth': lambda: _image_adapter(config, 'depth', config.adapter_width // 2),
        'semseg': lambda: SemsegAdapter(
            classes=config.classes, class_width=config.class_width, patch=config.semseg_patch, d=config.d
        ),
        'text': lambda: TextAdapter(vocabulary=config.vocabulary, length=config.text_length, d=config.d),
    }
    return nn.ModuleDict({modality: build[modality]() for modality in config.modalities})


def _image_adapter(config: M3ETConfig, modality: str, width: int) -> nn.Module:
    """Build the adapter of rgb or depth; without a stem of convolutions one map, or two where width is above 0."""
    channels = config.image_channels[modality]
    if config.stem == 'conv':
        return ConvStem(channels=channels, patch=config.patch, d=config.d, width=width)
    if not width:
        return ImageAdapter(channels=channels, patch=config.patch, d=config.d)
    return DeepImageAdapter(channels=channels, patch=config.patch, d=config.d, width=width)


def check_inputs(inputs: dict[str, Tensor], config: M3ETConfig) -> None:
    """Refuse inputs that the config cannot take.

    Raises:
        ValueError: a key is unknown, no modality is present, or a shape or dtype is not the config's; the message
            names it.
    """
    unknown = sorted(set(inputs) - set(config.modalities) - {'text_mask'})
    if unknown:
        raise ValueError(f'input {unknown[0]!r} is unknown; {config.name} takes {", ".join(config.modalities)}')
    present = [m for m in config.modalities if m in inputs]
    if not present:
        raise ValueError(f'no modality is present; give at least one of {", ".join(config.modalities)}')
    S, s, batch = config.image_size, config.semseg_size, inputs[present[0]].shape[0]
    shapes = {m: (batch, channels, S, S) for m, channels in config.image_channels.items()} | {'semseg': (batch, s, s)}
    if 'text' in inputs:
        _check_text(inputs, config, batch)
    for name in set(present) & set(shapes):
        if tuple(inputs[name].shape) != shapes[name]:
            raise ValueError(f'{name} is {tuple(inputs[name].shape)}; give {shapes[name]}')
    for name in set(present) & {'semseg', 'text'}:
        if inputs[name].dtype != torch.int64:
            raise ValueError(f'{name} is {inputs[name].dtype}; give int64 ids')


def _check_text(inputs: dict[str, Tensor], config: M3ETConfig, batch: int) -> None:
    text, mask = inputs['text'], inputs.get('text_mask')
    if text.dim() != 2 or text.shape[0] != batch or not 1 <= text.shape[1] <= config.text_length:
        raise ValueError(f'text is {tuple(text.shape)}; give ({batch}, 1 to {config.text_length}) word pieces')
    if mask is not None and (mask.shape != text.shape or mask.dtype != torch.bool):
        raise ValueError(f'text_mask is {mask.dtype} {tuple(mask.shape)}; give bool {tuple(text.shape)}')


def check_pads_last(text_mask: Tensor | None) -> None:
    """Refuse words (B, T) whose pads, False in the mask, do not all stand behind the words.

    Positions count from the first column, so words behind pads would silently be read as those of another place.

    Raises:
        ValueError: a word stands behind a pad; the message names its row.
    """
    if text_mask is None:
        return
    # A compiler must not trace the comparison, a CUDA graph cannot wait for it, and meta tensors have no values.
    captured = text_mask.is_cuda and torch.cuda.is_current_stream_capturing()
    if captured or torch.compiler.is_compiling() or text_mask.is_meta:
        return
    wrong = (~text_mask[:, :-1] & text_mask[:, 1:]).any(1)
    if bool(wrong.any()):
        raise ValueError(
            f'row {int(wrong.int().argmax())} of text_mask has pads before words; put the pads behind the words, as '
            'the tokenizer does, because positions count from the first column'
        )
