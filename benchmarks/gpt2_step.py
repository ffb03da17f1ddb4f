"""How fast GPT-2 (124M) trains on a CPU: `python benchmarks/gpt2_step.py [--rounds 3] [--save]`.

Batches of 4 × 256 tokens, no dropout, AdamW, clipping, float32, by `primer`'s trainer, by `transformers`' GPT-2, and by
a plain `nn.Module` of nanoGPT's structure, which is written below. First all three must compute the same loss and the
same gradients from the same weights. Then they take turns, each in a process of its own, so that whatever else the
machine does hits all of them. All three get torch's fused AdamW.
Goals: ≥ 1.15 × transformers, ≥ 1.1 × the plain module, ≥ 70 % of the machine's matmul rate.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from primer import device as devices
from primer.data.batches import BatchStream
from primer.models.config import GPTConfig
from primer.models.count import flops_per_token
from primer.models.gpt import GPT
from primer.training.config import ScheduleConfig, TrainConfig
from primer.training.loop import Trainer
from primer.training.optim import AdamW, Optimizers, decay_groups
from primer.training.schedule import schedule
from receipt import write

ROWS, LENGTH = 4, 256
MEASURED = ("src/primer", "benchmarks/gpt2_step.py")
GPT2 = {"vocab_size": 50257, "context_length": 1024, "d_model": 768, "n_layers": 12, "n_heads": 12}


class PlainBlock(nn.Module):
    """A block as one writes it down: LayerNorm, fused attention, LayerNorm, GELU."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, self.heads, -1).transpose(1, 2) for part in self.qkv(self.norm_1(x)).split(C, 2)
        )
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(z.transpose(1, 2).reshape(B, T, C))
        return x + self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class PlainGPT(nn.Module):
    """The structure of nanoGPT's model: tied embedding, learned positions, logits for all positions."""

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__()
        C = sizes["d_model"]
        self.tokens, self.positions = (
            nn.Embedding(sizes["vocab_size"], C),
            nn.Embedding(sizes["context_length"], C),
        )
        self.blocks = nn.ModuleList(PlainBlock(C, sizes["n_heads"]) for _ in range(sizes["n_layers"]))
        self.norm, self.head = nn.LayerNorm(C), nn.Linear(C, sizes["vocab_size"], bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1))


PLAIN_NAMES = {
    "token_embedding.weight": "tokens.weight",
    "position_embedding.weight": "positions.weight",
    "final_norm": "norm",
    "layers": "blocks",
    "attention_norm": "norm_1",
    "feed_forward_norm": "norm_2",
    "attention.qkv": "qkv",
    "attention.output": "out",
    "feed_forward.expand": "up",
    "feed_forward.contract": "down",
}
THEIR_NAMES = {
    "token_embedding.weight": "transformer.wte.weight",
    "position_embedding.weight": "transformer.wpe.weight",
    "final_norm": "transformer.ln_f",
    "layers": "transformer.h",
    "attention_norm": "ln_1",
    "feed_forward_norm": "ln_2",
    "attention.qkv": "attn.c_attn",
    "attention.output": "attn.c_proj",
    "feed_forward.expand": "mlp.c_fc",
    "feed_forward.contract": "mlp.c_proj",
}


def renamed(tensors: dict[str, Tensor], names: dict[str, str], *, transposed: bool) -> dict[str, Tensor]:
    """Our tensors under another program's names; Conv1D of `transformers` keeps its matrices the other way round."""
    found = {}
    for name, tensor in tensors.items():
        turn = transposed and tensor.ndim == 2 and name.startswith("layers.")
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        found[name] = tensor.t().contiguous() if turn else tensor
    return found


def ours(sizes: dict[str, int]) -> GPT:
    return GPT(GPTConfig(**sizes, tied_head=True))  # type: ignore[arg-type]


def theirs(sizes: dict[str, int]) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=sizes["vocab_size"],
            n_positions=sizes["context_length"],
            n_embd=sizes["d_model"],
            n_layer=sizes["n_layers"],
            n_head=sizes["n_heads"],
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            use_cache=False,
        )
    )


def check() -> None:
    """The same weights give the same loss and the same gradients, in float64, at a small size of the same kind."""
    sizes = {"vocab_size": 1000, "context_length": 64, "d_model": 48, "n_layers": 2, "n_heads": 4}
    torch.manual_seed(0)
    mine, plain, other = ours(sizes).double(), PlainGPT(sizes).double(), theirs(sizes).double()
    weights = dict(mine.named_parameters())
    plain.load_state_dict(renamed(weights, PLAIN_NAMES, transposed=False), strict=False)
    other.load_state_dict(renamed(weights, THEIR_NAMES, transposed=True), strict=False)
    tokens = torch.randint(1000, (2, 65))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    losses = {
        "primer": mine(inputs, targets=targets),
        "plain": plain(inputs, targets),
        "transformers": other(tokens[:, :-1], labels=None).logits,
    }
    losses["transformers"] = F.cross_entropy(losses["transformers"].flatten(0, 1), targets.flatten())
    for loss in losses.values():
        assert abs(float(loss - losses["primer"])) < 1e-10, "another loss"
        loss.backward()
    expected = {name: p.grad for name, p in weights.items() if p.grad is not None}
    for model, names, turn in ((plain, PLAIN_NAMES, False), (other, THEIR_NAMES, True)):
        grads = {name: p.grad for name, p in model.named_parameters()}
        for name, grad in renamed(expected, names, transposed=turn).items():
            assert (grads[name] - grad).abs().max() < 1e-10, f"another gradient of {name}"


