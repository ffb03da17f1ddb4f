"""Where to compute: choosing a device, what it is made for, how fast it is, and whether it computes rightly.

Nothing is probed when this module is imported; torch itself is imported by the functions.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primer.errors import SurroundingsError, UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def choose(requested: str = "auto", flag: str = "--train.device") -> torch.device:
    """The device for "auto", "cpu", "cuda" or "mps". SurroundingsError where the one asked for is absent.

    `flag` is the one that asked, so that the error can name it.
    """
    import torch

    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if requested == "auto":
        requested = next(name for name in ("cuda", "mps", "cpu") if here[name])
    if requested not in here:
        raise UsageError(f"unknown device {requested!r}", hint="auto, cpu, cuda or mps")
    if not here[requested]:
        built = torch.version.cuda if requested == "cuda" else torch.backends.mps.is_built()
        why = "no usable GPU was found" if built else f"torch {torch.__version__} was built without it"
        raise SurroundingsError(f"{requested} is not available here: {why}", hint=f"{flag}=cpu")
    return torch.device(requested)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(count: int) -> int:
    """Compute with `count` CPU threads (0: as many as torch found) and return the number in force."""
    import torch

    if count:
        torch.set_num_threads(count)
    return torch.get_num_threads()


def autocast_dtype(device: torch.device, precision: str) -> torch.dtype | None:
    """The narrow dtype of matrix products on `device`, or None for plain float32.

    auto: bf16 where the device is made for it (CUDA from sm_80 on), else float32. bf16 on a CPU only when
    asked for (correct everywhere, slow without AMX or AVX512-BF16); fp16 only on CUDA, since a CPU gains
    nothing by it. SurroundingsError says why the device refuses.
    """
    import torch

    capable = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    if precision == "auto":
        return torch.bfloat16 if capable else None
    if precision == "fp32":
        return None
    if precision == "bf16":
        if device.type == "cuda" and not capable:
            name = torch.cuda.get_device_name(device)
            raise SurroundingsError(f"{name} has no bf16 units", hint="--train.precision=fp16 or fp32")
        return torch.bfloat16
    if precision == "fp16":
        if device.type != "cuda":
            raise SurroundingsError(
                f"fp16 trains only on CUDA, not on {device.type}", hint="--train.precision=auto"
            )
        return torch.float16
    raise UsageError(f"unknown precision {precision!r}", hint="auto, fp32, bf16 or fp16")


def use_tf32(device: torch.device, wanted: bool) -> None:
    """Whether float32 matrix products on CUDA may read ten bits of mantissa (TF32, from sm_80 on): eight times as fast.

    A process-wide setting of torch's. A run in fp32 does without; one in bf16 or fp16 has asked for fewer bits.
    """
    import torch

    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if wanted else "highest")


@contextmanager
def deterministic() -> Iterator[None]:
    """Only kernels whose results are the same bits every time; one that has no such twin is an error.

    cuBLAS wants to be told through the environment, before it is first used:
    https://docs.nvidia.com/cuda/cublas/#results-reproducibility
    """
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def reuse_memory() -> bool:
    """Let freed blocks be used again instead of going back to the system; False where libc is not glibc.

    A training step takes and frees the same large blocks every time. By default glibc returns them, and every
    new one is made of fresh pages, each of which the kernel zeroes on first touch.
    """
    import ctypes

    if not sys.platform.startswith("linux"):
        return False
    mmap_threshold, trim_threshold, top_pad = -3, -1, -2  # malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(
        mallopt(option, size)
        for option, size in ((mmap_threshold, 32 << 20), (trim_threshold, 1 << 30), (top_pad, 64 << 20))
    )


def matmul_rate(device: torch.device, dtype: torch.dtype | None = None) -> float:
    """FLOP/s of the best square matrix product in `dtype` (default float32); takes less than a second.

    The size doubles from 1024 until one product lasts 10 ms: large enough to drown what starting threads
    costs, small enough to wait for.
    """
    import torch

    size = 1024
    own = torch.Generator(device).manual_seed(0)  # measuring must not move the generator of training
    while True:
        a = torch.rand(size, size, device=device, dtype=dtype, generator=own)
        b, out = a.clone(), torch.empty_like(a)
        torch.mm(a, b, out=out)
        work = partial(torch.mm, a, b, out=out)
        seconds = _best(work, device, at_least=0.05)
        if seconds > 0.01 or size >= 8192:
            return 2 * size**3 / min(seconds, _best(work, device, at_least=0.3))
        size *= 2


def memory_bandwidth(device: torch.device) -> float:
    """Bytes read and written per second by a copy that no cache can hold; takes less than a second."""
    import torch

    size = (1 << 27) if device.type == "cpu" else (1 << 28)
    a = torch.zeros(size // 4, device=device)
    b = torch.zeros_like(a)
    return 2 * size / _best(partial(b.copy_, a), device, at_least=0.2)


def _best(work: Callable[[], object], device: torch.device, at_least: float) -> float:
    """Seconds of the fastest call within `at_least` seconds: what the machine can do when undisturbed."""
    seconds: list[float] = []
    while len(seconds) < 3 or sum(seconds) < at_least:
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def all_memory(device: torch.device) -> int:
    """Bytes of a CUDA device, else of main memory, in use or not; 0 where nobody will say."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[1]
    return _memory()


