"""CUDA graphs: static buffers, one replay per graph instead of hundreds of launches, copies on a stream of their own.

As every backend it is compared with eager float32 on the machine where it is used, and torch serves where it fails.
"""

import torch
from torch import Tensor, nn

from m3et_ros.runtime.backends import Runner, Setting

WARM_UP = 3
"""Passes before the capture, in which libraries choose their kernels."""


def missing() -> str:
    """Return the reason why this backend is not available; '' where it is."""
    return '' if torch.cuda.is_available() else 'there is no CUDA device: use auto, torch, compile or openvino'


class CudaGraphs:
    """One captured graph per piece of the model, all in one memory pool."""

    name, lowers, device = 'cuda', False, 'cuda'

    def __init__(self, setting: Setting):
        self._copies = torch.cuda.Stream()
        self._pool = torch.cuda.graph_pool_handle()

    def build(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> Runner:
        """Warm up, capture, and return a function that replays the graph."""
        static = [t.clone() for t in inputs]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), torch.inference_mode():
            for _ in range(WARM_UP):
                module(*static)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Thread-local, because another model may serve on its own thread while this one is being loaded.
        capture = torch.cuda.graph(graph, pool=self._pool, capture_error_mode='thread_local')
        with torch.inference_mode(), capture:
            outputs = module(*static)
        pinned = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in static]

        def run(*inputs: Tensor) -> list[Tensor]:
            main = torch.cuda.current_stream()
            self._copies.synchronize()  # the last copies may still read the pinned memory
            self._copies.wait_stream(main)  # the last replay may still read the buffers
            with torch.cuda.stream(self._copies):
                for buffer, host, given in zip(static, pinned, inputs, strict=True):
                    # A copy from pageable memory would block this thread; one from pinned memory does not.
                    buffer.copy_(given if given.is_cuda else host.copy_(given), non_blocking=True)
            main.wait_stream(self._copies)
            graph.replay()
            return [t.clone() for t in outputs]

        return run
