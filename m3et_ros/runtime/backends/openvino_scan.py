"""The scan of Mamba-1 as an operation of OpenVINO, which the native library computes.

OpenVINO has no such operation, and one made of its own operations would be unrolled over all tokens. Only
runtime.backends.openvino imports this file, because it needs OpenVINO. Symbols are those of ops/selective_scan.py.

The operation has one output, (Bt, L D + D N), y before the last state: OpenVINO's conversion of exported programs
leaves an operation of ours no second one.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

import openvino
import torch
from openvino.frontend.pytorch import ConversionExtension
from torch import Tensor

from m3et_ros.ops import native
from m3et_ros.ops.selective_scan import finished, initial_state

LOG = logging.getLogger(__name__)
NAME = 'm3et::scan_for_openvino'
torch.library.define(NAME, '(Tensor x, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor state) -> Tensor')


@torch.library.register_fake(NAME)
def _(x, dt, A, B, C, state):
    return x.new_empty(len(x), x[0].numel() + state[0].numel())


def traced_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Scan as selective_scan does, within torch.export alone."""
    state = initial_state(state, x, A)
    both = torch.ops.m3et.scan_for_openvino(x, dt, A, B, C, state)
    y, last = both.split([x[0].numel(), state[0].numel()], 1)
    return finished(y.view(x.shape), x, D, z), last.view(state.shape)


class SelectiveScan(openvino.Op):
    """x, dt (Bt, L, D), A (D, N), B, C (Bt, L, N), state (Bt, D, N) -> (Bt, L D + D N), all float32."""

    def __init__(self, inputs: Sequence[Any] | None = None):
        super().__init__(self, inputs)

    def validate_and_infer_types(self) -> None:
        """Give the output its shape, which is unknown until the model has got its own."""
        x, state = self.get_input_partial_shape(0), self.get_input_partial_shape(5)
        shape = [-1, -1]
        if x.is_static and state.is_static:
            shape = [x[0].get_length(), math.prod(x.to_shape()[1:]) + math.prod(state.to_shape()[1:])]
        self.set_output_type(0, openvino.Type.f32, openvino.PartialShape(shape))

    def clone_with_new_inputs(self, new_inputs: Sequence[Any]) -> 'SelectiveScan':
        """Return the operation on other inputs."""
        return SelectiveScan(new_inputs)

    def visit_attributes(self, visitor: Any) -> bool:
        """Store nothing: the operation has no attributes."""
        return True

    def has_evaluate(self) -> bool:
        """Tell OpenVINO that `evaluate` computes the operation."""
        return True

    def evaluate(self, outputs: Sequence[Any], inputs: Sequence[Any]) -> bool:
        """Scan on the memory of the tensors, all float32; where that fails the output is NaN and the log says why."""
        output = torch.from_numpy(outputs[0].data)
        try:
            x, dt, A, B, C, state = (torch.from_numpy(t.data) for t in inputs)
            for b, both in enumerate(output):
                y, last = both.split([x[b].numel(), state[b].numel()])
                native.scan_into(x[b], dt[b], A, B[b], C[b], y.view_as(x[b]), last.view_as(state[b]).copy_(state[b]))
        except Exception:
            # An exception would end the graph, but OpenVINO 2026.4 hides it and serves what was in the memory before.
            LOG.exception('A scan within a graph of OpenVINO failed')
            output.fill_(math.nan)
        return True


CONVERSION = ConversionExtension(
    'm3et.scan_for_openvino.default',
    lambda node: SelectiveScan([node.get_input(index) for index in range(6)]).outputs(),
)
"""Turns the operator of traced_scan into the operation."""