def our_step() -> Callable[[], object]:
    """`primer`'s own trainer, as `primer train` uses it."""
    devices.reuse_memory()
    model = ours(GPT2)
    decayed, plain = decay_groups(model.named_parameters())
    tokens = np.random.default_rng(0).integers(50257, size=100_000).astype(np.uint16)
    trainer = Trainer(
        model=model,
        optimizer=Optimizers(
            [AdamW(decayed, lr=6e-4, weight_decay=0.1), AdamW(plain, lr=6e-4, weight_decay=0.0)]
        ),
        stream=BatchStream(tokens, batch_size=ROWS, context_length=LENGTH, seed=0),
        config=TrainConfig(batch_size=ROWS, steps=100),
        schedule=schedule(ScheduleConfig(), 100),
        places=ROWS * LENGTH,
        clip=1.0,
    )
    return trainer.step


def their_step(model: nn.Module, loss_of: Callable[[Tensor], Tensor]) -> Callable[[], object]:
    """A training step as nanoGPT and most scripts write it."""
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    plain = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        lr=6e-4,
        betas=(0.9, 0.95),
        fused=True,
    )
    generator = torch.Generator().manual_seed(0)

    def step() -> float:
        tokens = torch.randint(50257, (ROWS, LENGTH + 1), generator=generator)
        loss = loss_of(tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def plain_step() -> Callable[[], object]:
    model = PlainGPT(GPT2)
    return their_step(model, lambda tokens: model(tokens[:, :-1], tokens[:, 1:]))


def transformers_step() -> Callable[[], object]:
    model = theirs(GPT2).train()
    return their_step(model, lambda tokens: model(tokens[:, :-1], labels=tokens[:, :-1]).loss)


CONTESTANTS = {"primer": our_step, "plain module": plain_step, "transformers": transformers_step}


def turn(name: str, steps: int) -> dict[str, Any]:
    """One contestant's seconds a step; run in a process of its own."""
    step = CONTESTANTS[name]()
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    return {
        "seconds": seconds,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "matmul_rate": devices.matmul_rate(torch.device("cpu")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns that each takes (default 3)")
    parser.add_argument("--steps", type=int, default=4, help="steps a turn, the first not counted")
    parser.add_argument("--only", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(turn(options.only, options.steps)))
        return
    check()
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
    for _ in range(options.rounds):
        for name in CONTESTANTS:
            command = [sys.executable, str(Path(__file__)), "--only", name, "--steps", str(options.steps)]
            passive = {"OMP_WAIT_POLICY": "PASSIVE"} if name == "primer" else {}  # as `primer` does
            done = subprocess.run(
                command, env={**passive, **os.environ}, capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.exit(done.stderr)
            turns[name].append(json.loads(done.stdout.splitlines()[-1]))
    report(turns, options.save)


def report(turns: dict[str, list[dict[str, Any]]], save: bool) -> None:
    """Medians over rounds; ratios within each round."""
    flops = flops_per_token(GPTConfig(**GPT2, tied_head=True), LENGTH) * ROWS * LENGTH  # type: ignore[arg-type]
    step = {
        name: [statistics.median(each["seconds"][1:]) for each in rounds] for name, rounds in turns.items()
    }
    table = Table("trainer", "tokens/s", "primer is", "of matmul rate", "peak memory")
    figures: dict[str, Any] = {}
    for name, rounds in turns.items():
        times = statistics.median(a / b for a, b in zip(step[name], step["primer"], strict=True))
        share = statistics.median(
            flops / s / each["matmul_rate"] for s, each in zip(step[name], rounds, strict=True)
        )
        figures[name] = {
            "seconds_per_step": [round(seconds, 3) for seconds in step[name]],
            "tokens_per_second": round(ROWS * LENGTH / statistics.median(step[name])),
            "primer_is_faster_by": round(times, 3),
            "share_of_matmul_rate": round(share, 3),
            "matmul_gflops": [round(each["matmul_rate"] / 1e9, 1) for each in rounds],
            "peak_megabytes": math.ceil(max(each["peak_bytes"] for each in rounds) / 1e6),
        }
        shown = figures[name]
        table.add_row(
            name,
            str(shown["tokens_per_second"]),
            f"{times:.2f} ×",
            f"{share:.0%}",
            f"{shown['peak_megabytes']} MB",
        )
    Console().print(table)
    if save:
        print(write("gpt2_step", figures, measured=MEASURED).name)


if __name__ == "__main__":
    main()