def free_memory(device: torch.device) -> int:
    """Bytes that can still be had on a CUDA device, else of main memory; 0 where nobody will say."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return _memory()
    return min(free, _allowed() or free)


def _allowed() -> int:
    """Bytes that a container may still take, 0 where there is no limit: of control groups, version 2."""
    folder = Path("/sys/fs/cgroup")
    try:
        return int((folder / "memory.max").read_text()) - int((folder / "memory.current").read_text())
    except (OSError, ValueError):  # "max" is no number
        return 0


def peak_memory(device: torch.device | None = None) -> int:
    """Bytes at the highest: of a CUDA device's tensors, else of this process. 0 where nobody counts them."""
    if device is not None and device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def describe(device: torch.device) -> dict[str, Any]:
    """What a run should remember about the machine: names, cores, threads, memory, versions."""
    import torch

    about: dict[str, Any] = {
        "device": str(device),
        "name": _cpu_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "memory_bytes": _memory(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        about["name"] = properties.name
        about["capability"] = f"sm_{properties.major}{properties.minor}"
        about["memory_bytes"] = properties.total_memory
        about["cuda"] = torch.version.cuda
    elif device.type == "mps":
        about["capability"] = "mps"
    return about


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> int:
    """Bytes of main memory, 0 where the system will not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


@dataclass(frozen=True)
class Check:
    """One operation on the device against float64 on the CPU."""

    name: str
    error: float
    """Largest difference, relative to the largest value of the truth."""
    allowed: float
    """Four times the error that float32 on the CPU makes itself, and never less than 32 roundings."""

    @property
    def ok(self) -> bool:
        """Whether the device computes this rightly. (A NaN is not.)"""
        return self.error <= self.allowed


def self_check(device: torch.device) -> list[Check]:
    """Compute what training is made of on the device and, in float64, on the CPU.

    It exists to catch wrong kernels: those of young back ends have been wrong silently, most often on
    views that are not contiguous, which is why transposed inputs and in-place updates of them are here.
    """
    return [_check(name, operation, device) for name, operation in _operations().items()]


def _check(name: str, operation: Callable[[Callable[..., Tensor]], Tensor], device: torch.device) -> Check:
    import torch

    def compute(where: torch.device, dtype: torch.dtype) -> Tensor:
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> Tensor:  # the same float32 numbers everywhere
            return torch.randn(*shape, generator=generator).to(where, dtype)

        return operation(draw).detach().cpu().double()

    cpu = torch.device("cpu")
    truth = compute(cpu, torch.float64)
    scale = truth.abs().max()
    own = (compute(cpu, torch.float32) - truth).abs().max() / scale
    error = (compute(device, torch.float32) - truth).abs().max() / scale
    return Check(name, float(error), max(4 * float(own), 32 * torch.finfo(torch.float32).eps))


def _operations() -> dict[str, Callable[[Callable[..., Tensor]], Tensor]]:
    """What is compared; each takes a function that draws normal numbers of a shape."""
    import torch
    from torch.nn import functional as F

    def attention(draw: Callable[..., Tensor]) -> Tensor:
        q, k, v = (draw(2, 65, 4, 32).transpose(1, 2) for _ in range(3))  # (B, H, T, D), not contiguous
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def cross_entropy_gradient(draw: Callable[..., Tensor]) -> Tensor:
        logits = (4 * draw(70, 131)).requires_grad_()
        targets = torch.arange(70, device=logits.device) * 3 % 131
        return torch.autograd.grad(F.cross_entropy(logits, targets), logits)[0]

    def embedding_gradient(draw: Callable[..., Tensor]) -> Tensor:
        table = draw(17, 24).requires_grad_()
        rows = torch.arange(200, device=table.device) * 7 % 17
        return torch.autograd.grad((table[rows] * draw(200, 24)).sum(), table)[0]

    def update_of_a_view(draw: Callable[..., Tensor]) -> Tensor:
        weights, moment = draw(33, 65), draw(65, 33)
        view = weights.t()
        view.mul_(0.9).addcmul_(moment, moment, value=0.1).addcdiv_(moment, moment.abs() + 1, value=-0.1)
        return weights

    return {
        "matmul": lambda draw: draw(129, 257) @ draw(257, 65),
        "matmul of transposed views": lambda draw: draw(3, 257, 129).mT @ draw(3, 65, 257).mT,
        "softmax": lambda draw: torch.softmax(30 * draw(64, 257), dim=-1),
        "layer norm": lambda draw: F.layer_norm(3 * draw(64, 257) + 5, (257,), draw(257), draw(257)),
        "causal attention": attention,
        "cross-entropy, backward": cross_entropy_gradient,
        "embedding, backward": embedding_gradient,
        "in-place update of a view": update_of_a_view,
    }
