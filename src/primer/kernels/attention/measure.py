"""What each implementation of attention costs: seconds, memory and errors, beside the roofline of `roofline`.

All are measured in one process, and take turns. What cannot do what is asked is told with its reason.
"""

import ctypes
import gc
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from primer import device as devices
from primer.errors import SurroundingsError, UsageError, nearest
from primer.kernels.attention import IMPLEMENTATIONS, attention
from primer.kernels.attention.choice import reason
from primer.kernels.attention.roofline import Machine, Pass, Roof, Workload, document_ids
from primer.kernels.budget import Error, Operator, errors

LEAST_TURNS = 3
"""Of each implementation, however long that takes: a median of fewer is none."""
FLUSHED = 256 << 20
"""Bytes that are written, four times, between two turns on a GPU: more than its cache holds."""


@dataclass
class Row:
    """What is known of one implementation."""

    errors: dict[str, Error]
    """By result. Empty where dropout drops other weights than `dropout_seed` says: there is nothing to compare."""
    memory: int | None
    """Bytes at the highest, beyond q, k, v and dO. None where nobody counts them."""
    turns: dict[Pass, list[float]] = field(default_factory=dict)
    """Seconds of each."""

    def seconds(self, which: Pass) -> float | None:
        """Of the median turn; None before the first."""
        return median(self.turns[which]) if self.turns.get(which) else None

    @property
    def ok(self) -> bool:
        """Whether everything is within the budget of errors."""
        return all(error.ok for error in self.errors.values())


@dataclass
class Measured:
    """What is known of a workload so far."""

    workload: Workload
    machine: Machine
    names: Sequence[str]
    rows: dict[str, Row] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    """Why an implementation is not measured."""
    doing: str = ""
    done: float = 0.0
    """Which part of the time for turns is over."""

    @property
    def missing(self) -> dict[str, str]:
        """Of the implementations that were asked for, those without a row, and why."""
        untried = [name for name in self.names if name not in self.rows and name not in self.refused]
        return self.refused | dict.fromkeys(untried, "stopped before it was tried")

    @property
    def turns(self) -> int:
        """How many each implementation has had."""
        return min((len(row.turns.get("forward", ())) for row in self.rows.values()), default=0)

    def roof(self, which: Pass) -> Roof:
        """The ceiling over a pass."""
        return Roof(self.workload.flops(which), self.workload.bytes(which), self.machine)


def chosen(names: str) -> list[str]:
    """Implementations by name, with commas between; all for no name. UsageError for one that there is not."""
    found = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    for name in found:
        if name not in IMPLEMENTATIONS:
            close = nearest(name, list(IMPLEMENTATIONS))
            raise UsageError(
                f"no implementation is called {name!r}", hint=close or ", ".join(IMPLEMENTATIONS)
            )
    return found or list(IMPLEMENTATIONS)


def measure(
    workload: Workload, machine: Machine, names: Sequence[str], seconds: float = 1.0
) -> Iterator[Measured]:
    """What is found, again and again as it grows, so that who has to stop has something; the last is all.

    Each implementation is tried first: it is judged, warmed up (compiled, where it is) and its memory is measured. Then
    they take turns, so that whatever else the machine does hits all alike, for `seconds` times their number.
    """
    if "flex" in names:
        torch.compiler.reset()  # or torch, at a function's ninth shape, runs it as it is, with its T × S table
    found, device = Measured(workload, machine, names), machine.device
    devices.reuse_memory()  # as training does
    require(workload.bytes(workload.passes[-1]), device, "queries, keys, values and what comes of them")
    inputs, how = tensors(workload, device), options(workload, device)
    for name in names:
        found.doing = f"trying {name}"
        yield found
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                found.rows[name] = tried(name, workload, inputs, how, device)
            except Exception as error:  # whatever it is, it is the reason, and is told
                found.refused[name] = reason(error, [str(each.message) for each in said])
    found.doing, started = "taking turns", time.perf_counter()
    while found.rows and found.done < 1:
        yield found
        for name, row in found.rows.items():
            flush(device)
            for which, spent in turn(name, inputs, how, device).items():
                row.turns.setdefault(which, []).append(spent)
        over = (time.perf_counter() - started) / (seconds * len(found.rows))
        found.done = min(over, found.turns / LEAST_TURNS)
    yield found


class Inputs(NamedTuple):
    """d_out: None where there is no backward pass."""

    q: Tensor
    k: Tensor
    v: Tensor
    d_out: Tensor | None


def tensors(workload: Workload, device: torch.device) -> Inputs:
    """Normal numbers, always the same."""
    B, T = workload.batch_size, workload.context_length
    generator = torch.Generator(device).manual_seed(0)

    def draw(heads: int, width: int, trained: bool) -> Tensor:
        x = torch.randn(B, heads, T, width, device=device, generator=generator)
        return x.to(workload.dtype).requires_grad_(trained)

    return Inputs(
        draw(workload.n_heads, workload.d_head, workload.backward),
        draw(workload.n_kv_heads, workload.d_head, workload.backward),
        draw(workload.n_kv_heads, workload.d_value, workload.backward),
        draw(workload.n_heads, workload.d_value, False) if workload.backward else None,
    )


def options(workload: Workload, device: torch.device) -> dict[str, Any]:
    """The arguments of `attention` beside its tensors."""
    how: dict[str, Any] = {
        "causal": workload.causal,
        "window": workload.window,
        "soft_cap": workload.soft_cap,
    }
    if workload.documents > 1:
        how["document_ids"] = document_ids(workload, device)
    if workload.dropout:
        how |= {"dropout": workload.dropout, "dropout_seed": 1}
    return how


