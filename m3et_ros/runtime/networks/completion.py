"""Completed depth of a stream by a depth network: aligned to the sensor, and joined to it as depth_fill says.

Measured pixels stay. Symbols: H, W camera height and width; S side of the square image in which depth is weighed.
"""

import cv2
import numpy as np

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.preprocess import squeeze_depth
from m3et_ros.runtime.depth_completion import DepthCompletion
from m3et_ros.runtime.networks.alignment import FARTHEST_M, align_depth
from m3et_ros.runtime.networks.depth import DepthNetwork
from m3et_ros.runtime.view import View

SIDE = 256
"""S: about the resolution of the networks themselves, which give 24 to 37 patches a side."""


class NetworkCompletion:
    """Completes depth frame by frame; `auto` weighs the network against the smooth surface as it weighs M3ET.

    Attributes:
        problem: the reason why the network gave no metres for the last frame; None where it did, or was not needed.
    """

    def __init__(self, network: DepthNetwork):
        """Start without memory."""
        self._network = network
        self._completion = DepthCompletion(self._metres, size=SIDE, trained=True, from_depth=True)
        self.problem: InputError | None = None
        # The prediction for the present frame (S, S), and where it is too far to be known.
        self._predicted: np.ndarray | None = None
        self._far: np.ndarray | None = None

    @property
    def described(self) -> str:
        """The last choice in words, for diagnostics."""
        return self._completion.described if self.problem is None else f'no prediction ({self.problem.reason})'

    def complete(self, frame: Frame, fill: str) -> np.ndarray | None:
        """Return completed depth.

        Args:
            frame: colour, with measured depth where there is any.
            fill: one of depth_fill.FILLS, as DepthCompletion.complete takes it.

        Returns:
            (H, W) float32 metres, NaN where nothing is known; None where nothing is known at all because the network
            gives no metres.

        Raises:
            ValueError: `fill` is none of FILLS.
            InputError: model_not_finite.
        """
        self.problem = self._predicted = self._far = None
        depth = self._completion.complete(View(frame, {}, None), fill)
        measured = frame.depth is not None and bool(np.isfinite(frame.depth).any())
        if self.problem is not None and not measured:
            return None
        if self._far is not None and self._far.any():
            far = cv2.resize(self._far.astype(np.uint8), depth.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
            depth[far & ~np.isfinite(frame.depth)] = np.nan
        return depth

    def _metres(self, view: View, given: np.ndarray | None) -> np.ndarray | None:
        """Predict (S, S) metres, aligned to `given` or, without it, to the depth of the frame; None if that fails."""
        frame = view.frame
        if self._predicted is None:
            self._predicted = cv2.resize(self._network.predict(frame.rgb), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        if given is None and frame.depth is not None and np.isfinite(frame.depth).any():
            given = squeeze_depth(frame.depth, SIDE)
        if given is None:
            if self._network.metric:
                return self._predicted
            self.problem = InputError(
                'depth_relative',
                f'{self._network.model_id} gives relative depth and no depth is measured, so nothing is published; '
                'give a metric network, or a depth camera.',
            )
            return None
        try:
            aligned = align_depth(self._predicted, given, self._network.metric)
        except InputError as error:
            self.problem = error
            return None
        self._far = np.isnan(aligned)
        return np.where(self._far, np.float32(FARTHEST_M), aligned)
