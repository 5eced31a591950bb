"""Mamba-1 and Mamba-2 mixers (docs/papers.md section 0; Gu and Dao 2023, Dao and Gu 2024).

Symbols: B batch, L tokens, d width, e expand, d_in = e d inner width, k convolution length, R rank of dt,
    N states, P channels of a head, H = d_in / P heads, G groups.
    u (B, L, d) input; x the convolved stream; z the gate; dt step size after softplus.
Parameter names are those of the published implementations, so that their weights load as they are.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.layers.scan_order import placed
from m3et_ros.ops.precision import work_dtype
from m3et_ros.ops.selective_scan import selective_scan, selective_step
from m3et_ros.ops.ssd import ssd, ssd_step


class MambaState(NamedTuple):
    """What a mixer remembers of a sequence: constant size, however long it was.

    conv: last inputs of the convolution, (B, k - 1, width).
    ssm: state, (B, d_in, N) in Mamba-1 and (B, H, P, N) in Mamba-2, at least float32.
    """

    conv: Tensor
    ssm: Tensor


class _Mixer(nn.Module):
    """What both mixers share: masking, the convolution, ownership of A, one-token steps."""

    A_log: nn.Parameter | None
    D: nn.Parameter
    conv1d: nn.Conv1d
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
            mask: (B, L) bool, True = valid. Invalid tokens neither write to nor decay the state and come out as 0;
                the convolution sees zeros in their place.
            A_log: the matrix to use when this mixer owns none.
            state: what went before; None = nothing.
            return_state: also return the state after the last token.

        Returns:
            (B, L, d), or that and the state.

        Raises:
            ValueError: A_log missing where own_A=False, or given where own_A=True.
        """
        if mask is not None:
            u = u.masked_fill(~mask[..., None], 0)
        y, state = self._mix(u, mask, self._A(A_log), state)
        return (y, state) if return_state else y

    def step(self, u_t: Tensor, state: MambaState, *, A_log: Tensor | None = None) -> tuple[Tensor, MambaState]:
        """Advance one token: u_t (B, d) -> (B, d) and the new state; raises as forward."""
        return self._advance(u_t, self._A(A_log), state)

    def init_state(self, B: int, device: torch.device | None = None, dtype: torch.dtype | None = None) -> MambaState:
        """Empty memory for B sequences, by default where and as the weights are."""
        like = self.D.new_zeros(0, device=device, dtype=dtype)
        return MambaState(
            like.new_zeros(B, self.conv1d.kernel_size[0] - 1, self.conv1d.in_channels),
            like.new_zeros(B, *self.state_shape, dtype=work_dtype(like)),
        )

    def _A(self, injected: Tensor | None) -> Tensor:
        if (injected is None) == (self.A_log is None):
            raise ValueError(
                'exactly one A: this mixer owns none, pass A_log=...'
                if injected is None
                else 'exactly one A: this mixer owns one, build it with own_A=False to inject another'
            )
        A_log = self.A_log if injected is None else injected
        return -torch.exp(A_log.to(work_dtype(A_log)))

    def _convolve(self, x: Tensor, state: MambaState | None) -> tuple[Tensor, Tensor]:
        """SiLU of the causal depthwise convolution of x (B, L, width), and its last k - 1 inputs."""
        # k shifted products: no transposition to channels-first and back.
        taps, length = self.conv1d.weight[:, 0].unbind(-1), x.shape[1]
        before = x.new_zeros(x.shape[0], len(taps) - 1, x.shape[2]) if state is None else state.conv.to(x.dtype)
        padded = torch.cat([before, x], 1)
        y = torch.addcmul(self.conv1d.bias, padded[:, :length], taps[0])
        for shift, tap in enumerate(taps[1:], start=1):
            y = torch.addcmul(y, padded[:, shift : shift + length], tap)
        return F.silu(y), padded[:, length:].clone()  # a view would keep the whole sequence alive


