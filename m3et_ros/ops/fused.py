"""The optional CUDA kernels of mamba-ssm behind the signatures of this package.

They are those of an installed mamba-ssm, or of a package that `use` is given: a build of the same scans that was loaded
from elsewhere. An ImportError is left to the caller. mamba-ssm is Apache-2.0; none of its code is contained here.
"""

from collections.abc import Callable
from types import ModuleType

from torch import Tensor

Scan = Callable[..., tuple[Tensor, Tensor]]
_package: ModuleType | None = None
_origin = ''


def use(package: ModuleType | None, origin: str = '') -> None:
    """Take the scans from a package instead of an installed mamba-ssm.

    Args:
        package: has `selective_scan_fn` and `mamba_chunk_scan_combined`; None for the installed mamba-ssm again.
        origin: where the package comes from, for reports.
    """
    global _package, _origin
    _package, _origin = package, origin


def origin() -> str:
    """Return where the package in use comes from; '' for an installed mamba-ssm."""
    return _origin


def load_selective_scan() -> Scan:
    """Return the CUDA selective scan. It starts from an empty state and returns a state without gradient."""
    if _package is None:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    else:
        selective_scan_fn = _package.selective_scan_fn

    def selective_scan(
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
        if state is not None:
            raise ValueError("the fused selective scan cannot start from a state: use kernel='auto'")
        # The kernel takes channels first, all of one dtype.
        x_, dt_, B_, C_ = (t.to(x.dtype).transpose(1, 2).contiguous() for t in (x, dt, B, C))
        z_ = None if z is None else z.to(x.dtype).transpose(1, 2).contiguous()
        D_ = None if D is None else D.float()
        y, last = selective_scan_fn(x_, dt_, A.float(), B_, C_, D=D_, z=z_, return_last_state=True)
        return y.transpose(1, 2), last

    return selective_scan


def load_ssd() -> Scan:
    """Return the chunked SSD in Triton."""
    if _package is None:
        from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined
    else:
        mamba_chunk_scan_combined = _package.mamba_chunk_scan_combined

    def ssd(
        x: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        *,
        D: Tensor | None = None,
        state: Tensor | None = None,
        chunk: int = 64,
    ) -> tuple[Tensor, Tensor]:
        size = max(16, 1 << (chunk - 1).bit_length())  # Triton wants a power of two, 16 or more
        D_ = None if D is None else D.float()
        return mamba_chunk_scan_combined(
            x,
            dt.float(),
            A.float(),
            B.to(x.dtype),
            C.to(x.dtype),
            size,
            D=D_,
            initial_states=state,
            return_final_states=True,
        )

    return ssd
