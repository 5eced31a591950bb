"""DINOv2 and SigLIP, the image encoders of ML-Mamba, EMMA and Cobra: read, run, and stored beside a model.

    FOLDER/dinov2, FOLDER/siglip   Dinov2WithRegistersModel and SiglipVisionModel as `transformers` saves them

Symbols: B images, S their side in pixels, n = rows * cols visual tokens, d_vision = d_dino + d_siglip.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.data.checkpoints.json_files import CONFIG, read_json
from m3et_ros.data.checkpoints.safetensor_files import ONE, SHARDS
from m3et_ros.data.errors import InputError
from m3et_ros.data.preprocess import RGB_MEAN, RGB_STD, bicubic_square
from m3et_ros.models.vlm.dino_siglip import SIZE, DinoSiglipTower

PAIR = 'dinov2+siglip'
"""Both encoders in a model id: dinov2+siglip@first 8 digits of the SHA-256 of the weights."""
ENCODERS = {'dinov2': 'dinov2_with_registers', 'siglip': 'siglip_vision_model'}
"""Folder of each image encoder, and its model_type."""
LIMITS = {'hidden_size': 8192, 'intermediate_size': 65536, 'num_hidden_layers': 128, 'image_size': 4096}
UNUSED = re.compile(r'(?:vision_model\.)?head\..+|.*mask_token|.*position_ids')
"""Tensors of the encoders that no visual token comes from."""


@dataclass(frozen=True)
class ImageEncoders:
    """Both encoders in float32, which never learn."""

    tower: DinoSiglipTower
    # PAIR@first 8 digits of the SHA-256 of the weights that are used.
    model_id: str

    @property
    def width(self) -> int:
        """Width d_vision of the visual tokens."""
        return self.tower.dino.config.hidden_size + self.tower.siglip.config.hidden_size

    def encode(self, images: Sequence[np.ndarray], *, rows: int, cols: int) -> Tensor:
        """Return visual tokens (B, rows * cols, d_vision) in raster order, averaged over areas of the patches.

        Args:
            images: B images (H, W, 3) uint8, R G B.
            rows: number of rows of the grid.
            cols: number of columns of the grid.

        Raises:
            ValueError: a finer grid than that of the patches.
        """
        side = self.tower.side
        if max(rows, cols) > side:
            raise ValueError(f'the grid is {rows} x {cols} and the image encoders have {side} x {side} patches')
        patches = encode_images(self.tower, images).transpose(1, 2).unflatten(2, (side, side))
        return F.adaptive_avg_pool2d(patches, (rows, cols)).flatten(2).transpose(1, 2)


class SiglipPatches(nn.Module):
    """SigLIP's patch embedding without positions, the target of EMMA's alignment (docs/papers.md 5)."""

    mean: Tensor
    std: Tensor

    def __init__(self, siglip: Any):
        super().__init__()
        self.embedding = siglip.get_input_embeddings()
        self.register_buffer('mean', torch.from_numpy(RGB_MEAN)[:, None, None], persistent=False)
        self.register_buffer('std', torch.from_numpy(RGB_STD)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings (B, n, d_siglip) of images (B, 3, height, width), standardised as for M3ET."""
        pixels = (images * self.std + self.mean - 0.5) / 0.5
        return self.embedding(pixels).flatten(2).transpose(1, 2)


def encode_images(tower: DinoSiglipTower, images: Sequence[np.ndarray]) -> Tensor:
    """Return the visual tokens (B, n, d_vision) of images (H, W, 3) uint8, in the data type of the encoders."""
    weight = next(tower.parameters())

    def pixels(**standard: Any) -> Tensor:
        squares = np.stack([bicubic_square(image, SIZE, **standard) for image in images])
        return torch.from_numpy(squares).to(weight.device, weight.dtype)

    return tower(pixels(mean=RGB_MEAN, std=RGB_STD), pixels())


def read_encoders(dinov2: str | Path, siglip: str | Path) -> ImageEncoders:
    """Read both encoders, each from a folder that `transformers` saved.

    Raises:
        InputError: model_missing (a file or `transformers`), model_truncated, model_tensor, model_config (another kind
            of model, or patches of two sizes).
    """
    tower = read_tower(Path(dinov2), Path(siglip)).float()
    digest = hashlib.sha256()
    for encoder in (tower.dino, tower.siglip):
        for name, tensor in sorted(encoder.state_dict().items()):
            if not UNUSED.fullmatch(name):
                digest.update(name.encode())
                digest.update(tensor.contiguous().numpy().data)
    return ImageEncoders(tower, f'{PAIR}@{digest.hexdigest()[:8]}')


def save_encoders(folder: str | Path, encoders: ImageEncoders) -> None:
    """Write both encoders into the folder of a model."""
    for name, encoder in zip(ENCODERS, (encoders.tower.dino, encoders.tower.siglip), strict=True):
        encoder.save_pretrained(Path(folder) / name)


def read_tower(dinov2: Path, siglip: Path) -> DinoSiglipTower:
    """Read both encoders in their stored data types; see read_encoders."""
    dino, other = (_read(folder, kind) for folder, kind in zip((dinov2, siglip), ENCODERS.values(), strict=True))
    try:
        return DinoSiglipTower(dino, other).eval().requires_grad_(False)
    except ValueError as error:
        raise InputError('model_config', f'The image encoders {dinov2} and {siglip} are refused: {error}.') from error


def check_encoder_kind(name: str, values: Mapping[str, Any], kind: str) -> None:
    """Refuse a config.json of another kind than one of ENCODERS, or with sizes out of range.

    Raises:
        InputError: model_config.
    """
    vision = values.get('vision_config', values) if kind.startswith('siglip') else values
    if not isinstance(vision, dict) or vision.get('model_type', kind) != kind:
        raise InputError('model_config', f'{name} is of another model; give a {kind}.')
    for field, most in LIMITS.items():
        value = vision.get(field, 1)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise InputError('model_config', f'{name} has {field} {value!r}; give 1 to {most}.')


def _read(folder: Path, kind: str) -> Any:
    """Read an image encoder; every tensor that is used has to be there."""
    check_encoder_kind(str(folder / CONFIG), read_json(folder / CONFIG), kind)
    if not ((folder / ONE).is_file() or (folder / SHARDS).is_file()):
        raise InputError('model_missing', f'There is no {folder / ONE}; save the encoder as safetensors.')
    try:
        from transformers import Dinov2WithRegistersModel, SiglipVisionModel
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise InputError(
            'model_missing', f'The image encoders need transformers ({error}); pip install "m3et_ros[vlm]".'
        ) from error
    disable_progress_bar()
    made: Any = SiglipVisionModel if kind.startswith('siglip') else Dinov2WithRegistersModel
    try:
        model, report = made.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = ' '.join(str(error).split())[:300]
        raise InputError('model_truncated', f'{folder} cannot be read ({reason}); copy the encoder again.') from error
    lost = sorted(name for name in report['missing_keys'] if not UNUSED.fullmatch(name))
    if lost:
        raise InputError('model_tensor', f'{folder} has no tensor {lost[0]}; copy the encoder again.')
    return model
