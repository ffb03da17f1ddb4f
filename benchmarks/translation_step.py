"""How fast the encoder–decoder trains on a CPU: `python benchmarks/translation_step.py [--rounds 3] [--save]`.

The same batches of made-up sentences (as long as captions), the same sizes, dropout in the same places and the same
loss, by `primer`'s trainer and by `torch.nn.Transformer` as one writes a training loop around it: one matrix for both
embeddings and the logits, label smoothing, Adam (torch's fused one), clipping. First both must compute the same loss
and the same gradients from the same weights. Then they take turns, each in a process of its own, under the same
settings, so that whatever else the machine does hits both. Goal: ≥ 1.3 × its tokens/s.
"""

import argparse
import json
import os
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
from primer.data.pairs import PairBatch, Pairs, PairStream, Sentences
from primer.models.config import TransformerConfig
from primer.models.transformer import Transformer
from primer.nn.positions import sinusoids
from primer.shapes import PADDING
from primer.training.config import PairTrainConfig
from primer.training.loop import Trainer
from primer.training.optim import AdamW
from receipt import write

MEASURED = ("src/primer", "benchmarks/translation_step.py")
PLACES, VOCABULARY, SMOOTHING = 2048, 4096, 0.1
ALIKE = 0.87
"""Correlation between the lengths of a sentence and of its translation, as in Multi30k."""
SIZES: dict[str, dict[str, int]] = {
    "tiny": {"d_model": 128, "n_layers": 4, "n_heads": 4, "d_ff": 256},
    "multi30k": {"d_model": 256, "n_layers": 2, "n_heads": 4, "d_ff": 512},
    "256 wide": {"d_model": 256, "n_layers": 3, "n_heads": 4, "d_ff": 1024},
}
DROPOUTS = (0.1, 0.0)


def pairs(count: int = 4000) -> Pairs:
    """Sentences of random tokens, as long as captions are in such a vocabulary, and two of a pair about alike."""
    rng = np.random.default_rng(0)
    shared, own = rng.normal(size=count), rng.normal(size=(2, count))

    def side(own: np.ndarray) -> Sentences:
        normal = ALIKE**0.5 * shared + (1 - ALIKE) ** 0.5 * own
        lengths = np.clip(np.exp(2.75 + 0.3 * normal), 5, 60).astype(np.int64)
        return Sentences(rng.integers(1, VOCABULARY, lengths.sum()), lengths.cumsum())

    return Pairs(side(own[0]), side(own[1]))


def stream() -> PairStream:
    """The batches of both contestants."""
    return PairStream(pairs(), batch_tokens=PLACES, longest=64, seed=0)


def config_of(size: str, dropout: float) -> TransformerConfig:
    """Sizes, and dropout in all the places where torch.nn.Transformer has it."""
    rates = dict.fromkeys(("dropout", "pattern_dropout", "hidden_dropout"), dropout)
    options: dict[str, Any] = {**SIZES[size], **rates}
    return TransformerConfig(vocab_size=VOCABULARY, context_length=64, attention_bias=True, **options)


