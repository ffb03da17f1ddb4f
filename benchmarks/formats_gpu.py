"""Number formats on one GPU: `python benchmarks/formats_gpu.py [--save]`, in less than three minutes on an H200.

First bits: what the GPU rounds is what a CPU rounds, for every format, rounding and scale. Then rates: 1 GiB of fp32
numbers rounded in one pass, by eager integer operations, and by torch's own casts. Then what a step of GPT-2 (124M)
costs in each policy: the device's own bf16, its own fp8 products (eager and compiled), and emulated formats.

It needs what `benchmarks/gpu.py` needs. `--device=cpu --tiny` runs all of it in miniature, to see that it does.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gpu import TINY, best, make_trainer
from primer import device as devices
from primer.floats import native, plain
from primer.floats.formats import BLOCKS, FORMATS, INTEGERS, Rounding, element
from primer.floats.tensor import quantize
from primer.models.gpt import GPT
from primer.recipes.resolve import resolve
from primer.training.precision import compiles, in_formats
from receipt import write

MEASURED = ("src/primer", "benchmarks/formats_gpu.py", "benchmarks/gpu.py")
ROUNDINGS: tuple[Rounding, ...] = ("nearest", "nearest-away", "toward-zero", "up", "down", "stochastic")
ELEMENTS = [name for name in (*FORMATS, *INTEGERS) if name not in ("fp64", "fp32", "e8m0")]
DTYPES = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "e4m3": torch.float8_e4m3fn,
    "e5m2": torch.float8_e5m2,
}
ROWS = 16
"""Sequences of a step, of 1,024 tokens each."""
FP8 = {"matmul": "e4m3", "matmul_gradients": "e5m2", "scaling": "tensor", "native": "on"}
POLICIES: dict[str, tuple[dict[str, str], bool]] = {
    "bf16": ({}, False),
    "bf16, compiled": ({}, True),
    "fp8, the device's own products": (FP8, False),
    "fp8, the device's own products, compiled": (FP8, True),
    "fp8, emulated": ({**FP8, "native": "off"}, False),
    "mxfp8, emulated": ({"matmul": "mxfp8"}, False),
    "mxfp4, emulated": ({"matmul": "mxfp4"}, False),
    "nvfp4, emulated": ({"matmul": "nvfp4"}, False),
    "mxfp4, stochastic gradients, emulated": (
        {"matmul": "mxfp4", "gradients_rounding": "stochastic"},
        False,
    ),
}


def check(device: torch.device) -> None:
    """The same bits as plain operations on a CPU."""
    numbers = np.random.default_rng(0).integers(0, 1 << 32, 1 << 16, dtype=np.uint32).view(np.float32)
    x = torch.cat([torch.from_numpy(numbers), torch.randn(1 << 16)])

    def same(form: str, rounding: Rounding, **how: Any) -> None:
        at = x.view(512, -1) if how else x
        here, there = (
            quantize(t, form, rounding, seed=3, implementation=by, **how).cpu()  # type: ignore[arg-type]
            for t, by in ((at, "plain"), (at.to(device), "auto"))
        )
        words = [torch.where(t.isnan(), -1, t.view(torch.int32)) for t in (here, there)]
        assert torch.equal(*words), (form, rounding, how, int((words[0] != words[1]).sum()))

    for rounding in ROUNDINGS:
        for name in ELEMENTS:
            same(name, rounding)
        for name in ("e4m3", "e5m2", "e2m1", "int8"):
            for scaling in ("tensor", "row"):
                same(name, rounding, scaling=scaling)
        for name in BLOCKS:
            same(name, rounding, axis=0)


def rates(device: torch.device, numbers: int) -> dict[str, float]:
    """GB/s of fp32 that is read, by what does it."""
    x = torch.randn(numbers, device=device)
    out = torch.empty_like(x)
    timed: dict[str, Callable[[], object]] = {"copy": lambda: out.copy_(x)}
    for name in ELEMENTS:
        for rounding in ROUNDINGS:
            timed[f"{name} {rounding}"] = partial(quantize, x, name, rounding, seed=1, out=out)
    for name in BLOCKS:
        timed[f"{name} blocks"] = partial(quantize, x.view(-1, 4096), name)
    for name, dtype in DTYPES.items():
        short = torch.empty(numbers, dtype=dtype, device=device)
        timed[f"{name} torch, there and back"] = lambda short=short: out.copy_(short.copy_(x))  # type: ignore[misc]
    for rounding in ("nearest", "stochastic"):
        some = x[: numbers // 16]
        timed[f"e4m3 {rounding} plain, a sixteenth"] = partial(
            plain.quantize, some, element("e4m3"), rounding, "saturate", 1
        )
    return {
        name: 4 * numbers / (16 if "sixteenth" in name else 1) / best(run, device, 7) / 1e9
        for name, run in timed.items()
    }


def product_errors(device: torch.device, width: int) -> dict[str, float]:
    """Relative errors (Frobenius) of a product of Gaussian matrices against fp64: the device's own, and emulated."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(512, width, generator=generator, dtype=torch.float64) for _ in range(2))
    a, b = a.to(device), b.to(device)
    x, y, truth = a.float(), b.float(), a @ b.T

    def error(product: Tensor) -> float:
        return float((product.double() - truth).norm() / truth.norm())

    found = {}
    for name, tf32 in (("fp32", False), ("tf32", True)):
        devices.use_tf32(device, tf32)
        found[name] = error(x @ y.T)
    devices.use_tf32(device, False)
    found["bf16"] = error(x.bfloat16() @ y.bfloat16().T)
    for name in ("tf32", "bf16", "e4m3", "e5m2"):
        found[f"{name}, emulated"] = error(quantize(x, name) @ quantize(y, name).T)
    for name in ("e4m3", "e5m2"):
        pair = native.eight_bits(x, element(name)), native.eight_bits(y, element("e4m3"))
        found[f"{name} by e4m3"] = error(native.matmul(*pair))
        found[f"{name} by e4m3, emulated"] = error(quantize(x, name) @ quantize(y, "e4m3").T)
    devices.use_tf32(device, True)
    return found


