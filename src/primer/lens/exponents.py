"""Which exponents a model's numbers have: what a format must reach, and what it would lose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from primer.lens.trace import listening, names
from primer.nn.mode import reading
from primer.nn.probe import COSTLY


@dataclass
class Exponents:
    """How many numbers lie between 2^e and 2^(e+1), for each e; zeros, and what is not finite, apart."""

    counts: dict[int, int] = field(default_factory=dict)
    zeros: int = 0
    strange: int = 0

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

    def share(self, low: int, high: int) -> float:
        """The part of all numbers but zeros whose exponents are at least `low` and below `high`."""
        inside = sum(n for e, n in self.counts.items() if low <= e < high)
        return inside / self.total if self.total else 0.0


def exponents(model: nn.Module, batches: Iterable[tuple[tuple[Tensor, ...], Tensor]]) -> dict[str, Exponents]:
    """Of a model's weights, and of what it computes of some batches: activations, their gradients, the weights' own.

    batches: what the model reads, and its targets. Gradients are those of the mean loss of each batch. The model's own
    gradients are left as they are: None.
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
    with reading(model), listening(model, dict.fromkeys(places, count)):
        for inputs, targets in batches:
            model(*inputs, targets=targets).backward()
            for p in model.parameters():
                if p.grad is not None:
                    found["gradients of weights"].add(p.grad)
            model.zero_grad(set_to_none=True)
    return found


def _count(into: Exponents, gradient: Tensor) -> None:
    into.add(gradient)
