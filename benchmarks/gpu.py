"""GPT-2 (124M) on one GPU: `python benchmarks/gpu.py [--save]`, in less than eight minutes on an H100 or H200.

First it checks that this device computes rightly: every operation that training is made of, attention, a model's loss
and gradients, and a few optimizer steps, each against float64 on the CPU. Then it measures both recipes, eager and
compiled: tokens a second, the share of the device's peak, memory; and the attention kernel by itself.

It needs torch, triton, numpy, safetensors, rich and jaxtyping, so that it also runs from a plain checkout:
`PYTHONPATH=src python benchmarks/gpu.py`. `--device=cpu --tiny` runs all of it in miniature, to see that it does.

FLOPs a token are 6·N + 6·L·T·C, as llm.c counts them (the causal half of attention): 803.5 million at T = 1024. An
embedding that is not also the head multiplies nothing, and is not in N.
References on one H100: llm.c 468,000 tokens/s = 38 % of 989 TFLOP/s; modded-nanogpt's compiled GPT-2-sized run 462,000.
Goals on an H200: must 450,000, then 560,000, goal 650,000 tokens/s = 53 %.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Column, Table
from torch import Tensor

from primer import device as devices
from primer.data.batches import BatchStream
from primer.kernels.attention import attention
from primer.kernels.cross_entropy import linear_cross_entropy
from primer.models.config import GPTConfig
from primer.models.count import parameters
from primer.models.gpt import GPT
from primer.recipes.build import build_optimizer
from primer.recipes.config import RunConfig
from primer.recipes.measure import choose_micro_batch
from primer.recipes.resolve import resolve
from primer.training.distributed import World
from primer.training.loop import Trainer
from primer.training.precision import Precision
from primer.training.schedule import schedule
from receipt import write

RECIPES = ("gpt2-124m", "gpt2-124m-modern")
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "4090": 165e12}
"""FLOP/s in bf16 without sparsity, from the vendor's data sheets (SXM); by what a device's name contains."""
MEASURED = ("src/primer", "benchmarks/gpu.py")
TINY = {"model.d_model": 96, "model.n_layers": 2, "model.context_length": 64, "train.batch_size": 4}
SECONDS = 12.0
"""How long each variant is measured, after its first steps."""


def flops_per_token(config: GPTConfig) -> float:
    """Of training, as llm.c counts them: 6·N + 6·L·T·C."""
    looked_up = 0 if config.tied_head else config.vocab_size * config.d_model
    attended = config.n_layers * config.context_length * config.d_model
    return 6.0 * (parameters(config) - looked_up) + 6.0 * attended


def peak(device: torch.device) -> float:
    """FLOP/s that the data sheet promises; of a device that is not listed, what a matrix product reaches."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for known, rate in PEAKS.items():
            if known in name:
                return rate
        return devices.matmul_rate(device, torch.bfloat16)
    return devices.matmul_rate(device)


def check(device: torch.device) -> None:
    """Stops with what is wrong where this device does not compute what it should."""
    wrong = [each for each in devices.self_check(device) if not each.ok]
    assert not wrong, f"computes wrongly: {wrong}"
    check_attention(device)
    check_loss(device)
    check_training(device, "gpt2-124m")
    check_training(device, "gpt2-124m-modern")


def check_attention(device: torch.device) -> None:
    """Twice the error of plain torch in the same dtype at most, forward and backward, both against float64."""
    torch.manual_seed(0)
    for D in (64, 128):
        drawn = [torch.randn(2, 4, 200, D, dtype=torch.float64) for _ in range(4)]
        for dtype in (torch.float32, torch.bfloat16):

            def results(implementation: Any, dtype: torch.dtype, where: torch.device) -> list[Tensor]:
                q, k, v, g = (x.to(where, dtype).requires_grad_() for x in drawn)  # noqa: B023
                out = attention(q, k, v, implementation=implementation)
                return [x.double().cpu() for x in (out.detach(), *torch.autograd.grad(out, (q, k, v), g))]

            truth = results("reference", torch.float64, torch.device("cpu"))
            plain = results("reference", dtype, device)
            fast = results("auto", dtype, device)
            for t, p, f in zip(truth, plain, fast, strict=True):
                error, allowed = float((f - t).abs().max()), 2 * float((p - t).abs().max()) + 1e-6
                assert error <= allowed, f"attention D={D} {dtype}: error {error:.1e}, allowed {allowed:.1e}"


