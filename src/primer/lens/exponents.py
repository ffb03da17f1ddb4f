"""Which exponents a model's numbers have: what a format must reach, and what it would lose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from primer.floats.formats import FORMATS
from primer.lens.trace import listening, names
from primer.nn.mode import reading
from primer.nn.probe import COSTLY

HELD = {form.name: form for form in FORMATS.values() if form.signed and form.bits < 32}
"""Formats of which it is counted what they would lose: those that say less than fp32, which numbers are held in."""


@dataclass
class Exponents:
    """How many numbers lie between 2^e and 2^(e+1), for each e; zeros, and what is not finite, apart."""

    counts: dict[int, int] = field(default_factory=dict)
    zeros: int = 0
    strange: int = 0
    above: dict[str, int] = field(default_factory=dict)
    """By format (`HELD`), how many are larger than its largest number."""
    below: dict[str, int] = field(default_factory=dict)
    """By format, how many are not zero but would be rounded to it: at most half of its smallest number."""

    @property
    def total(self) -> int:
        """Numbers that are neither zero nor strange."""
        return sum(self.counts.values())

    def add(self, x: Float[Tensor, "*N"]) -> None:
        """Count the numbers of a tensor."""
        mantissa, exponent = torch.frexp(x.detach().float())
        finite = torch.isfinite(mantissa)
        real = finite & (mantissa != 0)
        values, counts = torch.unique(exponent[real] - 1, return_counts=True)
        for e, n in zip(values.tolist(), counts.tolist(), strict=True):
            self.counts[e] = self.counts.get(e, 0) + n
        strange = int((~finite).sum())
        self.strange += strange
        self.zeros += x.numel() - int(real.sum()) - strange
        if values.numel():
            self._judge(x.detach().float()[real].abs())

    def _judge(self, sizes: Float[Tensor, " N"]) -> None:
        """Count what is too large or too small for each format; most tensors have no such number."""
        least, most = float(sizes.min()), float(sizes.max())
        for name, form in HELD.items():
            largest, half = float(form.largest), float(form.smallest) / 2
            if most > largest:
                self.above[name] = self.above.get(name, 0) + int((sizes > largest).sum())
            if least <= half:
                self.below[name] = self.below.get(name, 0) + int((sizes <= half).sum())

    def share(self, low: int, high: int) -> float:
        """The part of all numbers but zeros whose exponents are at least `low` and below `high`."""
        inside = sum(n for e, n in self.counts.items() if low <= e < high)
        return inside / self.total if self.total else 0.0


@dataclass(frozen=True)
class Part:
    """What a model reads at once, and its targets."""

    inputs: tuple[Tensor, ...]
    targets: Tensor
    share: float = 1.0
    """Of the targets of its batch."""


@dataclass(frozen=True)
class Batch:
    """What one gradient is of, in parts."""

    parts: Sequence[Part]
    size: float = 1.0
    """As a part of a batch of the training; 1 is a whole one."""


def exponents(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    label_smoothing: float = 0.0,
    progress: Callable[[Part], None] = lambda part: None,
) -> dict[str, Exponents]:
    """Of a model's weights, and of what it computes of some batches: activations, their gradients, the weights' own.

    Gradients are those of the mean loss over a whole batch of the training, to which each of its positions gives its
    part: where only `size` of a batch is there, activations have the gradients that they would have in a whole one, and
    weights those of the mean over what is there. After a whole batch, those of a smaller one (the rest of a text, which
    scatter more) are not counted. The model's own gradients are left as they are: None. progress: called after each
    part.
    """
    found = {
        name: Exponents()
        for name in ("weights", "activations", "gradients of activations", "gradients of weights")
    }
    for p in model.parameters():
        found["weights"].add(p)

    def count(value: Tensor) -> Tensor:
        found["activations"].add(value)
        if value.requires_grad:
            value.register_hook(partial(_count, found["gradients of activations"]))
        return value

    places = [name for name in names(model) if name.split(".")[-1] not in COSTLY]
    largest = 0.0
    with reading(model), listening(model, dict.fromkeys(places, count)):
        for batch in batches:
            for part in batch.parts:
                loss = model(*part.inputs, targets=part.targets, label_smoothing=label_smoothing)
                (loss * (part.share * batch.size)).backward()
                progress(part)
            if batch.size >= min(largest, 1.0):
                _count_weights(found["gradients of weights"], model, batch.size)
            largest = max(largest, batch.size)
            model.zero_grad(set_to_none=True)
    return found


def _count(into: Exponents, gradient: Tensor) -> None:
    into.add(gradient)


def _count_weights(into: Exponents, model: nn.Module, size: float) -> None:
    """The gradients of the mean loss, from those of a part of it."""
    for p in model.parameters():
        if p.grad is not None:
            into.add(p.grad if size == 1 else p.grad / size)