class Mamba1(_Mixer):
    """Selective state space (S6): every channel has its own N decays, dt, B and C depend on the input.

    Args:
        d: width of input and output.
        expand: inner width as a multiple of d.
        N: states of a channel.
        d_conv: length k of the causal convolution.
        dt_rank: rank R of the projection to dt; None = ceil(d / 16).
        own_A: False leaves A to the caller (MambaVL shares one among mixers).
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
        """Convolved x (..., d_in) -> dt (..., d_in), B and C (..., N)."""
        dt, B, C = self.x_proj(x).split([self.dt_rank, self.N, self.N], -1)
        return F.softplus(self.dt_proj(dt)), B, C

    def _mix(self, u: Tensor, mask: Tensor | None, A: Tensor, state: MambaState | None) -> tuple[Tensor, MambaState]:
        x, z = self.in_proj(u).chunk(2, -1)
        x, conv = self._convolve(x, state)
        dt, B, C = self._project(x)
        if mask is not None:
            dt = dt.masked_fill(~mask[..., None], 0)
        y, ssm = selective_scan(x, dt, A, B, C, D=self.D, z=z, state=state and state.ssm)
        return self.out_proj(y), MambaState(conv, ssm)

    def renew(self, u: Tensor, places: Tensor | None, kept: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Mix some tokens anew among those of an earlier pass, at the cost of these tokens and of the scan of all.

        Args:
            u: (B, K, d), the tokens that are new, in any order.
            places: where each stands in the order of the scan, (K,) int64, distinct; None = u is all tokens, in order.
            kept: (B, L, width) of the pass before, what goes into convolution and scan; None with places.

        Returns:
            (B, K, d); kept with the new tokens in it; the state after the last of all L tokens, as MambaState.ssm.
        """
        x, z = self.in_proj(u).chunk(2, -1)
        kept = placed(kept, 1, places, x)
        x, _ = self._convolve(kept, None)
        dt, B, C = self._project(x)
        y, ssm = selective_scan(x, dt, self._A(None), B, C, D=self.D)
        y = y if places is None else y[:, places]
        return self.out_proj(y * F.silu(z)), kept, ssm

    def _advance(self, u_t: Tensor, A: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        x, z = self.in_proj(u_t).chunk(2, -1)
        x, conv = self._convolve(x[:, None], state)
        dt, B, C = self._project(x[:, 0])
        y, ssm = selective_step(state.ssm, x[:, 0], dt, A, B, C, D=self.D, z_t=z)
        return self.out_proj(y), MambaState(conv, ssm)


class Mamba2(_Mixer):
    """State-space dual (SSD): one decay a head, B and C shared by the heads of a group, gated RMS norm.

    Args:
        d: width of input and output.
        expand: inner width as a multiple of d.
        N: states of a channel.
        P: channels of a head; divides expand * d.
        G: groups of heads that share B and C; divides the number of heads.
        d_conv: length k of the causal convolution.
        chunk: longest chunk of the scan, tokens; 64 or 98 serve best.
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
        """U (..., d) -> z (..., d_in), convolution input (..., d_in + 2 G N), dt (..., H)."""
        z, xBC, dt = self.in_proj(u).split([self.d_in, self.conv1d.in_channels, self.H], -1)
        return z, xBC, F.softplus(dt + self.dt_bias)

    def _parts(self, xBC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Convolved stream -> x (..., H, P), B and C (..., G, N)."""
        x, B, C = xBC.split([self.d_in, self.G * self.N, self.G * self.N], -1)
        return x.unflatten(-1, (self.H, self.P)), B.unflatten(-1, (self.G, self.N)), C.unflatten(-1, (self.G, self.N))

    def _mix(self, u: Tensor, mask: Tensor | None, A: Tensor, state: MambaState | None) -> tuple[Tensor, MambaState]:
        z, xBC, dt = self._project(u)
        if mask is not None:
            dt = dt.masked_fill(~mask[..., None], 0)
        xBC, conv = self._convolve(xBC, state)
        x, B, C = self._parts(xBC)
        y, ssm = ssd(x, dt, A, B, C, D=self.D, state=state and state.ssm, chunk=self.chunk)
        return self.out_proj(self.norm(y.flatten(-2), z)), MambaState(conv, ssm)

    def renew(self, u: Tensor, places: Tensor | None, kept: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """As Mamba1.renew."""
        z, xBC, dt = self._project(u)
        kept = placed(kept, 1, places, torch.cat([xBC, dt], -1))
        xBC, dt = kept.split([self.conv1d.in_channels, self.H], -1)
        x, B, C = self._parts(self._convolve(xBC, None)[0])
        y, ssm = ssd(x, dt, self._A(None), B, C, D=self.D, chunk=self.chunk)
        y = y.flatten(-2) if places is None else y.flatten(-2)[:, places]
        return self.out_proj(self.norm(y, z)), kept, ssm

    def _advance(self, u_t: Tensor, A: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        z, xBC, dt = self._project(u_t)
        xBC, conv = self._convolve(xBC[:, None], state)
        x, B, C = self._parts(xBC[:, 0])
        y, ssm = ssd_step(state.ssm, x, dt, A, B, C, D=self.D)
        return self.out_proj(self.norm(y.flatten(-2), z)), MambaState(conv, ssm)


class GatedRMSNorm(nn.Module):
    """RMSNorm(y * SiLU(z)) * weight, the mean square taken within each of `groups` equal parts."""

    def __init__(self, *, d: int, groups: int = 1, eps: float = 1e-5):
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """y, z (..., d) -> (..., d)."""
        gated = (y * F.silu(z)).unflatten(-1, (self.groups, -1))
        return F.rms_norm(gated, gated.shape[-1:], eps=self.eps).flatten(-2) * self.weight


def initial_A_log(d_in: int, N: int) -> Tensor:
    """log(1..N) on each of d_in rows (S4D-real)."""
    return torch.arange(1, N + 1, dtype=torch.float32).log().repeat(d_in, 1)


def initial_dt_bias(width: int) -> Tensor:
    """Bias whose softplus is log-uniform on [0.001, 0.1], floor 1e-4."""
    dt = torch.exp(torch.empty(width).uniform_(math.log(1e-3), math.log(1e-1))).clamp(min=1e-4)
    return dt + torch.log(-torch.expm1(-dt))


def no_decay(values: Tensor) -> nn.Parameter:
    """A parameter that optimisers must not decay."""
    parameter = nn.Parameter(values)
    parameter._no_weight_decay = True
    return parameter


# MERGED m3et_ros/layers/attention_mamba: Mamba-2 in the shape of an attention layer, so that attention's matrices can seed it (MaTVLM; docs/papers.md section 6).
#
# MERGED Without softmax o_t = sum_s (q_t . k_s) v_s; a scan gives y_t = sum_s (C_t . B_s) exp(sum_r dt_r A) dt_s x_s. Hence
# MERGED W_Q -> C, W_K -> B, W_V -> x, W_O -> out; gate, step sizes, decays, convolution and norm start fresh.
#
# MERGED Symbols: d width, H heads, K key heads (K divides H), P = d / H channels of a head and states of a channel.
class AttentionMamba2(Mamba2):
    """A mixer with as many heads, groups, channels and states as the attention that it takes the place of.

    Rows of in_proj: [z d | x K P | B K P | C d | dt H]. x and B of a key head serve its H / K heads.

    Args:
        d: width.
        heads: query heads H; divides d.
        kv_heads: key heads K; None = H.
        d_conv: length of the causal convolution.
        chunk: longest chunk of the scan, tokens.

    Raises:
        ValueError: heads that do not divide.
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
        """Convolved stream -> x, B and C, each (..., H, P)."""
        x, B, C = xBC.split([self.narrow, self.narrow, self.d_in], -1)
        each = self.H // self.kv_heads
        x, B = (t.unflatten(-1, (self.kv_heads, self.P)) for t in (x, B))
        if each > 1:
            x, B = x.repeat_interleave(each, -2), B.repeat_interleave(each, -2)
        return x, B, C.unflatten(-1, (self.H, self.N))

    @torch.no_grad()
    def seed(self, *, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> 'AttentionMamba2':
        """Take over attention's matrices, biases left out; returns self.

        Args:
            q: W_Q (d, d).
            k: W_K (K P, d).
            v: W_V (K P, d).
            out: W_O (d, d).

        Raises:
            ValueError: a matrix of another shape; the message names it.
        """
        _, x, B, C, _ = self.in_proj.weight.split([self.d_in, self.narrow, self.narrow, self.d_in, self.H])
        for name, source, target in (('q', q, C), ('k', k, B), ('v', v, x), ('out', out, self.out_proj.weight)):
            if source.shape != target.shape:
                raise ValueError(f'{name} is {tuple(source.shape)}; give {tuple(target.shape)}, the shape of the mixer')
            target.copy_(source)
        return self
