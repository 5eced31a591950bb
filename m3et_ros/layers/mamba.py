"""Mamba-1 and Mamba-2 mixers (docs/papers.md 0; Gu and Dao 2023, Dao and Gu 2024).

AttentionMamba2 has the shape of an attention layer and can be seeded with its matrices (MaTVLM; docs/papers.md 6).

Symbols: B batch, L tokens, d width, e expand, d_in = e d inner width, k convolution length, R rank of dt,
    N states, P channels of a head, H = d_in / P heads, G groups, K key heads.
    u (B, L, d) input; x the convolved stream; z the gate; dt step size after softplus.
Parameter names are those of the published implementations, so that their weights load unchanged.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.layers.scan_order import replaced_tokens
from m3et_ros.ops.causal_conv import causal_conv
from m3et_ros.ops.precision import work_dtype
from m3et_ros.ops.selective_scan import selective_scan, selective_step
from m3et_ros.ops.ssd import ssd, ssd_shared, ssd_step


class MambaState(NamedTuple):
    """State of a mixer after a sequence; its size does not depend on the length.

    conv: last inputs of the convolution, (B, k - 1, width).
    ssm: state, (B, d_in, N) in Mamba-1 and (B, H, P, N) in Mamba-2, at least float32.
    """

    conv: Tensor
    ssm: Tensor


class _Mixer(nn.Module):
    """Masking, convolution, choice of A and one-token steps, which both mixers share."""

    A_log: nn.Parameter | None
    D: nn.Parameter
    conv1d: nn.Conv1d
    # Size of the state of one sequence.
    state_shape: tuple[int, ...]

    def forward(
        self,
        u: Tensor,
        *,
        mask: Tensor | None = None,
        A_log: Tensor | None = None,
        state: MambaState | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, MambaState]:
        """Mix a sequence.

        Args:
            u: (B, L, d), L >= 1.
            mask: (B, L) bool, True = valid. Invalid tokens neither write to nor decay the state, their outputs are 0,
                and the convolution takes zeros in their place.
            A_log: the matrix to use where this mixer owns none.
            state: state after earlier tokens; None = there are none. Its `ssm` may be that of fewer sequences, each of
                which serves as many consecutive rows of u.
            return_state: also return the state after the last token.

        Returns:
            (B, L, d), with return_state also the state.

        Raises:
            ValueError: A_log is missing although own_A=False, or given although own_A=True.
        """
        if mask is not None:
            u = u.masked_fill(~mask[..., None], 0)
        y, state = self._mix(u, mask, self._rates(A_log), state, return_state)
        return (y, state) if return_state else y

    def step(self, u_t: Tensor, state: MambaState, *, A_log: Tensor | None = None) -> tuple[Tensor, MambaState]:
        """Advance by one token u_t (B, d); return (B, d) and the new state. Raises as forward does."""
        return self._advance(u_t, self._rates(A_log), state)

    def init_state(self, B: int, device: torch.device | None = None, dtype: torch.dtype | None = None) -> MambaState:
        """Return the empty state of B sequences, by default on the device and in the dtype of the weights."""
        like = self.D.new_zeros(0, device=device, dtype=dtype)
        return MambaState(
            like.new_zeros(B, self.conv1d.kernel_size[0] - 1, self.conv1d.in_channels),
            like.new_zeros(B, *self.state_shape, dtype=work_dtype(like)),
        )

    def _mix(
        self, u: Tensor, mask: Tensor | None, A: Tensor, state: MambaState | None, final: bool
    ) -> tuple[Tensor, MambaState]:
        """Mix a sequence whose invalid tokens are 0; without `final` the state that is returned may be any."""
        raise NotImplementedError

    def _advance(self, u_t: Tensor, A: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        """Mix one token."""
        raise NotImplementedError

    def renew(self, u: Tensor, indices: Tensor | None, cache: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Mix some tokens anew among those of an earlier pass, at the cost of these tokens and of the scan of all.

        Args:
            u: the new tokens (B, K, d), in any order.
            indices: (K,) int64, distinct, where each stands in the order of the scan; None = u holds all, in order.
            cache: inputs of convolution and scan (B, L, width) of the pass before; None with indices.

        Returns:
            Outputs (B, K, d), the cache with the new tokens in it, and the state after the last of all L tokens, as
            MambaState.ssm.
        """
        raise NotImplementedError

    def _rates(self, A_log: Tensor | None) -> Tensor:
        """Return A = -exp(A_log), of this mixer's own A_log or of the one that is given."""
        if A_log is None and self.A_log is None:
            raise ValueError('this mixer owns no A; pass A_log=...')
        if A_log is not None and self.A_log is not None:
            raise ValueError('this mixer owns an A; build it with own_A=False to pass another')
        A_log = self.A_log if A_log is None else A_log
        assert A_log is not None
        return -torch.exp(A_log.to(work_dtype(A_log)))

    def _convolve(self, x: Tensor, state: MambaState | None) -> tuple[Tensor, Tensor]:
        """Return SiLU of the causal depthwise convolution of x (B, L, width), and its last k - 1 inputs."""
        earlier, length = self.conv1d.kernel_size[0] - 1, x.shape[1]
        before = x.new_zeros(x.shape[0], earlier, x.shape[2]) if state is None else state.conv.to(x.dtype)
        padded = torch.cat([before, x], 1)
        assert self.conv1d.bias is not None
        y = causal_conv(padded, self.conv1d.weight, self.conv1d.bias)
        return y, padded[:, length:].clone()  # a view would keep the whole sequence alive


