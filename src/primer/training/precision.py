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

    def scaler(self) -> torch.amp.GradScaler | None:
        """The loss scaler that fp16 needs, else None."""
        return torch.amp.GradScaler(self.device.type) if self.dtype == torch.float16 else None
