"""A running mean of the weights: what wobbles with the last few batches is averaged away."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from primer.training.sharding import local, put


class WeightAverage:
    """mean ← d · mean + (1 − d) · weights after every step: Polyak & Juditsky 1992 average all steps alike, here
    the late ones count most.

    d starts near 0 and rises to `decay`, d = min(decay, (1 + n) / (10 + n)), n the steps so far, so that the random
    start is forgotten (the ramp of TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.mean = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take the model's present weights into the mean."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        weights = [local(p.detach()) for _, p in model.named_parameters()]
        torch._foreach_lerp_([local(mean) for mean in self.mean.values()], weights, 1 - decay)

    @contextmanager
    def in_place(self, model: nn.Module) -> Iterator[None]:
        """Put the mean into the model, and the weights back afterwards."""
        self.swap(model)
        try:
            yield
        finally:
            self.swap(model)

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchange mean and weights."""
        for name, p in model.named_parameters():
            if local(p) is p:
                p.data, self.mean[name] = self.mean[name], p.data
            else:  # a sharded weight is known to more than its module: its numbers change, not its memory
                weight, mean = local(p.detach()), local(self.mean[name])
                before = weight.clone()
                weight.copy_(mean)
                mean.copy_(before)

    def tensors(self) -> dict[str, Tensor]:
        """The mean, by parameter name."""
        return dict(self.mean)

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], updates: int) -> None:
        """Continue from a saved mean."""
        self.updates = updates
        for name, mean in self.mean.items():
            put(mean, tensors[name])
