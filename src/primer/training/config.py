"""How to train, as frozen values: optimizer, schedule, loop. No torch here: help must answer at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from primer.errors import UsageError


@dataclass(frozen=True)
class OptimConfig:
    """Which rule turns gradients into updates."""

    name: Literal["adamw", "muon"] = "adamw"
    """adamw: Loshchilov & Hutter 2019. muon: Jordan 2024 for the blocks' matrices, AdamW for all else."""
    lr: float = 1e-3
    """Peak learning rate (of AdamW)."""
    embedding_lr: float = 0.0
    """Peak learning rate of the token embedding, whose rows each see few gradients. 0: as `lr`."""
    head_lr: float = 0.0
    """Peak learning rate of the output layer. 0: as `lr`. (A tied head goes with the embedding.)"""
    ngram_lr: float = 0.0
    """Peak learning rate of what mixes n-grams in (`model.ngram`), where it must be another. 0: as `lr`."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of the running mean of the gradient, and of its square."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    weight_decay: float = 0.1
    """Pull towards zero, times the learning rate; on matrices and embeddings only, unless `decay_all`."""
    decay_all: bool = False
    """Decay biases and gains too, as `torch.optim.AdamW(model.parameters())` does."""
    clip: float = 1.0
    """The gradient's norm is cut to this. 0: never."""
    muon_lr: float = 0.02
    """Peak learning rate of Muon."""
    muon_momentum: float = 0.95
    """Momentum of Muon (Nesterov)."""
    muon_weight_decay: float = 0.0
    """Weight decay of Muon."""
    muon_dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """In which Muon orthogonalises. auto: bf16 where the device is made for it, else fp32; kept on resume."""

    def __post_init__(self) -> None:
        for name in ("lr", "muon_lr"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"optim.{name} must be a positive number, got {value}")
        if not all(0 <= beta < 1 for beta in (*self.betas, self.muon_momentum)):
            raise UsageError(f"optim.betas and optim.muon_momentum must lie in [0, 1), got {self.betas}")
        for name in ("embedding_lr", "head_lr", "ngram_lr"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"optim.{name} must not be negative, got {getattr(self, name)}")
        if min(self.weight_decay, self.muon_weight_decay, self.clip) < 0 or self.eps <= 0:
            raise UsageError(
                "optim.weight_decay and optim.clip must not be negative, optim.eps must be positive"
            )


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over the run, as a factor of its peak."""

    shape: Literal["constant", "cosine", "linear", "wsd", "inverse_sqrt"] = "cosine"
    """After the warm-up: flat, half a cosine, a line, flat then a line (wsd), or step^-½ (Vaswani et al. §5.3)."""
    warmup: int = 100
    """Steps in which the rate rises from a first small step to its peak."""
    final: float = 0.1
    """The factor at the last step (cosine, linear, wsd)."""
    decay: float = 0.4
    """The share of all steps that wsd's falling line takes."""

    def __post_init__(self) -> None:
        if self.warmup < 0:
            raise UsageError(f"schedule.warmup must not be negative, got {self.warmup}")
        if not (0 <= self.final <= 1 and 0 <= self.decay <= 1):
            raise UsageError("schedule.final and schedule.decay must lie in [0, 1]")

    def fitting(self, steps: int) -> ScheduleConfig:
        """The same with a warm-up that takes a tenth of so many steps at most."""
        return replace(self, warmup=min(self.warmup, steps // 10))


@dataclass(frozen=True)
class LoopConfig:
    """The loop, whatever it trains: how long, how much at once, and how often to look, save and speak."""

    steps: int = 1000
    """Optimizer steps."""
    minutes: float = 0.0
    """Take only as many steps as fit into this time on this machine, found by measuring a few. 0: all."""
    label_smoothing: float = 0.0
    """ε of Szegedy et al. 2016: the target keeps 1 − ε, the rest is spread over the vocabulary."""
    weight_average: float = 0.0
    """Evaluate, save and sample an exponential moving average of the weights with this decay. 0: none."""
    evaluate_every: int = 100
    """Steps between evaluations on the validation split (and at the end)."""
    sample_every: int = 100
    """Steps between printed samples. 0: never."""
    checkpoint_every: int = 100
    """Steps between checkpoints (also at the end, on Ctrl-C and on SIGTERM)."""
    checkpoint_minutes: float = 5.0
    """Also save when so much time has gone by since the last time, however slow the steps are. 0: never for that."""
    keep: int = 2
    """How many of the newest checkpoints stay, beside the best one."""
    patience: int = 10
    """Steps in a row with a loss or gradient that is not finite, after which the run ends (exit code 5)."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of matrix products. auto: bf16 where the device is made for it, else fp32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile. auto: on a GPU, for runs that are long enough to pay for it."""
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    """Several processes: each holds the whole model (ddp) or a slice of it (fsdp). auto: fsdp where it must be."""
    threads: int = 0
    """CPU threads. 0: as many as torch finds; the number is kept on resume, because it decides the last bits."""
    deterministic: bool = False
    """On a GPU, only kernels that give the same bits every time: slower, and resuming is then exact as on a CPU."""
    log_every: int = 1
    """Steps between lines in metrics.jsonl."""
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Also report to these, where they are installed."""

    def __post_init__(self) -> None:
        for name in ("steps", "evaluate_every", "checkpoint_every", "keep", "patience", "log_every"):
            self._require(name, 1)
        for name in ("sample_every", "threads"):
            self._require(name, 0)
        for name in ("minutes", "checkpoint_minutes"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"train.{name} must not be negative, got {getattr(self, name)}")
        for name in ("label_smoothing", "weight_average"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"train.{name} must lie in [0, 1), got {getattr(self, name)}")

    def _require(self, name: str, least: int) -> None:
        """UsageError for a number that is too small, or larger than any machine could use."""
        value = getattr(self, name)
        if value < least:
            must = f"be at least {least}" if least else "not be negative"
            raise UsageError(f"train.{name} must {must}, got {value}")


LARGEST_BATCH = 1 << 24
"""Sequences or tokens of a step: what is more was mistyped."""


@dataclass(frozen=True)
class TrainConfig(LoopConfig):
    """The loop of a language model, whose batches are windows of a text."""

    batch_size: int = 32
    """Sequences a step, over all processes. (Tokens a step: batch_size × context_length.)"""
    micro_batch: int = 0
    """Sequences computed at once; gradients accumulate over them. 0: chosen by measuring, then kept."""
    short_context: int = 0
    """Begin with windows of this length (more of them, the same tokens a step). 0: full length throughout."""
    short_until: float = 0.0
    """The share of the steps taken with `short_context`."""
    evaluate_tokens: int = 0
    """Evaluate on only so many tokens from the beginning of that split, always the same ones. 0: all of it."""
    evaluate_batches: int = 0
    """Evaluate on this many random batches instead, as the lecture does. 0: the whole split."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("batch_size", 1)
        if self.batch_size > LARGEST_BATCH:
            raise UsageError(f"train.batch_size must be at most {LARGEST_BATCH:,}, got {self.batch_size:,}")
        for name in ("micro_batch", "evaluate_tokens", "evaluate_batches", "short_context"):
            self._require(name, 0)
        if not 0 <= self.short_until <= 1:
            raise UsageError(f"train.short_until must lie in [0, 1], got {self.short_until}")
        if self.micro_batch and self.batch_size % self.micro_batch:
            raise UsageError(
                f"train.batch_size={self.batch_size} does not divide by train.micro_batch={self.micro_batch}",
                hint=f"--train.micro-batch={math.gcd(self.batch_size, self.micro_batch)}",
            )

    def shape_at(self, step: int, context_length: int, processes: int = 1) -> tuple[int, int]:
        """Sequences and their length at a step: short windows first where asked for, and more of them.

        The tokens are the same as in full windows, where that is a whole number of rows for every process.
        """
        if self.short_context and step < self.short_until * self.steps:
            rows = self.batch_size * context_length // self.short_context
            return rows - rows % processes, self.short_context
        return self.batch_size, context_length


@dataclass(frozen=True)
class PairTrainConfig(LoopConfig):
    """The loop of an encoder–decoder, whose batches are pairs of sentences."""

    batch_tokens: int = 4096
    """Places a step of the source, and as many of the target, at most: tokens and what padding is among them."""
    micro_tokens: int = 0
    """Places of each that are computed at once; gradients accumulate over them. 0: `batch_tokens`, what fits of it."""
    evaluate_pairs: int = 1000
    """Pairs of the validation split that are translated at each evaluation. 0: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("batch_tokens", 1)
        if self.batch_tokens > LARGEST_BATCH:
            raise UsageError(
                f"train.batch_tokens must be at most {LARGEST_BATCH:,}, got {self.batch_tokens:,}"
            )
        for name in ("micro_tokens", "evaluate_pairs"):
            self._require(name, 0)