def check_loss(device: torch.device) -> None:
    """As for attention, of the kernel that writes the loss's gradient over its logits."""
    if device.type != "cuda":
        return
    torch.manual_seed(0)
    drawn = [torch.randn(300, 64), torch.randn(50304, 64)]
    targets = torch.randint(50304, (300,))

    def results(implementation: Any, dtype: torch.dtype, where: torch.device) -> list[Tensor]:
        kept = torch.float64 if dtype == torch.float64 else torch.float32
        h, weight = (x.to(where, kept).requires_grad_() for x in drawn)
        with torch.autocast(where.type, dtype, enabled=dtype == torch.bfloat16):
            loss = linear_cross_entropy(
                h, weight, targets.to(where), soft_cap=15.0, implementation=implementation
            )
        return [x.double().cpu() for x in torch.autograd.grad(loss, (h, weight))]

    truth = results("reference", torch.float64, torch.device("cpu"))
    for dtype in (torch.float32, torch.bfloat16):
        plain, fast = (results(each, dtype, device) for each in ("reference", "gpu"))
        for t, p, f in zip(truth, plain, fast, strict=True):
            error, allowed = float((f - t).abs().max()), 2 * float((p - t).abs().max()) + 1e-9
            assert error <= allowed, f"loss {dtype}: error {error:.1e}, allowed {allowed:.1e}"


def check_training(device: torch.device, recipe: str) -> None:
    """The losses of ten steps of a small model in float32 are those of float64 on the CPU."""
    losses = {}
    for where, dtype in ((torch.device("cpu"), torch.float64), (device, torch.float32)):
        flags = {
            **TINY,
            "model.vocab_size": 500,
            "train.micro_batch": 2,
            "train.precision": "fp32",
            "schedule.warmup": 0,
        }
        config = resolve(recipe, flags=flags).config
        config = replace(config, optim=replace(config.optim, muon_dtype="fp32"))
        torch.manual_seed(0)
        model = GPT(config.model).to(where, dtype)
        trainer = make_trainer(config, model, where, vocabulary=500)
        losses[dtype] = [trainer.step()["loss"] for _ in range(10)]
    assert losses[torch.float64][-1] < losses[torch.float64][0] - 0.01, "nothing was learned"
    worst = max(abs(a - b) for a, b in zip(losses[torch.float64], losses[torch.float32], strict=True))
    assert worst < 2e-3, f"{recipe}: losses differ by {worst:.1e}"


def make_trainer(config: RunConfig, model: GPT, device: torch.device, vocabulary: int = 50257) -> Trainer:
    """The trainer that `primer train` would use, on made-up documents."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(vocabulary, size=max(100_000, 4 * config.train.batch_size * 1024))
    tokens = (tokens % 97 * 511 % vocabulary).astype(
        np.uint16
    )  # fewer distinct ones: something can be learned
    return Trainer(
        model=model,
        optimizer=build_optimizer(config, model),
        stream=BatchStream(
            tokens,
            batch_size=config.train.batch_size,
            context_length=config.model.context_length,
            seed=0,
        ),
        config=config.train,
        schedule=schedule(config.schedule, config.train.steps),
        places=(config.train.micro_batch or config.train.batch_size) * config.model.context_length,
        clip=config.optim.clip,
        precision=Precision(device, devices.autocast_dtype(device, config.train.precision)),
    )


def measure(recipe: str, device: torch.device, *, compiled: bool, tiny: bool) -> dict[str, Any]:
    """Tokens a second of a recipe's own steps, with what they needed."""
    flags = {"model.vocab_size": 50304, "schedule.warmup": 0, **(TINY if tiny else {})}
    config = resolve(recipe, flags=flags).config
    devices.use_tf32(device, True)
    devices.reuse_memory()
    torch.manual_seed(0)
    model = GPT(config.model).to(device)
    rows = choose_micro_batch(config, model, World())
    config = replace(config, train=replace(config.train, micro_batch=rows))
    trainer = make_trainer(config, model, device)
    started = time.perf_counter()
    if compiled:
        trainer.forward = torch.compile(model)
    for _ in range(2):
        trainer.step()
    devices.synchronize(device)
    warm_up = time.perf_counter() - started
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds: list[float] = []
    while len(seconds) < 3 or sum(seconds) < (0 if tiny else SECONDS):
        started = time.perf_counter()
        trainer.step()
        devices.synchronize(device)
        seconds.append(time.perf_counter() - started)
    rate = config.train.batch_size * config.model.context_length / float(np.median(seconds))
    return {
        "tokens_per_second": round(rate),
        "share_of_peak": round(rate * flops_per_token(config.model) / peak(device), 4),
        "micro_batch": rows,
        "peak_gigabytes": round(devices.peak_memory(device) / 1e9, 2),
        "first_two_steps_seconds": round(warm_up, 1),
        "steps": len(seconds),
    }


