"""How wrong an implementation may be: twice as wrong as plain torch in the same dtype, both judged by float64.

The error is that of all numbers together, ‖found − true‖ / ‖true‖. It is asked of the output, of lse, and of the
gradients by queries, keys and values.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from primer.kernels.attention import reference

ALLOWANCE = 2.0
"""How many times plain torch's error."""

FLOAT32 = torch.finfo(torch.float32).eps
"""lse is a float32, whatever the dtype of the rest, and its last bit counts as much as plain torch's whole error. The
backward pass computes weights from it again, so gradients carry half a unit of its last place as well."""

Operator = Callable[..., tuple[Tensor, Tensor | None]]


class Error(NamedTuple):
    """Relative errors of a result: the implementation's, and plain torch's. rounding: what no float32 is without."""

    found: float
    plain: float
    rounding: float = 0.0

    @property
    def ok(self) -> bool:
        """Within the budget. A result that is not finite where it should be is never."""
        return self.found <= ALLOWANCE * self.plain + self.rounding


def errors(
    operator: Operator,
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S Dv"],
    d_out: Float[Tensor, "B H T Dv"] | None = None,
    **how: Any,
) -> dict[str, Error]:
    """Of the output and lse, and if `d_out` is given of the gradients; everything in the dtype of q.

    how: attention's options. The implementation must drop the weights that `dropout_seed` says.
    """
    found = results(operator, q, k, v, d_out, **how)
    wide = [None if x is None else x.double() for x in (q, k, v, d_out)]
    true = results(reference.attention, *wide, **how)  # type: ignore[arg-type]
    plain = results(reference.attention, q, k, v, d_out, **how)
    finite = true["lse"][torch.isfinite(true["lse"])]
    size = float(finite.abs().max()) if len(finite) and q.dtype != torch.float64 else 0.0
    rounding = {"lse": FLOAT32, "out": 0.0}
    return {
        name: Error(
            distance(found[name], true[name]),
            distance(plain[name], true[name]),
            rounding.get(name, FLOAT32 / 2 * size) + 1e-12,
        )
        for name in found
    }


def results(
    operator: Operator, q: Tensor, k: Tensor, v: Tensor, d_out: Tensor | None, **how: Any
) -> dict[str, Tensor]:
    """By name: out, lse (where the implementation has it), dq, dk and dv."""
    leaves = [x.detach().requires_grad_(d_out is not None) for x in (q, k, v)]
    out, lse = operator(*leaves, **how)
    found = {"out": out.detach()} | ({} if lse is None else {"lse": lse.detach()})
    if d_out is not None:
        gradients = torch.autograd.grad(out, leaves, d_out.to(out.dtype))
        found |= dict(zip(("dq", "dk", "dv"), gradients, strict=True))
    return found


def distance(found: Tensor, true: Tensor) -> float:
    """‖found − true‖ / ‖true‖; if the truth is 0, ‖found‖; infinite where one is finite and the other is not."""
    finite = torch.isfinite(true)
    if found.shape != true.shape or not torch.equal(torch.isfinite(found), finite):
        return float("inf")
    found, true = found.double()[finite], true.double()[finite]
    return float((found - true).norm()) / (float(true.norm()) or 1.0)
