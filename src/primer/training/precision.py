"""In which format matrix products are computed, and what fp16 needs to survive it."""

import contextlib
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Precision:
    """Weights stay float32; where `dtype` is set, matrix products are computed in it (mixed precision).

    fp16 cannot hold small gradients, so its loss is scaled up before the backward pass and the gradients are
    scaled down after it (Micikevicius et al. 2018, §3.2). bf16 has float32's exponent and needs no scale.
    """

    device: torch.device
    dtype: torch.dtype | None = None

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which the forward pass runs."""
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def scaler(self) -> "LossScaler | None":
        """The loss scaler that fp16 needs, else None."""
        return LossScaler() if self.dtype == torch.float16 else None


@dataclass
class LossScaler:
    """Dynamic loss scaling: halve the scale when a gradient overflowed, double it after long without.

    Micikevicius et al. 2018, §3.2; the numbers are those of `torch.amp.GradScaler`.
    """

    scale: float = 2.0**16
    good_steps: int = 0
    patience: int = 2000
    """Good steps in a row, after which a larger scale is tried."""

    def update(self, *, overflow: bool) -> None:
        """Take in whether the last step's gradients overflowed."""
        self.good_steps = 0 if overflow else self.good_steps + 1
        if overflow:
            self.scale *= 0.5
        elif self.good_steps == self.patience:
            self.scale *= 2.0
            self.good_steps = 0
