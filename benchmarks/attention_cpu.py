"""How fast attention is on a CPU: `python benchmarks/attention_cpu.py [--rounds 9] [--only window] [--save]`.

`implementation="cpu"` against `scaled_dot_product_attention`, in turns: what that has a fused kernel for, what it needs
a mask for, the lecture's dropout, decoding with shared keys, a batch of sentences. First every result must be at most
twice as wrong as plain torch's, by float64. Times are medians, ratios those of each round.
Goals on two cores: within 5 % where torch's kernel applies; ≥ 3 × with a window of T/8 and with eight documents at
T = 4096; ≥ 2 × with dropout, forward and backward, at the lecture's size; faster where heads share keys.
"""

import argparse
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from primer import device as devices
from primer.kernels.attention import cpu, library
from primer.kernels.budget import errors
from receipt import take_turns, write

MEASURED = ("src/primer/kernels", "benchmarks/attention_cpu.py")
LENGTH = 4096
"""Queries of a long sequence."""


class Case(NamedTuple):
    """Sizes, options, and what is to be reached: torch's time over ours."""

    sizes: tuple[int, int, int, int, int, int]
    """B, H, Hkv, T, S, D."""
    how: dict[str, Any]
    goal: float
    passes: tuple[str, ...] = ("forward", "forward and backward")


def cases() -> dict[str, Case]:
    long = (1, 8, 8, LENGTH, LENGTH, 64)
    documents = (torch.arange(LENGTH) // (LENGTH // 8))[None]
    dropout = {"dropout": 0.2, "dropout_seed": 1}
    trained = ("forward and backward",)
    return {
        "causal": Case(long, {}, 0.95),
        "full": Case(long, {"causal": False}, 0.95),
        "window": Case(long, {"window": LENGTH // 8}, 3),
        "documents": Case(long, {"document_ids": documents}, 3),
        "grouped, causal": Case((1, 8, 2, LENGTH, LENGTH, 64), {}, 0.95),
        "lecture, 16 rows": Case((16, 4, 4, 256, 256, 96), dropout, 2, trained),
        "lecture, 64 rows": Case((64, 4, 4, 256, 256, 96), dropout, 2, trained),
        "lecture, six heads": Case((64, 6, 6, 256, 256, 64), dropout, 2, trained),
        "dropout, long": Case((1, 8, 8, LENGTH // 2, LENGTH // 2, 64), dropout, 2, trained),
        "decoding, 8 of 32": Case((1, 32, 8, 1, LENGTH, 128), {}, 1, ("forward",)),
        "decoding, 8 of 32, 4 rows": Case((4, 32, 8, 1, LENGTH // 2, 128), {}, 1, ("forward",)),
        "decoding, 1 of 8": Case((1, 8, 1, 1, 2 * LENGTH, 64), {}, 1, ("forward",)),
        "decoding, 4 queries": Case((1, 32, 8, 4, LENGTH, 128), {}, 1, ("forward",)),
        "decoding, window": Case((1, 8, 8, 1, LENGTH, 64), {"window": LENGTH // 8}, 1, ("forward",)),
        "sentences": Case((64, 8, 8, 30, 30, 64), {}, 1),
    }


def tensors(case: Case, heads: int | None = None) -> list[Tensor]:
    """q, k, v and a gradient; with the `heads` that share one key head, of one row, if it is to be judged."""
    B, H, Hkv, T, S, D = case.sizes
    if heads:
        B, H, Hkv = 1, H // Hkv, 1
    generator = torch.Generator().manual_seed(0)
    shapes = [(B, H, T, D), (B, Hkv, S, D), (B, Hkv, S, D), (B, H, T, D)]
    return [torch.randn(shape, generator=generator) for shape in shapes]


def check(name: str, case: Case) -> dict[str, float]:
    """Each result's error over what plain torch's is allowed to be; none is above 1."""
    found = {}
    for what, error in errors(cpu.attention, *tensors(case, heads=1), **case.how).items():
        if not error.ok:
            raise SystemExit(f"{name}: {what} is more than twice as wrong as plain torch's, {error}")
        found[what] = round(error.found / (error.plain or 1.0), 2)
    return found


def runs(case: Case) -> dict[str, Callable[[], object]]:
    """Ours and torch's, for each pass, by name."""
    *given, d_out = tensors(case)
    torchs = {name: value for name, value in case.how.items() if name != "dropout_seed"}
    operators = {
        "torch": lambda *x: library.attention(*x, **torchs)[0],
        "cpu": lambda *x: cpu.attention(*x, **case.how, return_lse=False)[0],
    }
    repeats = 10 if case.sizes[3] < 100 else 1

    def forward(operator: Callable[..., Tensor]) -> None:
        with torch.no_grad():
            for _ in range(repeats):
                operator(*given)

    def both(operator: Callable[..., Tensor]) -> None:
        for _ in range(repeats):
            leaves = [x.detach().requires_grad_() for x in given]
            torch.autograd.grad(operator(*leaves), leaves, d_out)

    passes = {"forward": forward, "forward and backward": both}
    return {
        f"{whose}, {which}": lambda run=passes[which], operator=operator: run(operator)  # type: ignore[misc]
        for which in case.passes
        for whose, operator in operators.items()
    }


def measure(case: Case, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of both, and torch's over ours, for each pass."""
    timed = runs(case)
    for run in timed.values():
        run()
    seconds = take_turns(timed, rounds)
    repeats = 10 if case.sizes[3] < 100 else 1
    found = {}
    for which in case.passes:
        theirs, ours = seconds[f"torch, {which}"], seconds[f"cpu, {which}"]
        found[which] = {
            "torch_ms": round(statistics.median(theirs) * 1e3 / repeats, 2),
            "cpu_ms": round(statistics.median(ours) * 1e3 / repeats, 2),
            "times_torch": round(statistics.median(a / b for a, b in zip(theirs, ours, strict=True)), 2),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", help="cases whose name contains this")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    devices.reuse_memory()
    chosen = {name: case for name, case in cases().items() if (options.only or "") in name}
    table = Table("what", "pass", "torch, ms", "cpu, ms", "× torch", "goal", "error / plain torch's")
    figures: dict[str, Any] = {"threads": torch.get_num_threads(), "rounds": options.rounds, "cases": {}}
    for name, case in chosen.items():
        wrong = check(name, case)
        times = measure(case, options.rounds)
        figures["cases"][name] = {"sizes": case.sizes, "goal": case.goal, "error": wrong, **times}
        for which, found in times.items():
            numbers = [f"{found[key]:.2f}" for key in ("torch_ms", "cpu_ms", "times_torch")]
            errors_shown = " ".join(f"{what} {value}" for what, value in wrong.items())
            table.add_row(name, which, *numbers, f"{case.goal:g}", errors_shown)
    console = Console()
    console.print(table)
    if options.save:
        console.print(str(write("attention_cpu", figures, measured=MEASURED)))


if __name__ == "__main__":
    main()
