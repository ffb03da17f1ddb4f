"""How fast a tensor is rounded to a format: `python benchmarks/rounding.py [--rounds 7] [--save]`.

64 MiB of fp32 numbers, rounded to every element format in every rounding, into memory that is there: by the fused
loops, by plain integer operations, by torch's own casts where it has them, and by ml_dtypes and gfloat. First all of
them must give the same bits. Goals: ≥ 2 GB/s of fp32 input for every format and rounding on two cores, ≥ 5 × ml_dtypes'
round trip to fp8, ≥ 25 × gfloat.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import gfloat
import ml_dtypes
import numpy as np
import torch
from gfloat import formats
from rich.console import Console
from rich.table import Table

from primer import device as devices
from primer.floats import plain
from primer.floats.formats import BLOCKS, FORMATS, INTEGERS, Rounding, element
from primer.floats.tensor import quantize
from receipt import take_turns, write

MEASURED = ("src/primer/floats", "benchmarks/rounding.py")
SIZE = 16 << 20
"""Numbers: 64 MiB."""
ROUNDINGS: tuple[Rounding, ...] = ("nearest", "nearest-away", "toward-zero", "up", "down", "stochastic")
ELEMENTS = [name for name in (*FORMATS, *INTEGERS) if name not in ("fp64", "fp32", "e8m0")]
OTHERS = {"e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2}
GFLOATS = {"e4m3": formats.format_info_ocp_e4m3, "e5m2": formats.format_info_ocp_e5m2}
NATIVE = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "e4m3": torch.float8_e4m3fn,
    "e5m2": torch.float8_e5m2,
}
FEW = SIZE >> 4
"""Numbers for those that are slow."""


def check(x: torch.Tensor) -> None:
    """Whoever is timed gives the same bits."""
    some = x[:1_000_000]
    for name, dtype in OTHERS.items():
        mine = quantize(some, name, overflow="ieee", implementation="fused")
        assert torch.equal(mine, torch.from_numpy(some.numpy().astype(dtype).astype(np.float32)))
        theirs = gfloat.round_ndarray(GFLOATS[name], some[:20000].numpy().astype(np.float64))
        assert torch.equal(mine[:20000].double(), torch.from_numpy(theirs))
    for name in ELEMENTS:
        for rounding in ROUNDINGS:
            a, b = (quantize(some, name, rounding, seed=1, implementation=how) for how in ("fused", "plain"))  # type: ignore[arg-type]
            assert torch.equal(a, b), (name, rounding)


def contestants(x: torch.Tensor, out: torch.Tensor) -> dict[str, tuple[Callable[[], object], int]]:
    """By name what is timed, and how many numbers it takes."""
    found: dict[str, tuple[Callable[[], object], int]] = {"copy": (lambda: out.copy_(x), SIZE)}
    for name in ELEMENTS:
        for rounding in ROUNDINGS:
            run = partial(quantize, x, name, rounding, seed=1, out=out, implementation="fused")
            found[f"{name} {rounding}"] = (run, SIZE)
    for name in BLOCKS:
        found[f"{name} blocks"] = (partial(quantize, x.view(-1, 4096), name), SIZE)
    some = x[:FEW]
    for name, dtype in NATIVE.items():
        short = torch.empty(SIZE, dtype=dtype)
        found[f"{name} torch, there and back"] = (lambda short=short: out.copy_(short.copy_(x)), SIZE)  # type: ignore[misc]
    for rounding in ("nearest", "stochastic"):
        form = element("e4m3")
        found[f"e4m3 {rounding} plain"] = (partial(plain.quantize, some, form, rounding, "saturate", 1), FEW)
    for name, dtype in OTHERS.items():
        found[f"{name} ml_dtypes, there and back"] = (
            lambda dtype=dtype: some.numpy().astype(dtype).astype(np.float32),  # type: ignore[misc]
            FEW,
        )
        found[f"{name} as ml_dtypes"] = (
            partial(quantize, some, name, out=out[:FEW], implementation="fused"),
            FEW,
        )
        found[f"{name} gfloat"] = (partial(gfloat.round_ndarray, GFLOATS[name], some.numpy()), FEW)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    devices.reuse_memory()
    x = torch.randn(SIZE, generator=torch.Generator().manual_seed(0)) * 8
    check(x)
    out = torch.empty_like(x)
    timed = contestants(x, out)
    for run, _ in timed.values():
        run()
    seconds = take_turns({name: run for name, (run, _) in timed.items()}, options.rounds)
    rates = {name: 4 * timed[name][1] / statistics.median(times) / 1e9 for name, times in seconds.items()}
    figures: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "bytes": 4 * SIZE,
        "rounds": options.rounds,
        "gb_per_second": {name: round(rate, 2) for name, rate in rates.items()},
        "slowest": min(
            (rates[f"{name} {rounding}"], f"{name} {rounding}") for name in ELEMENTS for rounding in ROUNDINGS
        ),
        "times_ml_dtypes": {
            name: rates[f"{name} as ml_dtypes"] / rates[f"{name} ml_dtypes, there and back"]
            for name in OTHERS
        },
        "times_gfloat": {name: rates[f"{name} as ml_dtypes"] / rates[f"{name} gfloat"] for name in GFLOATS},
        "times_plain": {
            rounding: rates[f"e4m3 {rounding}"] / rates[f"e4m3 {rounding} plain"]
            for rounding in ("nearest", "stochastic")
        },
    }
    table = Table("what", "GB/s of fp32")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:.2f}")
    console = Console()
    console.print(table)
    console.print({key: value for key, value in figures.items() if key != "gb_per_second"})
    if options.save:
        console.print(str(write("rounding", figures, measured=MEASURED)))


if __name__ == "__main__":
    main()