def step(policy: dict[str, str], device: torch.device, *, compiled: bool, tiny: bool) -> dict[str, float]:
    """Seconds of a step of GPT-2 in a policy's formats, and the losses of the first six."""
    flags = {
        "model.vocab_size": 50304,
        "schedule.warmup": 0,
        **(TINY if tiny else {"train.batch_size": ROWS}),
        **{f"precision.{key}": value for key, value in policy.items()},
    }
    config = resolve("gpt2-124m", flags=flags).config
    config = replace(config, train=replace(config.train, micro_batch=config.train.batch_size))
    torch.manual_seed(0)
    model = GPT(config.model).to(device)
    in_formats(model, config.precision)
    trainer = make_trainer(config, model, device)
    trainer.precision = replace(trainer.precision, formats=config.precision)
    started = time.perf_counter()
    if compiled:
        assert compiles(config.precision, device)
        trainer.forward = torch.compile(model)
    losses = []
    for _ in range(6):
        row = trainer.step()
        assert row is not None
        losses.append(row["loss"])
    devices.synchronize(device)
    first = time.perf_counter() - started
    return {
        "seconds": best(trainer.step, device, 10),
        "first_six_seconds": round(first, 1),
        "loss_after_five_steps": losses[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="default cuda")
    parser.add_argument("--tiny", action="store_true", help="everything in miniature")
    parser.add_argument("--save", action="store_true", help="keep the figures")
    options = parser.parse_args()
    device = devices.choose(options.device, "--device")
    devices.use_tf32(device, True)
    console = Console()
    check(device)
    console.print(f"{devices.describe(device)['name']}: the same bits as on a CPU")
    found = rates(device, 1 << 16 if options.tiny else 1 << 28)
    table = Table("what", "GB/s of fp32")
    for name, rate in found.items():
        if "nearest-away" not in name and "up" not in name:
            table.add_row(name, f"{rate:.0f}")
    console.print(table)
    errors = {f"width {width}": product_errors(device, width) for width in (512, 4096)}
    console.print(errors)
    steps: dict[str, Any] = {}
    for name, (policy, compiled) in POLICIES.items():
        try:
            steps[name] = step(policy, device, compiled=compiled, tiny=options.tiny)
        except Exception as error:
            steps[name] = {"failed": f"{type(error).__name__}: {error}"[:300]}
        console.print(name, steps[name])
        if device.type == "cuda":
            torch.cuda.empty_cache()
    figures = {
        "gb_per_second": {name: round(rate, 1) for name, rate in found.items()},
        "slowest": min((found[f"{n} {r}"], f"{n} {r}") for n in ELEMENTS for r in ROUNDINGS),
        "product_errors": errors,
        "steps": steps,
        "rows": ROWS,
    }
    if options.save:
        console.print(write("formats_gpu", figures, measured=MEASURED, device=str(device)).name)


if __name__ == "__main__":
    main()