def attention_rate(device: torch.device, D: int, *, tiny: bool) -> dict[str, float]:
    """TFLOP/s of the attention that training uses, at the recipes' sizes, forward and forward with backward."""
    B, H, T = (1, 2, 128) if tiny else (32, 768 // D, 1024)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    q, k, v = (torch.randn(B, H, T, D, device=device, dtype=dtype, requires_grad=True) for _ in range(3))
    g = torch.randn_like(q)
    forward = 4 * B * H * T * T * D / 2  # the causal half

    def both() -> None:
        torch.autograd.grad(attention(q, k, v), (q, k, v), g)

    def alone() -> None:
        with torch.no_grad():
            attention(q, k, v)

    found = {"forward": (alone, forward), "forward and backward": (both, 3.5 * forward)}
    return {
        name: round(flops / best(run, device) / 1e12, 2 if device.type == "cuda" else 4)
        for name, (run, flops) in found.items()
    }


def best(run: Callable[[], object], device: torch.device, rounds: int = 20) -> float:
    """Seconds of the median call."""
    seconds = []
    for number in range(rounds + 3):
        devices.synchronize(device)
        started = time.perf_counter()
        run()
        devices.synchronize(device)
        if number >= 3:
            seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="default cuda")
    parser.add_argument("--tiny", action="store_true", help="everything in miniature")
    parser.add_argument("--eager-only", action="store_true", help="compile nothing")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results/gpu.json")
    options = parser.parse_args()
    device = devices.choose(options.device, "--device")
    console = Console()
    check(device)
    console.print(f"{devices.describe(device)['name']}: computes what it should")
    table = Table(
        Column("recipe", no_wrap=True),
        "",
        "tokens/s",
        "of peak",
        "micro-batch",
        "peak memory",
        "first two steps",
    )
    figures: dict[str, Any] = {}
    for recipe in RECIPES:
        for compiled in (False,) if options.eager_only else (False, True):
            found = measure(recipe, device, compiled=compiled, tiny=options.tiny)
            kind = "compiled" if compiled else "eager"
            figures[f"{recipe}, {kind}"] = found
            table.add_row(
                recipe,
                kind,
                f"{found['tokens_per_second']:,}",
                f"{found['share_of_peak']:.1%}",
                str(found["micro_batch"]),
                f"{found['peak_gigabytes']} GB",
                f"{found['first_two_steps_seconds']} s",
            )
            if device.type == "cuda":
                torch.cuda.empty_cache()
    console.print(table)
    figures["attention TFLOP/s"] = {f"D={D}": attention_rate(device, D, tiny=options.tiny) for D in (64, 128)}
    figures["matmul TFLOP/s"] = round(
        devices.matmul_rate(device, torch.bfloat16 if device.type == "cuda" else None) / 1e12, 3
    )
    console.print(figures["attention TFLOP/s"], f"matmul {figures['matmul TFLOP/s']} TFLOP/s")
    if options.save:
        console.print(write("gpu", figures, measured=MEASURED, device=str(device)).name)


if __name__ == "__main__":
    main()
