"""How to train, as frozen values: optimizer, schedule, loop. No torch here: help must answer at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Literal

from primer.errors import UsageError
from primer.floats.formats import FORMATS, BlockFormat, FloatFormat, Format, named

Attention = Literal[
    "auto", "reference", "tiled", "cpu", "gpu",
    "library", "library_flash", "library_efficient", "library_cudnn", "library_math", "flex",
]  # fmt: skip
"""The names of `kernels.attention`, which imports torch."""


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
    attention: Attention = "auto"
    """The implementation that trains (`primer bench attention` measures all). auto: on a GPU the fastest for this
    model, found by trying, and kept; on a CPU what each call's size asks for."""
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


NATIVE = ("e4m3", "e5m2")
"""Formats in which some devices multiply by themselves (`floats.native`)."""
WHOLE = ("weights", "gradients", "activations", "attention", "optimizer", "accumulator")
"""Places of `PrecisionConfig` whose numbers have no scale."""


@dataclass(frozen=True)
class PrecisionConfig:
    """In which number format the parts of a training step live. Empty: in that in which the device computes.

    A format is any that `primer float --formats` lists, or a split of your own (e3m4). Numbers are rounded to it where
    they stand (`floats.tensor.quantize`), so that every format can be tried on every device; products of 8-bit numbers
    are the hardware's own where it has them (`native`). `train.precision` is what the device itself computes in.
    """

    matmul: str = ""
    """What goes into the products of the layers' linear maps, forwards and backwards: activations, weights, gradients.
    The output layer, the norms and the embeddings stay as they are, as in fp8 training usual."""
    matmul_gradients: str = ""
    """The gradients among these, in a format of their own (e5m2: more range, fewer digits). Empty: as `matmul`."""
    attention: str = ""
    """Queries, keys and values."""
    activations: str = ""
    """What a layer's parts hand on to each other: the residual stream, what comes out of attention and feed-forward."""
    gradients: str = ""
    """Gradients: of activations on their way back (where `activations` or `attention` is set), and of weights."""
    weights: str = ""
    """The weights themselves, from one step to the next. Empty: fp32 master weights."""
    optimizer: str = ""
    """AdamW's moments, and what it computes of them, its epsilon too."""
    accumulator: str = ""
    """The sums in matrix products, rounded after each addition: slow, and emulated everywhere."""
    scaling: Literal["auto", "none", "tensor", "row"] = "auto"
    """Of what goes into products: so that the largest magnitude of a tensor, or of each row, becomes the format's
    largest. auto: tensor, for formats of up to 8 bits. Block formats bring their own."""
    scale_rule: Literal["floor", "even", "ceil"] = "floor"
    """How a block format's power of two is found: may the top of a block be clipped?"""
    weights_rounding: Literal["nearest", "toward-zero", "stochastic"] = "nearest"
    """Of updated weights. stochastic: updates that are smaller than half a step arrive in the mean."""
    gradients_rounding: Literal["nearest", "toward-zero", "stochastic"] = "nearest"
    """Of the gradients that go into products."""
    loss_scaling: Literal["auto", "none", "dynamic", "static"] = "auto"
    """The loss is scaled up before the backward pass, gradients down after it. auto: dynamic, where fp16 is used."""
    loss_scale: float = 65536.0
    """By how much; where it is dynamic, to begin with."""
    native: Literal["auto", "on", "off"] = "auto"
    """Products by the device's own 8-bit units, where it has them (e4m3 and e5m2, a scale a tensor or none), instead of
    emulated ones. auto: on GPUs. (bf16 and fp16 by the device itself are `train.precision`.)"""

    def __post_init__(self) -> None:
        for name in (*WHOLE, "matmul", "matmul_gradients"):
            if text := getattr(self, name):
                self._check_format(name, text)
        self._check_what_goes_together()
        if not 0 < self.loss_scale < math.inf:
            raise UsageError(f"precision.loss_scale must be a positive number, got {self.loss_scale}")

    def _check_format(self, name: str, text: str) -> None:
        """UsageError for a format that numbers cannot live in at this place."""
        try:
            form = named(text)
        except UsageError as error:
            raise UsageError(f"precision.{name}: {error.cause}", error.where, error.hint) from None
        element = form.element if isinstance(form, BlockFormat) else form
        if form.name == "fp64":
            raise UsageError(
                f"precision.{name}: numbers are held in fp32, which fp64 does not change",
                hint="fp32, or none",
            )
        if not element.signed:
            raise UsageError(
                f"precision.{name}: {form.name} has no sign: it is for scales", hint="e4m3, or e5m2"
            )
        if name == "accumulator" and not isinstance(form, FloatFormat):
            raise UsageError(
                f"precision.accumulator: sums need an exponent, {form.name} has none", hint="fp16"
            )
        if name in WHOLE and isinstance(form, BlockFormat):
            raise UsageError(
                f"precision.{name}: {form.name} shares scales among numbers that are multiplied together",
                hint=f"--precision.matmul={form.name}",
            )

    def _check_what_goes_together(self) -> None:
        """UsageError for what would change nothing, as it stands."""
        matmul = [named(text) for text in (self.matmul, self.matmul_gradients) if text]
        blocks = [form for form in matmul if isinstance(form, BlockFormat)]
        for name, without, needs in (
            ("matmul_gradients", not self.matmul_gradients or self.matmul, "matmul"),
            ("accumulator", not self.accumulator or self.matmul, "matmul"),
            ("gradients_rounding", self.gradients_rounding == "nearest" or self.matmul, "matmul"),
            ("weights_rounding", self.weights_rounding == "nearest" or self.weights, "weights"),
        ):
            if not without:
                raise UsageError(
                    f"precision.{name} needs precision.{needs}",
                    hint="--precision.weights=bf16" if needs == "weights" else "--precision.matmul=e4m3",
                )
        if self.scale_rule != "floor" and all(form.tensor_scale for form in blocks):
            raise UsageError(
                "precision.scale_rule is for blocks that share a power of two",
                hint="--precision.matmul=mxfp8",
            )
        if self.scaling not in ("auto", "none") and len(blocks) == len(matmul):
            raise UsageError(
                f"precision.scaling={self.scaling} needs precision.matmul in a format without scales of its own",
                hint="--precision.matmul=e4m3",
            )
        if self.native == "on" and (
            not matmul
            or any(form.name not in NATIVE for form in matmul)
            or self.scaling == "row"
            or self.accumulator
        ):
            raise UsageError(
                "precision.native=on: devices multiply e4m3 and e5m2 themselves, with a scale a tensor or none",
                hint="--precision.matmul=e4m3",
            )

    @property
    def formats(self) -> dict[str, str]:
        """The formats that are set, by place."""
        places = [each.name for each in fields(self) if each.type == "str"]
        return {place: getattr(self, place) for place in places if getattr(self, place)}

    def scaling_of(self, form: Format) -> Literal["none", "tensor", "row"]:
        """How what goes into products in a format is scaled, with "auto" resolved."""
        if isinstance(form, BlockFormat):
            return "none"
        if self.scaling != "auto":
            return self.scaling
        return "none" if form.bits > 8 else "tensor"

    @property
    def scales_loss(self) -> Literal["none", "dynamic", "static"]:
        """How the loss is scaled, with "auto" resolved."""
        if self.loss_scaling != "auto":
            return self.loss_scaling
        return "dynamic" if any(named(text) == FORMATS["fp16"] for text in self.formats.values()) else "none"

    def in_words(self) -> str:
        """What is set, for people: matmul e4m3 (a scale a tensor), weights bf16 (stochastic)."""
        words = []
        for place, text in self.formats.items():
            form, details = named(text), []
            if place.startswith("matmul") and (scaling := self.scaling_of(form)) != "none":
                details.append(f"a scale a {scaling}")
            if isinstance(form, BlockFormat) and self.scale_rule != "floor":
                details.append(f"scale rule {self.scale_rule}")
            if place == "weights" and self.weights_rounding != "nearest":
                details.append(self.weights_rounding)
            words.append(
                f"{place.replace('_', ' ')} {text}" + (f" ({', '.join(details)})" if details else "")
            )
        if self.gradients_rounding != "nearest":
            words.append(f"gradients of products rounded {self.gradients_rounding}")
        if self.scales_loss != "none":
            words.append(
                f"loss times {self.loss_scale:g}" + (" at first" if self.scales_loss == "dynamic" else "")
            )
        return ", ".join(words)
