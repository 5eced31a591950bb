"""A frozen public video network of transformers, such as VideoMAE, that turns clips of pictures into features.

    backbone = open_backbone('hf:MCG-NJU/videomae-base')
    features = backbone.encode([clip])

Symbols: B clips, n pictures of a clip, S image side, d width.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from m3et_ros.data.checkpoints.json_files import AGAIN, read_json
from m3et_ros.data.errors import InputError
from m3et_ros.data.preprocess import RGB_MEAN, RGB_STD
from m3et_ros.runtime.devices import device_of
from m3et_ros.runtime.model_folder import find_model
from m3et_ros.runtime.networks.folder import import_transformers

KINDS = {'videomae': 'VideoMAEModel', 'timesformer': 'TimesformerModel'}
"""model_type of config.json to the class of transformers; both take the same pictures."""
PROCESSOR = 'preprocessor_config.json'


class VideoBackbone:
    """A network on its device.

    Args:
        model: the network.
        model_id: its id.
        mean, std: by which colours in 0..1 are standardised, R G B.
        device: as torch takes it.

    Attributes:
        frames: number of pictures of a clip, n.
        width: width of the features, d.
    """

    def __init__(
        self, model: nn.Module, model_id: str, mean: Sequence[float], std: Sequence[float], device: torch.device
    ):
        self.model, self.model_id, self.device = model.eval().to(device), model_id, device
        config: Any = model.config
        self.frames, self.width, self.size = int(config.num_frames), int(config.hidden_size), int(config.image_size)
        self._mean, self._std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (mean, std))

    def encode(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Return the mean (B, d) float32 over all tokens of the last layer.

        Args:
            clips: B arrays (n, H, W, 3) uint8, R G B.

        Raises:
            ValueError: a clip has another number of pictures than the network takes.
        """
        wrong = [len(clip) for clip in clips if len(clip) != self.frames]
        if wrong:
            raise ValueError(f'a clip has {wrong[0]} pictures; give {self.frames}')
        pictures = np.stack([[_square(picture, self.size) for picture in clip] for clip in clips])
        with torch.inference_mode():
            pixels = torch.from_numpy(pictures).to(self.device).permute(0, 1, 4, 2, 3).float() / 255
            tokens = self.model((pixels - self._mean) / self._std).last_hidden_state
            return tokens.mean(1).float().cpu().numpy()


def _square(picture: np.ndarray, size: int) -> np.ndarray:
    """Return the middle (S, S, 3) of a picture whose shorter side is brought to S."""
    height, width = picture.shape[:2]
    scale = size / min(height, width)
    shape = max(size, round(width * scale)), max(size, round(height * scale))
    resized = cv2.resize(picture, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (shape[1] - size) // 2, (shape[0] - size) // 2
    return resized[top : top + size, left : left + size]


def open_backbone(name: str, *, device: str = 'cpu') -> VideoBackbone:
    """Open a network.

    Args:
        name: a folder as save_pretrained of transformers writes it, or hf:owner/name[@revision].
        device: cpu, cuda, cuda:N or auto.

    Raises:
        InputError: network_packages where transformers is missing; model_config where the network is of another kind;
            model_tensor where weights are missing; as find_model and device_of.
    """
    folder = find_model(name, _check_kind, torch.float32)
    place = device_of(device)
    folder.check_memory(torch.float32, place)
    kind = getattr(import_transformers(), KINDS[folder.config['model_type']])
    try:
        model, found = kind.from_pretrained(
            folder.path, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except (ImportError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError('model_config', f'{name} cannot be built by transformers ({error}); {AGAIN}.') from error
    if found['missing_keys']:
        raise InputError(
            'model_tensor',
            f'{name} lacks {sorted(found["missing_keys"])[0]} of {KINDS[folder.config["model_type"]]}; '
            'give a folder with all weights of the encoder.',
        )
    return VideoBackbone(model, folder.model_id, *_colours(folder.path), place)


def _colours(folder: Path) -> tuple[list[float], list[float]]:
    """Return mean and deviation of the colours that a network takes; those of ImageNet where its folder names none.

    Raises:
        InputError: model_config where they are not three numbers each.
    """
    processor = read_json(folder / PROCESSOR) if (folder / PROCESSOR).is_file() else {}
    mean, std = (list(processor.get(key, values)) for key, values in (('image_mean', RGB_MEAN), ('image_std', RGB_STD)))
    if [len(mean), len(std)] != [3, 3] or not all(isinstance(v, (int, float, np.floating)) for v in mean + std):
        raise InputError('model_config', f'{folder / PROCESSOR} has image_mean {mean} and image_std {std}; {AGAIN}.')
    return [float(value) for value in mean], [float(value) for value in std]


def _check_kind(name: str, config: dict[str, Any]) -> None:
    """Refuse a network that takes no clips of this kind."""
    if config.get('model_type') not in KINDS:
        raise InputError(
            'model_config',
            f'{name} is a {str(config.get("model_type"))[:40]!r}, which cannot be used here; give one of '
            f'{", ".join(KINDS)}.',
        )
