"""Completed depth of a stream of frames: measured pixels stay, holes are filled as the mode asks.

Symbols: H, W camera height and width; S side of the model's square image.
"""

from collections.abc import Callable

import numpy as np

from m3et_ros.data.depth_fill import FILLS, FillBlend, carry, enlarged, halved_depth, join, smooth
from m3et_ros.data.preprocess import squeeze_depth
from m3et_ros.runtime.view import View

Predict = Callable[[View, np.ndarray | None], np.ndarray | None]
"""Depth (S, S) in metres of a view, given measured depth with further pixels hidden, or None for the view's own.

It returns None where the model has no finite depth in metres to give."""


class DepthCompletion:
    """Fills holes frame by frame; the memory of `auto` lasts from frame to frame.

    Attributes:
        described: the last choice in words, for diagnostics.
    """

    def __init__(self, predict: Predict, *, size: int, trained: bool, from_depth: bool):
        """Start without memory.

        Args:
            predict: the model.
            size: S.
            trained: the weights are trained; `auto` never uses untrained ones.
            from_depth: the prediction depends on the measured depth, so a check has to predict again.
        """
        self._predict, self._size, self._trained, self._from_depth = predict, size, trained, from_depth
        self.reset()

    def reset(self) -> None:
        """Forget the checks of earlier frames."""
        self._blend = FillBlend()
        self.described = 'nothing filled yet'

    def complete(self, view: View, fill: str) -> np.ndarray:
        """Return completed depth.

        Args:
            view: an encoded frame.
            fill: one of depth_fill.FILLS: 'never' returns measured depth alone; 'smooth' fills without the model;
                'always' takes the model's prediction, joined to the measured depth; 'auto' the blend of both that
                errs least on measured pixels hidden for comparison, and with untrained weights 'smooth'.

        Returns:
            (H, W) float32 metres, NaN where nothing is known (REP 117, 118).

        Raises:
            ValueError: `fill` is none of FILLS.
        """
        if fill not in FILLS:
            raise ValueError(f'fill is {fill!r}; give {", ".join(FILLS)}')
        measured, shape = view.frame.depth, view.frame.rgb.shape[:2]
        known = np.isfinite(measured) if measured is not None else np.zeros(shape, bool)
        if fill == 'never' or known.all():
            self.described = f'{fill}: {"measured depth alone" if fill == "never" else "no holes"}'
            return np.full(shape, np.nan, np.float32) if measured is None else measured.copy()
        if measured is not None and known.any():
            return join(measured, self._fill(view, fill, measured, 1 - np.count_nonzero(known) / known.size))
        if fill == 'always' or (fill == 'auto' and self._trained):
            filled, self.described = self._model_alone(view), f'{fill}: model, without measured depth'
        else:
            filled, self.described = np.full(shape, np.nan, np.float32), f'{fill}: no measured depth to fill from'
        filled[~(filled > 0)] = np.nan
        return filled

    def _model_alone(self, view: View) -> np.ndarray:
        shape, predicted = view.frame.rgb.shape[:2], self._predict(view, None)
        return np.full(shape, np.nan, np.float32) if predicted is None else enlarged(predicted, shape).copy()

    def _fill(self, view: View, fill: str, measured: np.ndarray, share: float) -> np.ndarray:
        """Fill depth of which at least one pixel is known; returns it halved as often as its resolution holds 2 S.

        Beside the measured pixels, which stay as they are, nothing finer than that is known of a hole.
        """
        small = view.scale.measured if view.scale is not None else None
        if small is None:
            small = squeeze_depth(measured, self._size)
        while min(measured.shape) >= 2 * self._size:
            measured = halved_depth(measured)
        if fill == 'always':
            predicted, self.described = self._predict(view, None), 'always: model'
            if predicted is None:
                return np.full(measured.shape, np.nan, np.float32)
            return carry(enlarged(predicted, measured.shape), measured)
        if fill == 'smooth' or not self._trained:
            self.described = 'smooth' if fill == 'smooth' else 'auto: smooth, because the weights are untrained'
            return smooth(measured, small)
        return self._blended(view, measured, small, share)

    def _blended(self, view: View, measured: np.ndarray, small: np.ndarray, share: float) -> np.ndarray:
        """Blend model and smooth surface, after a check of their weights where one is due."""
        blend = self._blend
        due = blend.due(share)
        predicted = self._predict(view, None) if due or blend.weights.any() else None
        if predicted is None:
            return smooth(measured, small)
        if due:
            blend.check(small, lambda given: self._predict(view, given) if self._from_depth else predicted)
            self.described = f'auto: {blend.describe()}'
        return blend.fill(predicted, measured, small)
