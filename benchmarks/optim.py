"""What a step of the optimizer costs: `python benchmarks/optim.py [--rounds 20] [--save]`.

For the matrices of four blocks of width 128, 192 and 384: torch's optimizers, our readable ones and those
that train. First the ones that train must give the readable ones' numbers in float64; then all take
turns.
"""

import argparse
import os
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from primer.training.optim import AdamW, Muon, Optimizer, orthogonalise_dtype
from receipt import take_turns, write

Parameters = dict[str, nn.Parameter]


def blocks(width: int, dtype: torch.dtype = torch.float32, count: int = 4) -> Parameters:
    """The matrices of `count` blocks, with gradients; the same ones at each call."""
    generator = torch.Generator().manual_seed(width)
    shapes = {"qkv": (3 * width, width), "output": (width, width)}
    shapes |= {"expand": (4 * width, width), "contract": (width, 4 * width)}
    named = {}
    for number in range(count):
        for name, shape in shapes.items():
            p = nn.Parameter(torch.randn(shape, generator=generator).to(dtype))
            p.grad = torch.randn(shape, generator=generator).to(dtype)
            named[f"{number}.{name}"] = p
    return named


def check() -> None:
    """Three steps in float64."""

    def three(make: Callable[[Parameters], Optimizer]) -> torch.Tensor:
        named = blocks(32, torch.float64)
        optimizer = make(named)
        for _ in range(3):
            optimizer.step()
        return torch.cat([p.detach().flatten() for p in named.values()])

    adamw = [three(lambda n, i=i: AdamW(n.items(), implementation=i)) for i in ("reference", "fused")]
    muon = [
        three(lambda n, i=i: Muon(n.items(), dtype=torch.float64, implementation=i))
        for i in ("reference", "batched")
    ]
    for readable, fast in (adamw, muon):
        assert (readable - fast).abs().max() < 1e-10


def contestants(width: int) -> dict[str, Callable[[], object]]:
    """One step of each."""
    rows = {f"{number}.qkv": (width, width, width) for number in range(4)}
    steps: dict[str, Callable[[], object]] = {
        "torch AdamW": torch.optim.AdamW(blocks(width).values(), foreach=False).step,
        "torch AdamW, fused": torch.optim.AdamW(blocks(width).values(), fused=True).step,
        "AdamW, reference": AdamW(blocks(width).items(), implementation="reference").step,
        "AdamW, fused": AdamW(blocks(width).items()).step,
        "torch Muon (bfloat16, qkv as one)": torch.optim.Muon(blocks(width).values()).step,
    }
    for dtype in (torch.float32, torch.bfloat16):
        for how in ("reference", "batched"):
            optimizer = Muon(blocks(width).items(), dtype=dtype, rows=rows, implementation=how)
            steps[f"Muon, {how} ({str(dtype)[6:]})"] = optimizer.step
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20, help="turns that each takes; the best counts")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (default: all)")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results/")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    check()
    widths = (128, 192, 384)
    best = {}
    for width in widths:
        turns = take_turns(contestants(width), 2 + options.rounds)
        best[width] = {name: round(1000 * min(seconds[2:]), 3) for name, seconds in turns.items()}
    table = Table("milliseconds a step", *map(str, widths), title=f"{options.threads} thread(s)")
    for name in best[widths[0]]:
        table.add_row(name, *(f"{best[width][name]:.2f}" for width in widths))
    Console().print(table)
    follows = str(orthogonalise_dtype(torch.device("cpu")))[6:]
    print(f"here Muon follows the device to {follows}")
    if options.save:
        figures = {"milliseconds_a_step": best, "rounds": options.rounds, "muon_follows_to": follows}
        name = "optim" if options.threads == os.cpu_count() else f"optim-{options.threads}-thread"
        print(write(name, figures, measured=("src/primer/training/optim.py", "benchmarks/optim.py")).name)


if __name__ == "__main__":
    main()
