"""The least that attention could cost on a machine: the FLOPs that are needed, the bytes that must move, its ceilings.

**Roofline** (Williams, Waterman & Patterson 2009). A machine computes at most π FLOPs a second and moves at most
β bytes a second. Work of F FLOPs that moves Q bytes at least is done at a rate of at most

    min(π, I·β)      with its arithmetic intensity I = F / Q, in FLOPs a byte.

Where I is below π / β the machine waits for memory, however well it computes. Attention that writes nothing of T × S
down has an I that grows with T, so that of long sequences the matrix units are the ceiling.

FLOPs are those of visible pairs, of a query and a key. Of each pair and head the forward pass is 2·D for q·k and 2·Dv
for p·v; the backward pass is 2·D for q·k once more, 2·Dv for dO·v, 2·Dv for dV, 2·D for dQ and 2·D for dK (Dao et al.
2022), 2½ times as many where D = Dv. An implementation that computes hidden pairs too gets nothing for it.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from primer import device as devices
from primer.kernels.attention.visible import spans

Pass = Literal["forward", "backward"]

JUDGED_LENGTH = 256
"""Queries of a row at most whose results are compared with float64's: it needs the T × S table, several times."""


@dataclass(frozen=True)
class Workload:
    """What is computed: sizes by their names in `shapes`, and the options of `attention`."""

    batch_size: int = 1
    n_heads: int = 8
    n_kv_heads: int = 8
    context_length: int = 1024
    d_head: int = 64
    d_value: int = 64
    """Width of a value, Dv; `d_head` is that of queries and keys."""
    dtype: torch.dtype = torch.float32
    causal: bool = True
    window: int | None = None
    documents: int = 1
    """As many of equal length are packed in each row."""
    soft_cap: float = 0.0
    dropout: float = 0.0
    backward: bool = True

    @property
    def passes(self) -> tuple[Pass, ...]:
        """What is timed."""
        return ("forward", "backward") if self.backward else ("forward",)

    @property
    def visible_pairs(self) -> int:
        """Pairs of a query and a key that it may see, of all heads of all rows."""
        T = self.context_length
        ids = None if self.documents == 1 else document_ids(replace(self, batch_size=1))
        found = spans(T, T, causal=self.causal, window=self.window, document_ids=ids)
        return self.batch_size * self.n_heads * int((found.last - found.first + 1).clamp_min(0).sum())

    def flops(self, which: Pass) -> int:
        """Of the visible pairs."""
        D, Dv = self.d_head, self.d_value
        return self.visible_pairs * (2 * D + 2 * Dv if which == "forward" else 6 * D + 4 * Dv)

    def bytes(self, which: Pass) -> int:
        """That must move, each once: q, k, v, out and lse; on the way back these, dO, dQ, dK and dV."""
        given, out, lse = self._bytes
        return given + out + lse if which == "forward" else 2 * given + 2 * out + lse

    @property
    def results(self) -> int:
        """Bytes of out and lse, and of the gradients: what there must be at the end beyond q, k, v and dO."""
        given, out, lse = self._bytes
        return out + lse + given * self.backward

    @property
    def _bytes(self) -> tuple[int, int, int]:
        """Of q, k and v together, of out, and of lse, which is float32."""
        rows, keys = (
            self.batch_size * heads * self.context_length for heads in (self.n_heads, self.n_kv_heads)
        )
        given = rows * self.d_head + keys * (self.d_head + self.d_value)
        return given * self.dtype.itemsize, rows * self.d_value * self.dtype.itemsize, rows * 4

    def judged(self) -> "Workload":
        """The same in small, of which float64 can say what is right; window and documents are still of some width."""
        if self.context_length <= JUDGED_LENGTH:
            return replace(self, batch_size=1)
        T, window = JUDGED_LENGTH, self.window
        if window is not None:
            window = max(window * T // self.context_length, min(window, T // 4))
        return replace(
            self, batch_size=1, context_length=T, window=window, documents=min(self.documents, T // 4)
        )


class Machine(NamedTuple):
    """A device and its two ceilings, as they were measured."""

    device: torch.device
    peak: float
    """FLOP/s of a large matrix product."""
    bandwidth: float
    """Bytes a second, read and written, of a large copy."""


class Roof(NamedTuple):
    """The ceiling over one pass of a workload."""

    flops: int
    bytes: int
    machine: Machine

    @property
    def intensity(self) -> float:
        """FLOPs a byte."""
        return self.flops / self.bytes

    @property
    def limit(self) -> Literal["compute", "memory"]:
        """Which of the two ceilings is the lower one."""
        return "memory" if self.intensity * self.machine.bandwidth < self.machine.peak else "compute"

    @property
    def rate(self) -> float:
        """FLOP/s that no implementation exceeds."""
        return min(self.machine.peak, self.intensity * self.machine.bandwidth)

    @property
    def seconds(self) -> float:
        """The least that the pass takes."""
        return self.flops / self.rate


def look_at(device: torch.device, dtype: torch.dtype) -> Machine:
    """Measure the two ceilings; takes a second or two. A CPU may be faster in float32, which is then its way."""
    peak = devices.matmul_rate(device, dtype)
    if device.type == "cpu" and dtype.itemsize < 4:
        peak = max(peak, devices.matmul_rate(device, torch.float32))
    return Machine(device, peak, devices.memory_bandwidth(device))


def document_ids(workload: Workload, device: torch.device | None = None) -> Int[Tensor, "B T"]:
    """Of documents of equal length; where they do not divide T, the lengths differ by one."""
    T = workload.context_length
    row = torch.arange(T, device=device) * workload.documents // T
    return row.repeat(workload.batch_size, 1)
