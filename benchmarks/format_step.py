"""What training in an emulated format costs: `python benchmarks/format_step.py [--rounds 3] [--save]`.

The lecture's model and batch (64 × 256 characters, made up) by primer's trainer: in fp32, and with each policy, in
turns within one process; medians of the rounds. Goal: at most 3 × the fp32 step, emulated accumulators aside.
"""

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from primer import device as devices
from primer.data.batches import BatchStream
from primer.models.gpt import GPT
from primer.recipes.build import assemble
from primer.recipes.config import RunConfig
from primer.recipes.plan import with_vocabulary
from primer.recipes.resolve import resolve
from primer.training.distributed import World
from primer.training.loop import Trainer
from primer.training.precision import in_formats
from receipt import write

MEASURED = ("src/primer", "benchmarks/format_step.py")
VOCABULARY, MICRO = 65, 16
EVERYTHING = dict.fromkeys(
    ("matmul", "attention", "activations", "gradients", "weights", "optimizer"), "bf16"
)
POLICIES: dict[str, dict[str, str]] = {
    "fp32": {},
    "tf32": {"matmul": "tf32"},
    "bf16": {"matmul": "bf16"},
    "fp16": {"matmul": "fp16"},
    "bf16 everywhere": EVERYTHING,
    "bf16 weights, stochastic": {"weights": "bf16", "weights_rounding": "stochastic"},
    "e4m3, a scale a tensor": {"matmul": "e4m3"},
    "e4m3, a scale a row": {"matmul": "e4m3", "scaling": "row"},
    "e4m3 and e5m2": {"matmul": "e4m3", "matmul_gradients": "e5m2"},
    "mxfp8": {"matmul": "mxfp8"},
    "mxfp4": {"matmul": "mxfp4"},
    "mxfp4, stochastic gradients": {"matmul": "mxfp4", "gradients_rounding": "stochastic"},
    "nvfp4": {"matmul": "nvfp4"},
}


def trainer(policy: dict[str, str]) -> Trainer:
    """The lecture's model with made-up tokens, in a policy's formats."""
    flags = {"train.micro_batch": MICRO, **{f"precision.{key}": value for key, value in policy.items()}}
    config = with_vocabulary(resolve("lecture", flags=flags).config, VOCABULARY)
    assert isinstance(config, RunConfig)
    torch.manual_seed(0)
    model = GPT(config.model)
    in_formats(model, config.precision)
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, 1 << 20).astype(np.uint16)
    context = config.model.context_length
    stream = BatchStream(
        tokens, batch_size=config.train.batch_size, context_length=context, seed=0, order="random"
    )
    made = assemble(config, model, stream, World(), places=MICRO * context)
    made.model.train()
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="policies with this word in their names")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    devices.reuse_memory()
    chosen = {name: policy for name, policy in POLICIES.items() if name == "fp32" or options.only in name}
    trainers = {name: trainer(policy) for name, policy in chosen.items()}
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    for number in range(options.rounds + 1):  # the first one compiles
        for name, each in trainers.items():
            started = time.perf_counter()
            row = each.step()
            assert row is not None
            if number:
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ratios = {
        name: statistics.median(mine / base for mine, base in zip(times, seconds["fp32"], strict=True))
        for name, times in seconds.items()
    }
    table = Table("policy", "seconds a step", "× fp32")
    for name in chosen:
        table.add_row(name, f"{medians[name]:.2f}", f"{ratios[name]:.2f}")
    console = Console()
    console.print(table)
    figures: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "rounds": options.rounds,
        "seconds": medians,
        "times_fp32": ratios,
        "worst": max(ratios.values()),
    }
    if options.save:
        console.print(str(write("format_step", figures, measured=MEASURED)))


if __name__ == "__main__":
    main()
