"""In which formats a training step computes, and what short ones need to survive it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import nn

from primer.floats.formats import BlockFormat, FloatFormat, Rounding, named
from primer.floats.tensor import quantize
from primer.nn.in_format import LinearInFormat, Products, hand_on
from primer.nn.probe import COSTLY, STACKS, probes
from primer.training.config import PrecisionConfig
from primer.training.sharding import local

QKV = ("q", "k", "v")
MANY, MASK = 1 << 16, (1 << 63) - 1
"""More than a model has parameters; a seed's bits."""


@dataclass(frozen=True)
class Precision:
    """The device's own arithmetic (`dtype`), and the formats that are simulated in it (`formats`).

    With `dtype` weights stay float32 and products are computed in it (mixed precision): fp16 cannot hold small
    gradients, so its loss is scaled up before the backward pass and the gradients are scaled down after it
    (Micikevicius et al. 2018, §3.2). bf16 has float32's exponent and needs no scale.
    """

    device: torch.device
    dtype: torch.dtype | None = None
    formats: PrecisionConfig = field(default_factory=PrecisionConfig)
    seed: int = 0
    """Of the chance by which weights are rounded."""

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which the forward pass runs."""
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def longer(self) -> str:
        """What to try where numbers of this precision do not last."""
        places = ", ".join(f"precision.{place}" for place in self.formats.formats)
        return f"longer formats for {places}" if places else "--train.precision=fp32"

    def scaler(self) -> LossScaler | None:
        """The loss scaler that fp16 needs, or that was asked for; else None."""
        asked = self.formats.scales_loss
        if asked == "none" and self.formats.loss_scaling == "auto" and self.dtype == torch.float16:
            asked = "dynamic"
        if asked == "none":
            return None
        return LossScaler(self.formats.loss_scale, dynamic=asked == "dynamic")

    @torch.no_grad()
    def round_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """What a backward pass has left, as it would be kept."""
        if form := self.formats.gradients:
            for p in parameters:
                if p.grad is not None:
                    quantize(local(p.grad), form, out=local(p.grad))

    @torch.no_grad()
    def round_weights(self, parameters: Iterable[nn.Parameter], step: int) -> None:
        """Weights after an update, as they are kept where there are no fp32 master weights; to the nearest at step 0.

        Chance depends on seed, step and parameter alone: every process that holds a copy of the model rounds it alike.
        """
        rounding: Rounding = self.formats.weights_rounding if step else "nearest"
        if form := self.formats.weights:
            for number, p in enumerate(parameters):
                seed = (self.seed << 32 ^ step) * MANY + number & MASK
                weight = local(p.detach())
                quantize(weight, form, rounding, seed=seed, out=weight)


def in_formats(model: nn.Module, config: PrecisionConfig) -> None:
    """Make a model compute in the config's formats: its layers' products, and what its parts hand on."""
    if config.matmul:
        how = products(config)
        for _, linear in linear_maps(model):
            LinearInFormat.adopt(linear, how)
    for name, probe in probes(model).items():
        place = name.split(".")[-1]
        form = (place in QKV and config.attention) or (place not in COSTLY and config.activations)
        if form:
            backwards = named(config.gradients) if config.gradients else None
            probe.listener = partial(hand_on, form=named(form), gradients=backwards)


def linear_maps(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    """The linear maps of a model's layers, by name."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.split(".")[0] in STACKS
    ]


def products(config: PrecisionConfig) -> Products:
    """How the config wants products computed."""
    inputs = named(config.matmul)
    gradients = named(config.matmul_gradients) if config.matmul_gradients else inputs
    accumulator = cast(FloatFormat, named(config.accumulator)) if config.accumulator else None
    return Products(
        inputs,
        gradients,
        scaling=config.scaling_of(inputs),
        gradients_scaling=config.scaling_of(gradients),
        scale_rule=config.scale_rule,
        gradients_rounding=config.gradients_rounding,
        accumulator=accumulator,
        native=config.native,
    )


def compiles(config: PrecisionConfig, device: torch.device) -> bool:
    """Whether torch.compile sees through a model in these formats: only where the device itself computes in them."""
    if config.attention or config.activations:
        return False
    by_device = not config.matmul or products(config).by_device(device)
    return by_device and config.gradients_rounding == "nearest"


def padded(model: nn.Module, config: PrecisionConfig, tokens: int = 0) -> str | None:
    """What to tell of blocks that do not divide a model's layers, or a pass's tokens (∂W sums over them); else None."""
    names = dict.fromkeys((config.matmul, config.matmul_gradients or config.matmul))
    forms = [form for name in names if name and isinstance(form := named(name), BlockFormat)]
    lengths = {n for _, linear in linear_maps(model) for n in linear.weight.shape} | {tokens}
    told = []
    for form in forms:
        if odd := sorted(n for n in lengths if n % form.block):
            told.append(
                f"{form.name} has blocks of {form.block}: "
                f"the last ones of rows of {' and '.join(map(str, odd))} are filled up with zeros"
            )
    return "; ".join(told) or None


@dataclass
class LossScaler:
    """Loss scaling: halve the scale when a gradient overflowed, double it after long without; or leave it.

    Micikevicius et al. 2018, §3.2; the numbers are those of `torch.amp.GradScaler`.
    """

    scale: float = 2.0**16
    good_steps: int = 0
    patience: int = 2000
    """Good steps in a row, after which a larger scale is tried."""
    dynamic: bool = True
    """Whether the scale follows what happens."""
    start: float = 0.0
    """The scale that was asked for."""

    def __post_init__(self) -> None:
        self.start = self.start or self.scale

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's scale, unless another one, or another kind of scaling, was asked for since."""
        if (state["dynamic"], state.get("start", self.start)) == (self.dynamic, self.start):
            self.scale, self.good_steps = state["scale"], state["good_steps"]

    def update(self, *, overflow: bool) -> None:
        """Take in whether the last step's gradients overflowed."""
        if not self.dynamic:
            return
        self.good_steps = 0 if overflow else self.good_steps + 1
        if overflow:
            self.scale *= 0.5
        elif self.good_steps == self.patience:
            self.good_steps = 0
            if self.scale * 2 <= torch.finfo(torch.float32).max:
                self.scale *= 2.0
