"""How fast attention is on a CPU: `python benchmarks/attention_cpu.py [--rounds 9] [--only window] [--save]`.

`implementation="cpu"` against `scaled_dot_product_attention`, in turns: what that has a fused kernel for, what it needs
a mask for, the lecture's dropout, decoding with shared keys, a batch of sentences; and `tiled` against equation 1 as it
stands, in time and in memory. First every result must be at most twice as wrong as plain torch's, by float64. Times are
medians, ratios those of each round.
Goals on two cores: within 5 % where torch's kernel applies; ≥ 3 × with a window of T/8 and with eight documents at
T = 4096; ≥ 2 × with dropout, forward and backward, at the lecture's size; faster where heads share keys; `tiled` at
most 3 × as long as equation 1 at T = 1024.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from primer import device as devices
from primer.kernels.attention import cpu, library, reference, tiled
from primer.kernels.attention.measure import memory_of
from primer.kernels.budget import errors
from receipt import take_turns, write

MEASURED = ("src/primer/kernels", "benchmarks/attention_cpu.py")
LENGTH = 4096
"""Queries of a long sequence."""


class Case(NamedTuple):
    """Sizes, options, and what is to be reached: the other's time over ours."""

    sizes: tuple[int, int, int, int, int, int]
    """B, H, Hkv, T, S, D."""
    how: dict[str, Any]
    goal: float
    passes: tuple[str, ...] = ("forward", "forward and backward")
    ours: str = "cpu"
    other: str = "library"


OPERATORS: dict[str, Callable[..., Any]] = {
    "cpu": partial(cpu.attention, return_lse=False),
    "library": library.attention,
    "tiled": tiled.attention,
    "reference": reference.attention,
}


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
        "sentences, padded": Case((64, 8, 8, 30, 30, 64), {"causal": False, "seen": lengths(64, 30)}, 1),
        "padded": Case((8, 8, 8, 512, 512, 64), {"seen": lengths(8, 512)}, 1),
        "tiled": Case((1, 8, 8, 1024, 1024, 64), {}, 1 / 3, ours="tiled", other="reference"),
    }


def lengths(B: int, T: int) -> Tensor:
    """Which positions hold a token: the last of each row, half of them to all."""
    return torch.arange(T) >= torch.arange(B)[:, None] * (T // 2) // B


def tensors(case: Case, *, small: bool = False) -> list[Tensor]:
    """q, k, v and a gradient. small: only the heads that share one key head, and one row, unless rows differ."""
    B, H, Hkv, T, S, D = case.sizes
    if small:
        B, H, Hkv = B if "seen" in case.how else 1, H // Hkv, 1
    generator = torch.Generator().manual_seed(0)
    shapes = [(B, H, T, D), (B, Hkv, S, D), (B, Hkv, S, D), (B, H, T, D)]
    return [torch.randn(shape, generator=generator) for shape in shapes]


def check(name: str, case: Case) -> dict[str, float]:
    """Each result's error over what plain torch's is allowed to be; none is above 1."""
    found = {}
    for what, error in errors(OPERATORS[case.ours], *tensors(case, small=True), **case.how).items():
        if not error.ok:
            raise SystemExit(f"{name}: {what} is more than twice as wrong as plain torch's, {error}")
        found[what] = round(error.found / (error.plain or 1.0), 2)
    return found


def runs(case: Case) -> dict[tuple[str, str], Callable[[], object]]:
    """Each pass of ours and of the other's, by whose it is and which."""
    *given, d_out = tensors(case)

    def forward(operator: Callable[..., Any], how: dict[str, Any]) -> None:
        with torch.no_grad():
            for _ in range(repeats(case)):
                operator(*given, **how)

    def both(operator: Callable[..., Any], how: dict[str, Any]) -> None:
        for _ in range(repeats(case)):
            leaves = [x.detach().requires_grad_() for x in given]
            torch.autograd.grad(operator(*leaves, **how)[0], leaves, d_out)

    passes = {"forward": forward, "forward and backward": both}
    unseeded = {name: value for name, value in case.how.items() if name != "dropout_seed"}
    return {
        (name, which): partial(passes[which], OPERATORS[name], unseeded if name == "library" else case.how)
        for which in case.passes
        for name in (case.other, case.ours)
    }


def repeats(case: Case) -> int:
    """What takes too little time for the clock is done ten times."""
    return 10 if case.sizes[3] < 100 else 1


def measure(case: Case, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of both, and the other's over ours, for each pass."""
    timed = runs(case)
    for run in timed.values():
        run()
    seconds = take_turns(timed, rounds)
    found = {}
    for which in case.passes:
        theirs, ours = seconds[case.other, which], seconds[case.ours, which]
        found[which] = {
            f"{case.other}_ms": round(statistics.median(theirs) * 1e3 / repeats(case), 2),
            f"{case.ours}_ms": round(statistics.median(ours) * 1e3 / repeats(case), 2),
            "times": round(statistics.median(a / b for a, b in zip(theirs, ours, strict=True)), 2),
        }
    return found


def memory(case: Case) -> dict[str, list[float]]:
    """Megabytes that each takes at 1, 2 and 4 times the length, forward and backward."""
    found: dict[str, list[float]] = {case.other: [], case.ours: []}
    B, H, Hkv, T, _, D = case.sizes
    for times in (1, 2, 4):
        timed = runs(case._replace(sizes=(B, H, Hkv, T * times, T * times, D)))
        for name, taken in found.items():
            took = memory_of(timed[name, "forward and backward"], torch.device("cpu"))
            taken.append(round((took or 0) / 1e6, 1))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", help="cases whose name contains this")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    devices.reuse_memory()
    chosen = {name: case for name, case in cases().items() if (options.only or "") in name}
    table = Table("what", "pass", "", "ms", "", "ms", "×", "goal", "worst error / torch's")
    figures: dict[str, Any] = {"threads": torch.get_num_threads(), "rounds": options.rounds, "cases": {}}
    for name, case in chosen.items():
        wrong = check(name, case)
        times = measure(case, options.rounds)
        figures["cases"][name] = {"sizes": case.sizes, "goal": round(case.goal, 2), "error": wrong, **times}
        for which, found in times.items():
            taken = [f"{found[f'{whose}_ms']:.2f}" for whose in (case.other, case.ours)]
            shown = f"{max(wrong.values()):.2f}"
            passed = f"{found['times']:.2f}"
            table.add_row(
                name, which, case.other, taken[0], case.ours, taken[1], passed, f"{case.goal:.2g}", shown
            )
    console = Console()
    console.print(table)
    if "tiled" in chosen:
        figures["megabytes"] = memory(chosen["tiled"])
        console.print(f"megabytes at T = 1024, 2048 and 4096: {figures['megabytes']}")
    if options.save:
        console.print(str(write("attention_cpu", figures, measured=MEASURED)))


if __name__ == "__main__":
    main()