class Plain(nn.Module):
    """torch.nn.Transformer with what it lacks: embeddings, positions, and logits from the same matrix."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, config.d_model)
        nn.init.normal_(self.tokens.weight, std=config.d_model**-0.5)
        self.register_buffer("positions", sinusoids(config.context_length, config.d_model))
        self.dropout = nn.Dropout(config.dropout)
        self.body = nn.Transformer(
            config.d_model,
            config.n_heads,
            config.n_layers,
            config.n_layers,
            config.d_ff,
            config.dropout,
            batch_first=True,
        )
        self.body.encoder.norm = self.body.decoder.norm = None  # the paper has none there
        self.scale = config.d_model**0.5

    def embedded(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids.clamp(min=0)) * self.scale
        return self.dropout(x + self.get_buffer("positions")[: ids.shape[1]])

    def forward(self, source: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        hidden = source == PADDING
        h = self.body(
            self.embedded(source),
            self.embedded(inputs),
            tgt_mask=nn.Transformer.generate_square_subsequent_mask(inputs.shape[1]),
            src_key_padding_mask=hidden,
            memory_key_padding_mask=hidden,
            tgt_is_causal=True,
        )
        logits = h @ self.tokens.weight.T
        return F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=PADDING, label_smoothing=SMOOTHING
        )


def copied(ours: Transformer, theirs: Plain) -> None:
    """Give both the same weights."""
    state = {"tokens.weight": ours.embedding.tokens.weight, "positions": theirs.get_buffer("positions")}
    for stack in ("encoder", "decoder"):
        for number, layer in enumerate(getattr(ours, stack)):
            here, kinds = f"body.{stack}.layers.{number}", ("weight", "bias")
            parts = {"self_attn.out_proj": layer.attention.output, "norm1": layer.attention_norm}
            parts |= {"linear1": layer.feed_forward.expand, "linear2": layer.feed_forward.contract}
            last = "norm2"
            if stack == "decoder":
                cross, last = layer.cross_attention, "norm3"
                parts |= {"multihead_attn.out_proj": cross.output, "norm2": layer.cross_attention_norm}
            parts[last] = layer.feed_forward_norm
            for kind in kinds:
                state |= {f"{here}.{name}.{kind}": getattr(part, kind) for name, part in parts.items()}
                state[f"{here}.self_attn.in_proj_{kind}"] = getattr(layer.attention.qkv, kind)
                if stack == "decoder":
                    both = [getattr(part, kind) for part in (cross.queries, cross.keys_values)]
                    state[f"{here}.multihead_attn.in_proj_{kind}"] = torch.cat(both)
    theirs.load_state_dict({name: tensor.detach() for name, tensor in state.items()})


def check() -> None:
    """Both compute the same loss and the same gradient of the embedding, or nothing is timed."""
    torch.manual_seed(0)
    config = config_of("tiny", 0.0)
    ours, theirs = Transformer(config), Plain(config)
    copied(ours, theirs)
    batch = stream().next()
    mine = ours(batch.source, batch.inputs, batch.targets, SMOOTHING)
    other = theirs(batch.source, batch.inputs, batch.targets)
    torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)
    (first,) = torch.autograd.grad(mine, ours.embedding.tokens.weight)
    (second,) = torch.autograd.grad(other, theirs.tokens.weight)
    torch.testing.assert_close(first.to_dense(), second, rtol=1e-3, atol=1e-5)


def our_step(config: TransformerConfig) -> Callable[[], int]:
    """A step of the trainer that `primer train` uses."""
    devices.reuse_memory()
    model = Transformer(config)
    trainer = Trainer(
        model=model.train(),
        optimizer=AdamW(model.named_parameters(), lr=1e-3, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.0),
        stream=stream(),
        config=PairTrainConfig(label_smoothing=SMOOTHING, batch_tokens=PLACES),
        schedule=lambda step: 1.0,
        places=PLACES,
        clip=1.0,
    )

    def step() -> int:
        row = trainer.step()
        assert row is not None
        return int(row["targets"])

    return step


def their_step(config: TransformerConfig) -> Callable[[], int]:
    """A step as most scripts write it."""
    model = Plain(config).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.98), eps=1e-9, fused=True)
    batches = stream()

    def step() -> int:
        batch = batches.next()
        assert isinstance(batch, PairBatch)
        loss = model(batch.source, batch.inputs, batch.targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        return batch.whole

    return step


CONTESTANTS = {"primer": our_step, "torch.nn.Transformer": their_step}


def turn(name: str, size: str, dropout: float, steps: int) -> float:
    """One contestant's target tokens a second; run in a process of its own."""
    step = CONTESTANTS[name](config_of(size, dropout))
    for _ in range(3):
        step()
    started = time.perf_counter()
    tokens = sum(step() for _ in range(steps))
    return tokens / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns that each takes (default 5)")
    parser.add_argument("--steps", type=int, default=20, help="steps a turn")
    parser.add_argument("--only", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    options = parser.parse_args()
    if options.only:
        name, size, dropout = options.only
        print(json.dumps(turn(name, size, float(dropout), options.steps)))
        return
    check()
    figures: dict[str, Any] = {}
    table = Table("sizes", "dropout", *(f"{name}, tokens/s" for name in CONTESTANTS), "primer is")
    for size in SIZES:
        for dropout in DROPOUTS:
            speeds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
            for _ in range(options.rounds):
                for name in CONTESTANTS:
                    speeds[name].append(in_a_process(name, size, dropout, options.steps))
            ratios = [a / b for a, b in zip(*speeds.values(), strict=True)]
            medians = {name: statistics.median(found) for name, found in speeds.items()}
            figures[f"{size}, dropout {dropout}"] = {
                "tokens_per_second": {name: round(speed) for name, speed in medians.items()},
                "ratios": [round(ratio, 3) for ratio in ratios],
                "primer_is_faster_by": round(statistics.median(ratios), 3),
            }
            shown = [f"{speed:,.0f}" for speed in medians.values()]
            table.add_row(size, str(dropout), *shown, f"{statistics.median(ratios):.2f} ×")
    Console().print(table)
    if options.save:
        print(write("translation_step", figures, measured=MEASURED).name)


def in_a_process(name: str, size: str, dropout: float, steps: int) -> float:
    """A turn in a process of its own."""
    command = [sys.executable, str(Path(__file__)), "--only", name, size, str(dropout), "--steps", str(steps)]
    passive = {
        "OMP_WAIT_POLICY": "PASSIVE"
    }  # as `primer` does; theirs gains by it, too, where others are at work
    done = subprocess.run(command, env={**passive, **os.environ}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return float(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