def tried(name: str, workload: Workload, inputs: Inputs, how: dict[str, Any], device: torch.device) -> Row:
    """Its errors, its memory, and that it can do what is asked."""
    if device.type == "cpu":  # where a system that has no more memory ends the process, instead of saying so
        require(tables(name, workload), device, "its tables of T × S numbers")
    found = judge(name, workload.judged(), device)
    turn(name, inputs, how, device)
    return Row(found, memory_of(lambda: turn(name, inputs, how, device), device))


def tables(name: str, workload: Workload) -> int:
    """Bytes of all T × S tables that an implementation holds at once on a CPU: about what `memory_of` finds."""
    cells = workload.context_length**2
    weights = workload.batch_size * workload.n_heads * cells
    if name == "reference":
        kept = 6 if workload.soft_cap else 4
        return weights * (kept * workload.dtype.itemsize + 24 * (workload.dropout > 0))
    if name == "flex":  # its mask is written down, before it becomes one of blocks
        return 12 * workload.batch_size * cells
    if not name.startswith("library"):
        return 0
    masks = workload.batch_size if workload.documents > 1 else int(workload.window is not None)
    falls_back = name == "library_math" or workload.dropout > 0
    return 7 * masks * cells + falls_back * 5 * workload.dtype.itemsize * weights


def require(needed: int, device: torch.device, what: str) -> None:
    """SurroundingsError where there is no memory for it."""
    free = devices.free_memory(device)
    if 0 < free < needed:
        raise SurroundingsError(
            f"{what} take {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free", hint="smaller sizes"
        )


def judge(name: str, workload: Workload, device: torch.device) -> dict[str, Error]:
    """Errors against float64, and plain torch's. None of the library's dropout, which is a draw of its own."""
    if workload.dropout and name.startswith("library"):
        return {}
    judges = device if device.type == "cuda" else torch.device("cpu")  # MPS has no float64
    q, k, v, d_out = tensors(workload, judges)
    return errors(there(IMPLEMENTATIONS[name], device), q, k, v, d_out, **options(workload, judges))


def there(operator: Operator, device: torch.device) -> Operator:
    """The operator on a device, of tensors that may be elsewhere."""

    def moved(x: Any, to: torch.device) -> Any:
        return x.to(to) if isinstance(x, Tensor) else x

    def computed(*given: Tensor, **how: Any) -> tuple[Tensor, Tensor | None]:
        home = given[0].device
        arguments = {key: moved(value, device) for key, value in how.items()}
        out, lse = operator(*(moved(x, device) for x in given), **arguments)
        return moved(out, home), moved(lse, home)

    return computed


def turn(name: str, inputs: Inputs, how: dict[str, Any], device: torch.device) -> dict[Pass, float]:
    """Seconds of one forward pass, and of one backward pass: as in training, or without it as in use."""
    q, k, v, d_out = inputs
    marks = [mark(device)]
    with torch.set_grad_enabled(d_out is not None):
        out = attention(q, k, v, implementation=name, **how)  # type: ignore[arg-type]
    marks.append(mark(device))
    if d_out is not None:
        kept = torch.autograd.grad(out, (q, k, v), d_out.to(out.dtype))
        marks.append(mark(device))
        del kept
    devices.synchronize(device)
    spent = [b - a if isinstance(a, float) else a.elapsed_time(b) / 1e3 for a, b in pairwise(marks)]
    return dict(zip(("forward", "backward"), spent, strict=False))


def mark(device: torch.device) -> Any:
    """Now: by a CUDA device's own clock, which does not wait for the program, else by the system's."""
    if device.type == "cuda":
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
    devices.synchronize(device)
    return time.perf_counter()


def flush(device: torch.device) -> None:
    """Empty a GPU's cache: the roofline's bytes come from memory. Meanwhile the program gets ahead of the device."""
    if device.type == "cuda":
        written = torch.empty(FLUSHED, dtype=torch.uint8, device=device)
        for _ in range(4):
            written.zero_()


def memory_of(call: Callable[[], object], device: torch.device) -> int | None:
    """Bytes that a call takes at the highest. On CUDA: of tensors. On a CPU: of the process; None but on Linux."""
    if device.type == "cuda":
        devices.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        devices.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu" or not forget_peak():
        return None
    before = resident("VmHWM")
    try:
        call()
        return resident("VmHWM") - before
    finally:
        devices.reuse_memory()


def forget_peak() -> bool:
    """Give freed memory back, now and as it is freed, and let the system count the process's peak anew.

    False where it does not do that. What the process has in memory is all there is: tensors of any thread, numpy's
    arrays, what compiled code takes for itself. Counting torch's own allocations instead would miss the last two, and
    those of threads that Python started. `device.reuse_memory` ends the giving back.
    """
    if not sys.platform.startswith("linux"):
        return False
    gc.collect()
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 1 << 16)  # malloc.h: M_MMAP_THRESHOLD, from which on a block has pages of its own
        libc.malloc_trim(0)
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")  # proc(5): VmHWM becomes VmRSS
        return resident("VmHWM") - resident("VmRSS") < 1 << 20
    except (OSError, AttributeError, StopIteration):  # not glibc, or a kernel that keeps no such count
        return False


def resident(what: str) -> int:
    """Bytes of the process in memory: VmRSS now, VmHWM at the highest."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))
