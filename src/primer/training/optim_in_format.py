"""AdamW whose moments live in a short format, and what is computed of them too: so one sees what that does."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from primer.floats.formats import Element
from primer.floats.tensor import quantize
from primer.training.optim import AdamW, Named
from primer.training.sharding import local


class AdamWInFormat(AdamW):
    """`AdamW`, with every result rounded to the format: each line below is what one operation on such tensors gives.

    What torch does with parameters in fp16, or bf16, if `foreach` and `fused` are off. Of v = β₂·v + (1 − β₂)·g² little
    is left where g is small, and eps = 1e-8 is 0 in fp16: then m̂ is divided by zero. Weights are fp32 here unless
    `precision.weights` rounds them afterwards.
    """

    def __init__(self, named_parameters: Named, form: Element, **how: Any) -> None:
        super().__init__(named_parameters, **how)
        self.round = partial(quantize, form=form)
        self.update = self._in_format

    def _in_format(self, parameters: dict[str, nn.Parameter], lr: float) -> None:
        beta1, beta2 = self.betas
        eps = self.round(
            torch.tensor(self.eps, dtype=torch.float64)
        ).item()  # one rounding: 1e-8 is 0 in fp16
        for name, parameter in parameters.items():
            assert parameter.grad is not None
            p, g = local(parameter), self.round(local(parameter.grad))
            m, v = (local(self.state[f"{name}.{slot}_moment"]) for slot in ("first", "second"))
            t = self.state[f"{name}.step"].add_(1).item()

            p.mul_(1 - lr * self.weight_decay)
            m.copy_(self.round(m.lerp(g, 1 - beta1)))
            v.copy_(self.round(v * beta2))
            v.copy_(self.round(v.addcmul(g, g, value=1 - beta2)))
            root = self.round(self.round(v.sqrt()) / (1 - beta2**t) ** 0.5)  # √v̂
            root = self.round(root + eps)
            p.addcdiv_(m, root, value=-(lr / (1 - beta1**t)))
