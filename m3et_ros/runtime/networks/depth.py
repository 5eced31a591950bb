"""Depth networks of others: one colour image in, metres or disparity out."""

import numpy as np
import torch
from torch.nn.functional import interpolate

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import check_arrays
from m3et_ros.runtime.model_folder import ModelFolder
from m3et_ros.runtime.networks.folder import LoadedNetwork, find_network

METRIC, RELATIVE, BY_CONFIG = 'metric', 'relative', 'by config'
KINDS = {
    'DepthAnythingForDepthEstimation': BY_CONFIG,
    'PromptDepthAnythingForDepthEstimation': BY_CONFIG,
    'DPTForDepthEstimation': RELATIVE,
    'DepthProForDepthEstimation': METRIC,
    'GLPNForDepthEstimation': METRIC,
    'ZoeDepthForDepthEstimation': METRIC,
}
"""Unit of each network's output. The others of transformers are left out because theirs is not known."""


class DepthNetwork(LoadedNetwork):
    """A depth network of transformers.

    Attributes:
        metric: True where it gives metres, False where it gives disparity up to scale and shift.
    """

    def __init__(self, folder: ModelFolder, device: str = 'cpu'):
        """Load a network.

        Args:
            folder: the checked folder of one of KINDS.
            device: auto, cpu, cuda or cuda:N.

        Raises:
            InputError: as LoadedNetwork.
        """
        super().__init__(folder, device)
        self._zoe = folder.architecture == 'ZoeDepthForDepthEstimation'
        kind = KINDS[folder.architecture]
        self.metric = kind == METRIC or (
            kind == BY_CONFIG and folder.config.get('depth_estimation_type', RELATIVE) == METRIC
        )

    def predict(self, rgb: np.ndarray) -> np.ndarray:
        """Return the depth of an image.

        Args:
            rgb: (H, W, 3) uint8.

        Returns:
            (H, W) float32: metres if `metric`, else disparity, larger where nearer, without unit.

        Raises:
            ValueError: rgb is of another shape or type.
            InputError: model_not_finite: the network gives values that are not finite.
        """
        check_arrays(rgb)
        size = rgb.shape[:2]
        inputs = self._processor(images=rgb, input_data_format='channels_last', return_tensors='pt')
        with torch.inference_mode():
            outputs = self._model(pixel_values=inputs['pixel_values'].to(self.device))
            if self._zoe:
                result = _unpadded(outputs.predicted_depth, size, self._processor.do_pad)
            else:
                result = self._processor.post_process_depth_estimation(outputs, target_sizes=[size])[0][
                    'predicted_depth'
                ]
        depth = result.float().cpu().numpy().reshape(size)
        if not np.isfinite(depth).all():
            raise InputError(
                'model_not_finite', f'{self.model_id} gives depth that is not finite; take another network.'
            )
        return depth


def _unpadded(depth: torch.Tensor, size: tuple[int, int], padded: bool) -> torch.Tensor:
    """Return the depth (H, W) of an image that ZoeDepth's processor padded; its own way back needs torchvision."""
    height, width = size
    top, left = (int(np.sqrt(side / 2) * 3) if padded else 0 for side in size)
    whole = height + 2 * top, width + 2 * left
    resized = interpolate(depth[:, None].float(), whole, mode='bicubic', align_corners=False)
    return resized[0, 0, top : top + height, left : left + width]


def open_depth(name: str, device: str = 'cpu') -> DepthNetwork:
    """Open a depth network.

    Args:
        name: a folder as transformers writes it, or hf:owner/name[@revision].
        device: auto, cpu, cuda or cuda:N.

    Raises:
        InputError: there is no such network, it is damaged, of another kind, or too large.
    """
    return DepthNetwork(find_network(name, tuple(KINDS), 'depth network whose unit is known'), device)