class Mamba1(_Mixer):
    """Selective state space (S6): every channel has its own N decays; dt, B and C depend on the input.

    Args:
        d: width of input and output.
        expand: inner width as a multiple of d.
        N: states of a channel.
        d_conv: length k of the causal convolution.
        dt_rank: rank R of the projection to dt; None = ceil(d / 16).
        own_A: False leaves A to the caller; MambaVL shares one among mixers.
    """

    def __init__(
        self, *, d: int, expand: int = 2, N: int = 16, d_conv: int = 4, dt_rank: int | None = None, own_A: bool = True
    ):
        super().__init__()
        self.d_in, self.N, self.dt_rank = expand * d, N, dt_rank or math.ceil(d / 16)
        self.state_shape = (self.d_in, N)
        self.in_proj = nn.Linear(d, 2 * self.d_in, bias=False)
        self.conv1d = nn.Conv1d(self.d_in, self.d_in, d_conv, groups=self.d_in)
        self.x_proj = nn.Linear(self.d_in, self.dt_rank + 2 * N, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.d_in)
        nn.init.uniform_(self.dt_proj.weight, -(self.dt_rank**-0.5), self.dt_rank**-0.5)
        self.dt_proj.bias = no_decay(initial_dt_bias(self.d_in))
        self.A_log = no_decay(initial_A_log(self.d_in, N)) if own_A else None
        self.D = no_decay(torch.ones(self.d_in))
        self.out_proj = nn.Linear(self.d_in, d, bias=False)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project convolved x (..., d_in) to dt (..., d_in), B and C (..., N)."""
        dt, B, C = self.x_proj(x).split([self.dt_rank, self.N, self.N], -1)
        return F.softplus(self.dt_proj(dt)), B, C

    def _mix(
        self, u: Tensor, mask: Tensor | None, A: Tensor, state: MambaState | None, final: bool
    ) -> tuple[Tensor, MambaState]:
        x, z = self.in_proj(u).chunk(2, -1)
        x, conv = self._convolve(x, state)
        dt, B, C = self._project(x)
        if mask is not None:
            dt = dt.masked_fill(~mask[..., None], 0)
        y, ssm = selective_scan(x, dt, A, B, C, D=self.D, z=z, state=_repeated(state, len(u)))
        return self.out_proj(y), MambaState(conv, ssm)

    def renew(self, u: Tensor, indices: Tensor | None, cache: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Mix some tokens anew, as in the base class."""
        x, z = self.in_proj(u).chunk(2, -1)
        cache = replaced_tokens(cache, 1, indices, x)
        x, _ = self._convolve(cache, None)
        dt, B, C = self._project(x)
        y, ssm = selective_scan(x, dt, self._rates(None), B, C, D=self.D)
        if indices is not None:
            y = y[:, indices]
        return self.out_proj(y * F.silu(z)), cache, ssm

    def _advance(self, u_t: Tensor, A: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        x, z = self.in_proj(u_t).chunk(2, -1)
        x, conv = self._convolve(x[:, None], state)
        dt, B, C = self._project(x[:, 0])
        y, ssm = selective_step(state.ssm, x[:, 0], dt, A, B, C, D=self.D, z_t=z)
        return self.out_proj(y), MambaState(conv, ssm)


class Mamba2(_Mixer):
    """State-space dual (SSD): one decay per head, B and C shared by the heads of a group, gated RMS norm.

    Args:
        d: width of input and output.
        expand: inner width as a multiple of d.
        N: states of a channel.
        P: channels of a head; divides expand * d.
        G: groups of heads that share B and C; divides the number of heads.
        d_conv: length k of the causal convolution.
        chunk: longest chunk of the scan in tokens; 64 or 98 serve best.
        own_A: False leaves A to the caller.
    """

    def __init__(
        self,
        *,
        d: int,
        expand: int = 2,
        N: int = 128,
        P: int = 64,
        G: int = 1,
        d_conv: int = 4,
        chunk: int = 64,
        own_A: bool = True,
    ):
        super().__init__()
        self.d_in, self.N, self.P, self.G, self.chunk = expand * d, N, P, G, chunk
        self.H = self.d_in // P
        if self.d_in % P or self.H % G:
            raise ValueError(
                f'P = {P} must divide the inner width {self.d_in} and G = {G} the heads: '
                f'choose divisors of {self.d_in} and {self.H}'
            )
        self.state_shape = (self.H, P, N)
        width = self.d_in + 2 * G * N
        self.in_proj = nn.Linear(d, self.d_in + width + self.H, bias=False)
        self.conv1d = nn.Conv1d(width, width, d_conv, groups=width)
        self.dt_bias = no_decay(initial_dt_bias(self.H))
        self.A_log = no_decay(torch.empty(self.H).uniform_(1, 16).log()) if own_A else None
        self.D = no_decay(torch.ones(self.H))
        self.norm = GatedRMSNorm(d=self.d_in, groups=G)
        self.out_proj = nn.Linear(self.d_in, d, bias=False)

    def _project(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project u (..., d) to z (..., d_in), convolution input (..., d_in + 2 G N) and dt (..., H)."""
        z, xBC, dt = self.in_proj(u).split([self.d_in, self.conv1d.in_channels, self.H], -1)
        return z, xBC, F.softplus(dt + self.dt_bias)

    def _parts(self, xBC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split the convolved stream into x (..., H, P), B and C (..., G, N)."""
        x, B, C = xBC.split([self.d_in, self.G * self.N, self.G * self.N], -1)
        return x.unflatten(-1, (self.H, self.P)), B.unflatten(-1, (self.G, self.N)), C.unflatten(-1, (self.G, self.N))

    def _mix(
        self, u: Tensor, mask: Tensor | None, A: Tensor, state: MambaState | None, final: bool
    ) -> tuple[Tensor, MambaState]:
        z, xBC, dt = self._project(u)
        if mask is not None:
            dt = dt.masked_fill(~mask[..., None], 0)
        xBC, conv = self._convolve(xBC, state)
        x, B, C = self._parts(xBC)
        if state is not None and not final and torch.is_grad_enabled():
            y, ssm = ssd_shared(x, dt, A, B, C, D=self.D, state=state.ssm), state.ssm
        else:
            y, ssm = ssd(x, dt, A, B, C, D=self.D, state=_repeated(state, len(u)), chunk=self.chunk)
        return self.out_proj(self.norm(y.flatten(-2), z)), MambaState(conv, ssm)

    def renew(self, u: Tensor, indices: Tensor | None, cache: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Mix some tokens anew, as in the base class."""
        z, xBC, dt = self._project(u)
        cache = replaced_tokens(cache, 1, indices, torch.cat([xBC, dt], -1))
        xBC, dt = cache.split([self.conv1d.in_channels, self.H], -1)
        x, B, C = self._parts(self._convolve(xBC, None)[0])
        y, ssm = ssd(x, dt, self._rates(None), B, C, D=self.D, chunk=self.chunk)
        y = y.flatten(-2)
        if indices is not None:
            y = y[:, indices]
        return self.out_proj(self.norm(y, z)), cache, ssm

    def _advance(self, u_t: Tensor, A: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        z, xBC, dt = self._project(u_t)
        xBC, conv = self._convolve(xBC[:, None], state)
        x, B, C = self._parts(xBC[:, 0])
        y, ssm = ssd_step(state.ssm, x, dt, A, B, C, D=self.D)
        return self.out_proj(self.norm(y.flatten(-2), z)), MambaState(conv, ssm)


class GatedRMSNorm(nn.Module):
    """RMSNorm(y * SiLU(z)) * weight, with the mean square taken within each of `groups` equal parts."""

    def __init__(self, *, d: int, groups: int = 1, eps: float = 1e-5):
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """Normalise y gated by z, both (..., d)."""
        gated = (y * F.silu(z)).unflatten(-1, (self.groups, -1))
        return F.rms_norm(gated, gated.shape[-1:], eps=self.eps).flatten(-2) * self.weight


class AttentionMamba2(Mamba2):
    """Mamba-2 with as many heads, groups, channels and states as the attention that it replaces.

    Without softmax attention gives o_t = sum_s (q_t . k_s) v_s. A scan gives y_t = sum_s (C_t . B_s) exp(sum_r dt_r A)
    dt_s x_s. Hence W_Q -> C, W_K -> B, W_V -> x and W_O -> out; gate, step sizes, decays, convolution and norm start
    fresh. P = d / H is both the channels of a head and the states of a channel.

    Rows of in_proj: [z d | x K P | B K P | C d | dt H]. x and B of a key head serve its H / K heads.

    Args:
        d: width.
        heads: query heads H; divides d.
        kv_heads: key heads K; None = H.
        d_conv: length of the causal convolution.
        chunk: longest chunk of the scan in tokens.

    Raises:
        ValueError: heads does not divide d, or kv_heads does not divide heads.
    """

    def __init__(self, *, d: int, heads: int, kv_heads: int | None = None, d_conv: int = 4, chunk: int = 64):
        self.kv_heads = kv_heads or heads
        if d % heads or heads % self.kv_heads:
            raise ValueError(
                f'heads is {heads} and kv_heads {self.kv_heads}; give heads that divide d = {d} and '
                'kv_heads that divide heads'
            )
        super().__init__(d=d, expand=1, N=d // heads, P=d // heads, G=heads, d_conv=d_conv, chunk=chunk)
        self.narrow = self.kv_heads * self.P
        if self.kv_heads < heads:
            width = d + 2 * self.narrow
            self.in_proj = nn.Linear(d, d + width + heads, bias=False)
            self.conv1d = nn.Conv1d(width, width, d_conv, groups=width)

    def _parts(self, xBC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split the convolved stream into x, B and C, each (..., H, P)."""
        x, B, C = xBC.split([self.narrow, self.narrow, self.d_in], -1)
        each = self.H // self.kv_heads
        x, B = (t.unflatten(-1, (self.kv_heads, self.P)) for t in (x, B))
        if each > 1:
            x, B = x.repeat_interleave(each, -2), B.repeat_interleave(each, -2)
        return x, B, C.unflatten(-1, (self.H, self.N))

    @torch.no_grad()
    def seed(self, *, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> 'AttentionMamba2':
        """Copy attention's matrices, without biases, and return self.

        Args:
            q: W_Q (d, d).
            k: W_K (K P, d).
            v: W_V (K P, d).
            out: W_O (d, d).

        Raises:
            ValueError: a matrix has another shape; the message names it.
        """
        _, x, B, C, _ = self.in_proj.weight.split([self.d_in, self.narrow, self.narrow, self.d_in, self.H])
        for name, source, target in (('q', q, C), ('k', k, B), ('v', v, x), ('out', out, self.out_proj.weight)):
            if source.shape != target.shape:
                raise ValueError(
                    f'{name} is {tuple(source.shape)}; give {tuple(target.shape)}, the shape of this mixer'
                )
            target.copy_(source)
        return self


def _repeated(state: MambaState | None, rows: int) -> Tensor | None:
    """Return one state of the scan for each of the rows of a batch."""
    if state is None:
        return None
    each = rows // max(1, len(state.ssm))
    return state.ssm if each == 1 else state.ssm.repeat_interleave(each, 0)


def initial_A_log(d_in: int, N: int) -> Tensor:  # noqa: N802 - A_log is the published name
    """Return log(1..N) on each of d_in rows (S4D-real)."""
    return torch.arange(1, N + 1, dtype=torch.float32).log().repeat(d_in, 1)


def initial_dt_bias(width: int) -> Tensor:
    """Return biases (width,) whose softplus is log-uniform on [0.001, 0.1], at least 1e-4."""
    dt = torch.exp(torch.empty(width).uniform_(math.log(1e-3), math.log(1e-1))).clamp(min=1e-4)
    return dt + torch.log(-torch.expm1(-dt))


def no_decay(values: Tensor) -> nn.Parameter:
    """Return a parameter without weight decay."""
    parameter = nn.Parameter(values)
    setattr(parameter, '_no_weight_decay', True)  # noqa: B010 - the mark is not a declared attribute of Parameter
    return parameter
